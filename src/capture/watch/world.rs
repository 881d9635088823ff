//! The state of the profiled processes, updated by the sampler's events: one small function per
//! kind of event.
//!
//! Not here: when to stop, how samples are taken, names.

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    frames::FrameTable,
    images::{Images, SYNTHETIC, Synthetic},
    late::LateStack,
    place::{kernel_places, place},
    space::{Space, unwatched},
};
use crate::{
    addr::RuntimeAddr,
    budget::Budget,
    capture::{
        FrameChoice, LabelKeys, Tally,
        collector::{Collector, LabelsId, Lock, MappingId, Place, SourceId, Weight},
    },
    core_file::CoreFile,
    issue::{Issue, Issues},
    process::{Hints, Identity, ProcessError, comm, identify, identity},
    runtime::{CategoryRule, MixedFrame, Variable},
    sampler::{Event, NewMapping, RawSample},
    unwind::{CopiedStack, Frame, StackEnd, Unwinder},
};

/// How long the state of a thread is kept after its exit: its last samples on a CPU come after its
/// exit record, while the kernel cleans up.
const KEEP_AFTER_EXIT_NS: u64 = 1_000_000_000;

/// How long the end of a requested process is remembered after it is no longer in the list.
const KEEP_ENDS_NS: u64 = 60_000_000_000;

/// The largest stack that is reported to the sampler, in bytes.
const MAX_STACK_HINT: u64 = 1 << 30;

/// The most comments on how well runtimes could be read.
const MAX_QUALITY: usize = 64;

/// How many new threads are remembered, to recognize those created while sampling began.
const MAX_NEW_THREADS: usize = 4096;

/// With fewer placements there is nothing to gain by forgetting some.
const MIN_PLACEMENTS_TO_CLEAN: usize = 1024;

/// All state that sampling changes.
pub struct World {
    /// The known processes, by number.
    pub spaces: FxHashMap<u32, Space>,
    /// Their files.
    pub images: Images,
    /// The counted stacks.
    pub collector: Collector,
    /// What is missing or uncertain.
    pub issues: Issues,
    /// Counts of samples and frames, by [`SourceId`].
    tallies: Vec<Tally>,
    /// The number of sources of samples so far.
    pub source_count: usize,
    /// The requested processes, with the program each runs now.
    pub programs: FxHashMap<u32, Identity>,
    /// How many stacks needed memory read after the sample: reading sooner succeeds more often.
    pub late_reads: u64,
    /// Stack bounds for the sampler: thread, start, end.
    pub hints: Vec<(u32, RuntimeAddr, RuntimeAddr)>,
    /// What the sampler should read for processes' language runtimes; empty: nothing any more.
    pub runtime_hints: Vec<(u32, Hints)>,
    /// The first [`MAX_NEW_THREADS`] threads created during sampling: process and thread number.
    pub new_threads: FxHashSet<(u32, u32)>,
    /// The requested processes that have ended, with the time when (CLOCK_MONOTONIC, nanoseconds).
    /// Samplers select by PID: later samples are of another process with the same PID.
    pub over: FxHashMap<u32, u64>,
    /// New children of watched processes, and processes that were forgotten because they have
    /// ended; for the samplers.
    pub children: Vec<u32>,
    /// See [`World::children`].
    pub gone: Vec<u32>,
    pub(super) threads: FxHashMap<(u32, u32), Thread>,
    /// Ended threads to be forgotten, in order of time: time, process, thread.
    pub(super) ended: VecDeque<(u64, u32, u32)>,
    unwinder: Unwinder,
    /// The frames of languages that samples had.
    pub language_frames: FrameTable,
    /// The locks of the samples of this window.
    pub(super) locks: FxHashSet<Lock>,
    /// Which frames are of which category, of all runtimes met.
    pub categories: BTreeSet<CategoryRule>,
    /// Why frames of languages have no certain place in stacks.
    pub unplaced: FxHashMap<&'static str, u64>,
    mixed: Vec<MixedFrame>,
    /// The user part of the last stack, leaf first ([`World::user_places`]).
    pub places: Vec<Place>,
    /// Which labels samples get.
    pub label_keys: LabelKeys,
    /// Which frames stacks have.
    pub frame_choice: FrameChoice,
    /// How well runtimes of ended processes could be read: see [`World::take_quality`].
    quality: Vec<String>,
    /// The frames of the last unwound stack. Reused for each sample.
    pub frames: Vec<Frame>,
    late_buffer: Vec<u8>,
    /// With so many placements, those of ended processes are forgotten before the window ends.
    clean_at_placements: usize,
}

