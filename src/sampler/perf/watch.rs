//! Turns perf records into [`Event`]s: selects the records of the sampled processes and counts
//! losses.
//!
//! Not here: reading records from rings.

use rustc_hash::{FxHashMap, FxHashSet};

use super::plan::{Plan, Shape};
use crate::{
    addr::RuntimeAddr,
    arch::{self, Registers, native},
    process::Sections,
    sampler::{Event, KernelStack, NewMapping, RawSample, SamplerOptions, StackCopy, Values},
    sys::perf::{Mmap2, RawRecord, Record, Sample, SampleFields, SampleId},
};

/// A record is below 64 KiB: if its body has at least this size, the kernel shortened the stack
/// copy.
const FULL_RECORD_BODY_BYTES: usize = 65_520;
/// Words of a call chain from here up are markers of a context, not addresses (`PERF_CONTEXT_MAX`).
const FIRST_CONTEXT_MARKER: u64 = -4095i64 as u64;
/// The most threads whose choice of events is remembered.
const MAX_TAKEN: usize = 1 << 16;
/// Addresses of the kernel follow this marker (`PERF_CONTEXT_KERNEL`).
const KERNEL_CONTEXT: u64 = -128i64 as u64;

/// The sampled processes, and the state of their records.
pub(super) struct Watch {
    pids: FxHashSet<u32>,
    follow_forks: bool,
    fields: SampleFields,
    /// What a sample is worth if its own period is not in nanoseconds.
    fixed_values: Option<Values>,
    owners: Option<Owners>,
    losses: Losses,
}

/// A thread can be covered twice: by an event opened for it, and by one inherited from the thread
/// that created it while events were being opened. Only the records of one of them are used.
#[derive(Default)]
struct Owners {
    /// The thread that an event was opened for, by the event's identifier.
    of_event: FxHashMap<u64, u32>,
    /// For each thread: the owner of the events whose records are used.
    taken: FxHashMap<u32, u32>,
}

/// How many records were lost, and which part of them belonged to sampled processes.
#[derive(Default)]
struct Losses {
    /// Reported by the rings so far.
    reported: u64,
    seen_samples: u64,
    own_samples: u64,
}

impl Watch {
    /// `fields`: the fields of the samples. `thread_of_event`: the thread that each event was
    /// opened for.
    pub(super) fn new(
        plan: &Plan,
        options: &SamplerOptions,
        fields: SampleFields,
        thread_of_event: FxHashMap<u64, u32>,
    ) -> Watch {
        Watch {
            pids: options.pids.iter().copied().collect(),
            follow_forks: options.follow_forks,
            fields,
            fixed_values: plan.fixed_values(),
            owners: matches!(plan.shape, Shape::Threads)
                .then(|| Owners { of_event: thread_of_event, taken: FxHashMap::default() }),
            losses: Losses::default(),
        }
    }

    /// Also reports this process, for whose threads these events were opened.
    pub(super) fn add(&mut self, pid: u32, thread_of_event: FxHashMap<u64, u32>) {
        if let Some(owners) = &mut self.owners {
            owners.of_event.extend(thread_of_event);
        }
        self.pids.insert(pid);
    }

    /// Whether this process is reported.
    pub(super) fn has(&self, pid: u32) -> bool {
        self.pids.contains(&pid)
    }

    /// No longer reports this process, whose events have these identifiers.
    pub(super) fn remove(&mut self, pid: u32, events: &[u64]) {
        self.pids.remove(&pid);
        if let Some(owners) = &mut self.owners {
            let of_events = events.iter().filter_map(|event| owners.of_event.remove(event));
            let threads: FxHashSet<u32> = of_events.collect();
            owners.taken.retain(|_, owner| !threads.contains(owner));
        }
    }

