//! Profile to answer: everything that reads a profile and says something about it.
//!
//! [`stacks`] reads samples as frames with names; on it stand [`folded`], [`speedscope`] and [`flame`] (a
//! picture). [`format`] chooses among the file formats. [`answer`] holds the reports as data, [`pprof`] those
//! of `go tool pprof`, [`graphviz`] draws the graphs among them.
//!
//! Not here: processes, files, the terminal. A report is a pure function of a profile, and does not
//! trust it: every name is the target's to choose.

pub mod answer;
pub mod flame;
pub mod folded;
pub mod format;
pub mod graphviz;
pub mod paint;
pub mod pprof;
pub mod speedscope;
pub mod stacks;
pub mod threads;
pub mod units;

pub use format::{OutputFormat, RenderError, RenderOptions, render};
pub use stacks::Stacks;