/// What is known of a thread.
#[derive(Debug)]
pub(super) struct Thread {
    /// `None`: it has no sample in this window.
    pub(super) labels: Option<LabelsId>,
    pub(super) comm: Vec<u8>,
    pub(super) stack_hinted: bool,
}

impl World {
    /// The state before the first event. Files are read within `budget`.
    pub fn within(label_keys: LabelKeys, budget: &Budget) -> World {
        World {
            spaces: FxHashMap::default(),
            images: Images::within(budget),
            collector: Collector::default(),
            issues: Issues::default(),
            tallies: Vec::new(),
            source_count: 0,
            programs: FxHashMap::default(),
            late_reads: 0,
            hints: Vec::new(),
            runtime_hints: Vec::new(),
            new_threads: FxHashSet::default(),
            over: FxHashMap::default(),
            children: Vec::new(),
            gone: Vec::new(),
            threads: FxHashMap::default(),
            ended: VecDeque::new(),
            unwinder: Unwinder::default(),
            language_frames: FrameTable::default(),
            locks: FxHashSet::default(),
            categories: BTreeSet::new(),
            unplaced: FxHashMap::default(),
            mixed: Vec::new(),
            places: Vec::new(),
            label_keys,
            frame_choice: FrameChoice::Mixed,
            quality: Vec::new(),
            frames: Vec::new(),
            late_buffer: Vec::new(),
            clean_at_placements: MIN_PLACEMENTS_TO_CLEAN,
        }
    }

    /// Forgets all that no living process has any more, and what belonged to the window that ends
    /// now.
    pub(super) fn forget_gone(&mut self, now_ns: u64) {
        self.threads.values_mut().for_each(|thread| thread.labels = None);
        self.locks.clear();
        if self.language_frames.is_crowded() {
            self.language_frames = FrameTable::default();
        }
        self.forget_vanished();
        self.forget_past_ends(now_ns);
        self.forget_unused_files();
    }

    /// Forgets processes whose end no record showed: records may be lost, and some samplers report
    /// none. The last samples of a process may come after its end, so it is kept for one window.
    fn forget_vanished(&mut self) {
        let mut gone = Vec::new();
        for (pid, space) in &mut self.spaces {
            let is_gone = space.ended_at_ns.is_none()
                && match identity::read_stat(*pid) {
                    Ok(stat) => stat.is_over(),
                    Err(error) => matches!(error, ProcessError::NoSuchProcess(_)),
                };
            if is_gone && space.has_vanished {
                gone.push(*pid);
            }
            space.has_vanished = is_gone;
        }
        for pid in gone {
            self.gone.push(pid);
            self.forget_process(pid);
        }
    }

    /// Forgets the ends of processes whose samples cannot be buffered any more: the samplers know
    /// of these ends.
    fn forget_past_ends(&mut self, now_ns: u64) {
        let programs = &self.programs;
        self.over.retain(|pid, over_ns| {
            programs.contains_key(pid) || now_ns.saturating_sub(*over_ns) < KEEP_ENDS_NS
        });
        // Buffered samples have brought them back.
        let is_over = |pid: &u32| self.over.contains_key(pid) && !self.programs.contains_key(pid);
        let back: Vec<u32> = self.spaces.keys().copied().filter(is_over).collect();
        back.into_iter().for_each(|pid| self.forget_process(pid));
    }

