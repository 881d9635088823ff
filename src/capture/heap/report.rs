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
    /// Who holds the chunks in use, where that was requested.
    pub holders: Option<Vec<(HeldRow, Amount)>>,
    /// The chunks that nothing holds, where that was requested.
    pub leaks: Option<Leaks>,
}

/// Chunks that have the holder, the type and the size class in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    /// The first holder that reaches them: `global g_cache`, `stack of thread 7`.
    pub holder: String,
    /// The type.
    pub of_type: String,
    /// Whether the program itself names the type.
    pub is_named: bool,
    /// The largest size of the class.
    pub size: u64,
}

/// Chunks that no pass has reached.
#[derive(Clone, Debug, Default)]
pub struct Leaks {
    /// The chunks, in usable bytes.
    pub rows: Vec<(HeldRow, Amount)>,
    /// How many complete passes there were.
    pub passes: u32,
    /// How many chunks the first pass did not reach.
    pub first_pass: u64,
    /// How many chunks could not be examined.
    pub missing: u64,
    /// How long it took.
    pub took: Duration,
}

impl Leaks {
    /// All of it.
    pub fn sum(&self) -> Amount {
        let mut sum = Amount::default();
        self.rows.iter().for_each(|(_, amount)| sum.add(*amount));
        sum
    }
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
