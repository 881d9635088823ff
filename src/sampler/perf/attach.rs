//! Opens the events of the plan: a ring per CPU, then the events that write into it.
//!
//! The events that own the rings live as long as rprof: they count whole CPUs or, with one event
//! per thread, rprof's own first thread. (poll(2) on a ring whose owner's thread has ended returns
//! at once, for ever.) Not here: reading.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    plan::{Plan, Shape},
    rings::Rings,
};
use crate::{
    process::threads,
    sampler::{SamplerError, SamplerOptions},
    sys::{
        limits,
        perf::{Event, EventKind, EventSpec, PerfError, Ring, SampleFields, Scope},
    },
};

/// Default ring memory per CPU: as much as a fully busy CPU fills in a quarter of a second, but at
/// least and at most this, and at most `ALL_RINGS_BYTES` in all. (The pages are locked kernel
/// memory; they do not count as rprof's own.)
const MIN_DEFAULT_RING_BYTES: u64 = 8 << 20;
const MAX_DEFAULT_RING_BYTES: u64 = 16 << 20;
const ALL_RINGS_BYTES: usize = 256 << 20;
/// The smallest useful ring.
const MIN_RING_BYTES: usize = 16 << 10;
/// At least this many samples should fit into a ring, as long as each has at least
/// `MIN_STACK_BYTES`.
const SAMPLES_IN_RING: usize = 16;
const MIN_STACK_BYTES: usize = 1024;
/// Bytes of a sample without its stack: header, registers and 127 kernel frames.
const SAMPLE_OVERHEAD_BYTES: usize = 1280;
/// The reader is woken when this part of a ring has filled.
const WAKE_UP_PART: usize = 4;
/// How often threads are listed again while new ones appear. Each pass opens events for the threads
/// that were created during the previous one by threads without events, so passes get shorter; in a
/// process that creates threads all the time, all creators have events long before this limit.
const MAX_PASSES: usize = 10;
/// Files that rprof opens beside its events.
const SPARE_FILES: usize = 64;

/// The opened events and rings.
pub(super) struct Attached {
    /// With the process of the thread that each was opened for; 0: it counts whole CPUs.
    pub(super) events: Vec<(u32, Event)>,
    pub(super) rings: Rings,
    pub(super) fields: SampleFields,
    /// The thread that an event was opened for, by the event's identifier; with one event per
    /// thread only.
    pub(super) owners: FxHashMap<u64, u32>,
    pub(super) thread_count: usize,
    /// How events are opened.
    pub(super) spec: EventSpec,
}

/// A ring, and the CPU whose records it gets.
struct CpuRing {
    cpu: u32,
    owner: Event,
    ring: Ring,
}

/// Opens and starts everything.
pub(super) fn attach(plan: &Plan, options: &SamplerOptions) -> Result<Attached, SamplerError> {
    if matches!(plan.shape, Shape::Threads) {
        make_room_for_files(plan, options)?;
    }
    let rings = open_rings(plan, options)?;
    let ring_bytes = rings.first().map_or(0, |cpu_ring| cpu_ring.ring.capacity_bytes());
    let most_stack_bytes =
        (ring_bytes / SAMPLES_IN_RING).saturating_sub(SAMPLE_OVERHEAD_BYTES).max(MIN_STACK_BYTES);
    let fields = plan.fields(options, u32::try_from(most_stack_bytes).unwrap_or(u32::MAX));
    let mut opened = Opened {
        plan,
        rings: rings.iter().map(|cpu_ring| (cpu_ring.cpu, &cpu_ring.owner)).collect(),
        spec: EventSpec { wakeup_bytes: wakeup_bytes(ring_bytes), ..plan.spec(fields, options) },
        events: Vec::new(),
        owners: FxHashMap::default(),
        thread_count: 0,
    };
    match plan.shape {
        Shape::Cpus | Shape::Cgroup { .. } => opened.open_cpus()?,
        Shape::Threads => opened.open_threads(&options.pids)?,
    }
    let Opened { events, owners, thread_count, spec, .. } = opened;
    for cpu_ring in &rings {
        cpu_ring.owner.enable()?;
    }
    for (_, event) in events.iter().filter(|_| !spec.start_enabled) {
        event.enable()?;
    }
    let owned = rings.into_iter().map(|cpu_ring| (cpu_ring.cpu, cpu_ring.owner, cpu_ring.ring));
    Ok(Attached { rings: Rings::new(owned.collect()), events, fields, owners, thread_count, spec })
}

/// The thread of each event, by the event's number.
type Owners = FxHashMap<u64, u32>;

/// Opens the events of one more process, one for each thread and CPU; returns them and their
/// threads. Errors: the process has ended, or a limit was reached.
pub(super) fn attach_process(
    plan: &Plan,
    spec: &EventSpec,
    rings: &Rings,
    pid: u32,
) -> Result<(Vec<(u32, Event)>, Owners), SamplerError> {
    let mut opened = Opened {
        plan,
        rings: rings.owners_by_cpu().collect(),
        spec: spec.clone(),
        events: Vec::new(),
        owners: FxHashMap::default(),
        thread_count: 0,
    };
    opened.open_threads(&[pid])?;
    Ok((opened.events, opened.owners))
}

