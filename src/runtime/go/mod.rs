//! Go, from outside: any program linked by Go 1.18 or newer, stripped or not.
//!
//! Not here: looking at threads, profiles, printing.

mod buckets;
mod columns;
mod find;
mod frames;
mod globals;
mod goroutines;
mod info;
mod json;
mod labels;
mod layouts;
mod pclntab;
mod process;
mod sites;
mod text;
mod threads;
mod version;
mod walk;

pub use buckets::{BucketError, Contention, Heap, Kind, NotCollected, scaled};
pub use find::{GoTables, is_marked};
pub use goroutines::{Goroutine, Goroutines, Wanted};
pub use info::GoInfo;
pub use process::{GoError, GoProcess};
pub use sites::{Site, SiteFunction, Sites};
pub use text::Text;
pub use threads::Thread;
pub use version::{BuildInfo, Version};
pub use walk::{Copied, End, Frame};
