//! Go, from outside: any program linked by Go 1.18 or newer, stripped or not.
//!
//! **How its frames look.** Every function has an entry in the function table ([`pclntab`]), which tells
//! at each instruction how far the stack pointer lies below the caller's: on amd64 the return address is
//! just above that, the caller's frame pointer just below. No other register is kept for callers. A stack
//! ends at a function marked as outermost (`runtime.goexit`, `mstart`). Functions that move the stack
//! pointer themselves (`systemstack`, `asmcgocall`) are marked too; from the thread's own stack the way
//! back to the goroutine's is by what its `sched` says it left with ([`samples`]), else by the frame pointer.
//!
//! **Where things are.** [`find`] leads from an ELF file to its tables, [`process`] from a process to its
//! runtime, [`globals`] to the runtime's variables, and [`layouts`] says where fields lie, a row a release.
//! [`goroutines`] reads them all while they run, [`walk`] follows their stacks, [`sites`] names the places,
//! [`text`] writes them as Go does. [`buckets`] are the runtime's own profiles, [`bucket_text`] their text.
//!
//! **Limits.** Releases 1.18 to 1.27; newer ones as far as the checks hold. Not gccgo, TinyGo, or tables
//! that were altered. arm64 is written and untested. Not here: looking at threads, profiles, printing.

mod bucket_text;
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
mod samples;
mod sites;
mod text;
mod threads;
mod version;
mod walk;

pub use bucket_text::{write_contention, write_heap};
pub use buckets::{BucketError, BucketKind, Contention, Heap, NotCollected, scaled};
pub use find::{GoTables, is_marked};
pub use goroutines::{Goroutine, GoroutineOptions, Goroutines};
pub use info::GoInfo;
pub use process::{GoError, GoProcess};
pub use samples::GoSamples;
pub use sites::{Site, SiteFunction, Sites};
pub use text::Text;
pub use threads::Thread;
pub use version::{BuildInfo, Version};
pub use walk::{Copied, End, Frame};
