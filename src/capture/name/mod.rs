//! Names addresses: symbolizes the places of a capture (`names`, `languages`) on a thread of its
//! own (`queue`), shares names between captures (`store`), turns places into the locations of a
//! profile (`locations`), and lists functions without a name (`unnamed`).
//!
//! Not here: how symbols are found (`crate::symbolize`).

mod languages;
pub mod locations;
pub mod names;
pub mod queue;
pub mod store;
pub mod unnamed;
