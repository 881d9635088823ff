//! Makes an ELF file that can be read like any other from what a compiler registered with the GDB
//! JIT interface, and from single functions of other sources.
//!
//! What is registered is usually a relocatable file (`ET_REL`) whose section headers have run-time
//! addresses: its symbols are relative to their sections, references between sections are still
//! zero, and there are no segments. Here symbols get their addresses, relocations of the debug
//! information and the call-frame information are applied, the machine code is replaced by that in
//! memory, and segments are added. Run-time addresses are then the file's addresses.
//!
//! Not here: finding images (`gdb`).

use std::ops::Range;

use crate::{addr::RuntimeAddr, arch, process::ProcessMemory};

const HEADER: usize = 64;
const SECTION_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const SYMBOL: usize = 24;
const RELA: usize = 24;

const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const PT_LOAD: u32 = 1;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHT_RELA: u32 = 4;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC: u64 = 2;
const SHF_EXECINSTR: u64 = 4;
const SHN_LORESERVE: u16 = 0xff00;

/// The most sections, segments and relocations of one image.
const MAX_SECTIONS: usize = 4096;
const MAX_SEGMENTS: usize = 256;
const MAX_RELOCATIONS: usize = 4 << 20;
/// The largest section of machine code, in bytes.
const MAX_CODE: u64 = 64 << 20;

/// An image that can be read as an ELF file.
#[derive(Debug, PartialEq, Eq)]
pub struct Linked {
    /// The file.
    pub bytes: Vec<u8>,
    /// Where its code is, as run-time addresses.
    pub code: Vec<Range<u64>>,
}

/// The fields of a section header that are needed.
#[derive(Clone, Copy, Debug)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
}

/// Links a registered image; `memory`: where its code is. `None`: it is not a 64-bit little-endian
/// ELF image with code.
pub fn link(mut bytes: Vec<u8>, memory: &ProcessMemory) -> Option<Linked> {
    if bytes.get(..6)? != b"\x7fELF\x02\x01" || bytes.len() < HEADER {
        return None;
    }
    let sections = sections(&bytes)?;
    if half(&bytes, 16)? != ET_REL {
        let code = loaded_code(&bytes, &sections)?;
        return (!code.is_empty()).then_some(Linked { bytes, code });
    }
    for section in sections.iter().filter(|section| section.kind == SHT_SYMTAB) {
        place_symbols(&mut bytes, section, &sections);
    }
    let mut left = MAX_RELOCATIONS;
    for table in sections.iter().filter(|section| section.kind == SHT_RELA) {
        relocate(&mut bytes, table, &sections, &mut left);
    }
    let code: Vec<Section> = sections.iter().filter(|section| is_code(section)).copied().collect();
    for section in &code {
        copy_code(&mut bytes, section, memory);
    }
    add_segments(&mut bytes, &code)?;
    let code = code.iter().map(Section::range).collect();
    Some(Linked { bytes, code })
}

/// Where the code of a registered image is, by its headers alone. `None`: it is not an image with
/// code, or cannot be read.
pub fn code_of(memory: &ProcessMemory, image: RuntimeAddr, size: u64) -> Option<Vec<Range<u64>>> {
    let mut header = [0; HEADER];
    if !memory.read_exact(image, &mut header) || header.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    // Only what the headers take is read; the rest stays zero.
    let table = |at: usize, count: usize, entry: usize| {
        let (start, count) = (word(&header, at)?, u64::from(half(&header, count)?));
        let end = start.checked_add(count.checked_mul(entry as u64)?)?;
        (count > 0 && end <= size).then_some(start..end)
    };
    let (segments, sections_at) = (table(32, 56, PROGRAM_HEADER), table(40, 60, SECTION_HEADER));
    let last = [&segments, &sections_at].into_iter().flatten().map(|range| range.end).max()?;
    let mut bytes = vec![0; usize::try_from(last).ok()?];
    bytes[..HEADER].copy_from_slice(&header);
    for range in [segments, sections_at].into_iter().flatten() {
        let into = bytes.get_mut(range.start as usize..range.end as usize)?;
        if !memory.read_exact(image.offset(range.start as i64), into) {
            return None;
        }
    }
    let sections = sections(&bytes)?;
    let code = match half(&bytes, 16)? {
        ET_REL => sections.iter().filter(|section| is_code(section)).map(Section::range).collect(),
        _ => loaded_code(&bytes, &sections)?,
    };
    Some(code)
}

