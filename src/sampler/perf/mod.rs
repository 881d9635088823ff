//! Sampling by perf events alone (tier B): the kernel interrupts, copies registers and the top of the
//! user stack into a ring for each CPU, and here the rings are read in place and merged by time.
//!
//! Three [`PerfMethod`]s differ in what is opened (`attach`), not in what is read (`watch`, `rings`):
//! - `perf-cpu`: one event for each CPU sees everything that runs there; samples of other processes are
//!   dropped unread. Costs the target nothing at a context switch and sees the shortest threads, but
//!   needs rights over the whole machine.
//! - `perf-cgroup`: the same, and the kernel leaves out all that is not in the target's cgroup.
//! - `perf-thread`: one event for each thread on each CPU, inherited by what the thread creates. Needs
//!   no rights over one's own processes; pays at each context switch, and a new thread is first seen
//!   after it ran for a whole period.
//!
//! Not here: BPF, unwinding, and perf's system calls ([`crate::sys::perf`]).

mod attach;
mod plan;
mod probe;
mod rings;
mod watch;

#[cfg(test)]
mod live_tests;

use std::time::Duration;

pub use plan::PerfMethod;
pub use probe::{MethodProbe, Probe, probe};

use super::{Description, Event, Sampler, SamplerError, SamplerOptions};
use crate::sys::{clock, perf};
use rings::Rings;
use watch::Watch;

/// Records are merged only up to this long ago, so that one whose time is taken but which another CPU
/// is still writing is not overtaken.
const SETTLING_NS: u64 = 1_000_000;
/// How often one `poll` goes back to the rings when they fill as fast as they are read.
const MAX_ROUNDS: usize = 64;

/// A running sampler; see [`open`].
pub struct PerfSampler {
    description: Description,
    events: Vec<perf::Event>,
    rings: Rings,
    watch: Watch,
    progress: Progress,
    /// Records that the kernel counted as lost, known once stopped.
    lost_in_all: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Sampling,
    /// Events are closed; the rings may hold records still.
    Stopped,
    /// All was handed over, final counts included.
    Drained,
}

/// Starts to sample the processes of `options`, in the given way or (for [`PerfMethod::Auto`]) the best that
/// rights allow. Errors: [`SamplerError::Perf`] says which right or limit it was;
/// [`SamplerError::NoTarget`] if no thread of the processes lives.
pub fn open(options: &SamplerOptions, way: PerfMethod) -> Result<PerfSampler, SamplerError> {
    let plan = plan::Plan::make(options, way)?;
    let attached = attach::attach(&plan, options)?;
    let description = plan.describe(options, &attached);
    let watch = Watch::new(&plan, options, attached.fields, attached.owners);
    Ok(PerfSampler {
        description,
        events: attached.events,
        rings: attached.rings,
        watch,
        progress: Progress::Sampling,
        lost_in_all: 0,
    })
}

/// How many records of an event found no room, as far as the kernel counts them.
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

    fn stop(&mut self) -> Result<(), SamplerError> {
        if self.progress == Progress::Sampling {
            self.progress = Progress::Stopped;
            // Closing stops an event without the interrupt that disabling it costs the CPU of a sleeping
            // thread; its records stay in the ring, which belongs to the owner.
            for event in self.events.drain(..) {
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
