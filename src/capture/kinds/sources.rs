//! The samplers that take the samples of the kinds.

use super::{super::SamplerChoice, Source};
use crate::sampler::{
    SamplerError, bpf,
    perf::{self, PerfMethod},
    ptrace::{self, Clock},
    wall,
};

/// BPF programs.
pub const BPF: Source = Source {
    name: "bpf",
    choice: Some(SamplerChoice::Bpf),
    is_automatic: true,
    open: |options| Ok(Box::new(bpf::open(options)?)),
};

/// BPF programs, for what nothing else records.
pub const ONLY_BPF: Source =
    Source { open: |options| Ok(Box::new(bpf::open(options).map_err(only_bpf)?)), ..BPF };

/// The best perf event that is permitted.
pub const PERF: Source = Source {
    name: "perf",
    choice: None,
    is_automatic: true,
    open: |options| Ok(Box::new(perf::open(options, PerfMethod::Auto)?)),
};

/// One perf event per CPU.
pub const PERF_CPU: Source = Source {
    name: "perf-cpu",
    choice: Some(SamplerChoice::PerfCpu),
    is_automatic: false,
    open: |options| Ok(Box::new(perf::open(options, PerfMethod::Cpu)?)),
};

/// One perf event per CPU that counts a control group.
pub const PERF_CGROUP: Source = Source {
    name: "perf-cgroup",
    choice: Some(SamplerChoice::PerfCgroup),
    is_automatic: false,
    open: |options| Ok(Box::new(perf::open(options, PerfMethod::Cgroup)?)),
};

/// One perf event for each thread and CPU.
pub const PERF_THREAD: Source = Source {
    name: "perf-thread",
    choice: Some(SamplerChoice::PerfThread),
    is_automatic: false,
    open: |options| Ok(Box::new(perf::open(options, PerfMethod::Thread)?)),
};

/// Stops of running threads.
pub const PTRACE: Source = Source {
    name: "ptrace",
    choice: Some(SamplerChoice::Ptrace),
    is_automatic: true,
    open: |options| Ok(Box::new(ptrace::open(options, Clock::Cpu)?)),
};

/// Stops of all threads, running or not.
pub const PTRACE_WALL: Source =
    Source { open: |options| Ok(Box::new(ptrace::open(options, Clock::Wall)?)), ..PTRACE };

/// BPF programs that read all threads, running or not.
pub const BPF_WALL: Source = Source { open: |options| Ok(Box::new(wall::open(options)?)), ..BPF };

/// Adds to the error of a sampler of waits that only BPF can record them.
fn only_bpf(source: SamplerError) -> SamplerError {
    let instead = "only BPF can record when a wait begins and ends (--kind wall works without BPF: it samples all \
                   threads periodically, running or not)";
    SamplerError::Only { source: Box::new(source), instead }
}