    /// Forgets the files and mappings that neither a process nor a counted stack has.
    fn forget_unused_files(&mut self) {
        let modules = self.spaces.values().flat_map(|space| space.modules.as_slice());
        let mut used: FxHashSet<MappingId> = modules.map(|module| module.id).collect();
        used.extend(self.spaces.values().flat_map(|space| space.generated.homes()));
        used.extend(self.collector.places().iter().map(|place| place.mapping));
        used.extend(self.tallies.iter().flat_map(Tally::mappings_of_cuts));
        self.images.keep_only(&used);
        self.clean_at_placements = (2 * self.images.placement_count()).max(MIN_PLACEMENTS_TO_CLEAN);
    }

    /// The number of one more source of samples.
    pub fn new_source(&mut self) -> SourceId {
        self.source_count += 1;
        self.source_count - 1
    }

    /// The counts of samples and frames of a source.
    pub fn tally(&mut self, source: SourceId) -> &mut Tally {
        if self.tallies.len() <= source {
            self.tallies.resize_with(source + 1, Tally::default);
        }
        &mut self.tallies[source]
    }

    /// Takes the counts of the window that ends now.
    pub(super) fn take_tallies(&mut self) -> Vec<Tally> {
        std::mem::take(&mut self.tallies)
    }

    /// Applies an event of a source of samples.
    pub fn handle(&mut self, source: SourceId, event: Event<'_>) {
        match event {
            Event::Sample(sample) => self.sample(source, &sample),
            Event::Mapped { time_ns, pid, mapping } => self.mapped(time_ns, pid, &mapping),
            Event::Forked { time_ns, pid, tid, parent_pid } => self.forked(time_ns, pid, tid, parent_pid),
            Event::Execed { pid, comm, .. } => self.execed(pid, comm),
            Event::Renamed { pid, tid, comm, .. } => self.renamed(pid, tid, comm),
            Event::Exited { time_ns, pid, tid } => self.exited(time_ns, pid, tid),
            Event::LostSamples { count } => self.tally(source).lost += count,
            Event::LostSideband { count } => self.lost_sideband(count),
        }
    }

    /// Reads a process's maps, unless they are known.
    pub fn watch(&mut self, pid: u32, now_ns: u64) {
        if self.spaces.contains_key(&pid) {
            return;
        }
        let space = match Space::read(pid, now_ns, &mut self.images, &mut self.issues) {
            Ok(space) => space,
            Err(error) => {
                self.issues.add(unwatched(pid, &error), 1);
                Space::empty(pid, String::new())
            }
        };
        self.add_space(pid, space, now_ns);
    }

    /// Adds a process that has ended, as its core file shows it.
    pub fn add_core(&mut self, core: &CoreFile, now_ns: u64) {
        let space = Space::of_core(core, &mut self.images, &mut self.issues);
        self.add_space(core.process.pid, space, now_ns);
    }

    /// Adds a requested process.
    pub fn add(&mut self, identity: Identity, now_ns: u64) {
        self.over.remove(&identity.pid);
        self.forget_process(identity.pid);
        self.watch(identity.pid, now_ns);
        self.programs.insert(identity.pid, identity);
    }

    /// Forgets a process that is no longer requested. Its earlier samples may still be buffered.
    pub fn forget(&mut self, pid: u32, now_ns: u64) {
        self.over.insert(pid, now_ns);
        self.programs.remove(&pid);
        self.forget_process(pid);
    }

    /// Whether a source has delivered a sample in this window.
    pub fn has_samples(&self) -> bool {
        self.tallies.iter().any(|tally| tally.samples > 0)
    }

    fn add_space(&mut self, pid: u32, space: Space, now_ns: u64) {
        self.spaces.insert(pid, space);
        self.attach_runtimes(pid, now_ns);
    }

    /// Attaches to the runtimes of a process that are due.
    fn attach_runtimes(&mut self, pid: u32, now_ns: u64) {
        let Some(space) = self.spaces.get_mut(&pid) else { return };
        let is_new = space.attach_runtimes(now_ns, &self.images);
        for why in space.languages.take_refusals() {
            self.issues.add(Issue::LanguageFrames { why }, 1);
        }
        if is_new {
            let mut hints = space.languages.hints();
            if self.frame_choice == FrameChoice::Native {
                (hints.walker, hints.reader) = (None, None);
            }
            self.runtime_hints.push((pid, hints));
            self.categories.extend(space.languages.categories());
        }
    }