    /// Reports a record to `sink` if it belongs to a sampled process.
    pub(super) fn handle(&mut self, raw: &RawRecord<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(id) = raw.id() else { return };
        if raw.is_sample() && !self.is_wanted_sample(&id) {
            return;
        }
        match Record::parse(raw, &self.fields) {
            Some(Record::Sample(sample)) => sink(Event::Sample(self.sample(&sample, raw.body().len()))),
            Some(Record::Lost { count, .. }) => self.report_lost(count, true, sink),
            Some(Record::LostSamples { count }) => self.report_lost(count, false, sink),
            Some(record) if self.takes_from(&id) => self.handle_sideband(&record, &id, sink),
            _ => {}
        }
    }

    /// Whether a sample is to be reported, decided from its identifier fields only.
    fn is_wanted_sample(&mut self, id: &SampleId) -> bool {
        self.losses.seen_samples += 1;
        let wanted = self.pids.contains(&id.pid) && self.takes_from(id);
        self.losses.own_samples += u64::from(wanted);
        wanted
    }

    fn takes_from(&mut self, id: &SampleId) -> bool {
        self.owners.as_mut().is_none_or(|owners| owners.takes(id))
    }

    /// Forgets which events are used for which thread; the next records decide again.
    pub(super) fn forget_owners(&mut self) {
        if let Some(owners) = &mut self.owners {
            owners.taken.clear();
        }
    }

    fn sample<'a>(&self, sample: &Sample<'a>, body_bytes: usize) -> RawSample<'a> {
        let registers = sample.user_registers.map(registers);
        let stack_pointer = registers.and_then(|registers| registers.get(native::SP)).unwrap_or(0);
        let (stack, room_bytes) = (sample.user_stack.bytes, sample.user_stack.room_bytes);
        let room_was_cut_by_us =
            room_bytes == u64::from(self.fields.user_stack_bytes) || body_bytes >= FULL_RECORD_BODY_BYTES;
        let capped = room_bytes > 0 && stack.len() as u64 == room_bytes && room_was_cut_by_us;
        RawSample {
            time_ns: sample.id.time_ns,
            pid: sample.id.pid,
            tid: sample.id.tid,
            comm: None,
            values: self.fixed_values.unwrap_or(Values::of_time(sample.period)),
            registers,
            stack: StackCopy { start: RuntimeAddr(stack_pointer), bytes: stack, capped, has_holes: false },
            kernel_stack: KernelStack(kernel_part(sample.callchain)),
            task: None,
            lock: None,
            interrupted_stack: None,
            sections: Sections::default(),
        }
    }

    fn handle_sideband(&mut self, record: &Record<'_>, id: &SampleId, sink: &mut dyn FnMut(Event<'_>)) {
        let time_ns = id.time_ns;
        match *record {
            Record::Fork { pid, tid, parent_pid, .. } if self.note_fork(pid, tid, parent_pid) => {
                sink(Event::Forked { time_ns, pid, tid, parent_pid });
            }
            Record::Mmap2(mapping) if self.pids.contains(&mapping.pid) => {
                sink(Event::Mapped { time_ns, pid: mapping.pid, mapping: new_mapping(&mapping) });
            }
            Record::Comm { pid, tid, exec, comm } if self.pids.contains(&pid) => sink(match exec {
                true => Event::Execed { time_ns, pid, tid, comm },
                false => Event::Renamed { time_ns, pid, tid, comm },
            }),
            Record::Exit { pid, tid, .. } if self.pids.contains(&pid) => {
                sink(Event::Exited { time_ns, pid, tid });
            }
            _ => {}
        }
    }

    /// Handles a new thread or process; returns whether it is sampled.
    fn note_fork(&mut self, pid: u32, tid: u32, parent_pid: u32) -> bool {
        if let Some(owners) = &mut self.owners {
            owners.taken.remove(&tid);
        }
        if pid == parent_pid {
            return self.pids.contains(&pid);
        }
        if self.follow_forks && self.pids.contains(&parent_pid) {
            self.pids.insert(pid);
            return true;
        }
        // An unrelated new process has the PID of a sampled process that has ended.
        self.pids.remove(&pid);
        false
    }

    /// A lost record may be a sample or a side-band record, so both are reported.
    fn report_lost(&mut self, count: u64, maybe_sideband: bool, sink: &mut dyn FnMut(Event<'_>)) {
        if maybe_sideband {
            self.losses.reported = self.losses.reported.saturating_add(count);
            self.forget_owners();
        }
        let own = self.losses.own_share(count);
        if own > 0 {
            sink(Event::LostSamples { count: own });
        }
        if maybe_sideband {
            sink(Event::LostSideband { count });
        }
    }

    /// Reports the part of `total`, the kernel's count of lost records, that the rings have not
    /// reported.
    pub(super) fn report_lost_in_all(&mut self, total: u64, sink: &mut dyn FnMut(Event<'_>)) {
        let rest = total.saturating_sub(self.losses.reported);
        if rest > 0 {
            self.report_lost(rest, true, sink);
        }
    }
}

impl Owners {
    fn takes(&mut self, id: &SampleId) -> bool {
        // Threads that have ended are in it too. The next records decide again.
        if self.taken.len() >= MAX_TAKEN {
            self.taken.clear();
        }
        match self.of_event.get(&id.identifier) {
            Some(owner) => self.taken.entry(id.tid).or_insert(*owner) == owner,
            None => false,
        }
    }
}

impl Losses {
    /// How many of `count` lost records belonged to sampled processes, estimated from the samples
    /// that were not lost, rounded up; all of them if there are no samples yet.
    fn own_share(&self, count: u64) -> u64 {
        if self.seen_samples == 0 {
            return count;
        }
        let own = u128::from(count) * u128::from(self.own_samples);
        u64::try_from(own.div_ceil(u128::from(self.seen_samples))).unwrap_or(count)
    }
}

fn new_mapping<'a>(mapping: &Mmap2<'a>) -> NewMapping<'a> {
    NewMapping {
        start: RuntimeAddr(mapping.start),
        length: mapping.length,
        file_offset: mapping.file_offset,
        device_major: mapping.device_major,
        device_minor: mapping.device_minor,
        inode: mapping.inode,
        path: mapping.path,
    }
}

