//! Live tests: rprof profiles real programs, most of them with known shares of CPU time, and the
//! tests read its output. They are one crate, so that they are linked once.
//!
//! A test that measures holds [`harness::alone`], so that parallel tests do not disturb it. A test
//! that cannot run prints `SKIPPED: why`. If `CI` is `true`, only reasons that lie in the machine
//! are accepted (see `harness::skip`).

mod harness;

mod assembly;
mod command_line;
mod compare;
mod containers;
mod core_files;
mod created;
mod documents;
mod dump;
mod faults;
mod files;
mod frames;
mod go;
mod heap;
mod heap_account;
mod held;
mod hung;
mod jit;
mod jvm;
mod languages;
mod lifecycle;
mod live;
mod locks;
mod mcp;
mod node;
mod off_cpu;
mod output;
mod pprof;
mod python;
mod real_programs;
mod redact;
mod rights;
mod selectors;
mod serve;
mod serve_access;
mod serve_scrapers;
mod serve_ui;
mod shares;
mod sidecar;
mod sidecar_triggers;
mod signals;
mod snapshot;
mod soak;
mod stopped;
mod symbols;
mod target_unhurt;
mod trace;
mod web;
mod wrong_usage;
