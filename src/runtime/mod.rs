//! What rprof knows of language runtimes, one folder each: where a runtime keeps its threads, tasks,
//! names and counters, and how its frames look.
//!
//! Not here: looking at threads, profiles, printing. No runtime names another.

pub mod go;
