//! IDs of a file to rows: arrays where IDs are dense, as they mostly are, and maps for the others.
//! Memory is proportional to the number of entries, whatever their IDs.
//!
//! Not here: the entries.

use hashbrown::{HashMap, HashSet};

use super::NONE;

/// Whether the IDs are 1, 2, 3 …, as most programs write them.
pub(super) fn are_in_order(ids: impl Iterator<Item = u64>) -> bool {
    ids.zip(1..).all(|(id, place)| id == place)
}

/// Row numbers by ID. If an ID occurs twice, the later row is used.
pub(super) struct Rows {
    /// Number of IDs, if they are 1, 2, 3 …; then no lookup is needed.
    in_order: Option<u32>,
    dense: Vec<u32>,
    sparse: HashMap<u64, u32>,
}

impl Rows {
    pub(super) fn new(ids: impl ExactSizeIterator<Item = u64> + Clone) -> Rows {
        if are_in_order(ids.clone()) {
            return Rows { in_order: Some(ids.len() as u32), dense: Vec::new(), sparse: HashMap::new() };
        }
        let mut rows = Rows { in_order: None, dense: vec![NONE; ids.len() + 1], sparse: HashMap::new() };
        for (row, id) in ids.enumerate() {
            match usize::try_from(id).ok().and_then(|id| rows.dense.get_mut(id)) {
                Some(slot) => *slot = row as u32,
                None => drop(rows.sparse.insert(id, row as u32)),
            }
        }
        rows
    }

    #[inline]
    fn get(&self, id: u64) -> u32 {
        if let Some(count) = self.in_order {
            return if id.wrapping_sub(1) < u64::from(count) { id as u32 - 1 } else { NONE };
        }
        match self.dense.get(id as usize) {
            Some(row) => *row,
            None => self.sparse.get(&id).copied().unwrap_or(NONE),
        }
    }
}

/// IDs in 32 bits, until their rows are known.
#[derive(Default)]
pub(super) struct References {
    /// IDs that do not fit; they are stored as [`References::BIG`] plus their position here.
    big: Vec<u64>,
    known: HashMap<u64, u32>,
}

impl References {
    const BIG: u32 = 1 << 31;

    /// A number that represents `id`.
    #[inline]
    pub(super) fn keep(&mut self, id: u64) -> u32 {
        if id < u64::from(Self::BIG) { id as u32 } else { self.keep_big(id) }
    }

    #[cold]
    fn keep_big(&mut self, id: u64) -> u32 {
        let next = Self::BIG + self.big.len() as u32;
        let kept = *self.known.entry(id).or_insert(next);
        if kept == next {
            self.big.push(id);
        }
        kept
    }

    /// The row of the ID that `kept` represents, or [`NONE`].
    #[inline]
    pub(super) fn row(&self, kept: u32, rows: &Rows) -> u32 {
        if kept < Self::BIG { rows.get(kept.into()) } else { rows.get(self.big[(kept - Self::BIG) as usize]) }
    }

    /// Like [`References::row`], but the ID 0 means "none" even if an entry has it.
    #[inline]
    pub(super) fn row_of_named(&self, kept: u32, rows: &Rows) -> u32 {
        if kept == 0 { NONE } else { self.row(kept, rows) }
    }
}

/// The IDs seen so far.
pub(super) struct Distinct {
    dense: Vec<bool>,
    sparse: HashSet<u64>,
}

impl Distinct {
    /// Reserves space for about `count` IDs.
    pub(super) fn new(count: usize) -> Distinct {
        Distinct { dense: vec![false; count + 1], sparse: HashSet::new() }
    }

    /// Records `id`; returns whether it is new.
    pub(super) fn insert(&mut self, id: u64) -> bool {
        match usize::try_from(id).ok().and_then(|id| self.dense.get_mut(id)) {
            Some(slot) => !std::mem::replace(slot, true),
            None => self.sparse.insert(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_any_size_map_to_their_rows() {
        let ids = [1, 1 << 60, 3, u64::from(u32::MAX)];
        let rows = Rows::new(ids.into_iter());
        let mut references = References::default();
        let kept = ids.map(|id| references.keep(id));
        assert_eq!(kept.map(|kept| references.row(kept, &rows)), [0, 1, 2, 3]);
        assert_eq!(references.keep(1 << 60), kept[1]);
        let (unknown, big_unknown) = (references.keep(2), references.keep(1 << 61));
        assert_eq!([unknown, big_unknown].map(|kept| references.row(kept, &rows)), [NONE, NONE]);
    }

    #[test]
    fn dense_ids_map_to_their_rows_and_others_to_none() {
        let rows = Rows::new([1, 2, 3].into_iter());
        assert_eq!([0, 1, 3, 4, 1 << 40].map(|id| rows.get(id)), [NONE, 0, 2, NONE, NONE]);
        assert!(!are_in_order([1, 3, 2].into_iter()) && are_in_order([].into_iter()));
    }

    #[test]
    fn an_id_is_new_once() {
        let mut seen = Distinct::new(2);
        assert_eq!([1, 1, 1 << 40, 1 << 40, 2].map(|id| seen.insert(id)), [true, false, true, false, true]);
    }
}
