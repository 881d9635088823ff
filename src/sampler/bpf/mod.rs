//! Tier A: BPF programs, called by events or at tracepoints ([`source`] has one file for each
//! source), ignore all but the targets and write a record of each sample into one ring.
//!
//! ```text
//! cpu.bpf.c, offcpu.bpf.c   begin a sample: its registers, kernel frames and values
//! a language's walker       adds frames that are not on the stack (walker.bpf.h), if there is one
//! gather.bpf.h              completes it: copies the stack, as far as that really reaches
//! record.bpf.h, record.rs   the record: a head and typed sections
//! ```
//!
//! A program on an event is attached to rprof's own event only, so that no other user of the
//! machine is affected. Threads are not enumerated: attaching costs the same for one as for 5,000,
//! and threads that live for microseconds are sampled. Needs CAP_BPF and CAP_PERFMON (or root),
//! Linux 5.10, and the kernel's BTF. Not here: unwinding what was copied.

mod common;
mod kernel_names;
pub(crate) mod kernel_types;
mod load;
mod objects;
mod program;
mod record;
mod refusal;
mod sideband;
mod source;
pub mod threads;
pub mod trace;
mod walkers;

use std::time::{Duration, Instant};

use crate::{
    addr::RuntimeAddr,
    process::{Hints, LanguageId, ProcessError, WalkerProgram, identity},
    sampler::{Description, Event, KernelName, Sampler, SamplerError, SamplerOptions},
    sys::{self, bpf::WakeUps, clock},
};

use common::{FIRST_PID_NAMESPACE, own_pid_namespace, system};
use load::{Loaded, Settings};
use program::Room;
use record::ValueKind;
use sideband::Sideband;
use source::{Opening, Source};

/// The most stack that the program copies (`LARGEST_STACK_BYTES`).
const LARGEST_STACK_BYTES: u32 = 512 << 10;
/// The default ring, and the share of it for each CPU of a large machine.
const RING_BYTES: usize = 8 << 20;
const RING_BYTES_A_CPU: usize = 512 << 10;
const MOST_RING_BYTES: usize = 256 << 20;
/// How long a side-band record is held back: an earlier sample may still be being written.
const SETTLE_NS: u64 = 1_000_000;
/// How often the counts of lost samples are read.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// A running sampler of tier A.
pub struct BpfSampler {
    description: Description,
    loaded: Loaded,
    source: Box<dyn Source>,
    max_stack_bytes: u32,
    sideband: Sideband,
    wake_ups: WakeUps,
    ring_bytes: usize,
    lost_reported: u64,
    next_count: Instant,
    stopped: bool,
}

/// Counts that the program keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Samples of targets that were taken.
    pub seen: u64,
    /// Those of them that found no room in the ring.
    pub lost: u64,
}

/// Loads the program and begins to sample. Errors: `NoTarget` if no process of `options.pids` runs,
/// `Unavailable` with the reason if rights or the kernel do not allow it.
pub fn open(options: &SamplerOptions) -> Result<BpfSampler, SamplerError> {
    if !options.pids.iter().any(|pid| may_run(*pid)) {
        return Err(SamplerError::NoTarget);
    }
    let cpus = sys::cpus::online().map_err(system("reading which CPUs are online"))?;
    let max_stack_bytes = options.max_stack_bytes.clamp(1024, LARGEST_STACK_BYTES);
    let ring_bytes = ring_bytes(options.buffer_bytes, cpus.len(), max_stack_bytes);
    let settings = settings(options, max_stack_bytes, ring_bytes)?;
    sys::bpf::lift_locked_memory_limit();
    // One file for each CPU may exceed the soft limit; if it cannot be raised, opening reports
    // that.
    let _ = sys::limits::raise_open_files();
    let buffers = cpus.last().map_or(1, |highest| highest + 1);
    let room = Room { ring_bytes: ring_bytes as u32, buffers };
    let opening = Opening { options, settings, room, cpus: &cpus };
    let (mut loaded, mut source) = source::open(&opening)?;

    let wake_ups = WakeUps::new().map_err(system("epoll_create1"))?;
    wake_ups.add(&loaded.ring).map_err(system("waiting for the BPF ring"))?;
    let reporting_cpus = if options.reports_changes { &cpus[..] } else { &[] };
    let mut sideband = Sideband::open(reporting_cpus, options.follow_forks, &wake_ups)?;
    for pid in &options.pids {
        loaded.targets.insert(*pid, [0; 2], 0).map_err(|error| refusal::from_map(&error))?;
        sideband.add_target(*pid);
    }
    source.begin(&options.pids)?;
    Ok(BpfSampler {
        description: describe(
            options,
            &*source,
            max_stack_bytes,
            ring_bytes + sideband.ring_bytes(),
            &sideband,
        ),
        loaded,
        source,
        max_stack_bytes,
        sideband,
        wake_ups,
        ring_bytes,
        lost_reported: 0,
        next_count: Instant::now() + COUNT_INTERVAL,
        stopped: false,
    })
}

