//! Sampling by perf events only (tier B): the kernel interrupts the target and copies registers and
//! the top of the user stack into a ring per CPU; the rings are read in place and merged by time.
//!
//! Three [`PerfMethod`]s differ in what is opened (`attach`), not in how records are read (`watch`,
//! `rings`):
//! - `perf-cpu`: one event per CPU samples everything that runs there; samples of other processes
//!   are dropped unread. It adds no cost to a context switch and samples the shortest threads, but
//!   needs rights over the whole machine.
//! - `perf-cgroup`: the same, limited by the kernel to the target's cgroup.
//! - `perf-thread`: one event per thread and CPU, inherited by the threads it creates. It needs no
//!   rights beyond those over one's own processes; it makes each context switch more expensive, and
//!   a new thread is first sampled after it has run for a whole period.
//!
//! Not here: BPF, unwinding, and perf's system calls ([`crate::sys::perf`]).

mod attach;
mod describe;
mod plan;
mod probe;
mod rings;
mod watch;

#[cfg(test)]
mod live_tests;

use std::time::Duration;

use rustc_hash::FxHashMap;

pub use plan::PerfMethod;
pub use probe::{MethodProbe, Probe, probe};

use super::{Description, Event, Sampler, SamplerError, SamplerOptions};
use crate::{
    process::cgroup,
    sys::{clock, perf},
};
use rings::Rings;
use watch::Watch;

/// Only records older than this are merged, so that a record which another CPU is still writing
/// keeps its place in the order.
const SETTLING_NS: u64 = 1_000_000;
/// How often one `poll` reads the rings again if they fill as fast as they are read.
const MAX_ROUNDS: usize = 64;

/// A running sampler; see [`open`].
pub struct PerfSampler {
    description: Description,
    /// With the process that each was opened for; 0: it counts whole CPUs.
    events: Vec<(u32, perf::Event)>,
    plan: plan::Plan,
    /// How events are opened.
    spec: perf::EventSpec,
    rings: Rings,
    watch: Watch,
    progress: Progress,
    reports_changes: bool,
    /// Records that the kernel counted as lost; known after the stop.
    lost_in_all: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Sampling,
    /// Events are closed; the rings may still hold records.
    Stopped,
    /// All records and the final counts have been reported.
    Drained,
}

/// Starts sampling the processes of `options` by the given method or, for [`PerfMethod::Auto`], the
/// best one that works here. Errors: [`SamplerError::Perf`] says which right or limit was missing,
/// for the method that needs the least; [`SamplerError::NoTarget`] if the processes have no living
/// thread.
pub fn open(options: &SamplerOptions, method: PerfMethod) -> Result<PerfSampler, SamplerError> {
    let mut failed: Vec<(PerfMethod, SamplerError)> = Vec::new();
    for shape in plan::Shape::candidates(options, method)? {
        let tried = shape.way();
        match open_shape(options, shape) {
            Ok(mut sampler) => {
                for (method, error) in failed {
                    sampler.description.summary += &format!("; {} is not available: {error}", method.name());
                }
                return Ok(sampler);
            }
            Err(SamplerError::NoTarget) => return Err(SamplerError::NoTarget),
            Err(error) => failed.push((tried, error)),
        }
    }
    Err(failed.pop().map_or(SamplerError::NoTarget, |(_, error)| error))
}

fn open_shape(options: &SamplerOptions, shape: plan::Shape) -> Result<PerfSampler, SamplerError> {
    let plan = plan::Plan::make(options, shape)?;
    let attached = attach::attach(&plan, options)?;
    let description = plan.describe(options, &attached);
    // The records of changes come from the events that take samples.
    let is_by_thread = matches!(plan.shape, plan::Shape::Threads);
    let watch = Watch::new(&plan, options, attached.fields, attached.owners);
    Ok(PerfSampler {
        description,
        events: attached.events,
        plan,
        spec: attached.spec,
        rings: attached.rings,
        watch,
        progress: Progress::Sampling,
        reports_changes: options.reports_changes || is_by_thread,
        lost_in_all: 0,
    })
}

/// How many records of an event did not fit into the ring, if the kernel counts them.
fn lost_by(event: &perf::Event) -> u64 {
    event.counts().ok().and_then(|counts| counts.lost).unwrap_or(0)
}

impl Sampler for PerfSampler {
    fn description(&self) -> &Description {
        &self.description
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
        if self.progress == Progress::Drained {
            return Ok(());
        }
        let stopped = self.progress == Progress::Stopped;
        if !stopped {
            self.rings.wait(timeout)?;
        }
        for _ in 0..MAX_ROUNDS {
            let cutoff_ns =
                if stopped { u64::MAX } else { clock::monotonic_ns().saturating_sub(SETTLING_NS) };
            let more = self.rings.merge(cutoff_ns, &mut |record| self.watch.handle(&record, sink));
            if self.rings.take_corrupt() {
                self.watch.forget_owners();
                sink(Event::LostSideband { count: 1 });
            }
            if !more {
                break;
            }
        }
        if stopped {
            self.watch.report_lost_in_all(self.lost_in_all, sink);
            self.progress = Progress::Drained;
        }
        Ok(())
    }

    fn reports_changes(&self) -> bool {
        self.reports_changes
    }

    /// Whole CPUs: it is only added to the list. One cgroup: it must be in it. Single threads: an
    /// event for each of its threads is opened; children that inherit events need none.
    fn watch(&mut self, pid: u32) -> Result<(), SamplerError> {
        if self.watch.has(pid) {
            return Ok(());
        }
        let mut thread_of_event = FxHashMap::default();
        match &self.plan.shape {
            plan::Shape::Cpus => {}
            plan::Shape::Cgroup { folder, .. } => {
                if cgroup::own_folder(&[pid]).as_ref() != Some(folder) {
                    let reason = format!("process {pid} is not in the cgroup {}", folder.display());
                    return Err(SamplerError::Unavailable(reason));
                }
            }
            plan::Shape::Threads => {
                let (events, threads) = attach::attach_process(&self.plan, &self.spec, &self.rings, pid)?;
                self.events.extend(events);
                thread_of_event = threads;
            }
        }
        self.watch.add(pid, thread_of_event);
        Ok(())
    }

    fn unwatch(&mut self, pid: u32) {
        let (of_process, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.events).into_iter().partition(|(owner, _)| *owner == pid);
        self.events = rest;
        let identifiers: Vec<u64> = of_process.iter().filter_map(|(_, event)| event.id().ok()).collect();
        let lost = of_process.iter().map(|(_, event)| lost_by(event));
        self.lost_in_all = lost.fold(self.lost_in_all, u64::saturating_add);
        self.watch.remove(pid, &identifiers);
    }

    /// Children inherit the events of a process: closing these would end theirs.
    fn ended(&mut self, pid: u32) {
        if self.spec.inherit {
            self.watch.remove(pid, &[]);
        } else {
            self.unwatch(pid);
        }
    }

    fn stop(&mut self) -> Result<(), SamplerError> {
        if self.progress == Progress::Sampling {
            self.progress = Progress::Stopped;
            // Closing stops an event without interrupting the CPU of a sleeping thread, unlike
            // disabling it; its records stay in the ring, which belongs to the owner.
            for (_, event) in self.events.drain(..) {
                self.lost_in_all = self.lost_in_all.saturating_add(lost_by(&event));
            }
            for owner in self.rings.owners() {
                owner.disable()?;
                self.lost_in_all = self.lost_in_all.saturating_add(lost_by(owner));
            }
        }
        Ok(())
    }
}
