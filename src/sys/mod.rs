//! All `unsafe` code and raw system calls of rprof, behind safe functions.
//!
//! Not here: the meaning of the data. Nothing in this module knows ELF, samples or profiles.
//!
//! [`bpf`]: BPF programs. [`capabilities`], [`limits`]: rprof's rights. [`perf`]: perf events.
//! [`ptrace`]: stopping a thread. [`interruptions`]: stops that are not released yet.
//! [`file_map`]: mapped files. [`heap`]: free memory. [`opener`]: opening files that may hang.
//! [`launch`]: fork and exec. [`sock_diag`]: pairs of unix sockets.

pub mod bpf;
pub mod capabilities;
pub mod clock;
pub mod cpus;
pub mod file_map;
pub mod heap;
pub mod interruptions;
pub mod launch;
pub mod limits;
pub mod opener;
pub mod perf;
pub mod pidfd;
pub mod proc;
pub mod ptrace;
pub mod sock_diag;
