//! Tier A: an event on each CPU (its cycle counter, else a timer) calls a small program in the
//! kernel (`cpu.bpf.c`), which ignores all but the targets and copies a target's registers and its
//! stack, as far as that really reaches, into one ring.
//!
//! The program is attached to rprof's own event only, so that no other user of the machine is
//! affected. Threads are not enumerated: attaching costs the same for one as for 5,000, and threads
//! that live for microseconds are sampled. Needs CAP_BPF and CAP_PERFMON (or root), Linux 5.10, and
//! the kernel's BTF. Not here: unwinding what was copied.

mod kernel_names;
mod kernel_types;
mod load;
mod objects;
mod offcpu;
mod record;
mod refusal;
mod sideband;
pub mod threads;
pub mod trace;

use std::{
    fs, io,
    os::{fd::AsFd, unix::fs::MetadataExt},
    time::{Duration, Instant},
};

use crate::{
    addr::RuntimeAddr,
    process::{Hints, ProcessError, identity},
    sampler::{
        Description, Event, FAULTS_A_SAMPLE, KernelName, Sampler, SamplerError, SamplerOptions, Trigger,
    },
    sys::{
        self,
        bpf::WakeUps,
        clock,
        perf::{self, EventKind, EventSpec, PerfError, Rate, Scope},
    },
};

use load::{Loaded, Program, Settings};
use offcpu::OffCpu;
use sideband::Sideband;

/// Inode number of the first PID namespace (`PROC_PID_INIT_INO`, linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u32 = 0xefff_fffc;
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
    /// The programs that record waits, if waits are sampled.
    off_cpu: Option<OffCpu>,
    max_stack_bytes: u32,
    clock: Clock,
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
    let (mut loaded, off_cpu) = load_for(options, settings, ring_bytes as u32)?;

    let wake_ups = WakeUps::new().map_err(system("epoll_create1"))?;
    wake_ups.add(&loaded.ring).map_err(system("waiting for the BPF ring"))?;
    let mut sideband = Sideband::open(&cpus, options.follow_forks, &wake_ups)?;
    for pid in &options.pids {
        loaded.targets.insert(*pid, 1, 0).map_err(|error| refusal::from_map(&error))?;
        sideband.add_target(*pid);
    }
    let clock = match options.trigger {
        Trigger::Time => Clock::open(&cpus, options.frequency_hz, &loaded)?,
        Trigger::PageFault => Clock::of_faults(&cpus, &loaded)?,
        Trigger::ThreadCreated | Trigger::Waited => Clock::default(),
    };
    off_cpu.iter().try_for_each(|off_cpu| off_cpu.begin(&options.pids))?;
    Ok(BpfSampler {
        description: describe(options, max_stack_bytes, ring_bytes, &clock, &sideband),
        loaded,
        off_cpu,
        max_stack_bytes,
        clock,
        sideband,
        wake_ups,
        ring_bytes,
        lost_reported: 0,
        next_count: Instant::now() + COUNT_INTERVAL,
        stopped: false,
    })
}

fn load_for(
    options: &SamplerOptions,
    settings: Settings,
    ring_bytes: u32,
) -> Result<(Loaded, Option<OffCpu>), SamplerError> {
    let program = match options.trigger {
        Trigger::Time | Trigger::PageFault => Program::Sample,
        Trigger::ThreadCreated => Program::ThreadCreated,
        Trigger::Waited => {
            let interval_ns = 1_000_000_000 / u64::from(options.frequency_hz.max(1));
            let loaded = load::load_off_cpu(settings, ring_bytes, options.follow_forks, interval_ns)?;
            return Ok((loaded.0, Some(loaded.1)));
        }
    };
    Ok((load::load(program, settings, ring_bytes, options.follow_forks)?, None))
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

/// The inode number of rprof's PID namespace, whose process numbers are used.
fn own_pid_namespace() -> Result<u32, SamplerError> {
    let found = fs::metadata("/proc/self/ns/pid").map_err(system("reading /proc/self/ns/pid"))?;
    // Inode numbers of namespaces are 32 bits wide in the kernel.
    Ok(found.ino() as u32)
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
    })
}