fn registers(block: &[u8]) -> Registers {
    let mut words = [0u64; arch::MAX_REGISTERS];
    let mut count = 0;
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
        count += 1;
    }
    native::registers_from_perf(words.get(..count).unwrap_or(&[]))
}

/// The addresses that follow the kernel's marker, up to the next marker.
fn kernel_part(callchain: &[u8]) -> &[u8] {
    let words = callchain.as_chunks::<8>().0;
    let Some((first, rest)) = words.split_first() else { return &[] };
    if u64::from_ne_bytes(*first) != KERNEL_CONTEXT {
        return &[];
    }
    let is_marker = |word: &[u8; 8]| u64::from_ne_bytes(*word) >= FIRST_CONTEXT_MARKER;
    let end = rest.iter().position(is_marker).unwrap_or(rest.len());
    rest.get(..end).unwrap_or(&[]).as_flattened()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_FIELDS: SampleFields =
        SampleFields { period: true, kernel_callchain: false, user_registers: 0, user_stack_bytes: 0 };

    fn watch(pids: &[u32], follow_forks: bool) -> Watch {
        Watch {
            pids: pids.iter().copied().collect(),
            follow_forks,
            fields: NO_FIELDS,
            fixed_values: None,
            owners: None,
            losses: Losses::default(),
        }
    }

    fn words(record: &mut Vec<u8>, words: &[u64]) {
        record.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    fn pair(low: u32, high: u32) -> u64 {
        u64::from(high) << 32 | u64::from(low)
    }

    fn sample(identifier: u64, pid: u32, tid: u32) -> Vec<u8> {
        let mut record = Vec::new();
        words(&mut record, &[9, identifier, pair(pid, tid), 77, 0, 1000]);
        record
    }

    fn sideband(kind: u64, body: &[u64], identifier: u64, pid: u32, tid: u32) -> Vec<u8> {
        let mut record = Vec::new();
        words(&mut record, &[kind]);
        words(&mut record, body);
        words(&mut record, &[pair(pid, tid), 77, 0, identifier]);
        record
    }

    fn fork(parent: u32, pid: u32, tid: u32) -> Vec<u8> {
        sideband(7, &[pair(pid, parent), pair(tid, parent), 77], 1, parent, parent)
    }

    /// Shows what the events say, in one word each.
    fn told(watch: &mut Watch, records: &[Vec<u8>]) -> Vec<String> {
        let mut told = Vec::new();
        for record in records {
            let raw = RawRecord::new(record).expect("header");
            watch.handle(&raw, &mut |event| {
                told.push(match event {
                    Event::Sample(sample) => format!("sample {}/{}", sample.pid, sample.tid),
                    Event::Forked { pid, tid, .. } => format!("forked {pid}/{tid}"),
                    Event::LostSamples { count } => format!("lost {count}"),
                    Event::LostSideband { .. } => "sideband".to_owned(),
                    other => format!("{other:?}"),
                });
            });
        }
        told
    }

    #[test]
    fn samples_of_other_processes_are_dropped() {
        let told = told(&mut watch(&[5], false), &[sample(1, 5, 6), sample(1, 4, 4), sample(1, 5, 5)]);
        assert_eq!(told, ["sample 5/6", "sample 5/5"]);
    }

    #[test]
    fn children_are_watched_when_forks_are_followed() {
        let records = [fork(5, 8, 8), sample(1, 8, 8), fork(5, 5, 9), fork(3, 4, 4), sample(1, 4, 4)];
        assert_eq!(told(&mut watch(&[5], true), &records), ["forked 8/8", "sample 8/8", "forked 5/9"]);
        assert_eq!(told(&mut watch(&[5], false), &records), ["forked 5/9"]);
    }

    #[test]
    fn a_process_number_that_somebody_else_gets_is_no_longer_watched() {
        let records = [sample(1, 5, 5), fork(3, 5, 5), sample(1, 5, 5)];
        assert_eq!(told(&mut watch(&[5], true), &records), ["sample 5/5"]);
    }

    #[test]
    fn a_thread_covered_by_two_events_is_counted_once() {
        let mut watch = watch(&[5], false);
        let of_event = [(1, 5), (2, 5), (3, 6)].into_iter().collect();
        watch.owners = Some(Owners { of_event, taken: FxHashMap::default() });
        // Events 1 and 2 are thread 5's on two CPUs; event 3 was opened for thread 6, which also
        // inherits.
        let records = [sample(1, 5, 6), sample(3, 5, 6), sample(2, 5, 6), sample(9, 5, 6), sample(1, 5, 5)];
        assert_eq!(told(&mut watch, &records), ["sample 5/6", "sample 5/6", "sample 5/5"]);
        // A new thread under the same number may be another event's.
        assert_eq!(told(&mut watch, &[fork(5, 5, 6), sample(3, 5, 6)]), ["forked 5/6", "sample 5/6"]);
    }

    #[test]
    fn lost_records_are_shared_out_by_those_that_were_kept_and_told_once() {
        let mut watch = watch(&[5], false);
        let lost = sideband(2, &[1, 10], 1, 5, 5);
        assert_eq!(told(&mut watch, std::slice::from_ref(&lost)), ["lost 10", "sideband"]);
        let records = [sample(1, 5, 5), sample(1, 4, 4), lost];
        assert_eq!(told(&mut watch, &records), ["sample 5/5", "lost 5", "sideband"]);
        let mut rest = Vec::new();
        watch.report_lost_in_all(24, &mut |event| rest.push(format!("{event:?}")));
        assert_eq!(rest, ["LostSamples { count: 2 }", "LostSideband { count: 4 }"]);
        watch.report_lost_in_all(24, &mut |event| panic!("told twice: {event:?}"));
    }

    #[test]
    fn only_the_kernels_part_of_a_call_chain_is_taken() {
        let chain = |values: &[u64]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<_>>();
        let user = -512i64 as u64;
        assert_eq!(kernel_part(&chain(&[KERNEL_CONTEXT, 1, 2, user, 3])), chain(&[1, 2]));
        assert_eq!(kernel_part(&chain(&[user, 3])), chain(&[]));
        assert_eq!(kernel_part(&chain(&[])), chain(&[]));
    }
}