fn may_run(pid: u32) -> bool {
    match identity::read_stat(pid) {
        Ok(stat) => !stat.is_over(),
        Err(ProcessError::NoSuchProcess(_)) => false,
        Err(_) => true,
    }
}

/// A power of two: the requested size or the default, but room for several of the largest samples.
fn ring_bytes(requested_bytes: usize, cpu_count: usize, max_stack_bytes: u32) -> usize {
    let default = (RING_BYTES_A_CPU * cpu_count).clamp(RING_BYTES, MOST_RING_BYTES);
    let requested = if requested_bytes == 0 { default } else { requested_bytes };
    requested.clamp(4 * max_stack_bytes.next_power_of_two() as usize, MOST_RING_BYTES).next_power_of_two()
}

fn settings(
    options: &SamplerOptions,
    max_stack_bytes: u32,
    ring_bytes: usize,
) -> Result<Settings, SamplerError> {
    let namespace = own_pid_namespace()?;
    Ok(Settings {
        namespace_inode: namespace,
        first_namespace: namespace == FIRST_PID_NAMESPACE,
        max_stack_bytes,
        kernel_stacks: options.kernel,
        wake_bytes: ring_bytes as u64 / 4,
        period_kind: ValueKind::Nanoseconds,
        language_alone: options.language_alone,
    })
}

fn describe(
    options: &SamplerOptions,
    source: &dyn Source,
    max_stack_bytes: u32,
    buffer_bytes: usize,
    sideband: &Sideband,
) -> Description {
    Description {
        name: "bpf",
        event: source.event(),
        summary: source.summary(max_stack_bytes / 1024),
        kernel: options.kernel && source.has_kernel_frames(),
        buffer_bytes,
        event_count: source.event_count() + sideband.event_count(),
    }
}

/// Gives any bytes to every parser of what the kernel hands over here, for fuzzing.
pub fn parse_any_record(bytes: &[u8]) {
    let _ = (
        record::time_ns(bytes),
        record::parse(bytes, &[LanguageId(1)]).is_some(),
        trace::parse(bytes).is_some(),
    );
    let _ = kernel_names::parse(bytes);
    let mut rest = bytes;
    while threads::parse(&mut rest).is_some() {}
    let mut rest = bytes;
    while source::parse_swept(&mut rest).is_some() {}
    if let Some(types) = kernel_types::Types::parse(bytes) {
        let _ = (types.structures(), types.function(b"schedule"), types.typedef(b"u64"));
    }
}

/// The names of kernel addresses, in their order; `None` where the kernel does not offer them this
/// way.
pub fn kernel_names(addresses: &[RuntimeAddr]) -> Option<Vec<Option<KernelName>>> {
    let names = kernel_names::names(addresses).ok()?;
    // A kernel that was built without its symbols, or hides them, returns numbers.
    names.iter().any(Option::is_some).then_some(names)
}

/// Whether [`kernel_names`] works. Errors: the kernel has no such program (Linux 5.13), or rights.
pub fn check_kernel_names() -> Result<(), SamplerError> {
    kernel_names::names(&[]).map(drop)
}

/// Whether the kernel takes a language's walker. Errors: as [`open`].
pub fn check_walker(options: &SamplerOptions, walker: &WalkerProgram) -> Result<(), SamplerError> {
    open(options)?.loaded.walkers.check(walker)
}

impl BpfSampler {
    /// What the program has counted so far. Errors: the map cannot be read.
    pub fn counts(&self) -> Result<Counts, SamplerError> {
        let values = self.loaded.counts.get(&0, 0).map_err(|error| refusal::from_map(&error))?;
        let add = |sum: Counts, [seen, lost]: &[u64; 2]| Counts {
            seen: sum.seen.wrapping_add(*seen),
            lost: sum.lost.wrapping_add(*lost),
        };
        Ok(values.iter().fold(Counts::default(), add))
    }

