//! The events of several sources in one order of time (CLOCK_MONOTONIC). Events are copied here,
//! because a source's buffer must be emptied before those of the other sources are read.
//!
//! Not here: what events mean (`world`). A session with one source hands its events over without a
//! copy.

use std::{collections::VecDeque, ops::Range};

use crate::{
    addr::RuntimeAddr,
    capture::collector::SourceId,
    process::{OwnedSection, Section, Sections},
    sampler::{Event, KernelStack, LockUse, NewMapping, RawSample, StackCopy, Task, Values},
    unwind::Registers,
};

/// With more bytes waiting than this, all of them are handed over at once, in order as far as they
/// are known.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Events that wait for their turn.
#[derive(Debug, Default)]
pub struct Merge {
    /// By [`SourceId`], each in the order in which the source reported them.
    queues: Vec<VecDeque<Waiting>>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    time_ns: u64,
    event: StoredEvent,
}

/// An [`Event`] that owns its bytes.
#[derive(Debug)]
enum StoredEvent {
    Sample(Box<StoredSample>),
    Mapped { pid: u32, mapping: StoredMapping },
    Forked { pid: u32, tid: u32, parent_pid: u32 },
    Execed { pid: u32, tid: u32, comm: Box<[u8]> },
    Renamed { pid: u32, tid: u32, comm: Box<[u8]> },
    Exited { pid: u32, tid: u32 },
    LostSamples { count: u64 },
    LostSideband { count: u64 },
}

/// A [`NewMapping`] that owns its path.
#[derive(Debug)]
struct StoredMapping {
    /// Without its path.
    mapping: NewMapping<'static>,
    path: Box<[u8]>,
}

/// A [`RawSample`] that owns its bytes.
#[derive(Debug)]
struct StoredSample {
    pid: u32,
    tid: u32,
    values: Values,
    registers: Option<Registers>,
    /// All bytes of the sample; the ranges below are parts of them.
    bytes: Box<[u8]>,
    comm: Option<Range<usize>>,
    stack: StoredStack,
    kernel_stack: Range<usize>,
    task: Option<StoredTask>,
    lock: Option<LockUse>,
    interrupted_stack: Option<StoredStack>,
    sections: Vec<OwnedSection>,
}

#[derive(Debug)]
struct StoredStack {
    start: RuntimeAddr,
    range: Range<usize>,
    capped: bool,
    has_holes: bool,
}

#[derive(Debug)]
struct StoredTask {
    labels: u64,
    registers: Option<Registers>,
    stack: StoredStack,
}

impl Merge {
    /// Keeps an event of a source until [`Merge::hand_over`].
    pub fn push(&mut self, source: SourceId, event: &Event<'_>) {
        if self.queues.len() <= source {
            self.queues.resize_with(source + 1, VecDeque::new);
        }
        let queue = &mut self.queues[source];
        // What has no time follows what the source reported before it.
        let time_ns = time_of(event).unwrap_or_else(|| queue.back().map_or(0, |last| last.time_ns));
        let event = StoredEvent::of(event);
        self.bytes += event.bytes();
        queue.push_back(Waiting { time_ns, event });
    }

    /// Hands over all events up to `until_ns`, oldest first.
    pub fn hand_over(&mut self, until_ns: u64, sink: &mut dyn FnMut(SourceId, Event<'_>)) {
        let until_ns = if self.bytes > MAX_WAITING_BYTES { u64::MAX } else { until_ns };
        while let Some(source) = self.oldest(until_ns) {
            let Some(waiting) = self.queues[source].pop_front() else { return };
            self.bytes -= waiting.event.bytes();
            sink(source, waiting.event.as_event(waiting.time_ns));
        }
    }

    /// The source whose next event is the oldest, if that is not later than `until_ns`.
    fn oldest(&self, until_ns: u64) -> Option<SourceId> {
        let next =
            self.queues.iter().enumerate().filter_map(|(id, queue)| Some((queue.front()?.time_ns, id)));
        next.min().filter(|(time_ns, _)| *time_ns <= until_ns).map(|(_, id)| id)
    }

    /// About how many bytes the waiting events take.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.queues.iter().map(|queue| queue.capacity() * size_of::<Waiting>()).sum::<usize>()
    }
}

/// When an event happened, CLOCK_MONOTONIC in nanoseconds.
fn time_of(event: &Event<'_>) -> Option<u64> {
    match event {
        Event::Sample(sample) => Some(sample.time_ns),
        Event::Mapped { time_ns, .. }
        | Event::Forked { time_ns, .. }
        | Event::Execed { time_ns, .. }
        | Event::Renamed { time_ns, .. }
        | Event::Exited { time_ns, .. } => Some(*time_ns),
        Event::LostSamples { .. } | Event::LostSideband { .. } => None,
    }
}

