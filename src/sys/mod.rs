//! All `unsafe` and raw system calls of rprof, each behind a safe function that says what it does.
//!
//! Not here: what the bytes mean. Nothing in this module knows ELF, samples or profiles.

pub mod bpf;
pub mod capabilities;
pub mod clock;
pub mod cpus;
pub mod file_map;
pub mod launch;
pub mod limits;
pub mod perf;
pub mod ptrace;