/// The events that call the program, one on each CPU; none where it is attached to a tracepoint.
#[derive(Default)]
struct Clock {
    kind: Option<EventKind>,
    /// One for each CPU.
    events: Vec<perf::Event>,
    /// The nanoseconds of each sample, where its period is not in nanoseconds.
    fixed_period_ns: Option<u64>,
}

impl Clock {
    /// The CPUs' cycle counters where they exist: they also sample code that disables interrupts.
    /// Else timers.
    fn open(cpus: &[u32], frequency_hz: u32, loaded: &Loaded) -> Result<Clock, SamplerError> {
        let period_ns = 1_000_000_000 / u64::from(frequency_hz.max(1));
        if perf::counts_cycles() {
            let most = sys::limits::perf_event_max_sample_rate_hz().unwrap_or(u64::MAX).max(1);
            let rate = Rate::FrequencyHz(u64::from(frequency_hz.max(1)).min(most));
            let spec = EventSpec { kind: EventKind::Cycles, rate, ..Default::default() };
            match open_events(cpus, &spec, loaded) {
                // All counters are in use, or may not be sampled: timers remain.
                Err(PerfError::NoHardware { .. } | PerfError::Unsupported { .. }) => {}
                events => {
                    return Ok(Clock {
                        kind: Some(spec.kind),
                        events: events.map_err(from_perf)?,
                        fixed_period_ns: Some(period_ns),
                    });
                }
            }
        }
        let spec =
            EventSpec { kind: EventKind::CpuClock, rate: Rate::Period(period_ns), ..Default::default() };
        let events = open_events(cpus, &spec, loaded).map_err(from_perf)?;
        Ok(Clock { kind: Some(spec.kind), events, fixed_period_ns: None })
    }

    fn of_faults(cpus: &[u32], loaded: &Loaded) -> Result<Clock, SamplerError> {
        let rate = Rate::Period(FAULTS_A_SAMPLE);
        let spec = EventSpec { kind: EventKind::PageFaults, rate, ..Default::default() };
        let events = open_events(cpus, &spec, loaded).map_err(from_perf)?;
        Ok(Clock { kind: Some(spec.kind), events, fixed_period_ns: None })
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Some(EventKind::Cycles) => "cycles",
            Some(EventKind::PageFaults) => "page-faults",
            Some(EventKind::CpuClock | EventKind::Dummy) => "cpu-clock",
            Some(EventKind::Tracepoint { .. }) | None => "task_newtask",
        }
    }
}

/// Opens an event on each CPU with the program on it, then starts them all.
fn open_events(cpus: &[u32], spec: &EventSpec, loaded: &Loaded) -> Result<Vec<perf::Event>, PerfError> {
    let mut events = Vec::with_capacity(cpus.len());
    for cpu in cpus {
        let event = match spec.open(Scope::Cpu(*cpu)) {
            // The CPU went offline after the list was read.
            Err(PerfError::CpuOffline { .. }) => continue,
            event => event?,
        };
        event.set_bpf(loaded.program.as_fd())?;
        events.push(event);
    }
    events.iter().try_for_each(perf::Event::enable)?;
    Ok(events)
}

fn describe(
    options: &SamplerOptions,
    max_stack_bytes: u32,
    ring_bytes: usize,
    clock: &Clock,
    sideband: &Sideband,
) -> Description {
    Description {
        name: "bpf",
        event: if options.trigger == Trigger::Waited { "context switches" } else { clock.name() },
        summary: match clock.kind {
            Some(_) => format!(
                "a BPF program on a {} event of each of {} CPUs copies registers and whole stacks up to {} KiB",
                clock.name(),
                clock.events.len(),
                max_stack_bytes / 1024
            ),
            None if options.trigger == Trigger::Waited => format!(
                "BPF programs that are called at context switches copy the stacks, up to {} KiB, of waits when they \
                 end: of all that last {} us or longer, of shorter ones by chance, so that sums are right on average",
                max_stack_bytes / 1024,
                1_000_000 / options.frequency_hz.max(1),
            ),
            None => format!(
                "a BPF program that is called when a thread is created copies the creator's stack up to {} KiB",
                max_stack_bytes / 1024
            ),
        },
        kernel: options.kernel && options.trigger != Trigger::ThreadCreated,
        buffer_bytes: ring_bytes + sideband.ring_bytes(),
        event_count: clock.events.len() + sideband.event_count(),
    }
}

