//! The reports of `go tool pprof`, byte for byte: which commands and options there are, and what each
//! command makes of a profile.
//!
//! Not here: the command line, files, the terminal (`cli`, `shell`): a report is a function of a
//! profile and settings. What the reference gets wrong is wrong here too: this is the drop-in.

pub mod commands;
pub mod objects;
pub mod options;

mod callgrind;
mod disasm;
mod dot;
mod format;
mod graph;
mod header;
mod list;
mod prepare;
mod raw;
mod short_name;
mod source_path;
mod tables;
mod tag_filter;
mod tag_frames;
mod tags;
mod top;
mod top_proto;
mod traces;
mod tree;
mod weblist;

pub use commands::{COMMANDS, Command};
pub use header::greeting;
pub use options::{OPTIONS, Settings};
pub use prepare::{Messages, generate, generate_to, generate_with};
