//! Reports: everything that reads a profile and presents it.
//!
//! [`stacks`] reads samples as stacks of named frames; [`folded`], [`speedscope`] and [`flame`] (a
//! picture) use it. [`format`] selects a file format. [`output`] has the reports as data, [`pprof`]
//! those of `go tool pprof`, [`graphviz`] draws graphs.
//!
//! Not here: processes, files, the terminal. A report is a pure function of a profile. It does not
//! trust the profile: the target chooses every name.

pub mod flame;
pub mod folded;
pub mod format;
pub mod graphviz;
pub mod names;
pub mod output;
pub mod paint;
pub mod paths;
pub mod pprof;
pub mod speedscope;
pub mod stacks;
pub mod threads;
pub mod units;

pub use format::{OutputFormat, RenderError, RenderOptions, render};
pub use stacks::Stacks;
