//! Counts equal stacks. A stack is a list of location numbers; a location is an address in a placed
//! mapping. Both are numbered in order of appearance, so that a sample costs one hash lookup per
//! frame and one for the stack.
//!
//! Places and labels are numbered once for all sources of samples; each source has counts of its
//! own. Memory is bounded: beyond [`MAX_STACK_WORDS`] of stored stacks, new ones of a source are
//! counted as one overflow stack. Not here: names, the tables of the profile.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use rustc_hash::FxHashMap;

/// Limit of the words that the distinct stacks of a source may take: 16 Mi words are 64 MiB.
const MAX_STACK_WORDS: usize = 16 << 20;

/// Limit of distinct label sets: a program may rename or create threads without end.
const MAX_LABELS: usize = 1 << 16;
/// The thread name of label sets beyond [`MAX_LABELS`].
const OTHER_THREADS: &str = "[other threads]";

/// Number of a placed mapping (see `images`).
pub type MappingId = u32;
/// Number of a location.
pub type LocationId = u32;
/// Number of a set of labels.
pub type LabelsId = u32;
/// Number of a source of samples in its session.
pub type SourceId = usize;

/// The source of what has only one.
pub const ONLY: SourceId = 0;

/// Where a frame is: an address that is symbolized once, at the end; or, in the placement of a
/// language, the number of one of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The mapping that holds the address.
    pub mapping: MappingId,
    /// The address to look up (a return address minus one), as if the mapping were at the address
    /// of its first placement.
    pub address: u64,
}

/// The labels of a sample.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// The thread's name.
    pub thread: String,
    /// The process's number, where requested.
    pub pid: Option<u32>,
    /// The thread's number, where requested.
    pub tid: Option<u32>,
    /// The process's name, where a profile holds several.
    pub process: Option<String>,
    /// Labels that the program has set itself, as key and value (pprof labels in Go).
    pub own: Option<Arc<Vec<(String, String)>>>,
    /// The lock that the thread waited for or released.
    pub lock: Option<Lock>,
}

/// A lock of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lock {
    /// The process's number.
    pub pid: u32,
    /// The address of its futex.
    pub address: u64,
    /// Whether the thread waited as threads wait for a mutex: after pthread_cond_wait(3) was woken,
    /// it takes its mutex again.
    pub as_mutex: bool,
}

/// How often a stack was sampled, and what these samples are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Number of samples (or waits).
    pub count: u64,
    /// Nanoseconds or page faults, by the kind of profile.
    pub amount: u64,
}

/// The counted stacks of a window.
#[derive(Debug, Default)]
pub struct Collector {
    places: FxHashMap<Place, LocationId>,
    place_list: Vec<Place>,
    labels: FxHashMap<Labels, LabelsId>,
    label_list: Vec<Labels>,
    /// By [`SourceId`].
    counts: Vec<Counts>,
    /// No further stacks are stored: memory is short.
    is_full: bool,
    scratch: Vec<u32>,
}

/// The counted stacks of one source.
#[derive(Debug, Default)]
pub struct Counts {
    /// Key: labels, then locations leaf first.
    stacks: FxHashMap<Box<[u32]>, Weight>,
    stored_words: usize,
    overflow: Weight,
}

/// What is returned for a source without samples.
static NO_COUNTS: LazyLock<Counts> = LazyLock::new(Counts::default);

impl Collector {
    /// The number of a label set; beyond [`MAX_LABELS`], all new sets share one number.
    pub fn labels(&mut self, labels: Labels) -> LabelsId {
        let full = self.label_list.len() >= MAX_LABELS && !self.labels.contains_key(&labels);
        let labels = if full {
            let process = labels.process;
            let thread = OTHER_THREADS.into();
            Labels { thread, pid: None, tid: None, process, own: None, lock: None }
        } else {
            labels
        };
        let next = self.label_list.len() as LabelsId;
        *self.labels.entry(labels).or_insert_with_key(|labels| {
            self.label_list.push(labels.clone());
            next
        })
    }

    /// Counts one sample of a source; `places` leaf first.
    pub fn add(
        &mut self,
        source: SourceId,
        labels: LabelsId,
        places: impl Iterator<Item = Place>,
        weight: Weight,
    ) {
        self.scratch.clear();
        self.scratch.push(labels);
        for place in places {
            let next = self.place_list.len() as LocationId;
            let id = *self.places.entry(place).or_insert_with(|| {
                self.place_list.push(place);
                next
            });
            self.scratch.push(id);
        }
        if self.counts.len() <= source {
            self.counts.resize_with(source + 1, Counts::default);
        }
        self.counts[source].add(&self.scratch, weight, self.is_full);
    }

    /// From now on, new stacks are counted as overflow: memory is short.
    pub fn store_no_more(&mut self) {
        self.is_full = true;
    }

    /// The counts of a source.
    pub fn counts(&self, source: SourceId) -> &Counts {
        self.counts.get(source).unwrap_or(&NO_COUNTS)
    }

    /// The locks of the label sets, in order.
    pub fn locks(&self) -> BTreeSet<Lock> {
        self.label_list.iter().filter_map(|labels| labels.lock).collect()
    }

    /// All places, indexed by [`LocationId`].
    pub fn places(&self) -> &[Place] {
        &self.place_list
    }

    /// The label set with this number.
    pub fn labels_of(&self, id: LabelsId) -> &Labels {
        &self.label_list[id as usize]
    }