    fn sample(&mut self, source: SourceId, sample: &RawSample<'_>) {
        if self.over.get(&sample.pid).is_some_and(|over_ns| sample.time_ns > *over_ns) {
            return;
        }
        self.watch(sample.pid, sample.time_ns);
        self.attach_runtimes(sample.pid, sample.time_ns);
        let labels = self.labels_of(sample);
        // Read now: they may change.
        let labels = self.with_program_labels(labels, sample);
        let labels = self.with_lock(labels, sample);
        self.frames.clear();
        let mut end = if self.is_language_alone(sample) { Some(StackEnd::Root) } else { self.unwind(sample) };
        if end.is_some_and(|end| !end.is_whole()) && self.is_between_programs(sample) {
            self.tally(source).without_user_stack += 1;
            self.frames.clear();
            end = None;
        }
        let frames = std::mem::take(&mut self.frames);
        self.tally(source).count(sample, end, &frames);
        self.frames = frames;
        let Some(space) = self.spaces.get(&sample.pid) else { return };
        if end == Some(StackEnd::StackCut) {
            hint_stack(&mut self.threads, &mut self.hints, space, sample);
        }
        let kernel = kernel_places(sample.kernel_stack);
        self.user_places(sample, end);
        let user = self.places.iter().copied();
        let cut = end.is_some_and(|end| !end.is_whole());
        let root = cut.then_some(Place { mapping: SYNTHETIC, address: Synthetic::Truncated as u64 });
        let weight = Weight { count: sample.values.count, amount: sample.values.amount() };
        self.collector.add(source, labels, kernel.chain(user).chain(root), weight);
    }

    /// Whether the sampler left out the stack, because the language's frames alone are wanted.
    fn is_language_alone(&self, sample: &RawSample<'_>) -> bool {
        let has_no_stack = sample.stack.bytes.is_empty() && !sample.stack.capped;
        self.frame_choice == FrameChoice::Language && has_no_stack && !sample.sections.is_empty()
    }

    /// Sets [`World::places`] from the frames of the last unwound stack and those of languages.
    pub fn user_places(&mut self, sample: &RawSample<'_>, end: Option<StackEnd>) {
        self.places.clear();
        let Some(space) = self.spaces.get(&sample.pid) else { return };
        let is_mixed = !self.unwinder.keys().is_empty() || space.languages.have_sections();
        if end.is_none() || !is_mixed || self.frame_choice == FrameChoice::Native {
            let images = &self.images;
            self.places.extend(self.frames.iter().map(|frame| place(frame, space, images)));
            return;
        }
        let is_whole = end.is_some_and(StackEnd::is_whole);
        let (frames, keys) = (&self.frames, self.unwinder.keys());
        if let Some(why) = space.languages.mix(sample, (frames, keys, is_whole), &mut self.mixed) {
            *self.unplaced.entry(why).or_default() += 1;
        }
        let is_language = |frame: &MixedFrame| matches!(frame, MixedFrame::Language(_));
        if self.frame_choice == FrameChoice::Language && self.mixed.iter().any(is_language) {
            self.mixed.retain(is_language);
        }
        // Poll often: what new frames are is read soon after the sample, or not at all.
        self.late_reads += 1;
        for frame in &self.mixed {
            self.places.push(match frame {
                MixedFrame::Native(frame) => place(frame, space, &self.images),
                MixedFrame::Language(frame) => {
                    let Some(instance) = space.languages.instance(frame.instance) else { continue };
                    let mapping = self.images.of_language(instance.language());
                    let table = &mut self.language_frames;
                    let address = table.number(sample.pid, *frame, instance, sample.time_ns);
                    Place { mapping, address }
                }
            });
        }
    }

    /// The local variables of the frames of [`World::places`], by their index, if the sample has
    /// them.
    pub fn variables(&self, sample: &RawSample<'_>) -> Vec<(usize, Vec<Variable>)> {
        let space = self.spaces.get(&sample.pid).filter(|_| self.mixed.len() == self.places.len());
        space.map(|space| space.languages.variables(sample, &self.mixed)).unwrap_or_default()
    }

