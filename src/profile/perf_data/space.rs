//! Finds the mapping of an address in a process, as mappings come and go.
//!
//! Not here: the mapped files.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use crate::profile::MappingId;

/// Represents the kernel in place of a process ID.
pub(super) const KERNEL: u32 = u32::MAX;

/// Most mappings that processes may inherit from each other, in total; about a hundred bytes each.
const MAX_INHERITED: usize = 4 << 20;

/// By start address: the end and the value.
type Space = BTreeMap<u64, (u64, MappingId)>;

/// The address spaces of all processes. A process and its children share one until one of them maps
/// something.
#[derive(Default)]
pub(super) struct Spaces {
    by_pid: HashMap<u32, Rc<Space>>,
    inherited: usize,
}

impl Spaces {
    /// Adds a mapping, replacing the ones it overlaps.
    pub fn map(&mut self, pid: u32, start: u64, limit: u64, mapping: MappingId) -> Result<(), String> {
        if start >= limit {
            return Ok(());
        }
        let space = self.by_pid.entry(pid).or_default();
        if Rc::strong_count(space) > 1 {
            self.inherited += space.len();
            if self.inherited > MAX_INHERITED {
                return Err(format!("processes inherit more than {MAX_INHERITED} mappings from each other"));
            }
        }
        let space = Rc::make_mut(space);
        if let Some((_, (end, before))) = space.range_mut(..start).next_back()
            && *end > start
        {
            let (old_end, before) = (std::mem::replace(end, start), *before);
            if old_end > limit {
                space.insert(limit, (old_end, before));
            }
        }
        while let Some((covered, (end, other))) = space.range(start..limit).next().map(|(at, of)| (*at, *of))
        {
            space.remove(&covered);
            if end > limit {
                space.insert(limit, (end, other));
            }
        }
        space.insert(start, (limit, mapping));
        Ok(())
    }

    /// A process has executed another program.
    pub fn forget(&mut self, pid: u32) {
        self.by_pid.remove(&pid);
    }

    /// A process begins as a copy of another.
    pub fn copy(&mut self, parent: u32, child: u32) {
        if let Some(space) = self.by_pid.get(&parent).cloned() {
            self.by_pid.insert(child, space);
        }
    }

    /// The mapping that contains an address.
    pub fn at(&self, pid: u32, address: u64) -> Option<MappingId> {
        let (_, (limit, mapping)) = self.by_pid.get(&pid)?.range(..=address).next_back()?;
        (address < *limit).then_some(*mapping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, MappingSpec};

    #[test]
    fn a_new_mapping_replaces_the_ones_it_overlaps() {
        let mut builder = Builder::new(&[]);
        let [old, new] = ["old", "new"]
            .map(|filename| builder.mapping(&MappingSpec { filename, ..MappingSpec::default() }));
        let mut spaces = Spaces::default();
        spaces.map(1, 0x1000, 0x9000, old).unwrap();
        spaces.copy(1, 2);
        spaces.map(1, 0x3000, 0x4000, new).unwrap();
        let at = |pid| [0xfff, 0x1000, 0x2fff, 0x3000, 0x4000, 0x9000].map(|at| spaces.at(pid, at));
        assert_eq!(at(1), [None, Some(old), Some(old), Some(new), Some(old), None]);
        assert_eq!(at(2), [None, Some(old), Some(old), Some(old), Some(old), None]);
        spaces.forget(1);
        assert_eq!(spaces.at(1, 0x3000), None);
    }

    #[test]
    fn the_number_of_inherited_mappings_is_limited() {
        let mut builder = Builder::new(&[]);
        let mapping = builder.mapping(&MappingSpec::default());
        let mut spaces = Spaces::default();
        for at in 0..5000 {
            spaces.map(0, at * 2, at * 2 + 1, mapping).unwrap();
        }
        let fork = |spaces: &mut Spaces, pid| {
            spaces.copy(pid, pid + 1);
            spaces.map(pid + 1, u64::MAX - 1, u64::MAX, mapping)
        };
        assert!((0..2000).any(|pid| fork(&mut spaces, pid).is_err()));
    }
}