impl StoredEvent {
    fn of(event: &Event<'_>) -> StoredEvent {
        match *event {
            Event::Sample(ref sample) => StoredEvent::Sample(Box::new(StoredSample::of(sample))),
            Event::Mapped { pid, mapping, .. } => {
                let path = mapping.path.into();
                let mapping = StoredMapping { mapping: NewMapping { path: &[], ..mapping }, path };
                StoredEvent::Mapped { pid, mapping }
            }
            Event::Forked { pid, tid, parent_pid, .. } => StoredEvent::Forked { pid, tid, parent_pid },
            Event::Execed { pid, tid, comm, .. } => StoredEvent::Execed { pid, tid, comm: comm.into() },
            Event::Renamed { pid, tid, comm, .. } => StoredEvent::Renamed { pid, tid, comm: comm.into() },
            Event::Exited { pid, tid, .. } => StoredEvent::Exited { pid, tid },
            Event::LostSamples { count } => StoredEvent::LostSamples { count },
            Event::LostSideband { count } => StoredEvent::LostSideband { count },
        }
    }

    fn as_event(&self, time_ns: u64) -> Event<'_> {
        match *self {
            StoredEvent::Sample(ref sample) => Event::Sample(sample.as_sample(time_ns)),
            StoredEvent::Mapped { pid, ref mapping } => {
                let mapping = NewMapping { path: &mapping.path, ..mapping.mapping };
                Event::Mapped { time_ns, pid, mapping }
            }
            StoredEvent::Forked { pid, tid, parent_pid } => Event::Forked { time_ns, pid, tid, parent_pid },
            StoredEvent::Execed { pid, tid, ref comm } => Event::Execed { time_ns, pid, tid, comm },
            StoredEvent::Renamed { pid, tid, ref comm } => Event::Renamed { time_ns, pid, tid, comm },
            StoredEvent::Exited { pid, tid } => Event::Exited { time_ns, pid, tid },
            StoredEvent::LostSamples { count } => Event::LostSamples { count },
            StoredEvent::LostSideband { count } => Event::LostSideband { count },
        }
    }

    fn bytes(&self) -> usize {
        match self {
            StoredEvent::Sample(sample) => size_of::<StoredSample>() + sample.bytes.len(),
            StoredEvent::Mapped { mapping, .. } => mapping.path.len(),
            StoredEvent::Execed { comm, .. } | StoredEvent::Renamed { comm, .. } => comm.len(),
            _ => 0,
        }
    }
}

fn owned(section: Section<'_>) -> OwnedSection {
    let Section { language, origin, bytes } = section;
    OwnedSection { language, origin, bytes: bytes.to_vec() }
}

