//! Counts equal stacks. A stack is a row of location numbers, a location an address in a placed
//! mapping; both are numbered as they first appear, so that a sample costs a hash lookup a frame and
//! one for the stack.
//!
//! Memory is bounded: beyond [`MAX_STACK_WORDS`] of stored stacks, new ones are counted under one
//! overflow stack. Not here: names, the profile's own tables.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The most words that different stacks may take together: 16 Mi words are 64 MiB.
const MAX_STACK_WORDS: usize = 16 << 20;

/// The most different labels: a program may rename its threads, or make new ones, without end.
const MAX_LABELS: usize = 1 << 16;
/// Of a series of profiles, beyond so many different addresses they are numbered anew: code that is made at
/// run time has new ones without end.
const MAX_PLACES_KEPT: usize = 1 << 20;
/// The thread name of all that come later.
const OTHER_THREADS: &str = "[other threads]";

/// Number of a placed mapping (see `images`).
pub type MappingId = u32;
/// Number of a location.
pub type LocationId = u32;
/// Number of a set of labels.
pub type LabelsId = u32;

/// Where a frame is: an address to be named once, at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub mapping: MappingId,
    /// The address to look up (return addresses less one), as if the mapping lay where it was first
    /// seen.
    pub address: u64,
}

/// What a sample is labelled with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    pub thread: String,
    pub pid: Option<u32>,
    pub tid: Option<u32>,
    /// The process's name, where a profile holds several.
    pub process: Option<String>,
    /// What the program itself has labelled its work with, by key (Go's pprof labels).
    pub own: Option<Arc<Vec<(String, String)>>>,
}

/// How often a stack was seen, and the CPU time that stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub count: u64,
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
    /// The number of a set of labels; beyond [`MAX_LABELS`] all new ones are one.
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

    /// All places, by [`LocationId`].
    pub fn places(&self) -> &[Place] {
        &self.place_list
    }

    pub fn labels_of(&self, id: LabelsId) -> &Labels {
        &self.label_list[id as usize]
    }

    /// The stacks with their weights, heaviest first (equal ones in a fixed order).
    pub fn stacks(&self) -> Vec<(LabelsId, &[LocationId], Weight)> {
        let mut all: Vec<_> = self.stacks.iter().map(|(key, weight)| (key[0], &key[1..], *weight)).collect();
        all.sort_by(|a, b| b.2.amount.cmp(&a.2.amount).then_with(|| (a.0, a.1).cmp(&(b.0, b.1))));
        all
    }

    /// How many different stacks there are.
    pub fn stack_count(&self) -> usize {
        self.stacks.len()
    }

    /// By [`LocationId`]: whether a stack leads through it.
    pub fn used(&self) -> Vec<bool> {
        let mut used = vec![false; self.place_list.len()];
        self.stacks.keys().flat_map(|key| &key[1..]).for_each(|id| used[*id as usize] = true);
        used
    }

    /// Whether so many different addresses or labels have been met that it is time to number them anew.
    pub fn is_crowded(&self) -> bool {
        self.place_list.len() > MAX_PLACES_KEPT || self.label_list.len() > MAX_LABELS / 2
    }

    /// Begins to count anew; places and labels keep their numbers.
    pub fn forget_stacks(&mut self) {
        self.stacks.clear();
        (self.stored_words, self.overflow) = (0, Weight::default());
    }

    /// What found no room as a stack of its own.
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
    fn threads_that_are_renamed_without_end_take_bounded_memory() {
        let mut collector = Collector::default();
        let ids: Vec<_> = (0..MAX_LABELS + 10).map(|n| collector.labels(labels(&n.to_string()))).collect();
        assert_eq!(ids.last(), ids.get(MAX_LABELS));
        assert_eq!(collector.labels_of(ids[MAX_LABELS]).thread, OTHER_THREADS);
        assert_eq!(collector.labels_of(ids[5]).thread, "5");
        assert_eq!(collector.labels(labels("5")), ids[5]);
    }

    #[test]
    fn equal_stacks_are_counted_together_and_labels_keep_them_apart() {
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
