//! Changes of the target processes while they are sampled: mappings, names, execs, forks, exits.
//!
//! One perf event on each CPU, which counts nothing, records these for every process of the
//! machine; those of the targets are reported, merged by time. The set of targets is kept here too,
//! since forks and exits change it. Not here: samples.

use rustc_hash::FxHashMap;

use super::common;
use crate::{
    addr::RuntimeAddr,
    process::{ProcessError, identity},
    sampler::{Event, NewMapping, SamplerError},
    sys::{
        bpf::WakeUps,
        perf::{self, EventKind, EventSpec, PerfError, RawRecord, Record, Ring, SampleFields, Scope},
    },
};

/// Ring memory for all CPUs together, and the bounds for one.
const TOTAL_BYTES: usize = 4 << 20;
const MOST_BYTES: usize = 256 << 10;
const LEAST_BYTES: usize = 16 << 10;

/// A target process.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// How many more times to check whether it has ended: repeatedly once its first thread has
    /// ended, since the others may run on.
    look_ups: u32,
}

/// The events, their rings and the targets.
pub struct Sideband {
    /// Kept open; each owns the ring of the same index.
    events: Vec<perf::Event>,
    rings: Vec<Ring>,
    /// Time of the oldest record waiting in each ring; `u64::MAX` if there is none.
    oldest: Vec<u64>,
    targets: FxHashMap<u32, Target>,
    follow_forks: bool,
}

impl Sideband {
    /// Opens and starts an event for each CPU. The rings wake `wake_ups` when they are half full.
    pub fn open(cpus: &[u32], follow_forks: bool, wake_ups: &WakeUps) -> Result<Sideband, SamplerError> {
        let ring_bytes = (TOTAL_BYTES / cpus.len().max(1)).clamp(LEAST_BYTES, MOST_BYTES);
        let mut sideband = Sideband {
            events: Vec::new(),
            rings: Vec::new(),
            oldest: vec![u64::MAX; cpus.len()],
            targets: FxHashMap::default(),
            follow_forks,
        };
        for cpu in cpus {
            let (event, ring) = open_one(*cpu, ring_bytes).map_err(common::from_perf)?;
            wake_ups.add(&event).map_err(common::system("waiting for a perf ring"))?;
            event.enable().map_err(common::from_perf)?;
            sideband.events.push(event);
            sideband.rings.push(ring);
        }
        Ok(sideband)
    }

    /// Adds a process, which may have ended already; returns whether it is new.
    pub fn add_target(&mut self, pid: u32) -> bool {
        let is_new = !self.targets.contains_key(&pid);
        self.targets.entry(pid).or_insert(Target { look_ups: 1 });
        is_new
    }

    /// Whether a process is a target.
    pub fn has_target(&self, pid: u32) -> bool {
        self.targets.contains_key(&pid)
    }

