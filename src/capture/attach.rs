//! Opens the best sampler that the rights allow, or the one that was asked for.

use super::{CaptureError, Request};
use crate::{
    issue::{Issue, Issues},
    process::Identity,
    sampler::{
        Sampler, SamplerError, SamplerOptions, bpf,
        perf::{self, Way},
    },
};

/// Which way of looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SamplerChoice {
    /// The best that works.
    #[default]
    Auto,
    /// One event a CPU, filtered and copied by a BPF program.
    Bpf,
    /// One event a CPU, other processes' samples dropped.
    PerfCpu,
    /// One event a CPU that counts only the target's control group.
    PerfCgroup,
    /// One event for each thread and CPU.
    PerfThread,
}

type Opened = Result<Box<dyn Sampler>, SamplerError>;

pub(super) fn open(
    request: &Request,
    pids: &[u32],
    identities: &[Identity],
    issues: &mut Issues,
) -> Result<Box<dyn Sampler>, CaptureError> {
    let options = SamplerOptions {
        frequency_hz: request.frequency_hz,
        pids: pids.to_vec(),
        follow_forks: request.children,
        kernel: request.kernel,
        max_stack_bytes: request.max_stack_bytes,
        buffer_bytes: request.buffer_bytes,
    };
    let mut tried: Vec<(&'static str, SamplerError)> = Vec::new();
    for (name, way) in ways(request.sampler) {
        match way(&options) {
            Ok(sampler) => {
                for (wanted, error) in &tried {
                    issues.add(Issue::WeakerSampler { wanted, why: error.to_string() }, 1);
                }
                return Ok(sampler);
            }
            Err(error) => tried.push((name, error)),
        }
    }
    let (_, source) = tried.pop().unwrap_or(("none", SamplerError::NoTarget));
    Err(CaptureError::Sampler { source, tried, identities: identities.to_vec() })
}

type OpenWay = fn(&SamplerOptions) -> Opened;

fn ways(choice: SamplerChoice) -> Vec<(&'static str, OpenWay)> {
    let bpf: OpenWay = |options| Ok(Box::new(bpf::open(options)?));
    let perf_cpu: OpenWay = |options| Ok(Box::new(perf::open(options, Way::Cpu)?));
    let perf_cgroup: OpenWay = |options| Ok(Box::new(perf::open(options, Way::Cgroup)?));
    let perf_thread: OpenWay = |options| Ok(Box::new(perf::open(options, Way::Thread)?));
    let perf_any: OpenWay = |options| Ok(Box::new(perf::open(options, Way::Auto)?));
    match choice {
        SamplerChoice::Auto => vec![("bpf", bpf), ("perf", perf_any)],
        SamplerChoice::Bpf => vec![("bpf", bpf)],
        SamplerChoice::PerfCpu => vec![("perf-cpu", perf_cpu)],
        SamplerChoice::PerfCgroup => vec![("perf-cgroup", perf_cgroup)],
        SamplerChoice::PerfThread => vec![("perf-thread", perf_thread)],
    }
}
