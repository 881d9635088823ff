//! What the capture knows of the processes it watches, kept up to date by the sampler's events: one
//! small function for each kind of event.
//!
//! Not here: when to stop, how to look, names.

use rustc_hash::FxHashMap;

use super::{
    LabelKeys, Tally,
    collector::{Collector, Labels, LabelsId, Place, Weight},
    images::{Images, KERNEL, SYNTHETIC, Synthetic, UNMAPPED},
    late::LateStack,
    space::Space,
};
use crate::{
    addr::{FrameAddr, RuntimeAddr},
    issue::{Issue, Issues},
    process::{Identity, identify, threads},
    sampler::{Event, KernelName, NewMapping, RawSample},
    unwind::{CopiedStack, Frame, StackEnd, Unwinder},
};

/// Maps of a process are not read again sooner than this, however many addresses are unknown.
const REFRESH_EVERY_NS: u64 = 100_000_000;

/// The longest stack memory that is told to the sampler, in bytes.
const MAX_STACK_HINT: u64 = 1 << 30;

/// Everything that sampling changes.
pub struct World {
    pub spaces: FxHashMap<u32, Space>,
    pub images: Images,
    pub collector: Collector,
    pub issues: Issues,
    pub tally: Tally,
    /// Who a process has become by exec.
    pub programs: FxHashMap<u32, Identity>,
    /// Stack extents learnt, for the sampler: thread, start, end.
    pub hints: Vec<(u32, RuntimeAddr, RuntimeAddr)>,
    /// Names of [`World::kernel_addresses`], if the sampler had a way to learn them.
    pub kernel_names: Option<Vec<Option<KernelName>>>,
    threads: FxHashMap<(u32, u32), Thread>,
    unwinder: Unwinder,
    label_keys: LabelKeys,
    /// Reused from sample to sample.
    frames: Vec<Frame>,
    late_buffer: Vec<u8>,
}

#[derive(Debug)]
struct Thread {
    labels: LabelsId,
    comm: Vec<u8>,
    stack_hinted: bool,
}

impl World {
    pub fn new(label_keys: LabelKeys) -> World {
        World {
            spaces: FxHashMap::default(),
            images: Images::new(),
            collector: Collector::default(),
            issues: Issues::default(),
            tally: Tally::default(),
            programs: FxHashMap::default(),
            hints: Vec::new(),
            kernel_names: None,
            threads: FxHashMap::default(),
            unwinder: Unwinder::default(),
            label_keys,
            frames: Vec::new(),
            late_buffer: Vec::new(),
        }
    }

    /// The kernel's addresses that were seen, in the order of their locations.
    pub fn kernel_addresses(&self) -> Vec<RuntimeAddr> {
        let kernel = self.collector.places().iter().filter(|place| place.mapping == KERNEL);
        kernel.map(|place| RuntimeAddr(place.address)).collect()
    }