/// Raises the limit of open files and checks that it suffices for the current threads.
fn make_room_for_files(plan: &Plan, options: &SamplerOptions) -> Result<(), SamplerError> {
    limits::raise_open_files()
        .map_err(|source| SamplerError::System { what: "limit of open files".to_owned(), source })?;
    let thread_count: usize = options.pids.iter().map(|pid| threads::list(*pid).len()).sum();
    let needed = (thread_count + 1).saturating_mul(plan.cpus.len()).saturating_add(SPARE_FILES);
    Ok(PerfError::check_room_for_events(needed)?)
}

/// Opens rings of the requested size, or as large as the limit of locked memory allows.
fn open_rings(plan: &Plan, options: &SamplerOptions) -> Result<Vec<CpuRing>, SamplerError> {
    let cpu_count = plan.cpus.len().max(1);
    let per_cpu = match options.buffer_bytes {
        0 => default_ring_bytes(options).min(ALL_RINGS_BYTES / cpu_count),
        bytes => bytes / cpu_count,
    };
    let mut ring_bytes = power_of_two_up_to(per_cpu.max(MIN_RING_BYTES));
    loop {
        match open_rings_of(plan, ring_bytes, options.reports_changes) {
            Err(error) if error.is_for_lack_of_memory() && ring_bytes / 2 >= MIN_RING_BYTES => {
                ring_bytes /= 2;
            }
            result => return Ok(result?),
        }
    }
}

fn default_ring_bytes(options: &SamplerOptions) -> usize {
    let each_second = u64::from(options.frequency_hz) * u64::from(options.max_stack_bytes.min(1 << 16));
    let bytes = (each_second / 4).clamp(MIN_DEFAULT_RING_BYTES, MAX_DEFAULT_RING_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX).next_power_of_two()
}

/// The largest power of two that is not above `bytes`.
fn power_of_two_up_to(bytes: usize) -> usize {
    bytes.checked_ilog2().map_or(0, |exponent| 1 << exponent)
}

fn wakeup_bytes(ring_bytes: usize) -> u32 {
    u32::try_from(ring_bytes / WAKE_UP_PART).unwrap_or(u32::MAX)
}

fn open_rings_of(plan: &Plan, ring_bytes: usize, reports_changes: bool) -> Result<Vec<CpuRing>, PerfError> {
    let spec = EventSpec {
        kind: EventKind::Dummy,
        sideband: reports_changes && !matches!(plan.shape, Shape::Threads),
        exclude_kernel: true,
        wakeup_bytes: wakeup_bytes(ring_bytes),
        ..Default::default()
    };
    let mut rings = Vec::with_capacity(plan.cpus.len());
    for cpu in plan.cpus.iter().copied() {
        let scope = match plan.shape {
            Shape::Threads => Scope::Thread { tid: std::process::id(), cpu: Some(cpu) },
            _ => plan.scope(0, cpu),
        };
        let owner = match spec.open(scope) {
            Err(PerfError::CpuOffline { .. }) => continue,
            owner => owner?,
        };
        let ring = Ring::map(&owner, ring_bytes)?;
        rings.push(CpuRing { cpu, owner, ring });
    }
    Ok(rings)
}

/// Events being opened.
struct Opened<'a> {
    plan: &'a Plan,
    /// Each CPU with the owner of its ring.
    rings: Vec<(u32, &'a Event)>,
    spec: EventSpec,
    events: Vec<(u32, Event)>,
    owners: FxHashMap<u64, u32>,
    thread_count: usize,
}

impl Opened<'_> {
    fn open_cpus(&mut self) -> Result<(), PerfError> {
        for at in 0..self.rings.len() {
            self.open_one(0, 0, at)?;
        }
        Ok(())
    }

    /// Opens events for all threads, repeatedly until no new thread appears.
    fn open_threads(&mut self, pids: &[u32]) -> Result<(), SamplerError> {
        let mut seen = FxHashSet::default();
        for _ in 0..MAX_PASSES {
            let mut found_new = false;
            let threads_of =
                |pid: &u32| threads::list(*pid).into_iter().map(|tid| (*pid, tid)).collect::<Vec<_>>();
            for (pid, tid) in pids.iter().flat_map(threads_of) {
                if seen.insert(tid) {
                    found_new = true;
                    self.thread_count += usize::from(self.open_thread(pid, tid)?);
                }
            }
            if !found_new {
                break;
            }
        }
        if self.thread_count == 0 { Err(SamplerError::NoTarget) } else { Ok(()) }
    }

    /// Opens a thread's events on all CPUs; returns whether it is still alive.
    fn open_thread(&mut self, pid: u32, tid: u32) -> Result<bool, PerfError> {
        for at in 0..self.rings.len() {
            match self.open_one(pid, tid, at) {
                Err(PerfError::ThreadGone { .. }) => return Ok(false),
                result => result?,
            }
        }
        Ok(true)
    }

    /// Opens the event of a thread for the CPU at this index.
    fn open_one(&mut self, pid: u32, tid: u32, at: usize) -> Result<(), PerfError> {
        let (cpu, owner) = self.rings[at];
        let event = self.spec.open(self.plan.scope(tid, cpu))?;
        self.plan.filter().map_or(Ok(()), |filter| event.set_filter(filter))?;
        event.redirect_to(owner)?;
        self.owners.insert(event.id()?, tid);
        self.events.push((pid, event));
        Ok(())
    }
}
