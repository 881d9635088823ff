//! The Go runtime, read from outside the process: any program linked by Go 1.18 or newer, stripped
//! or not.
//!
//! **Frames.** Every function has an entry in the function table ([`pclntab`]). For each
//! instruction it has the distance from the stack pointer to the caller's. On amd64 the return
//! address is just above that distance and the caller's frame pointer just below. No other register
//! is saved for callers. A stack ends at a function that is marked as outermost (`runtime.goexit`,
//! `mstart`). Functions that set the stack pointer themselves (`systemstack`, `asmcgocall`) are
//! marked too. The unwinder returns from the thread's system stack to the goroutine's stack with
//! the registers saved in `g.sched` ([`samples`]), else with the frame pointer.
//!
//! **Modules.** [`find`] finds the tables in an ELF file, [`process`] the runtime in a process,
//! [`globals`] the runtime's variables; [`layouts`] has the field offsets, one row per release.
//! [`goroutines`] reads all goroutines while they run, [`walk`] unwinds their stacks, [`sites`]
//! symbolizes their frames, [`text`] writes them as Go does. [`buckets`] reads the runtime's own
//! profiles, [`bucket_text`] writes them as text.
//!
//! **Limits.** Releases 1.18 to 1.27; newer ones if their data passes the checks. Not gccgo,
//! TinyGo, or modified tables. arm64 is implemented and untested. Not here: sampling threads,
//! profiles, printing.

mod account;
mod advice;
mod arenas;
mod bucket_text;
mod buckets;
mod circle;
mod columns;
mod cpu;
mod error;
mod find;
mod frames;
pub mod fuzz;
mod globals;
mod goroutines;
mod grouped;
mod info;
mod info_text;
mod instance;
mod json;
mod labels;
mod language;
mod layouts;
mod loaded;
mod loaded_runtime;
mod pclntab;
mod process;
mod recognize;
mod samples;
mod sites;
mod stacks;
mod task_dump;
mod text;
mod threads;
mod version;
mod walk;

pub use bucket_text::{write_contention, write_heap};
pub use buckets::{BucketError, Contention, Heap, NotCollected, scaled};
pub use error::GoError;
pub use find::{GoTables, is_marked};
pub use goroutines::{Goroutine, GoroutineOptions, Goroutines};
pub use info::GoInfo;
pub use language::{Go, GoFile};
pub use process::GoProcess;
pub use recognize::BucketKind;
pub use sites::{Site, SiteFunction, Sites};
pub use text::Text;
pub use threads::Thread;
pub use version::{BuildInfo, Version};
pub use walk::{Copied, End, Frame};