    /// Whether the process was in exec or exit, where the old program's memory is gone: nothing of
    /// the stack could be copied, and there is no memory at its address now.
    fn is_between_programs(&self, sample: &RawSample<'_>) -> bool {
        let in_kernel = !sample.kernel_stack.0.is_empty();
        in_kernel
            && sample.stack.bytes.is_empty()
            && (self.spaces.get(&sample.pid))
                .is_none_or(|space| space.memory.read(sample.stack.start, &mut [0; 8]) == 0)
    }

    /// Walks the stack of a sample into [`World::frames`], by the mappings that are known.
    pub(super) fn walk(&mut self, sample: &RawSample<'_>) -> Option<StackEnd> {
        let registers = sample.registers.as_ref()?;
        let space = self.spaces.get(&sample.pid)?;
        let stack = sample.stack;
        let copy = CopiedStack {
            start: stack.start,
            bytes: stack.bytes,
            capped: stack.capped,
            has_holes: stack.has_holes,
        };
        let mut memory = LateStack::new(copy, &space.memory, &mut self.late_buffer)
            .with_task(sample.task)
            .with_interrupted_stack(sample.interrupted_stack);
        let end = self.unwinder.unwind(&space.modules, registers, &mut memory, &mut self.frames);
        self.late_reads += u64::from(memory.was_needed());
        Some(end)
    }

    fn mapped(&mut self, time_ns: u64, pid: u32, mapping: &NewMapping<'_>) {
        let images = &mut self.images;
        let issues = &mut self.issues;
        let space = self.spaces.entry(pid).or_insert_with(|| {
            Space::read(pid, time_ns, images, issues).unwrap_or_else(|_| Space::empty(pid, String::new()))
        });
        space.map(mapping, images, issues);
        self.attach_runtimes(pid, time_ns);
    }

    fn forked(&mut self, time_ns: u64, pid: u32, tid: u32, parent_pid: u32) {
        // The number may be reused.
        self.threads.remove(&(pid, tid));
        if pid != parent_pid {
            self.over.remove(&pid);
        }
        if self.new_threads.len() < MAX_NEW_THREADS {
            self.new_threads.insert((pid, tid));
        }
        if pid == parent_pid {
            return;
        }
        self.children.push(pid);
        self.forget_process(pid);
        match self.spaces.get(&parent_pid).map(|parent| parent.forked(pid)) {
            Some(child) => self.add_space(pid, child, time_ns),
            None => self.watch(pid, time_ns),
        }
    }

    fn execed(&mut self, pid: u32, comm: &[u8]) {
        if let Some(known) = self.programs.get_mut(&pid)
            && let Ok(identity) = identify(pid)
            && identity.start_ticks == known.start_ticks
        {
            *known = identity;
        }
        if self.spaces.get(&pid).is_some_and(|space| space.languages.count() > 0) {
            self.runtime_hints.push((pid, Hints::default()));
        }
        self.forget_process(pid);
        // The new program's mappings arrive as separate events.
        self.spaces.insert(pid, Space::empty(pid, comm::printable(comm)));
    }

    fn renamed(&mut self, pid: u32, tid: u32, comm: &[u8]) {
        if pid == tid
            && let Some(space) = self.spaces.get_mut(&pid)
        {
            space.name = comm::printable(comm);
        }
        let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
        self.name_thread(pid, tid, &comm[..end]);
    }

    fn exited(&mut self, time_ns: u64, pid: u32, tid: u32) {
        if pid == tid
            && let Some(space) = self.spaces.get_mut(&pid)
        {
            space.ended_at_ns = Some(time_ns);
        }
        self.ended.push_back((time_ns, pid, tid));
        self.forget_ended(time_ns);
        self.note_if_over(time_ns, pid);
    }

    /// Notes the end of a requested process with that of its last thread, as far as it is visible
    /// in /proc already.
    fn note_if_over(&mut self, time_ns: u64, pid: u32) {
        let first_has_ended = self.spaces.get(&pid).is_none_or(|space| space.ended_at_ns.is_some());
        if first_has_ended
            && !self.over.contains_key(&pid)
            && self.programs.get(&pid).is_some_and(|identity| !identity.is_alive())
        {
            self.over.insert(pid, time_ns);
        }
    }