impl StoredSample {
    fn of(sample: &RawSample<'_>) -> StoredSample {
        let mut bytes = Vec::new();
        let mut store = |part: &[u8]| {
            bytes.extend_from_slice(part);
            bytes.len() - part.len()..bytes.len()
        };
        let store_stack = |stack: &StackCopy<'_>, store: &mut dyn FnMut(&[u8]) -> Range<usize>| {
            let StackCopy { start, bytes, capped, has_holes } = *stack;
            StoredStack { start, range: store(bytes), capped, has_holes }
        };
        let (comm, kernel_stack) = (sample.comm.map(&mut store), store(sample.kernel_stack.0));
        let stack = store_stack(&sample.stack, &mut store);
        let task = sample.task.as_ref().map(|task| StoredTask {
            labels: task.labels,
            registers: task.registers,
            stack: store_stack(&task.stack, &mut store),
        });
        let interrupted_stack = sample.interrupted_stack.as_ref().map(|stack| store_stack(stack, &mut store));
        StoredSample {
            interrupted_stack,
            sections: sample.sections.iter().map(owned).collect(),
            pid: sample.pid,
            tid: sample.tid,
            values: sample.values,
            registers: sample.registers,
            bytes: bytes.into(),
            comm,
            stack,
            kernel_stack,
            task,
            lock: sample.lock,
        }
    }

    fn stack(&self, stack: &StoredStack) -> StackCopy<'_> {
        let StoredStack { start, ref range, capped, has_holes } = *stack;
        StackCopy { start, bytes: &self.bytes[range.clone()], capped, has_holes }
    }

    fn as_sample(&self, time_ns: u64) -> RawSample<'_> {
        let mut sections = Sections::default();
        self.sections.iter().for_each(|section| sections.push(section.as_section()));
        RawSample {
            time_ns,
            pid: self.pid,
            tid: self.tid,
            comm: self.comm.clone().map(|range| &self.bytes[range]),
            values: self.values,
            registers: self.registers,
            stack: self.stack(&self.stack),
            kernel_stack: KernelStack(&self.bytes[self.kernel_stack.clone()]),
            interrupted_stack: self.interrupted_stack.as_ref().map(|stack| self.stack(stack)),
            sections,
            lock: self.lock,
            task: self.task.as_ref().map(|task| Task {
                labels: task.labels,
                registers: task.registers,
                stack: self.stack(&task.stack),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time_ns: u64, tid: u32) -> Event<'static> {
        Event::Sample(RawSample {
            time_ns,
            pid: 1,
            tid,
            comm: Some(b"name"),
            values: Values::of_time(5),
            registers: None,
            stack: StackCopy { start: RuntimeAddr(64), bytes: &[1, 2, 3], capped: true, has_holes: false },
            kernel_stack: KernelStack(&[9; 8]),
            task: Some(Task {
                labels: 7,
                registers: None,
                stack: StackCopy { start: RuntimeAddr(8), bytes: &[4, 5], capped: false, has_holes: false },
            }),
            lock: Some(LockUse { address: 99, as_mutex: true }),
            interrupted_stack: Some(StackCopy {
                start: RuntimeAddr(16),
                bytes: &[6],
                capped: false,
                has_holes: true,
            }),
            sections: Sections::default(),
        })
    }

    /// The source and a word for each event that is handed over.
    fn handed_over(merge: &mut Merge, until_ns: u64) -> Vec<(SourceId, String)> {
        let mut events = Vec::new();
        merge.hand_over(until_ns, &mut |source, event| {
            events.push((
                source,
                match event {
                    Event::Sample(sample) => format!("sample {}", sample.time_ns),
                    Event::Exited { time_ns, .. } => format!("exited {time_ns}"),
                    Event::LostSamples { count } => format!("lost {count}"),
                    other => format!("{other:?}"),
                },
            ));
        });
        events
    }

    #[test]
    fn events_of_two_sources_are_handed_over_in_order_of_time_up_to_a_limit() {
        let mut merge = Merge::default();
        merge.push(1, &sample(10, 1));
        merge.push(1, &Event::LostSamples { count: 3 });
        merge.push(1, &sample(40, 1));
        merge.push(0, &sample(5, 2));
        merge.push(0, &Event::Exited { time_ns: 20, pid: 1, tid: 2 });
        let words = |list: &[(SourceId, &str)]| -> Vec<(SourceId, String)> {
            list.iter().map(|(source, word)| (*source, (*word).to_owned())).collect()
        };
        let first = words(&[(0, "sample 5"), (1, "sample 10"), (1, "lost 3"), (0, "exited 20")]);
        assert_eq!(handed_over(&mut merge, 39), first);
        assert_eq!(handed_over(&mut merge, 39), []);
        assert_eq!(handed_over(&mut merge, u64::MAX), words(&[(1, "sample 40")]));
        assert_eq!(merge.bytes, 0);
    }

    #[test]
    fn a_stored_sample_equals_the_original() {
        let mut merge = Merge::default();
        merge.push(0, &sample(10, 1));
        let mapping = NewMapping {
            start: RuntimeAddr(4096),
            length: 4096,
            file_offset: 1,
            device_major: 2,
            device_minor: 3,
            inode: 4,
            path: b"/lib/x.so",
        };
        merge.push(0, &Event::Mapped { time_ns: 11, pid: 1, mapping });
        let mut stored = Vec::new();
        merge.hand_over(u64::MAX, &mut |_, event| stored.push(format!("{event:?}")));
        let originals =
            [format!("{:?}", sample(10, 1)), format!("{:?}", Event::Mapped { time_ns: 11, pid: 1, mapping })];
        assert_eq!(stored, originals);
    }

    #[test]
    fn so_many_waiting_bytes_are_not_kept_for_the_sake_of_order() {
        let mut merge = Merge::default();
        let bytes = vec![0; MAX_WAITING_BYTES];
        let Event::Sample(large) = sample(50, 1) else { unreachable!() };
        let stack = StackCopy { bytes: &bytes, ..large.stack };
        merge.push(0, &Event::Sample(RawSample { stack, ..large }));
        assert_eq!(handed_over(&mut merge, 1).len(), 1);
    }
}
