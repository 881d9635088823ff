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
    pub(super) events: Vec<Event>,
    pub(super) rings: Rings,
    pub(super) fields: SampleFields,
    /// The thread that an event was opened for, by the event's identifier; with one event per
    /// thread only.
    pub(super) owners: FxHashMap<u64, u32>,
    pub(super) thread_count: usize,
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
        rings: &rings,
        spec: EventSpec { wakeup_bytes: wakeup_bytes(ring_bytes), ..plan.spec(fields, options) },
        events: Vec::new(),
        owners: FxHashMap::default(),
        thread_count: 0,
    };
    match plan.shape {
        Shape::Cpus | Shape::Cgroup { .. } => opened.open_cpus()?,
        Shape::Threads => opened.open_threads(&options.pids)?,
    }
    let opened_enabled = opened.spec.start_enabled;
    let Opened { events, owners, thread_count, .. } = opened;
    for cpu_ring in &rings {
        cpu_ring.owner.enable()?;
    }
    for event in events.iter().filter(|_| !opened_enabled) {
        event.enable()?;
    }
    let rings = Rings::new(rings.into_iter().map(|cpu_ring| (cpu_ring.owner, cpu_ring.ring)).collect());
    Ok(Attached { events, rings, fields, owners, thread_count })
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
        match open_rings_of(plan, ring_bytes) {
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

fn open_rings_of(plan: &Plan, ring_bytes: usize) -> Result<Vec<CpuRing>, PerfError> {
    let spec = EventSpec {
        kind: EventKind::Dummy,
        sideband: !matches!(plan.shape, Shape::Threads),
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
    rings: &'a [CpuRing],
    spec: EventSpec,
    events: Vec<Event>,
    owners: FxHashMap<u64, u32>,
    thread_count: usize,
}

impl Opened<'_> {
    fn open_cpus(&mut self) -> Result<(), PerfError> {
        for cpu_ring in self.rings {
            self.open_one(0, cpu_ring)?;
        }
        Ok(())
    }

    /// Opens events for all threads, repeatedly until no new thread appears.
    fn open_threads(&mut self, pids: &[u32]) -> Result<(), SamplerError> {
        let mut seen = FxHashSet::default();
        for _ in 0..MAX_PASSES {
            let mut found_new = false;
            for tid in pids.iter().flat_map(|pid| threads::list(*pid)) {
                if seen.insert(tid) {
                    found_new = true;
                    self.thread_count += usize::from(self.open_thread(tid)?);
                }
            }
            if !found_new {
                break;
            }
        }
        if self.thread_count == 0 { Err(SamplerError::NoTarget) } else { Ok(()) }
    }

    /// Opens a thread's events on all CPUs; returns whether it is still alive.
    fn open_thread(&mut self, tid: u32) -> Result<bool, PerfError> {
        for cpu_ring in self.rings {
            match self.open_one(tid, cpu_ring) {
                Err(PerfError::ThreadGone { .. }) => return Ok(false),
                result => result?,
            }
        }
        Ok(true)
    }

    fn open_one(&mut self, tid: u32, cpu_ring: &CpuRing) -> Result<(), PerfError> {
        let event = self.spec.open(self.plan.scope(tid, cpu_ring.cpu))?;
        self.plan.filter().map_or(Ok(()), |filter| event.set_filter(filter))?;
        event.redirect_to(&cpu_ring.owner)?;
        self.owners.insert(event.id()?, tid);
        self.events.push(event);
        Ok(())
    }
}
