//! Opens the best sampler that the permissions allow, or the requested one.

use super::{CaptureError, ProfileKind, Request};
use crate::{
    issue::{Issue, Issues},
    process::Identity,
    sampler::{
        Sampler, SamplerError, SamplerOptions, Trigger, bpf, idle,
        perf::{self, PerfMethod},
        ptrace::{self, Clock},
        wall,
    },
};

/// Which sampler to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SamplerChoice {
    /// The best one that works.
    #[default]
    Auto,
    /// One event per CPU; a BPF program filters the samples and copies the stacks.
    Bpf,
    /// One event per CPU; samples of other processes are dropped.
    PerfCpu,
    /// One event per CPU that counts only the target's control group.
    PerfCgroup,
    /// One event for each thread and CPU.
    PerfThread,
    /// Threads are stopped one by one, for microseconds each.
    Ptrace,
}

type Opened = Result<Box<dyn Sampler>, SamplerError>;

pub(super) fn open(
    request: &Request,
    pids: &[u32],
    identities: &[Identity],
    issues: &mut Issues,
) -> Result<Box<dyn Sampler>, CaptureError> {
    let options = SamplerOptions {
        trigger: match request.kind {
            ProfileKind::Cpu | ProfileKind::Wall => Trigger::Time,
            ProfileKind::Faults => Trigger::PageFault,
            ProfileKind::ThreadCreate => Trigger::ThreadCreated,
            ProfileKind::OffCpu => Trigger::Waited,
        },
        frequency_hz: request.frequency_hz,
        pids: pids.to_vec(),
        follow_forks: request.children,
        kernel: request.kernel,
        max_stack_bytes: request.max_stack_bytes,
        buffer_bytes: request.buffer_bytes,
    };
    let mut tried: Vec<(&'static str, SamplerError)> = Vec::new();
    for (name, open) in candidates(request.sampler, request.kind) {
        match open(&options) {
            Ok(sampler) => {
                for (wanted, error) in &tried {
                    issues.add(Issue::WeakerSampler { wanted, why: error.to_string() }, 1);
                }
                return Ok(sampler);
            }
            Err(error) => tried.push((name, error)),
        }
    }
    // The error of perf or BPF is more useful than that of ptrace, which is tried last.
    let main = tried.iter().rposition(|(name, _)| *name != "ptrace").unwrap_or(0);
    let source = if tried.is_empty() { SamplerError::NoTarget } else { tried.remove(main).1 };
    Err(CaptureError::Sampler { source, tried, identities: identities.to_vec() })
}

/// Adds to the error of an off-CPU sampler that only BPF can record waits.
fn only_bpf(error: SamplerError) -> SamplerError {
    match error {
        SamplerError::Unavailable(why) => SamplerError::Unavailable(format!(
            "{why}; only BPF can record when a wait begins and ends (--kind wall works without BPF: it samples \
            all threads periodically, running or not)"
        )),
        other => other,
    }
}

type OpenSampler = fn(&SamplerOptions) -> Opened;

fn candidates(choice: SamplerChoice, kind: ProfileKind) -> Vec<(&'static str, OpenSampler)> {
    let bpf: OpenSampler = |options| Ok(Box::new(bpf::open(options)?));
    let waits: OpenSampler = |options| Ok(Box::new(bpf::open(options).map_err(only_bpf)?));
    let perf_cpu: OpenSampler = |options| Ok(Box::new(perf::open(options, PerfMethod::Cpu)?));
    let perf_cgroup: OpenSampler = |options| Ok(Box::new(perf::open(options, PerfMethod::Cgroup)?));
    let perf_thread: OpenSampler = |options| Ok(Box::new(perf::open(options, PerfMethod::Thread)?));
    let perf_any: OpenSampler = |options| Ok(Box::new(perf::open(options, PerfMethod::Auto)?));
    let held: OpenSampler = |options| Ok(Box::new(ptrace::open(options, Clock::Cpu)?));
    let wall: OpenSampler = |options| Ok(Box::new(wall::open(options)?));
    let held_wall: OpenSampler = |options| Ok(Box::new(ptrace::open(options, Clock::Wall)?));
    let without_events: OpenSampler = |_| {
        Ok(Box::new(idle::Idle::new(
            "threads are listed before and after the profile: new threads are shown with their start functions, \
            not with the stacks that created them, and threads that started and ended in between are missing",
        )))
    };
    match choice {
        SamplerChoice::Ptrace if kind == ProfileKind::Wall => vec![("ptrace", held_wall)],
        SamplerChoice::Bpf if kind == ProfileKind::Wall => vec![("bpf", wall)],
        _ if kind == ProfileKind::Wall => vec![("bpf", wall), ("ptrace", held_wall)],
        SamplerChoice::Auto if kind == ProfileKind::Faults => vec![("bpf", bpf), ("perf", perf_any)],
        _ if kind == ProfileKind::OffCpu => vec![("bpf", waits)],
        SamplerChoice::Auto if kind == ProfileKind::ThreadCreate => {
            vec![("bpf", bpf), ("perf", perf_any), (idle::NAME, without_events)]
        }
        SamplerChoice::Ptrace => vec![("ptrace", held)],
        SamplerChoice::Auto => vec![("bpf", bpf), ("perf", perf_any), ("ptrace", held)],
        SamplerChoice::Bpf => vec![("bpf", bpf)],
        SamplerChoice::PerfCpu => vec![("perf-cpu", perf_cpu)],
        SamplerChoice::PerfCgroup => vec![("perf-cgroup", perf_cgroup)],
        SamplerChoice::PerfThread => vec![("perf-thread", perf_thread)],
    }
}
