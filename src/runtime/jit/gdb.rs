//! The GDB JIT interface, read from outside: a compiler that supports it (LLVM's engines and so
//! Numba, Julia and PostgreSQL; wasmtime; PHP) keeps a list of ELF images of its code in the
//! process's memory, for debuggers (GDB manual, "JIT Compilation Interface"):
//!
//! ```text
//! __jit_debug_descriptor { u32 version = 1; u32 action; entry *relevant; entry *first; }
//! jit_code_entry         { entry *next; entry *prev; const char *symfile; u64 size; }
//! ```
//!
//! The program changes the list while it is read. An entry is accepted if it points back to the
//! one before it; otherwise the list is read again later. Not here: the images (`object`).

use std::collections::BTreeSet;

use crate::{addr::RuntimeAddr, elf::ElfFile, process::ProcessMemory};

/// The symbol of the list's head.
const DESCRIPTOR: &str = "__jit_debug_descriptor";
/// The most entries that are read of one list.
const MAX_ENTRIES: usize = 1 << 14;
/// The size of an image, in bytes: an ELF header at least.
const IMAGE_BYTES: std::ops::RangeInclusive<u64> = 64..=32 << 20;

/// An entry of the list: an image in the process's memory. Equal entries are the same image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Where the entry is.
    pub at: u64,
    /// Where its image is.
    pub image: RuntimeAddr,
    /// The size of the image in bytes.
    pub size: u64,
}

/// The address of the list's head in a file; `None`: the file has none.
pub fn descriptor_in(elf: &ElfFile) -> Option<u64> {
    let tables = elf.symbol_tables().collect::<Vec<_>>();
    let dynamic_first = tables.iter().filter(|table| table.is_dynamic());
    let mut all = dynamic_first.chain(tables.iter().filter(|table| !table.is_dynamic()));
    all.find_map(|table| table.address_of(DESCRIPTOR)).map(|address| address.0)
}

/// The head of a list, which changes with every change of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    action: u32,
    relevant: u64,
    first: u64,
}

impl Head {
    /// Reads the head at `at`. `None`: it cannot be read, or is not one.
    pub fn read(memory: &ProcessMemory, at: u64) -> Option<Head> {
        let mut bytes = [0; 24];
        if !memory.read_exact(RuntimeAddr(at), &mut bytes) {
            return None;
        }
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let head = Head { action: half(4), relevant: word(8), first: word(16) };
        (half(0) == 1 && head.action <= 2).then_some(head)
    }

    /// Whether an entry was registered anew since the list had the head `before`: its memory was
    /// used again.
    pub fn has_replaced(self, entry: &Entry, before: Head) -> bool {
        const REGISTER: u32 = 1;
        self.action == REGISTER && self.relevant == entry.at && self.relevant != before.relevant
    }

    /// The entries of the list, and whether all of it could be read: the program may have changed
    /// it meanwhile.
    pub fn entries(self, memory: &ProcessMemory) -> (Vec<Entry>, bool) {
        let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
        let (mut at, mut before) = (self.first, 0);
        while at != 0 {
            let mut bytes = [0; 32];
            if at % 8 != 0 || !seen.insert(at) || entries.len() >= MAX_ENTRIES {
                return (entries, false);
            }
            if !memory.read_exact(RuntimeAddr(at), &mut bytes) {
                return (entries, false);
            }
            let word = |index: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[index * 8 + byte]));
            if word(1) != before {
                return (entries, false);
            }
            if IMAGE_BYTES.contains(&word(3)) {
                entries.push(Entry { at, image: RuntimeAddr(word(2)), size: word(3) });
            }
            (before, at) = (at, word(0));
        }
        (entries, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A descriptor at 0x1000 and entries after it, 32 bytes each.
    fn memory(first: u64, entries: &[[u64; 4]]) -> ProcessMemory {
        let mut words = vec![1u64, 0, first, 0];
        words.extend(entries.iter().flatten());
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        ProcessMemory::of_image(RuntimeAddr(0x1000), bytes)
    }

    fn read(memory: &ProcessMemory) -> (Vec<u64>, bool) {
        let (entries, is_whole) = Head::read(memory, 0x1000).expect("a head").entries(memory);
        (entries.iter().map(|entry| entry.image.0).collect(), is_whole)
    }

    #[test]
    fn the_list_is_read_in_order_and_entries_of_impossible_size_are_left_out() {
        let memory = memory(
            0x1020,
            &[[0x1040, 0, 0xaaa0, 100], [0x1060, 0x1020, 0xbbb0, u64::MAX], [0, 0x1040, 0xccc0, 64]],
        );
        assert_eq!(read(&memory), (vec![0xaaa0, 0xccc0], true));
    }

    #[test]
    fn a_list_that_is_a_circle_or_is_being_changed_ends_where_entries_do_not_fit() {
        let circle = memory(0x1020, &[[0x1040, 0, 0xa0, 100], [0x1020, 0x1020, 0xb0, 100]]);
        assert_eq!(read(&circle), (vec![0xa0, 0xb0], false));
        let torn = memory(0x1020, &[[0x1040, 0, 0xa0, 100], [0, 0x9999, 0xb0, 100]]);
        assert_eq!(read(&torn), (vec![0xa0], false));
        let unreadable = memory(0x1020, &[[0x9000, 0, 0xa0, 100]]);
        assert_eq!(read(&unreadable), (vec![0xa0], false));
        assert_eq!(Head::read(&memory(0, &[]), 0x2000), None);
        let other = ProcessMemory::of_image(RuntimeAddr(0x1000), vec![2; 64]);
        assert_eq!(Head::read(&other, 0x1000), None);
    }
}