fn sections(bytes: &[u8]) -> Option<Vec<Section>> {
    let (at, count) = (usize::try_from(word(bytes, 40)?).ok()?, usize::from(half(bytes, 60)?));
    if count > MAX_SECTIONS || usize::from(half(bytes, 58)?) != SECTION_HEADER {
        return None;
    }
    let header = |index: usize| {
        let at = at.checked_add(index * SECTION_HEADER)?;
        Some(Section {
            name: int(bytes, at)?,
            kind: int(bytes, at + 4)?,
            flags: word(bytes, at + 8)?,
            address: word(bytes, at + 16)?,
            offset: word(bytes, at + 24)?,
            size: word(bytes, at + 32)?,
            link: int(bytes, at + 40)?,
            info: int(bytes, at + 44)?,
        })
    };
    (0..count).map(header).collect()
}

fn is_code(section: &Section) -> bool {
    section.flags & (SHF_ALLOC | SHF_EXECINSTR) == SHF_ALLOC | SHF_EXECINSTR
        && section.kind != SHT_NOBITS
        && section.address != 0
        && (1..=MAX_CODE).contains(&section.size)
        && section.address.checked_add(section.size).is_some()
}

/// The code of an image that is already linked: of its executable segments, or of its sections if
/// it has none.
fn loaded_code(bytes: &[u8], sections: &[Section]) -> Option<Vec<Range<u64>>> {
    let (at, count) = (usize::try_from(word(bytes, 32)?).ok()?, usize::from(half(bytes, 56)?));
    let segment = |index: usize| {
        let at = at.checked_add(index * PROGRAM_HEADER)?;
        let (start, size) = (word(bytes, at + 16)?, word(bytes, at + 40)?);
        let is_code = int(bytes, at)? == PT_LOAD && int(bytes, at + 4)? & 1 != 0;
        Some(start..start.checked_add(size)?).filter(|range| is_code && !range.is_empty() && start != 0)
    };
    let segments: Vec<Range<u64>> = (0..count.min(MAX_SEGMENTS)).filter_map(segment).collect();
    if !segments.is_empty() {
        return Some(segments);
    }
    let code = sections.iter().filter(|section| is_code(section));
    Some(code.map(Section::range).collect())
}

/// The bytes of a section in the image.
fn range_of(bytes: &[u8], section: &Section) -> Option<Range<usize>> {
    let start = usize::try_from(section.offset).ok()?;
    let end = start.checked_add(usize::try_from(section.size).ok()?)?;
    (section.kind != SHT_NOBITS && end <= bytes.len()).then_some(start..end)
}

/// Adds to each symbol the address of its section.
fn place_symbols(bytes: &mut [u8], table: &Section, sections: &[Section]) {
    let Some(range) = range_of(bytes, table) else { return };
    for entry in bytes[range].chunks_exact_mut(SYMBOL) {
        let index = half(entry, 6).unwrap_or(0);
        let Some(home) = sections.get(usize::from(index)).filter(|_| index != 0 && index < SHN_LORESERVE)
        else {
            continue;
        };
        let value = word(entry, 8).unwrap_or(0).wrapping_add(home.address);
        entry[8..16].copy_from_slice(&value.to_le_bytes());
    }
}

