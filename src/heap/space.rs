//! The mappings of a process, ordered, with the module that each belongs to.

use crate::process::Mapping;

/// All mappings of a process at one instant.
#[derive(Clone, Debug, Default)]
pub struct Space {
    mappings: Vec<Mapping>,
    /// For each mapping, the index of the first mapping of its module; itself if it has none.
    modules: Vec<usize>,
}

impl Space {
    /// Orders the mappings. A mapping without a file directly behind the data of a module is its
    /// `.bss`.
    pub fn new(mut mappings: Vec<Mapping>) -> Space {
        mappings.sort_by_key(|mapping| mapping.start);
        let mut modules: Vec<usize> = (0..mappings.len()).collect();
        for at in 1..mappings.len() {
            let (before, here) = (&mappings[at - 1], &mappings[at]);
            let is_bss = here.path.is_empty() && here.writable && before.writable && before.end == here.start;
            let is_same = is_module(here) && before.path == here.path;
            let is_part = is_module(&mappings[modules[at - 1]]) && (is_same || is_bss);
            if is_part {
                modules[at] = modules[at - 1];
            }
        }
        Space { mappings, modules }
    }

    /// All mappings, in ascending order.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// The mapping that holds this address.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        self.index(address).map(|at| &self.mappings[at])
    }

    fn index(&self, address: u64) -> Option<usize> {
        let at = self.mappings.partition_point(|mapping| mapping.start.0 <= address).checked_sub(1)?;
        (address < self.mappings[at].end.0).then_some(at)
    }

    /// The module whose code or data holds this address: its first mapping.
    pub fn module(&self, address: u64) -> Option<&Mapping> {
        let first = &self.mappings[self.modules[self.index(address)?]];
        is_module(first).then_some(first)
    }

    /// The readable and writable mappings of modules (`.data` and `.bss`), each with the first
    /// mapping of its module.
    pub fn module_data(&self) -> impl Iterator<Item = (&Mapping, &Mapping)> {
        let pairs = self.mappings.iter().zip(self.modules.iter().map(|first| &self.mappings[*first]));
        pairs.filter(|(mapping, first)| mapping.readable && mapping.writable && is_module(first))
    }

    /// The readable and writable mappings without a file that are no module's: heaps, stacks, and
    /// what programs map themselves.
    pub fn anonymous(&self) -> impl Iterator<Item = &Mapping> {
        let pairs = self.mappings.iter().zip(self.modules.iter().map(|first| &self.mappings[*first]));
        pairs
            .filter(|(mapping, first)| {
                mapping.readable && mapping.writable && mapping.inode == 0 && !is_module(first)
            })
            .map(|(mapping, _)| mapping)
    }

    /// Whether `address` is in writable memory and aligned to 16 bytes, as chunks are.
    pub fn may_be_chunk(&self, address: u64) -> bool {
        address & 15 == 0 && self.find(address).is_some_and(|mapping| mapping.writable)
    }
}

/// A file that is mapped, other than one of /dev or a memfd.
fn is_module(mapping: &Mapping) -> bool {
    mapping.path.starts_with('/')
        && mapping.inode != 0
        && !mapping.path.starts_with("/dev/")
        && !mapping.path.starts_with("/memfd:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::maps;

    #[test]
    fn the_bss_of_a_module_belongs_to_it_and_the_heap_does_not() {
        let space = Space::new(maps::parse(
            b"1000-2000 r-xp 0 fe:0 5 /bin/x\n2000-3000 rw-p 1000 fe:0 5 /bin/x\n3000-4000 rw-p 0 0:0 0 \n\
              4000-9000 rw-p 0 0:0 0 [heap]\na000-b000 rw-p 0 0:0 0 \n",
        ));
        assert_eq!(space.module(0x3800).map(|module| module.start.0), Some(0x1000));
        assert_eq!(space.module(0x4000), None);
        assert_eq!(space.find(0x9000), None);
        let data: Vec<u64> = space.module_data().map(|(mapping, _)| mapping.start.0).collect();
        assert_eq!(data, [0x2000, 0x3000]);
        let anonymous: Vec<u64> = space.anonymous().map(|mapping| mapping.start.0).collect();
        assert_eq!(anonymous, [0x4000, 0xa000]);
        assert!(space.may_be_chunk(0x4010) && !space.may_be_chunk(0x4018) && !space.may_be_chunk(0x1010));
    }
}
