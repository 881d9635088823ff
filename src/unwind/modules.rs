//! The executable mappings of a process, as unwinding uses them: sorted ranges, each with its load
//! bias and the tables of the mapped file, if any.
//!
//! Not here: reading /proc/PID/maps, opening files.

use std::sync::Arc;

use super::{Code, UnwindTables, code::MappedCode};
use crate::addr::{ElfAddr, RuntimeAddr};

/// An executable mapping.
#[derive(Clone, Debug)]
pub struct Module {
    /// First address.
    pub start: RuntimeAddr,
    /// The address after the last.
    pub end: RuntimeAddr,
    /// Run-time address = ELF address + bias, wrapping.
    pub bias: u64,
    /// The tables of the mapped file; `None` for anonymous memory (code generated at run time) and
    /// for files that could not be read.
    pub tables: Option<Arc<UnwindTables>>,
    /// The code of a language's runtime, if one generated or copied what is mapped here. It is
    /// asked before the file's own tables.
    pub code: Option<Arc<dyn Code>>,
    /// The caller's number for this mapping; frames carry it.
    pub id: u32,
}

impl Module {
    /// Whether `addr` is in the mapping.
    pub fn contains(&self, addr: RuntimeAddr) -> bool {
        self.start <= addr && addr < self.end
    }

    /// The ELF address of `addr` in the mapped file.
    pub fn elf_addr(&self, addr: RuntimeAddr) -> ElfAddr {
        ElfAddr(addr.0.wrapping_sub(self.bias))
    }

    /// The inverse of [`Module::elf_addr`].
    pub fn runtime_addr(&self, addr: ElfAddr) -> RuntimeAddr {
        RuntimeAddr(addr.0.wrapping_add(self.bias))
    }

    /// Up to `count` bytes of the file immediately before `addr`; fewer at the start of the
    /// mapping.
    pub(super) fn code_before(&self, addr: RuntimeAddr, count: u64) -> Option<&[u8]> {
        let start = RuntimeAddr(addr.0.saturating_sub(count).max(self.start.0));
        let length = usize::try_from(addr.0.checked_sub(start.0)?).ok()?;
        self.code_from(start)?.get(..length)
    }
}

impl MappedCode for Module {
    fn id(&self) -> u32 {
        self.id
    }

    fn elf_addr(&self, addr: RuntimeAddr) -> ElfAddr {
        Module::elf_addr(self, addr)
    }

    fn code_from(&self, addr: RuntimeAddr) -> Option<&[u8]> {
        if !self.contains(addr) {
            return None;
        }
        let bytes = self.tables.as_ref()?.elf().bytes_from(self.elf_addr(addr))?;
        let room = usize::try_from(self.end.0 - addr.0).unwrap_or(usize::MAX);
        Some(&bytes[..bytes.len().min(room)])
    }
}

/// The executable mappings of one process: sorted, without overlaps.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    sorted: Vec<Module>,
}

impl Modules {
    /// Sorts the mappings; where two overlap, the later one in `modules` replaces the earlier, as
    /// with mmap(2).
    pub fn new(modules: Vec<Module>) -> Modules {
        let mut all = Modules::default();
        modules.into_iter().for_each(|module| all.insert(module));
        all
    }

    /// Adds a mapping and removes its range from existing ones, like mmap(2). An empty range is
    /// ignored.
    pub fn insert(&mut self, module: Module) {
        if module.start >= module.end {
            return;
        }
        self.remove(module.start, module.end);
        let at = self.sorted.partition_point(|other| other.start < module.start);
        self.sorted.insert(at, module);
    }

    /// Removes a range, like munmap(2): modules inside it are removed, those that overlap it are
    /// shortened.
    pub fn remove(&mut self, start: RuntimeAddr, end: RuntimeAddr) {
        let first = self.sorted.partition_point(|module| module.end <= start);
        let last = first + self.sorted[first..].partition_point(|module| module.start < end);
        let mut rest = Vec::new();
        for module in &self.sorted[first..last] {
            if module.start < start {
                rest.push(Module { end: start, ..module.clone() });
            }
            if module.end > end {
                rest.push(Module { start: end, ..module.clone() });
            }
        }
        self.sorted.splice(first..last, rest);
    }

    /// Sets the runtime's code of the mappings that have none.
    pub fn claim(&mut self, mut owner: impl FnMut(&Module) -> Option<Arc<dyn Code>>) {
        for module in self.sorted.iter_mut().filter(|module| module.code.is_none()) {
            module.code = owner(module);
        }
    }

    /// Removes the runtimes' code: the mappings are another process's now.
    pub fn disown(&mut self) {
        self.sorted.iter_mut().for_each(|module| module.code = None);
    }

    /// Removes the mappings that `keep` refuses.
    pub fn retain(&mut self, keep: impl FnMut(&Module) -> bool) {
        self.sorted.retain(keep);
    }

    /// The mappings, sorted by address.
    pub fn as_slice(&self) -> &[Module] {
        &self.sorted
    }

    /// The module that contains `addr`.
    pub fn find(&self, addr: RuntimeAddr) -> Option<&Module> {
        self.index_of(addr).map(|index| &self.sorted[index])
    }

    fn index_of(&self, addr: RuntimeAddr) -> Option<usize> {
        let index = self.sorted.partition_point(|module| module.start <= addr).checked_sub(1)?;
        (addr < self.sorted[index].end).then_some(index)
    }

    /// Like [`Modules::find`], but tries the index found last first: most frames of a stack are in
    /// few modules.
    pub(super) fn find_near(&self, addr: RuntimeAddr, last: &mut usize) -> Option<&Module> {
        if let Some(module) = self.sorted.get(*last).filter(|module| module.contains(addr)) {
            return Some(module);
        }
        *last = self.index_of(addr)?;
        self.sorted.get(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(start: u64, end: u64, id: u32) -> Module {
        Module { start: RuntimeAddr(start), end: RuntimeAddr(end), bias: 0, tables: None, code: None, id }
    }

    fn ranges(modules: &Modules) -> Vec<(u64, u64, u32)> {
        modules.as_slice().iter().map(|module| (module.start.0, module.end.0, module.id)).collect()
    }

    #[test]
    fn a_new_mapping_replaces_the_ones_it_overlaps() {
        let modules = Modules::new(vec![module(0, 100, 1), module(200, 300, 2), module(40, 60, 3)]);
        assert_eq!(ranges(&modules), [(0, 40, 1), (40, 60, 3), (60, 100, 1), (200, 300, 2)]);
        let mut modules = modules;
        modules.insert(module(50, 250, 4));
        assert_eq!(ranges(&modules), [(0, 40, 1), (40, 50, 3), (50, 250, 4), (250, 300, 2)]);
        modules.remove(RuntimeAddr(0), RuntimeAddr(u64::MAX));
        assert_eq!(ranges(&modules), []);
    }

    #[test]
    fn an_address_is_found_only_inside_a_mapping() {
        let modules = Modules::new(vec![module(10, 20, 1), module(30, 40, 2)]);
        let id = |addr| modules.find(RuntimeAddr(addr)).map(|module| module.id);
        assert_eq!(
            [id(9), id(10), id(19), id(20), id(35), id(40)],
            [None, Some(1), Some(1), None, Some(2), None]
        );
    }
}
