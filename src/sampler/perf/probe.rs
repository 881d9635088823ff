//! Which of the three methods work here, and why the others do not.
//!
//! Not here: advice.

use super::plan::{PerfMethod, whole_cpus_allowed};
use crate::{
    process::cgroup,
    sampler::SamplerError,
    sys::{
        cpus, limits,
        perf::{self, EventKind, EventSpec, PerfError, Scope},
    },
};

/// What perf events allow this process to do on this machine, independent of a target.
#[derive(Debug)]
pub struct Probe {
    /// Whether hardware counts cycles; otherwise samples are taken by a timer.
    pub cycles: bool,
    /// Whether the kernel's time and frames can be sampled, at least for one's own processes.
    pub kernel: Result<(), PerfError>,
    /// `kernel.perf_event_paranoid`; `None` where the kernel has no perf events.
    pub paranoid: Option<i32>,
    /// `perf-cpu`, `perf-cgroup` and `perf-thread`, in the order of preference.
    pub ways: Vec<MethodProbe>,
}

/// Whether one method works.
#[derive(Debug)]
pub struct MethodProbe {
    /// The method.
    pub way: PerfMethod,
    /// For `perf-cgroup` whether rights suffice; the target also needs a cgroup of its own. For
    /// `perf-thread` whether it works for one's own processes.
    pub outcome: Result<(), SamplerError>,
}

/// Tests all methods on this process itself.
pub fn probe() -> Probe {
    let cpus = cpus::online().unwrap_or_default();
    let whole_cpus = || whole_cpus_allowed(&cpus).map_err(SamplerError::from);
    let cgroup_mounted = match cgroup::is_mounted() {
        true => Ok(()),
        false => Err(SamplerError::Unavailable("no cgroup hierarchy of version 2 is mounted".to_owned())),
    };
    Probe {
        cycles: perf::counts_cycles(),
        kernel: own_thread(false),
        paranoid: limits::perf_event_paranoid(),
        ways: vec![
            MethodProbe { way: PerfMethod::Cgroup, outcome: cgroup_mounted.and_then(|()| whole_cpus()) },
            MethodProbe { way: PerfMethod::Cpu, outcome: whole_cpus() },
            MethodProbe { way: PerfMethod::Thread, outcome: own_thread(true).map_err(SamplerError::from) },
        ],
    }
}

fn own_thread(exclude_kernel: bool) -> Result<(), PerfError> {
    let spec = EventSpec { kind: EventKind::CpuClock, exclude_kernel, ..Default::default() };
    spec.open(Scope::Thread { tid: std::process::id(), cpu: None }).map(drop)
}
