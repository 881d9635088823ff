//! The reports of `go tool pprof`, byte for byte: which commands and options there are, and what each
//! command makes of a profile.
//!
//! Not here: the command line, files, the terminal (`cli`, `shell`): a report is a function of a
//! profile and settings. What the reference gets wrong is wrong here too: this is the drop-in.

pub mod commands;
pub mod objects;
pub mod options;

mod callgrind;
pub(in crate::report) mod disasm;
mod dot;
pub(in crate::report) mod format;
pub(in crate::report) mod graph;
pub(in crate::report) mod header;
mod list;
pub(in crate::report) mod prepare;
mod raw;
mod short_name;
pub(in crate::report) mod source_path;
mod tables;
mod tag_filter;
mod tag_frames;
pub(in crate::report) mod tags;
mod top;
mod top_proto;
mod traces;
mod tree;
mod weblist;

pub use commands::{COMMANDS, Command};
pub use dot::readable;
pub use header::greeting;
pub use options::{OPTIONS, Settings};
pub use prepare::{Messages, filtered, generate, generate_to, generate_with};