    /// About how many bytes all of it takes.
    pub fn memory_bytes(&self) -> usize {
        const PLACE_BYTES: usize = 2 * size_of::<(Place, LocationId)>() + size_of::<Place>();
        const LABELS_BYTES: usize = 3 * size_of::<Labels>() + 64;
        self.place_list.capacity() * PLACE_BYTES
            + self.label_list.capacity() * LABELS_BYTES
            + self.counts.iter().map(Counts::memory_bytes).sum::<usize>()
    }
}

impl Counts {
    fn add(&mut self, stack: &[u32], weight: Weight, is_full: bool) {
        if let Some(known) = self.stacks.get_mut(stack) {
            known.add(weight);
        } else if is_full || self.stored_words + stack.len() > MAX_STACK_WORDS {
            self.overflow.add(weight);
        } else {
            self.stored_words += stack.len();
            self.stacks.insert(stack.into(), weight);
        }
    }

    fn memory_bytes(&self) -> usize {
        const ENTRY_BYTES: usize = size_of::<(Box<[u32]>, Weight)>() + 16;
        self.stacks.capacity() * ENTRY_BYTES + self.stored_words * size_of::<u32>()
    }

    /// The stacks with their weights, heaviest first (equal ones in a fixed order).
    pub fn stacks(&self) -> Vec<(LabelsId, &[LocationId], Weight)> {
        let mut all: Vec<_> = self.stacks.iter().map(|(key, weight)| (key[0], &key[1..], *weight)).collect();
        all.sort_by(|a, b| b.2.amount.cmp(&a.2.amount).then_with(|| (a.0, a.1).cmp(&(b.0, b.1))));
        all
    }

    /// The number of distinct stacks.
    pub fn stack_count(&self) -> usize {
        self.stacks.len()
    }

    /// Whether a stack contains the location, indexed by [`LocationId`]; there are `locations`.
    pub fn used(&self, locations: usize) -> Vec<bool> {
        let mut used = vec![false; locations];
        self.stacks.keys().flat_map(|key| &key[1..]).for_each(|id| used[*id as usize] = true);
        used
    }

    /// The weight of the stacks beyond [`MAX_STACK_WORDS`].
    pub fn overflow(&self) -> Weight {
        self.overflow
    }
}

impl Weight {
    fn add(&mut self, other: Weight) {
        self.count += other.count;
        self.amount += other.amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(thread: &str) -> Labels {
        Labels { thread: thread.into(), pid: None, tid: None, process: None, own: None, lock: None }
    }

    #[test]
    fn threads_renamed_without_end_use_bounded_memory() {
        let mut collector = Collector::default();
        let ids: Vec<_> = (0..MAX_LABELS + 10).map(|n| collector.labels(labels(&n.to_string()))).collect();
        assert_eq!(ids.last(), ids.get(MAX_LABELS));
        assert_eq!(collector.labels_of(ids[MAX_LABELS]).thread, OTHER_THREADS);
        assert_eq!(collector.labels_of(ids[5]).thread, "5");
        assert_eq!(collector.labels(labels("5")), ids[5]);
    }

    #[test]
    fn equal_stacks_with_equal_labels_are_counted_together() {
        let mut collector = Collector::default();
        let (a, b) = (collector.labels(labels("a")), collector.labels(labels("b")));
        let place = |address| Place { mapping: 1, address };
        let one = Weight { count: 1, amount: 10 };
        collector.add(ONLY, a, [place(1), place(2)].into_iter(), one);
        collector.add(ONLY, a, [place(1), place(2)].into_iter(), one);
        collector.add(ONLY, b, [place(1), place(2)].into_iter(), one);
        let stacks = collector.counts(ONLY).stacks();
        assert_eq!(stacks.len(), 2);
        assert_eq!(stacks[0], (a, &[0, 1][..], Weight { count: 2, amount: 20 }));
        assert_eq!(collector.places(), [place(1), place(2)]);
        assert_eq!(collector.labels(labels("a")), a);
    }

    #[test]
    fn sources_share_places_and_labels_and_count_for_themselves() {
        let mut collector = Collector::default();
        let a = collector.labels(labels("a"));
        let place = |address| Place { mapping: 1, address };
        let weight = |amount| Weight { count: 1, amount };
        collector.add(0, a, [place(1), place(2)].into_iter(), weight(10));
        collector.add(2, a, [place(2), place(3)].into_iter(), weight(7));
        assert_eq!(collector.places(), [place(1), place(2), place(3)]);
        assert_eq!(collector.counts(0).stacks(), [(a, &[0, 1][..], weight(10))]);
        assert_eq!(collector.counts(1).stack_count(), 0);
        assert_eq!(collector.counts(2).stacks(), [(a, &[1, 2][..], weight(7))]);
        assert_eq!(collector.counts(2).used(3), [false, true, true]);
    }

    #[test]
    fn when_memory_is_short_known_stacks_are_counted_and_new_ones_overflow() {
        let mut collector = Collector::default();
        let a = collector.labels(labels("a"));
        let (place, one) = (|address| Place { mapping: 1, address }, Weight { count: 1, amount: 10 });
        collector.add(ONLY, a, [place(1)].into_iter(), one);
        collector.store_no_more();
        collector.add(ONLY, a, [place(1)].into_iter(), one);
        collector.add(ONLY, a, [place(2)].into_iter(), one);
        assert_eq!(collector.counts(ONLY).stacks(), [(a, &[0][..], Weight { count: 2, amount: 20 })]);
        assert_eq!(collector.counts(ONLY).overflow(), one);
    }
}