    /// Forgets the threads and processes that ended longer than [`KEEP_AFTER_EXIT_NS`] ago.
    fn forget_ended(&mut self, now_ns: u64) {
        while let Some(&(time_ns, pid, tid)) = self.ended.front()
            && now_ns > time_ns.saturating_add(KEEP_AFTER_EXIT_NS)
        {
            self.ended.pop_front();
            let Some(space) = self.spaces.get_mut(&pid) else {
                self.threads.remove(&(pid, tid));
                continue;
            };
            if pid != tid {
                space.tids.remove(&tid);
                self.threads.remove(&(pid, tid));
            } else if space.ended_at_ns != Some(time_ns) {
                // The number is used by a later process.
            } else if identity::read_stat(pid).is_ok_and(|stat| !stat.is_over()) {
                // Its first thread has ended, others still run.
                space.ended_at_ns = Some(now_ns);
                self.ended.push_back((now_ns, pid, tid));
            } else {
                self.gone.push(pid);
                self.forget_process(pid);
            }
        }
    }

    fn forget_process(&mut self, pid: u32) {
        self.language_frames.forget_process(pid);
        self.note_generator(pid);
        let ended = self.spaces.get(&pid).map(|space| space.languages.quality());
        let room = MAX_QUALITY.saturating_sub(self.quality.len());
        self.quality.extend(ended.unwrap_or_default().into_iter().take(room));
        for tid in self.spaces.remove(&pid).into_iter().flat_map(|space| space.tids) {
            self.threads.remove(&(pid, tid));
        }
        if self.images.placement_count() >= self.clean_at_placements {
            self.forget_unused_files();
        }
    }

    /// How well the runtimes of the profiled processes could be read, `key: value`; those of ended
    /// processes once.
    pub(super) fn take_quality(&mut self) -> Vec<String> {
        let now = self.spaces.values().flat_map(|space| space.languages.quality());
        let mut all: Vec<String> = std::mem::take(&mut self.quality).into_iter().chain(now).collect();
        all.sort();
        all.truncate(MAX_QUALITY);
        all
    }

    fn lost_sideband(&mut self, count: u64) {
        self.issues.add(Issue::LostSideband, count);
        // Missed mappings are read when the next unknown address appears.
        self.spaces.values_mut().for_each(|space| space.read_at_ns = 0);
    }
}

