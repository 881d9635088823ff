//! Finds the mapping, function or location with a given ID.
//!
//! Not here: the entries; this returns their positions.

use std::collections::HashMap;

/// Maps IDs to positions of entries. IDs are mostly dense from 1, which makes this a plain table;
/// others are hashed so that chosen IDs cannot make it slow.
#[derive(Debug)]
pub struct IdIndex(Table);

#[derive(Debug)]
enum Table {
    /// Position + 1 by ID; 0: no such ID.
    Dense(Vec<u32>),
    Sparse(HashMap<u64, u32>),
}

impl IdIndex {
    /// Builds the index of `ids`, in table order. Also returns the first repeated ID as (position,
    /// ID). Of entries with the same ID, the first is found.
    pub fn new(ids: impl Iterator<Item = u64> + Clone) -> (IdIndex, Option<(usize, u64)>) {
        let (count, largest) =
            ids.clone().fold((0u64, 0), |(count, largest), id| (count + 1, id.max(largest)));
        let mut table = if largest <= count * 2 + 1024 {
            Table::Dense(vec![0; largest as usize + 1])
        } else {
            Table::Sparse(HashMap::with_capacity(count as usize))
        };
        let mut repeated = None;
        for (position, id) in ids.enumerate() {
            if !table.insert(id, position) && repeated.is_none() {
                repeated = Some((position, id));
            }
        }
        (IdIndex(table), repeated)
    }

    /// The position of the entry with `id`.
    pub fn position(&self, id: u64) -> Option<usize> {
        match &self.0 {
            Table::Dense(positions) => {
                let stored = usize::try_from(id).ok().and_then(|id| positions.get(id))?;
                stored.checked_sub(1).map(|position| position as usize)
            }
            Table::Sparse(positions) => positions.get(&id).map(|position| *position as usize),
        }
    }

    /// Whether an entry has this id.
    pub fn contains(&self, id: u64) -> bool {
        self.position(id).is_some()
    }
}

impl Table {
    /// Records `id`, unless it is already there. Positions beyond 32 bits do not occur: entries
    /// take more than one byte each.
    fn insert(&mut self, id: u64, position: usize) -> bool {
        match self {
            Table::Dense(positions) => {
                let stored = &mut positions[id as usize];
                let new = *stored == 0;
                if new {
                    *stored = position as u32 + 1;
                }
                new
            }
            Table::Sparse(positions) => {
                let new = !positions.contains_key(&id);
                positions.entry(id).or_insert(position as u32);
                new
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_and_scattered_ids_are_found_alike() {
        for ids in [[1, 2, 3], [7, u64::MAX, 1 << 40]] {
            let (index, repeated) = IdIndex::new(ids.into_iter());
            assert_eq!(repeated, None);
            assert_eq!(ids.map(|id| index.position(id)), [Some(0), Some(1), Some(2)]);
            assert!(![0, 4, 1 << 41].iter().any(|id| index.contains(*id)));
        }
    }

    #[test]
    fn the_first_entry_with_a_repeated_id_is_found() {
        for ids in [[5, 6, 5], [u64::MAX, 6, u64::MAX]] {
            let (index, repeated) = IdIndex::new(ids.into_iter());
            assert_eq!(repeated, Some((2, ids[0])));
            assert_eq!(index.position(ids[0]), Some(0));
        }
    }
}
