//! Names addresses: symbolizes the places of a capture (`names`, `languages`), and turns them into
//! the locations of a profile (`locations`); lists functions without a name (`unnamed`).
//!
//! Not here: how symbols are found (`crate::symbolize`).

mod languages;
pub mod locations;
pub mod names;
pub mod unnamed;
