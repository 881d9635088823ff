//! The stubs of the procedure linkage table (System V ABI, x86-64 and AArch64 supplements): code
//! that jumps to a function of another file through a word that the dynamic linker sets. They have
//! no symbols; the relocation of the word names the function.
//!
//! Not here: which stub an address of a profile is in.

use goblin::elf::{header, reloc, section_header as sh};
use rustc_hash::FxHashMap;

use super::{ElfFile, Section, symbols};
use crate::addr::ElfAddr;

/// The sections with stubs.
const SECTIONS: [&str; 3] = [".plt", ".plt.sec", ".plt.got"];
/// `Elf64_Rela`.
const ENTRY_BYTES: usize = 24;
/// The most relocations that are read, and the most bytes of a section of stubs.
const MAX_RELOCATIONS: usize = 1 << 20;
const MAX_SECTION_BYTES: usize = 16 << 20;

/// A stub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub<'a> {
    /// Its first address.
    pub start: ElfAddr,
    /// The address after it.
    pub end: ElfAddr,
    /// The linkage name of the function that it jumps to.
    pub name: &'a [u8],
}

/// The stubs of a file, in ascending order.
pub(super) fn stubs(elf: &ElfFile) -> Vec<Stub<'_>> {
    let names = names_by_word(elf);
    let mut found = Vec::new();
    if names.is_empty() {
        return found;
    }
    for section in SECTIONS.into_iter().filter_map(|name| elf.section(name)) {
        let code = elf.section_bytes(section).unwrap_or_default();
        let code = &code[..code.len().min(MAX_SECTION_BYTES)];
        if !elf.may_scan(code.len()) {
            break;
        }
        let words: Vec<(u64, u64, u64)> = match elf.machine() {
            header::EM_X86_64 => x86_64(code, section).collect(),
            header::EM_AARCH64 => aarch64(code, section).collect(),
            _ => Vec::new(),
        };
        let stub = |(start, end, word): (u64, u64, u64)| {
            Some(Stub { start: ElfAddr(start), end: ElfAddr(end), name: names.get(&word)? })
        };
        found.extend(words.into_iter().filter_map(stub));
    }
    found.sort_by_key(|stub| stub.start);
    found
}

/// The names of the functions whose addresses the dynamic linker writes, by the address of the
/// word.
fn names_by_word(elf: &ElfFile) -> FxHashMap<u64, &[u8]> {
    let kinds = match elf.machine() {
        header::EM_X86_64 => [reloc::R_X86_64_JUMP_SLOT, reloc::R_X86_64_GLOB_DAT],
        _ => [reloc::R_AARCH64_JUMP_SLOT, reloc::R_AARCH64_GLOB_DAT],
    };
    let mut names = FxHashMap::default();
    let Some(table) = symbols::tables(elf).find(|table| table.is_dynamic()) else { return names };
    for section in elf.sections().iter().filter(|section| section.kind == sh::SHT_RELA) {
        let entries = elf.section_bytes(section).unwrap_or_default().as_chunks::<ENTRY_BYTES>().0;
        for entry in entries.iter().take(MAX_RELOCATIONS) {
            let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| entry[at + byte]));
            let (place, info) = (word(0), word(8));
            if kinds.contains(&(info as u32)) {
                let name = table.name_of((info >> 32) as usize);
                if !name.is_empty() {
                    names.insert(place, name);
                }
            }
        }
    }
    names
}

/// The stubs of x86-64, as start, end and the word that they jump through: an optional `endbr64`,
/// and `jmp *word(%rip)` with an optional `bnd`; padded to the size of an entry.
fn x86_64(code: &[u8], section: &Section) -> impl Iterator<Item = (u64, u64, u64)> {
    let entry = match section.entry_size {
        8 => 8,
        _ => 16,
    };
    let start = section.address.0;
    code.chunks_exact(entry).enumerate().filter_map(move |(index, bytes)| {
        let at = start.wrapping_add((index * entry) as u64);
        let jump = bytes.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(bytes);
        let jump = jump.strip_prefix(&[0xf2]).unwrap_or(jump);
        let displacement = jump.strip_prefix(&[0xff, 0x25])?.first_chunk::<4>()?;
        let next = at.wrapping_add((bytes.len() - jump.len() + 6) as u64);
        let word = next.wrapping_add_signed(i64::from(i32::from_le_bytes(*displacement)));
        Some((at, at.wrapping_add(entry as u64), word))
    })
}