/// An error that says what failed.
fn system(what: &'static str) -> impl Fn(io::Error) -> SamplerError {
    move |source| SamplerError::System { what: what.to_owned(), source }
}

/// The error of a sampler for a failed perf call.
fn from_perf(error: PerfError) -> SamplerError {
    match error {
        PerfError::System { call, source } => SamplerError::System { what: call.to_owned(), source },
        other => SamplerError::Unavailable(other.to_string()),
    }
}

/// Gives any bytes to every parser of what the kernel hands over here, for fuzzing.
pub fn parse_any_record(bytes: &[u8]) {
    let _ = (record::time_ns(bytes), record::parse(bytes).is_some(), trace::parse(bytes).is_some());
    let _ = kernel_names::parse(bytes);
    let mut rest = bytes;
    while threads::parse(&mut rest).is_some() {}
    let mut rest = bytes;
    while offcpu::parse(&mut rest).is_some() {}
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
            let Some(mut sample) = record::parse(&item) else { continue };
            sample.period = self.clock.fixed_period_ns.unwrap_or(sample.period);
            if sample.time_ns > known_until_ns {
                known_until_ns = clock::monotonic_ns();
                self.sideband.refresh();
            }
            self.sideband.hand_over(sample.time_ns, sink);
            // A child whose fork record found no room.
            self.sideband.add_target(sample.pid);
            sink(Event::Sample(match &mut self.off_cpu {
                Some(off_cpu) => off_cpu.read(sample),
                None => sample,
            }));
        };
        let until_ns = if all { u64::MAX } else { known_until_ns.saturating_sub(SETTLE_NS) };
        self.sideband.hand_over(until_ns, sink);
        empty
    }

    fn report_lost(&mut self, now_due: bool, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
        let now = Instant::now();
        if now_due || self.stopped || now >= self.next_count {
            self.next_count = now + COUNT_INTERVAL;
            let unseen = self.off_cpu.as_ref().map_or(Ok(0), OffCpu::unseen)?;
            let lost = self.counts()?.lost + unseen;
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
        if let Some(off_cpu) = &mut self.off_cpu {
            off_cpu.hand_over_rest(self.max_stack_bytes, sink);
        }
        self.report_lost(all_ended, sink)?;
        if !empty {
            return Ok(());
        }
        for pid in ended {
            // It is not in the map if that was full.
            let _ = self.loaded.targets.remove(&pid);
            self.sideband.strike_off(pid);
        }
        match all_ended && !self.stopped {
            true => Err(SamplerError::NoTarget),
            false => Ok(()),
        }
    }

    fn split(&mut self) -> Result<(), SamplerError> {
        let Some(off_cpu) = &mut self.off_cpu else { return Ok(()) };
        off_cpu.split(&self.sideband.target_pids())
    }

    fn stop(&mut self) -> Result<(), SamplerError> {
        self.stopped = true;
        if let Some(off_cpu) = &mut self.off_cpu {
            off_cpu.end(&self.sideband.target_pids())?;
        }
        self.clock.events.iter().try_for_each(|event| event.disable().map_err(from_perf))
    }

    fn hint_stack(&mut self, tid: u32, start: RuntimeAddr, end: RuntimeAddr) {
        // Without the hint the extent is guessed, which takes longer.
        let _ = self.loaded.stacks.insert(tid, [start.0, end.0], 0);
    }

    fn hint_runtimes(&mut self, pid: u32, hints: &Hints) {
        // Without it, a task's stack is read later, when less of it is unchanged.
        let _ = match &hints.tasks {
            Some(layout) => self.loaded.task_layouts.insert(pid, load::task_words(layout), 0),
            None => self.loaded.task_layouts.remove(&pid),
        };
    }

    fn kernel_names(&mut self, addresses: &[RuntimeAddr]) -> Option<Vec<Option<KernelName>>> {
        kernel_names(addresses)
    }
}

#[cfg(test)]
mod tests;