    pub fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Sample(sample) => self.sample(&sample),
            Event::Mapped { time_ns, pid, mapping } => self.mapped(time_ns, pid, &mapping),
            Event::Forked { time_ns, pid, tid: _, parent_pid } => self.forked(time_ns, pid, parent_pid),
            Event::Execed { pid, comm, .. } => self.execed(pid, comm),
            Event::Renamed { pid, tid, comm, .. } => self.renamed(pid, tid, comm),
            Event::Exited { pid, tid, .. } => self.exited(pid, tid),
            Event::LostSamples { count } => self.tally.lost += count,
            Event::LostSideband { count } => self.lost_sideband(count),
        }
    }

    /// Reads a process's maps, unless it is known already.
    pub fn watch(&mut self, pid: u32, now_ns: u64) {
        if self.spaces.contains_key(&pid) {
            return;
        }
        let space = match Space::read(pid, now_ns, &mut self.images, &mut self.issues) {
            Ok(space) => space,
            Err(error) => {
                let (what, why) = (format!("process {pid}"), error.to_string());
                self.issues.add(Issue::Unwatched { what, why }, 1);
                Space::empty(pid, String::new())
            }
        };
        self.spaces.insert(pid, space);
    }

    fn sample(&mut self, sample: &RawSample<'_>) {
        self.watch(sample.pid, sample.time_ns);
        let labels = self.labels_of(sample);
        self.frames.clear();
        let end = self.unwind(sample);
        self.tally.count(sample, end, &self.frames);
        let Some(space) = self.spaces.get(&sample.pid) else { return };
        if end == Some(StackEnd::StackCut) {
            hint_stack(&mut self.threads, &mut self.hints, space, sample);
        }
        let kernel = sample.kernel_stack.addresses().enumerate().map(|(depth, address)| {
            // The leaf is where the kernel was interrupted, the others are return addresses.
            let frame = if depth == 0 { FrameAddr::Pc(address) } else { FrameAddr::Return(address) };
            Place { mapping: KERNEL, address: frame.lookup().0 }
        });
        let images = &self.images;
        let user = self.frames.iter().map(|frame| place(frame, space, images));
        let cut = end.is_some_and(|end| !end.is_whole());
        let root = cut.then_some(Place { mapping: SYNTHETIC, address: Synthetic::Truncated as u64 });
        let weight = Weight { count: 1, time_ns: sample.period_ns };
        self.collector.add(labels, kernel.chain(user).chain(root), weight);
    }

    /// `None`: there is no user stack to unwind (a thread of the kernel).
    fn unwind(&mut self, sample: &RawSample<'_>) -> Option<StackEnd> {
        let end = self.walk(sample)?;
        let unknown = self.frames.first().is_some_and(|leaf| leaf.module.is_none())
            || matches!(end, StackEnd::PcUnmapped);
        let space = self.spaces.get_mut(&sample.pid)?;
        if !unknown || sample.time_ns < space.read_at_ns.saturating_add(REFRESH_EVERY_NS) {
            return Some(end);
        }
        // Code that appeared without a record of it, or whose record was lost.
        space.refresh(sample.time_ns, &mut self.images, &mut self.issues);
        self.frames.clear();
        self.walk(sample)
    }

    fn walk(&mut self, sample: &RawSample<'_>) -> Option<StackEnd> {
        let registers = sample.registers.as_ref()?;
        let space = self.spaces.get(&sample.pid)?;
        let stack = sample.stack;
        let copy = CopiedStack { start: stack.start, bytes: stack.bytes, capped: stack.capped };
        let mut memory = LateStack::new(copy, &space.memory, &mut self.late_buffer);
        Some(self.unwinder.unwind(&space.modules, registers, &mut memory, &mut self.frames))
    }

    fn labels_of(&mut self, sample: &RawSample<'_>) -> LabelsId {
        let key = (sample.pid, sample.tid);
        if let Some(thread) = self.threads.get(&key)
            && sample.comm.is_none_or(|comm| comm == thread.comm)
        {
            return thread.labels;
        }
        let comm = match sample.comm {
            Some(comm) => comm.to_vec(),
            None => threads::name(sample.pid, sample.tid).unwrap_or_default().into_bytes(),
        };
        self.name_thread(sample.pid, sample.tid, &comm)
    }

    fn name_thread(&mut self, pid: u32, tid: u32, comm: &[u8]) -> LabelsId {
        let keys = self.label_keys;
        let process = keys.process.then(|| self.spaces.get(&pid).map(|space| space.name.clone())).flatten();
        let labels = self.collector.labels(Labels {
            thread: threads::printable(comm),
            pid: keys.pid.then_some(pid),
            tid: keys.tid.then_some(tid),
            process,
        });
        let stack_hinted = self.threads.get(&(pid, tid)).is_some_and(|thread| thread.stack_hinted);
        self.threads.insert((pid, tid), Thread { labels, comm: comm.to_vec(), stack_hinted });
        labels
    }

    fn mapped(&mut self, time_ns: u64, pid: u32, mapping: &NewMapping<'_>) {
        let images = &mut self.images;
        let issues = &mut self.issues;
        let space = self.spaces.entry(pid).or_insert_with(|| {
            Space::read(pid, time_ns, images, issues).unwrap_or_else(|_| Space::empty(pid, String::new()))
        });
        space.map(mapping, images, issues);
    }

    fn forked(&mut self, time_ns: u64, pid: u32, parent_pid: u32) {
        if pid == parent_pid {
            return;
        }
        match self.spaces.get(&parent_pid).map(|parent| parent.forked(pid)) {
            Some(child) => {
                self.spaces.insert(pid, child);
            }
            None => self.watch(pid, time_ns),
        }
    }

    fn execed(&mut self, pid: u32, comm: &[u8]) {
        if let Ok(identity) = identify(pid) {
            self.programs.insert(pid, identity);
        }
        // The new program's mappings follow as events of their own.
        self.spaces.insert(pid, Space::empty(pid, threads::printable(comm)));
        self.threads.retain(|key, _| key.0 != pid);
    }

    fn renamed(&mut self, pid: u32, tid: u32, comm: &[u8]) {
        if pid == tid
            && let Some(space) = self.spaces.get_mut(&pid)
        {
            space.name = threads::printable(comm);
        }
        let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
        self.name_thread(pid, tid, &comm[..end]);
    }

    fn exited(&mut self, pid: u32, tid: u32) {
        self.threads.remove(&(pid, tid));
        let others = self.threads.keys().any(|key| key.0 == pid);
        if pid == tid && !others {
            self.spaces.remove(&pid);
        }
    }

    fn lost_sideband(&mut self, count: u64) {
        self.issues.add(Issue::LostSideband, count);
        // Whatever was missed is read when the next unknown address turns up.
        self.spaces.values_mut().for_each(|space| space.read_at_ns = 0);
    }
}

fn place(frame: &Frame, space: &Space, images: &Images) -> Place {
    let address = frame.addr.lookup();
    let module = frame.module.and_then(|id| Some((id, space.modules.find(address)?)));
    match module {
        Some((id, module)) => {
            let first = images.placement(id);
            Place { mapping: id, address: module.elf_addr(address).0.wrapping_add(first.bias) }
        }
        None => Place { mapping: UNMAPPED, address: address.0 },
    }
}

/// A copy was cut although the sampler copies whole stacks: tell it where this thread's stack ends.
fn hint_stack(
    threads: &mut FxHashMap<(u32, u32), Thread>,
    hints: &mut Vec<(u32, RuntimeAddr, RuntimeAddr)>,
    space: &Space,
    sample: &RawSample<'_>,
) {
    let Some(thread) = threads.get_mut(&(sample.pid, sample.tid)).filter(|thread| !thread.stack_hinted)
    else {
        return;
    };
    thread.stack_hinted = true;
    if let Some((start, end)) = space.memory_around(sample.stack.start)
        && end.0 - start.0 <= MAX_STACK_HINT
    {
        hints.push((sample.tid, start, end));
    }
}