/// The stubs of AArch64: an optional `bti c`, `adrp x16, page`, `ldr x17, [x16, offset]`, `add`,
/// `br x17`.
fn aarch64(code: &[u8], section: &Section) -> impl Iterator<Item = (u64, u64, u64)> {
    const BTI_C: u32 = 0xd503_245f;
    /// From `adrp` to `br`.
    const BYTES: u64 = 16;
    let words: Vec<u32> = code.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let start = section.address.0;
    let is_address = |word: u32| word & 0x9f00_001f == 0x9000_0010;
    let is_load = |word: u32| word & 0xffc0_03ff == 0xf940_0211;
    (0..words.len().saturating_sub(1)).filter_map(move |index| {
        let (adrp, ldr) = (words[index], words[index + 1]);
        // The first entry of the table is not of a function.
        let is_stub = is_address(adrp) && is_load(ldr) && words.get(index + 3) == Some(&0xd61f_0220);
        if !is_stub {
            return None;
        }
        let at = start.wrapping_add(index as u64 * 4);
        let pages = (u64::from(adrp >> 5 & 0x7_ffff) << 2 | u64::from(adrp >> 29 & 3)) << 43;
        let page = (at & !0xfff).wrapping_add_signed((pages as i64) >> 31);
        let word = page.wrapping_add(u64::from(ldr >> 10 & 0xfff) * 8);
        let has_bti = index > 0 && words[index - 1] == BTI_C;
        Some((at - if has_bti { 4 } else { 0 }, at + BYTES, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(address: u64, entry_size: u64) -> Section {
        Section {
            name: 0,
            address: ElfAddr(address),
            file_offset: crate::addr::FileOffset(0),
            size: 0,
            kind: sh::SHT_PROGBITS,
            flags: 0,
            link: 0,
            entry_size,
        }
    }

    #[test]
    fn stubs_of_both_linkage_tables_are_found_on_x86_64() {
        // .plt: the first entry, then `jmp *0x2fca(%rip)`, `push`, `jmp`.
        let plt = [
            &[0xff, 0x35, 0xca, 0x2f, 0, 0, 0xff, 0x25, 0xcc, 0x2f, 0, 0, 0x0f, 0x1f, 0x40, 0][..],
            &[0xff, 0x25, 0xca, 0x2f, 0, 0, 0x68, 0, 0, 0, 0, 0xe9, 0xe0, 0xff, 0xff, 0xff],
        ]
        .concat();
        let found: Vec<_> = x86_64(&plt, &section(0x1020, 16)).collect();
        assert_eq!(found, [(0x1030, 0x1040, 0x4000)]);
        // .plt.sec: `endbr64`, `bnd jmp`; .plt.got: `jmp`, `xchg`.
        let sec = [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0xa5, 0x2f, 0, 0, 0x0f, 0x1f, 0x44, 0, 0];
        assert_eq!(x86_64(&sec, &section(0x1050, 16)).next(), Some((0x1050, 0x1060, 0x4000)));
        let got = [0xff, 0x25, 0xfa, 0x2f, 0, 0, 0x66, 0x90];
        assert_eq!(x86_64(&got, &section(0x1000, 8)).next(), Some((0x1000, 0x1008, 0x4000)));
    }

    #[test]
    fn stubs_are_found_on_aarch64_with_and_without_landing_pads() {
        // adrp x16, 0x1f000 (from 0x5c0); ldr x17, [x16, #0xfa8]; add x16, x16, #0xfa8; br x17
        let stub = [0xb000_00f0u32, 0xf947_d611, 0x913e_a210, 0xd61f_0220];
        let code: Vec<u8> = stub.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(aarch64(&code, &section(0x5c0, 16)).next(), Some((0x5c0, 0x5d0, 0x1dfa8)));
        let code = [&0xd503_245fu32.to_le_bytes()[..], &code].concat();
        assert_eq!(aarch64(&code, &section(0x5bc, 16)).next(), Some((0x5bc, 0x5d0, 0x1dfa8)));
    }
}
