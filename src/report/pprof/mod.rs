//! The reports of `go tool pprof`, byte for byte: its commands, its options, and the report of each
//! command.
//!
//! A report is a function of a profile and settings. Faults of the reference are reproduced,
//! because these reports are a drop-in replacement. Not here: the command line, files, the terminal
//! (`cli`, `shell`).

pub mod commands;
pub mod objects;
pub mod options;

mod callgrind;
pub(in crate::report) mod disasm;
mod dot;
pub(in crate::report) mod format;
mod generate;
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
pub use generate::{generate, generate_to, generate_with};
pub use header::greeting;
pub use options::{OPTIONS, Settings};
pub use prepare::{Messages, filtered};