    /// The target processes, in ascending order.
    pub fn target_pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.targets.keys().copied().collect();
        pids.sort_unstable();
        pids
    }

    /// The number of target processes.
    pub fn target_count(&self) -> usize {
        self.targets.len()
    }

    /// The number of open events.
    pub fn event_count(&self) -> usize {
        self.events.len()
    }

    /// Bytes of ring memory.
    pub fn ring_bytes(&self) -> usize {
        self.rings.iter().map(Ring::capacity_bytes).sum()
    }

    /// Reads how far the kernel has written.
    pub fn refresh(&mut self) {
        for (ring, oldest) in self.rings.iter_mut().zip(&mut self.oldest) {
            ring.refresh();
            *oldest = ring.oldest_time_ns().unwrap_or(u64::MAX);
        }
    }

    /// Reports the changes of the targets up to `until_ns`, oldest first.
    pub fn hand_over(&mut self, until_ns: u64, sink: &mut dyn FnMut(Event<'_>)) {
        while let Some(index) = self.next_ring(until_ns) {
            let ring = &mut self.rings[index];
            if let Some(raw) = ring.peek() {
                take_record(&raw, &mut self.targets, self.follow_forks, sink);
                ring.consume();
            }
            if ring.take_corrupt() {
                sink(Event::LostSideband { count: 1 });
            }
            self.oldest[index] = ring.oldest_time_ns().unwrap_or(u64::MAX);
        }
    }

    /// The ring whose oldest record is the oldest of all, if it is not later than `until_ns`.
    fn next_ring(&self, until_ns: u64) -> Option<usize> {
        let (index, oldest) = self.oldest.iter().enumerate().min_by_key(|(_, oldest)| **oldest)?;
        (*oldest != u64::MAX && *oldest <= until_ns).then_some(index)
    }

    /// The targets that have ended. All their records have been written by now; they remain targets
    /// until [`Sideband::strike_off`].
    pub fn find_ended(&mut self) -> Vec<u32> {
        let mut ended = Vec::new();
        for (pid, target) in self.targets.iter_mut().filter(|(_, target)| target.look_ups > 0) {
            target.look_ups -= 1;
            match identity::read_stat(*pid) {
                // The first thread may end before the others: then it stays a zombie until they
                // have.
                Ok(stat) if stat.is_over() => ended.push(*pid),
                Err(ProcessError::NoSuchProcess(_)) => ended.push(*pid),
                _ => {}
            }
        }
        ended
    }

    /// Removes a process from the targets.
    pub fn strike_off(&mut self, pid: u32) {
        self.targets.remove(&pid);
    }
}

fn open_one(cpu: u32, ring_bytes: usize) -> Result<(perf::Event, Ring), PerfError> {
    let mut ring_bytes = ring_bytes.next_power_of_two();
    let spec = EventSpec {
        kind: EventKind::Dummy,
        sideband: true,
        wakeup_bytes: u32::try_from(ring_bytes / 2).unwrap_or(u32::MAX),
        ..Default::default()
    };
    let event = spec.open(Scope::Cpu(cpu))?;
    loop {
        match Ring::map(&event, ring_bytes) {
            Err(error) if error.is_for_lack_of_memory() && ring_bytes > LEAST_BYTES => ring_bytes /= 2,
            Err(error) => return Err(error),
            Ok(ring) => return Ok((event, ring)),
        }
    }
}

/// Reports a record about a target, and updates the targets.
fn take_record(
    raw: &RawRecord<'_>,
    targets: &mut FxHashMap<u32, Target>,
    follow_forks: bool,
    sink: &mut dyn FnMut(Event<'_>),
) {
    let (Some(id), Some(record)) = (raw.id(), Record::parse(raw, &SampleFields::default())) else { return };
    if let Record::Lost { count, .. } = record {
        return sink(Event::LostSideband { count });
    }
    if !targets.contains_key(&id.pid) {
        return;
    }
    let time_ns = id.time_ns;
    match record {
        Record::Mmap2(mapped) => {
            sink(Event::Mapped { time_ns, pid: mapped.pid, mapping: new_mapping(&mapped) });
        }
        Record::Comm { pid, tid, exec: true, comm } => sink(Event::Execed { time_ns, pid, tid, comm }),
        Record::Comm { pid, tid, exec: false, comm } => sink(Event::Renamed { time_ns, pid, tid, comm }),
        Record::Fork { pid, tid, parent_pid, .. } if pid == parent_pid || follow_forks => {
            targets.entry(pid).or_insert(Target { look_ups: 0 });
            sink(Event::Forked { time_ns, pid, tid, parent_pid });
        }
        Record::Exit { pid, tid, .. } => {
            if let Some(target) = targets.get_mut(&pid).filter(|_| pid == tid) {
                target.look_ups = u32::MAX;
            }
            sink(Event::Exited { time_ns, pid, tid });
        }
        _ => {}
    }
}

fn new_mapping<'a>(mapped: &perf::Mmap2<'a>) -> NewMapping<'a> {
    NewMapping {
        start: RuntimeAddr(mapped.start),
        length: mapped.length,
        file_offset: mapped.file_offset,
        device_major: mapped.device_major,
        device_minor: mapped.device_minor,
        inode: mapped.inode,
        path: mapped.path,
    }
}
