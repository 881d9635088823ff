//! Counts equal stacks. A stack is a list of location numbers; a location is an address in a placed
//! mapping. Both are numbered in order of appearance, so that a sample costs one hash lookup per
//! frame and one for the stack.
//!
//! Memory is bounded: beyond [`MAX_STACK_WORDS`] of stored stacks, new ones are counted as one
//! overflow stack. Not here: names, the tables of the profile.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Limit of the words that distinct stacks may take together: 16 Mi words are 64 MiB.
const MAX_STACK_WORDS: usize = 16 << 20;

/// Limit of distinct label sets: a program may rename or create threads without end.
const MAX_LABELS: usize = 1 << 16;
/// In a series of profiles, numbering restarts beyond this many distinct addresses, because JIT
/// code has new addresses without end.
const MAX_PLACES_KEPT: usize = 1 << 20;
/// The thread name of label sets beyond [`MAX_LABELS`].
const OTHER_THREADS: &str = "[other threads]";

/// Number of a placed mapping (see `images`).
pub type MappingId = u32;
/// Number of a location.
pub type LocationId = u32;
/// Number of a set of labels.
pub type LabelsId = u32;

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
}

/// How often a stack was sampled, and what these samples are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Number of samples (or waits).
    pub count: u64,
    /// Nanoseconds or page faults, by the kind of profile.
    pub amount: u64,
}

/// The counted stacks of a capture.
#[derive(Debug, Default)]
pub struct Collector {
    places: FxHashMap<Place, LocationId>,
    place_list: Vec<Place>,
    labels: FxHashMap<Labels, LabelsId>,
    label_list: Vec<Labels>,
    /// Key: labels, then locations leaf first.
    stacks: FxHashMap<Box<[u32]>, Weight>,
    stored_words: usize,
    overflow: Weight,
    scratch: Vec<u32>,
}

impl Collector {
    /// The number of a label set; beyond [`MAX_LABELS`], all new sets share one number.
    pub fn labels(&mut self, labels: Labels) -> LabelsId {
        let full = self.label_list.len() >= MAX_LABELS && !self.labels.contains_key(&labels);
        let labels = if full {
            let process = labels.process;
            Labels { thread: OTHER_THREADS.into(), pid: None, tid: None, process, own: None }
        } else {
            labels
        };
        let next = self.label_list.len() as LabelsId;
        *self.labels.entry(labels).or_insert_with_key(|labels| {
            self.label_list.push(labels.clone());
            next
        })
    }

    /// Counts one sample; `places` leaf first.
    pub fn add(&mut self, labels: LabelsId, places: impl Iterator<Item = Place>, weight: Weight) {
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
        if let Some(known) = self.stacks.get_mut(&self.scratch[..]) {
            known.add(weight);
        } else if self.stored_words + self.scratch.len() > MAX_STACK_WORDS {
            self.overflow.add(weight);
        } else {
            self.stored_words += self.scratch.len();
            self.stacks.insert(self.scratch.clone().into_boxed_slice(), weight);
        }
    }

    /// All places, indexed by [`LocationId`].
    pub fn places(&self) -> &[Place] {
        &self.place_list
    }

    /// The label set with this number.
    pub fn labels_of(&self, id: LabelsId) -> &Labels {
        &self.label_list[id as usize]
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

    /// Whether a stack contains the location, indexed by [`LocationId`].
    pub fn used(&self) -> Vec<bool> {
        let mut used = vec![false; self.place_list.len()];
        self.stacks.keys().flat_map(|key| &key[1..]).for_each(|id| used[*id as usize] = true);
        used
    }

    /// Whether there are so many distinct addresses or labels that numbering should restart.
    pub fn is_crowded(&self) -> bool {
        self.place_list.len() > MAX_PLACES_KEPT || self.label_list.len() > MAX_LABELS / 2
    }

    /// Clears all counts; places and labels keep their numbers.
    pub fn forget_stacks(&mut self) {
        self.stacks.clear();
        (self.stored_words, self.overflow) = (0, Weight::default());
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
        Labels { thread: thread.into(), pid: None, tid: None, process: None, own: None }
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
        collector.add(a, [place(1), place(2)].into_iter(), one);
        collector.add(a, [place(1), place(2)].into_iter(), one);
        collector.add(b, [place(1), place(2)].into_iter(), one);
        let stacks = collector.stacks();
        assert_eq!(stacks.len(), 2);
        assert_eq!(stacks[0], (a, &[0, 1][..], Weight { count: 2, amount: 20 }));
        assert_eq!(collector.places(), [place(1), place(2)]);
        assert_eq!(collector.labels(labels("a")), a);
    }
}
