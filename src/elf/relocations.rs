//! Relative relocations (`R_X86_64_RELATIVE`, `R_AARCH64_RELATIVE`) by address: the words that the
//! loader writes into a file's data once it knows the load address; and the slots with the
//! distances of thread-local variables.
//!
//! Not here: relocations against symbols.

use goblin::elf::{reloc, section_header::SHT_RELA};

use super::ElfFile;
use crate::addr::ElfAddr;

/// Largest number of relocations kept; a browser has a few hundred thousand.
const MAX_RELOCATIONS: usize = 8 << 20;
/// `Elf64_Rela`.
const ENTRY_BYTES: usize = 24;

/// Reads words of a file as they are in memory, minus the load bias.
#[derive(Debug, Default)]
pub struct RelocatedWords {
    /// Pairs of address and value, sorted.
    relative: Vec<(u64, u64)>,
}

impl RelocatedWords {
    /// Collects the relative relocations of a file; none if it is linked to a fixed address.
    pub fn of(elf: &ElfFile) -> RelocatedWords {
        if elf.is_fixed_address() {
            return RelocatedWords::default();
        }
        let mut relative = Vec::new();
        for section in elf.sections().iter().filter(|section| section.kind == SHT_RELA) {
            let entries = elf.section_bytes(section).unwrap_or_default().as_chunks::<ENTRY_BYTES>().0;
            let room = MAX_RELOCATIONS - relative.len();
            relative.extend(entries.iter().filter_map(relative_entry).take(room));
        }
        relative.sort_unstable();
        RelocatedWords { relative }
    }

    /// The 8-byte word at `address`, from a relocation or from the file.
    pub fn word(&self, elf: &ElfFile, address: ElfAddr) -> Option<u64> {
        if let Ok(at) = self.relative.binary_search_by_key(&address.0, |(place, _)| *place) {
            return Some(self.relative[at].1);
        }
        let bytes = elf.bytes_from(address)?;
        Some(u64::from_le_bytes(*bytes.first_chunk::<8>()?))
    }

    /// The addresses to which relocations write `value`.
    pub fn places_of(&self, value: u64) -> impl Iterator<Item = ElfAddr> + '_ {
        self.relative.iter().filter(move |(_, other)| *other == value).map(|(place, _)| ElfAddr(*place))
    }
}

/// The most slots of thread-local variables that are returned; libc has about 16.
const MAX_SLOTS: usize = 1024;

/// The words into which the loader writes the distance of a thread-local variable from the thread
/// pointer (`R_X86_64_TPOFF64`, `R_AARCH64_TLS_TPREL`). These relocations survive stripping.
pub fn thread_local_slots(elf: &ElfFile) -> Vec<ElfAddr> {
    let tables = elf.sections().iter().filter(|section| section.kind == SHT_RELA);
    let entries = tables
        .flat_map(|section| elf.section_bytes(section).unwrap_or_default().as_chunks::<ENTRY_BYTES>().0);
    let is_slot = |kind: u32| kind == reloc::R_X86_64_TPOFF64 || kind == reloc::R_AARCH64_TLS_TPREL;
    let slots = entries.filter(|entry| is_slot(word_of(entry, 8) as u32));
    slots.map(|entry| ElfAddr(word_of(entry, 0))).take(MAX_SLOTS).collect()
}

fn word_of(entry: &[u8; ENTRY_BYTES], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| entry[at + byte]))
}

fn relative_entry(entry: &[u8; ENTRY_BYTES]) -> Option<(u64, u64)> {
    let word = |at: usize| word_of(entry, at);
    let kind = word(8) as u32;
    let is_relative = kind == reloc::R_X86_64_RELATIVE || kind == reloc::R_AARCH64_RELATIVE;
    is_relative.then(|| (word(0), word(16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_relocations_are_kept() {
        let entry = |kind: u64| {
            let mut bytes = [0; ENTRY_BYTES];
            for (at, word) in [0x4000, kind, 0x1234].into_iter().enumerate() {
                bytes[at * 8..][..8].copy_from_slice(&u64::to_le_bytes(word));
            }
            relative_entry(&bytes)
        };
        assert_eq!(entry(8), Some((0x4000, 0x1234)));
        assert_eq!(entry(1027), Some((0x4000, 0x1234)));
        assert_eq!(entry(6), None);
    }
}
