//! Language runtimes, one folder each: where a runtime keeps its threads, tasks, names and
//! counters, and how its frames are laid out.
//!
//! Not here: sampling threads, profiles, printing. No runtime refers to another one.

pub mod go;
pub mod python;