    /// Reports the samples in the ring, each after the side-band records that precede it; with
    /// `all` also side-band records that are so new that an earlier sample may follow. Returns
    /// whether the ring is empty.
    fn drain(&mut self, all: bool, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let mut known_until_ns = clock::monotonic_ns();
        self.sideband.refresh();
        let mut bytes = 0;
        // Records that arrive meanwhile are taken too, but at most one ring in all: then the caller
        // checks the time.
        let empty = loop {
            if bytes >= self.ring_bytes {
                break false;
            }
            let Some(item) = self.loaded.ring.next() else { break true };
            bytes += item.len();
            let Some(record) = record::parse(&item, self.loaded.walkers.languages()) else { continue };
            let sample = &record.sample;
            if sample.time_ns > known_until_ns {
                known_until_ns = clock::monotonic_ns();
                self.sideband.refresh();
            }
            self.sideband.hand_over(sample.time_ns, sink);
            // A child whose fork record found no room. (A process that is no longer a target may
            // still have samples in the ring.)
            if !self.sideband.has_target(sample.pid) && self.loaded.targets.get(&sample.pid, 0).is_ok() {
                self.sideband.add_target(sample.pid);
            }
            sink(Event::Sample(self.source.read(record)));
        };
        let until_ns = if all { u64::MAX } else { known_until_ns.saturating_sub(SETTLE_NS) };
        self.sideband.hand_over(until_ns, sink);
        empty
    }

    fn report_lost(&mut self, now_due: bool, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
        let now = Instant::now();
        if now_due || self.stopped || now >= self.next_count {
            self.next_count = now + COUNT_INTERVAL;
            let lost = self.counts()?.lost + self.source.unseen()?;
            if lost > self.lost_reported {
                sink(Event::LostSamples { count: lost - self.lost_reported });
                self.lost_reported = lost;
            }
        }
        Ok(())
    }
}

impl Sampler for BpfSampler {
    fn description(&self) -> &Description {
        &self.description
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
        if !self.stopped && !timeout.is_zero() {
            self.wake_ups.wait(timeout).map_err(system("epoll_wait"))?;
        }
        // First which processes have ended, then what is written: no record of theirs can follow.
        let ended = self.sideband.find_ended();
        let all_ended = ended.len() == self.sideband.target_count();
        let empty = self.drain(self.stopped || all_ended, sink);
        self.source.hand_over_rest(self.max_stack_bytes, sink);
        self.report_lost(all_ended, sink)?;
        if !empty {
            return Ok(());
        }
        for pid in ended {
            // It is not in the map if that was full.
            let _ = self.loaded.targets.remove(&pid);
            self.loaded.walkers.forget(pid);
            self.sideband.strike_off(pid);
        }
        match all_ended && !self.stopped {
            true => Err(SamplerError::NoTarget),
            false => Ok(()),
        }
    }

    fn split(&mut self) -> Result<(), SamplerError> {
        self.source.split(&self.sideband.target_pids())
    }

    fn stop(&mut self) -> Result<(), SamplerError> {
        self.stopped = true;
        self.source.stop(&self.sideband.target_pids())
    }

    fn hint_stack(&mut self, tid: u32, start: RuntimeAddr, end: RuntimeAddr) {
        // Without the hint the extent is guessed, which takes longer.
        let _ = self.loaded.stacks.insert(tid, [start.0, end.0], 0);
    }

    fn hint_runtimes(&mut self, pid: u32, hints: &Hints) -> Result<(), SamplerError> {
        // Without it, a task's stack is read later, when less of it is unchanged.
        let _ = match &hints.tasks {
            Some(layout) => self.loaded.task_layouts.insert(pid, load::task_words(layout), 0),
            None => self.loaded.task_layouts.remove(&pid),
        };
        self.loaded.walkers.set(pid, hints.walker.as_ref(), &mut self.loaded.targets)
    }

    fn hint_thread_state(&mut self, tid: u32, state: Option<u64>) {
        // Without it, the walker finds no frames of this thread.
        let _ = match state {
            Some(state) => self.loaded.thread_states.insert(tid, state, 0),
            None => self.loaded.thread_states.remove(&tid),
        };
    }

    fn reports_changes(&self) -> bool {
        self.sideband.event_count() > 0
    }

    fn watch(&mut self, pid: u32) -> Result<(), SamplerError> {
        if !may_run(pid) {
            return Err(SamplerError::NoTarget);
        }
        if !self.sideband.add_target(pid) {
            return Ok(());
        }
        self.loaded.targets.insert(pid, [0; 2], 0).map_err(|error| refusal::from_map(&error))?;
        self.source.begin(&[pid])
    }

    fn unwatch(&mut self, pid: u32) {
        // It is not in the maps if they were full.
        let _ = self.loaded.targets.remove(&pid);
        let _ = self.loaded.task_layouts.remove(&pid);
        self.loaded.walkers.forget(pid);
        self.sideband.strike_off(pid);
    }
}

#[cfg(test)]
mod tests;
