//! What a census consists of.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use crate::{
    heap::{Amount, Certainty, Coverage, Row, State, TypeName},
    process::Identity,
};

/// A census of a process.
#[derive(Clone, Debug)]
pub struct HeapReport {
    /// The process.
    pub identity: Identity,
    /// Its allocators.
    pub heaps: Vec<AllocatorReport>,
    /// When it was taken.
    pub taken_at: SystemTime,
    /// How long it took.
    pub took: Duration,
}

/// The chunks of one allocator.
#[derive(Clone, Debug)]
pub struct AllocatorReport {
    /// The allocator and its release.
    pub name: String,
    /// The names of the arenas, by number.
    pub arenas: BTreeMap<u32, String>,
    /// The chunks.
    pub rows: BTreeMap<Row, Amount>,
    /// The types, by number.
    pub types: Vec<TypeName>,
    /// How complete the census is.
    pub coverage: Coverage,
}

impl AllocatorReport {
    /// The sum of the rows that `is_wanted`.
    pub fn sum(&self, is_wanted: impl Fn(&Row) -> bool) -> Amount {
        let mut sum = Amount::default();
        self.rows.iter().filter(|(row, _)| is_wanted(row)).for_each(|(_, amount)| sum.add(*amount));
        sum
    }

    /// What the program uses.
    pub fn in_use(&self) -> Amount {
        self.sum(|row| row.state.is_in_use())
    }

    /// The chunks in one state.
    pub fn in_state(&self, state: State) -> Amount {
        self.sum(|row| row.state == state)
    }

    /// The sums of the used chunks by what `key` returns.
    pub fn used_by<K: Ord>(&self, key: impl Fn(&Row) -> K) -> BTreeMap<K, Amount> {
        let mut sums = BTreeMap::<K, Amount>::new();
        for (row, amount) in self.rows.iter().filter(|(row, _)| row.state.is_in_use()) {
            sums.entry(key(row)).or_default().add(*amount);
        }
        sums
    }

    /// The type of a row.
    pub fn type_of(&self, row: &Row) -> &TypeName {
        &self.types[row.of_type as usize]
    }

    /// The bytes in use whose type is this certain.
    pub fn certain(&self, certainty: Certainty) -> u64 {
        self.sum(|row| row.state.is_in_use() && self.type_of(row).certainty == certainty).bytes
    }
}