/// Applies the relocations of debug information and call-frame information.
fn relocate(bytes: &mut [u8], table: &Section, sections: &[Section], left: &mut usize) {
    let Some(target) = sections.get(table.info as usize).filter(|target| !is_code(target)) else { return };
    let symbols = sections.get(table.link as usize).and_then(|symbols| range_of(bytes, symbols));
    let (Some(entries), Some(place), Some(symbols)) =
        (range_of(bytes, table), range_of(bytes, target), symbols)
    else {
        return;
    };
    let machine = half(bytes, 18).unwrap_or(0);
    for at in entries.step_by(RELA) {
        let entry = (word(bytes, at), word(bytes, at + 8), word(bytes, at + 16));
        let (Some(offset), Some(info), Some(addend)) = entry else { return };
        *left = match left.checked_sub(1) {
            Some(left) => left,
            None => return,
        };
        let symbol = symbols.start.saturating_add((info >> 32) as usize * SYMBOL);
        let value = if symbol + SYMBOL <= symbols.end { word(bytes, symbol + 8) } else { None };
        let value = value.unwrap_or(0).wrapping_add(addend);
        let position = target.address.wrapping_add(offset);
        let Some((value, size)) = arch::relocations::relocated(machine, info as u32, value, position) else {
            continue;
        };
        let inside = usize::try_from(offset).ok().and_then(|offset| {
            let start = place.start.checked_add(offset)?;
            Some(start..start.checked_add(size)?).filter(|range| range.end <= place.end)
        });
        if let Some(inside) = inside {
            bytes[inside].copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }
}

/// Replaces code by that in memory, which is what runs.
fn copy_code(bytes: &mut [u8], section: &Section, memory: &ProcessMemory) {
    let Some(range) = range_of(bytes, section) else { return };
    let mut code = vec![0; range.len()];
    if memory.read_exact(RuntimeAddr(section.address), &mut code) {
        bytes[range].copy_from_slice(&code);
    }
}

/// Adds an executable segment for each section of code.
fn add_segments(bytes: &mut Vec<u8>, code: &[Section]) -> Option<()> {
    if code.is_empty() || code.len() > MAX_SEGMENTS {
        return None;
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let at = bytes.len() as u64;
    for section in code {
        let Section { address, offset, size, .. } = *section;
        bytes.extend_from_slice(&PT_LOAD.to_le_bytes());
        bytes.extend_from_slice(&5u32.to_le_bytes());
        for field in [offset, address, address, size, size, 16] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
    }
    bytes[16..18].copy_from_slice(&ET_EXEC.to_le_bytes());
    bytes[32..40].copy_from_slice(&at.to_le_bytes());
    bytes[54..56].copy_from_slice(&(PROGRAM_HEADER as u16).to_le_bytes());
    bytes[56..58].copy_from_slice(&(code.len() as u16).to_le_bytes());
    Some(())
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// One function, as a file is made of it.
#[derive(Debug)]
pub struct Function<'a> {
    /// Where its code is.
    pub address: u64,
    /// Its code.
    pub code: &'a [u8],
    /// Its name.
    pub name: &'a str,
    /// `.eh_frame`, whose first byte is at the next multiple of 8 after the code; empty: none.
    pub eh_frame: &'a [u8],
}

impl Function<'_> {
    /// An ELF file with this function alone.
    pub fn file(&self) -> Vec<u8> {
        const NAMES: &[u8] = b"\0.text\0.eh_frame\0.symtab\0.strtab\0.shstrtab\0";
        let aligned = (self.code.len() as u64).next_multiple_of(8);
        let mut strings = vec![0];
        strings.extend_from_slice(self.name.as_bytes());
        strings.push(0);
        let mut symbols = vec![0; 2 * SYMBOL];
        symbols[SYMBOL..SYMBOL + 4].copy_from_slice(&1u32.to_le_bytes());
        symbols[SYMBOL + 4] = 0x12; // STB_GLOBAL, STT_FUNC
        symbols[SYMBOL + 6..SYMBOL + 8].copy_from_slice(&1u16.to_le_bytes());
        symbols[SYMBOL + 8..SYMBOL + 16].copy_from_slice(&self.address.to_le_bytes());
        symbols[SYMBOL + 16..].copy_from_slice(&(self.code.len() as u64).to_le_bytes());
        let part = |name: u32, kind: u32, flags: u64, address: u64| Section {
            name,
            kind,
            flags,
            address,
            offset: 0,
            size: 0,
            link: if kind == SHT_SYMTAB { 4 } else { 0 },
            info: 0,
        };
        let parts: [(Section, &[u8]); 5] = [
            (part(1, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, self.address), self.code),
            (part(7, SHT_PROGBITS, SHF_ALLOC, self.address.wrapping_add(aligned)), self.eh_frame),
            (part(17, SHT_SYMTAB, 0, 0), &symbols),
            (part(25, SHT_STRTAB, 0, 0), &strings),
            (part(33, SHT_STRTAB, 0, 0), NAMES),
        ];
        let mut bytes = vec![0; HEADER];
        let mut headers = vec![0; SECTION_HEADER];
        let mut code = None;
        for (section, content) in parts {
            bytes.resize(bytes.len().next_multiple_of(16), 0);
            let (offset, size) = (bytes.len() as u64, content.len() as u64);
            bytes.extend_from_slice(content);
            let section = Section { offset, size, ..section };
            code = code.or(Some(section));
            section.append_to(&mut headers);
        }
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let at = bytes.len() as u64;
        bytes.extend_from_slice(&headers);
        write_header(&mut bytes, at, 6, 5);
        let _ = add_segments(&mut bytes, code.as_slice());
        bytes
    }
}

impl Section {
    /// Its addresses; see [`is_code`].
    fn range(&self) -> Range<u64> {
        self.address..self.address.saturating_add(self.size)
    }

    fn append_to(&self, headers: &mut Vec<u8>) {
        let entry_size = if self.kind == SHT_SYMTAB { SYMBOL as u64 } else { 0 };
        headers.extend_from_slice(&self.name.to_le_bytes());
        headers.extend_from_slice(&self.kind.to_le_bytes());
        for field in [self.flags, self.address, self.offset, self.size] {
            headers.extend_from_slice(&field.to_le_bytes());
        }
        headers.extend_from_slice(&self.link.to_le_bytes());
        headers.extend_from_slice(&self.info.to_le_bytes());
        for field in [8, entry_size] {
            headers.extend_from_slice(&field.to_le_bytes());
        }
    }
}

/// The header of a file of rprof's own architecture with these sections.
fn write_header(bytes: &mut [u8], sections_at: u64, sections: u16, names: u16) {
    bytes[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    bytes[16..18].copy_from_slice(&ET_EXEC.to_le_bytes());
    bytes[18..20].copy_from_slice(&arch::native::ELF_MACHINE.to_le_bytes());
    bytes[20..24].copy_from_slice(&1u32.to_le_bytes());
    bytes[40..48].copy_from_slice(&sections_at.to_le_bytes());
    for (at, field) in [(52, HEADER as u16), (58, SECTION_HEADER as u16), (60, sections), (62, names)] {
        bytes[at..at + 2].copy_from_slice(&field.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addr::ElfAddr,
        elf::{ElfFile, SymbolKind},
    };

    #[test]
    fn the_file_of_a_function_has_its_code_and_its_symbol_at_run_time_addresses() {
        let function =
            Function { address: 0x7f00_1234, code: &[0x90, 0xc3, 0xcc], name: "f", eh_frame: b"eh" };
        let elf = ElfFile::from_bytes(function.file()).expect("an ELF file");
        let symbol = elf.symbols().next().expect("a symbol");
        assert_eq!((symbol.name, symbol.address.0, symbol.size), (&b"f"[..], 0x7f00_1234, 3));
        assert_eq!(symbol.kind, SymbolKind::Function);
        assert_eq!(elf.bytes_from(ElfAddr(0x7f00_1235)), Some(&[0xc3, 0xcc][..]));
        let frames = elf.section(".eh_frame").expect("a section");
        assert_eq!((frames.address.0, elf.section_bytes(frames)), (0x7f00_123c, Some(&b"eh"[..])));
    }

    /// A relocatable image of one section of code at 0x1000, one of frames at 0x2000, a symbol and
    /// a relocation of the frames.
    fn relocatable() -> Vec<u8> {
        let function = Function { address: 0, code: &[0; 8], name: "f", eh_frame: &[0; 8] };
        let mut bytes = function.file();
        bytes[16..18].copy_from_slice(&ET_REL.to_le_bytes());
        let relocation_at = bytes.len() as u64;
        for field in [0u64, 1 << 32 | 24, 4] {
            bytes.extend(field.to_le_bytes());
        }
        let table = usize::try_from(word(&bytes, 40).expect("a header")).expect("small");
        let mut headers = bytes[table..table + 6 * SECTION_HEADER].to_vec();
        let mut set = |section: usize, at: usize, value: u64| {
            let at = section * SECTION_HEADER + at;
            headers[at..at + 8].copy_from_slice(&value.to_le_bytes());
        };
        set(1, 16, 0x1000);
        set(2, 16, 0x2000);
        let relocations = Section {
            name: 0,
            kind: SHT_RELA,
            flags: 0,
            address: 0,
            offset: relocation_at,
            size: 24,
            link: 3,
            info: 2,
        };
        relocations.append_to(&mut headers);
        let at = bytes.len() as u64;
        bytes.extend_from_slice(&headers);
        bytes[40..48].copy_from_slice(&at.to_le_bytes());
        bytes[60..62].copy_from_slice(&7u16.to_le_bytes());
        bytes
    }

    #[test]
    fn a_relocatable_image_gets_addresses_relocations_and_the_code_that_runs() {
        let memory = ProcessMemory::of_image(RuntimeAddr(0x1000), vec![0x90; 8]);
        let Linked { bytes, code } = link(relocatable(), &memory).expect("an image");
        assert!(code.len() == 1 && code[0] == (0x1000..0x1008));
        let elf = ElfFile::from_bytes(bytes).expect("an ELF file");
        assert_eq!(elf.symbols().next().map(|symbol| symbol.address), Some(ElfAddr(0x1000)));
        assert_eq!(elf.bytes_from(ElfAddr(0x1000)), Some(&[0x90; 8][..]));
        let frames = elf.section_data(".eh_frame").expect("a section");
        assert_eq!(i64::from_le_bytes(frames[..8].try_into().expect("8 bytes")), 0x1004 - 0x2000);
    }

    #[test]
    fn what_is_no_image_with_code_is_refused() {
        let memory = ProcessMemory::of_image(RuntimeAddr(0x1000), Vec::new());
        assert_eq!(link(vec![0; 100], &memory), None);
        let mut without_code = relocatable();
        without_code.truncate(80);
        assert_eq!(link(without_code, &memory), None);
    }
}