/// Tells the sampler the bounds of a thread's stack whose copy was truncated.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::collector::Labels;
    use crate::capture::{collector::ONLY, watch::place::place_at};

    fn exited(world: &mut World, time_ns: u64, pid: u32, tid: u32) {
        world.handle(ONLY, Event::Exited { time_ns, pid, tid });
    }

    fn forked(world: &mut World, time_ns: u64, pid: u32, parent_pid: u32) {
        world.handle(ONLY, Event::Forked { time_ns, pid, tid: pid, parent_pid });
    }

    /// The first of the numbers that no process has.
    const PARENT: u32 = 0x7fff_0000;
    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn ended_processes_and_threads_are_forgotten_after_a_delay() {
        let mut world = World::within(LabelKeys::default(), &Budget::session());
        world.spaces.insert(PARENT, Space::empty(PARENT, "parent".into()));
        for number in 1..=100 {
            let (pid, time_ns) = (PARENT + number, u64::from(number) * SECOND);
            forked(&mut world, time_ns, pid, PARENT);
            world.name_thread(pid, pid, b"first");
            world.name_thread(pid, pid + 1000, b"second");
            // The kernel ends the first thread before the others.
            exited(&mut world, time_ns + 1, pid, pid);
            exited(&mut world, time_ns + 2, pid, pid + 1000);
            assert!(world.spaces.contains_key(&pid), "its last samples may still arrive");
        }
        assert!(world.spaces.len() <= 4 && world.threads.len() <= 6 && world.ended.len() <= 6);
        assert!(world.spaces.contains_key(&PARENT));
    }

    #[test]
    fn samples_after_the_end_of_a_requested_process_are_of_another_process_and_dropped() {
        let mut world = World::within(LabelKeys::default(), &Budget::session());
        let mut ended = identify(std::process::id()).expect("this process");
        ended.pid = PARENT;
        world.programs.insert(PARENT, ended);
        world.spaces.insert(PARENT, Space::empty(PARENT, "parent".into()));
        let counted = |world: &mut World, time_ns: u64| {
            let before = world.tally(ONLY).samples;
            world.handle(ONLY, Event::Sample(RawSample::without_stack(time_ns, PARENT)));
            world.tally(ONLY).samples - before
        };
        assert_eq!(counted(&mut world, SECOND), 1);
        exited(&mut world, 2 * SECOND, PARENT, PARENT);
        assert_eq!(counted(&mut world, 2 * SECOND - 1), 1, "buffers are read late");
        assert_eq!(counted(&mut world, 2 * SECOND + 1), 0);
        // A child of a profiled process may get the PID: it is profiled.
        forked(&mut world, 3 * SECOND, PARENT, PARENT + 1);
        assert_eq!(counted(&mut world, 3 * SECOND + 1), 1);
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_is_kept_while_other_threads_run() {
        let me = std::process::id();
        let mut world = World::within(LabelKeys::default(), &Budget::session());
        world.watch(me, 0);
        exited(&mut world, SECOND, me, me);
        exited(&mut world, 3 * SECOND, PARENT, PARENT);
        exited(&mut world, 9 * SECOND, PARENT, PARENT);
        assert!(world.spaces.contains_key(&me));
    }

    #[test]
    fn a_thread_that_has_ended_gets_the_name_of_its_process() {
        let mut world = World::within(LabelKeys::default(), &Budget::session());
        world.spaces.insert(PARENT, Space::empty(PARENT, "server".into()));
        assert_eq!(world.comm_now(PARENT, PARENT + 1), "server");
    }

    #[test]
    fn a_process_whose_end_was_not_reported_is_forgotten_two_windows_later() {
        let mut world = World::within(LabelKeys::default(), &Budget::session());
        let me = std::process::id();
        world.watch(me, 0);
        world.spaces.insert(PARENT, Space::empty(PARENT, "gone".into()));
        world.name_thread(PARENT, PARENT, b"gone");
        let _ = world.close();
        assert!(world.spaces.contains_key(&PARENT), "its last samples may still come");
        let _ = world.close();
        assert!(!world.spaces.contains_key(&PARENT) && world.threads.is_empty());
        assert!(world.spaces.contains_key(&me));
        assert_eq!(world.gone, [PARENT]);
    }

    #[test]
    fn a_removed_process_is_forgotten_though_its_samples_were_still_buffered() {
        let me = std::process::id();
        let mut world = World::within(LabelKeys::default(), &Budget::session());
        world.watch(me, 0);
        world.forget(me, identity::monotonic_ns());
        world.handle(ONLY, Event::Sample(RawSample::without_stack(1, me)));
        world.handle(ONLY, Event::Sample(RawSample::without_stack(u64::MAX, me)));
        assert_eq!(world.tally(ONLY).samples, 1);
        assert!(world.spaces.contains_key(&me), "its file names the sample");
        let _ = world.close();
        assert!(world.spaces.is_empty() && world.threads.is_empty());
    }

    #[test]
    fn what_only_an_ended_process_had_is_forgotten_when_the_window_ends() {
        let me = std::process::id();
        let mut world = World::within(LabelKeys::default(), &Budget::session());
        world.watch(me, 0);
        assert!(world.images.placement_count() > 3);
        let labels =
            Labels { thread: "t".into(), pid: None, tid: None, process: None, own: None, lock: None };
        let labels = world.collector.labels(labels);
        let module = world.spaces[&me].modules.as_slice()[0].clone();
        let at = place_at(Some(&module), module.start, &world.images);
        world.collector.add(ONLY, labels, [at].into_iter(), Weight { count: 1, amount: 1 });
        world.forget(me, SECOND);
        let window = world.close();
        assert_eq!(world.images.placement_count(), 3);
        assert!(window.placements.get(module.id).image.elf.is_some(), "the window still names it");
        assert!(world.collector.places().is_empty() && window.collector.places() == [at]);
    }
}
