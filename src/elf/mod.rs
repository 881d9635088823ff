//! One parsed view of an ELF file: segments, sections, notes, symbols, and how its addresses relate
//! to file offsets. Everything is read lazily from the mapped bytes and bounded by them: the file
//! is the target's, and may be crafted.
//!
//! Not here: DWARF, the meaning of unwinding tables, finding files.

pub mod cache;
mod compressed;
mod dynamic;
mod notes;
mod plt;
pub mod relocations;
mod symbols;

use std::{
    borrow::Cow,
    ffi::CStr,
    fs::File,
    sync::{Arc, Weak},
};

use goblin::{
    container::{Container, Ctx, Endian},
    elf::{Elf, header, program_header as ph, section_header as sh},
};

pub use compressed::SectionContent;
pub use notes::build_id_in_memory;
pub use plt::Stub;
pub use relocations::RelocatedWords;
pub use symbols::{CodeSymbol, DefinedSymbol, Symbol, SymbolKind, SymbolTable};

use crate::{
    addr::{ElfAddr, FileOffset},
    budget::{Budget, Resource},
    sys::file_map::FileMap,
};

/// No real file has more; a crafted one could make us allocate for 2^32.
const MAX_SECTIONS: usize = 1 << 20;

/// Why a file could not be read as ELF.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file could not be read or mapped.
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
    /// The file does not begin with the ELF magic.
    #[error("not an ELF file")]
    NotElf,
    /// Class in bits (32 or 64) and byte order of a file that is not 64-bit little-endian.
    #[error("{0}-bit {1}-endian ELF files are not supported")]
    Unsupported(u8, &'static str),
    /// The part of the file that is damaged.
    #[error("damaged ELF file: {0}")]
    Damaged(&'static str),
}

/// A part of the file that is mapped at run time (`PT_LOAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_offset`.
    pub file_offset: FileOffset,
    /// `p_filesz`, in bytes.
    pub file_size: u64,
    /// `p_vaddr`.
    pub address: ElfAddr,
    /// `p_memsz`, in bytes.
    pub memory_size: u64,
    /// `PF_X` is set.
    pub executable: bool,
    /// `PF_W` is set.
    pub writable: bool,
}

/// A section header. Its name: see [`ElfFile::section_name`].
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// `sh_name`: offset in the section name table.
    name: u32,
    /// `sh_addr`.
    pub address: ElfAddr,
    /// `sh_offset`.
    pub file_offset: FileOffset,
    /// `sh_size`, in bytes.
    pub size: u64,
    /// `sh_type`, e.g. `SHT_PROGBITS`; `SHT_NOBITS` has no bytes in the file.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// `sh_link`: for a symbol table, the index of its string table.
    pub link: u32,
    /// `sh_entsize`.
    pub entry_size: u64,
}

/// An ELF file: 64-bit, little-endian. Other classes and byte orders are refused.
#[derive(Debug)]
pub struct ElfFile {
    map: Arc<FileMap>,
    machine: u16,
    kind: u16,
    entry: ElfAddr,
    segments: Arc<[Segment]>,
    sections: Arc<[Section]>,
    /// Where the section name table is in the file.
    section_names: std::ops::Range<usize>,
    budget: Budget,
    /// File ranges of `PT_NOTE` segments, for files without section headers.
    note_ranges: Vec<(FileOffset, u64)>,
    /// `PT_GNU_EH_FRAME`: where `.eh_frame_hdr` lies, section headers or not.
    eh_frame_header: Option<Segment>,
    /// `PT_DYNAMIC`: leads to the dynamic symbols without section headers.
    dynamic: Option<Segment>,
    build_id: Option<Vec<u8>>,
}

/// Tells whether a file is still open somewhere in rprof, without keeping it open.
#[derive(Clone, Debug)]
pub struct Presence(Weak<FileMap>);

impl Presence {
    /// Whether the file is open.
    pub fn is_open(&self) -> bool {
        self.0.strong_count() > 0
    }
}

const CONTEXT: Ctx = Ctx { container: Container::Big, le: Endian::Little };

impl ElfFile {
    /// Maps and parses a file, with a budget of its own.
    pub fn open(file: &File) -> Result<ElfFile, ElfError> {
        ElfFile::open_within(file, &Budget::session())
    }

    /// Maps and parses a file. Decompressed sections and copied names draw from `budget`.
    pub fn open_within(file: &File, budget: &Budget) -> Result<ElfFile, ElfError> {
        ElfFile::parse_within(Arc::new(FileMap::open(file)?), budget)
    }

    /// Parses an image that is already in memory: read from a process, or decompressed.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<ElfFile, ElfError> {
        ElfFile::from_bytes_within(bytes, &Budget::session())
    }

    /// [`ElfFile::from_bytes`] that draws from `budget`.
    pub fn from_bytes_within(bytes: Vec<u8>, budget: &Budget) -> Result<ElfFile, ElfError> {
        ElfFile::parse_within(Arc::new(FileMap::from_vec(bytes)), budget)
    }

    /// Parses headers, segments and section names. Damaged section headers are dropped (a file
    /// without them can still be unwound through its segments); a damaged file header is an error.
    fn parse_within(map: Arc<FileMap>, budget: &Budget) -> Result<ElfFile, ElfError> {
        let bytes = map.bytes();
        if bytes.get(..4) != Some(header::ELFMAG) {
            return Err(ElfError::NotElf);
        }
        let class = bytes.get(header::EI_CLASS).copied().unwrap_or(0);
        let order = bytes.get(header::EI_DATA).copied().unwrap_or(0);
        if class != header::ELFCLASS64 || order != header::ELFDATA2LSB {
            let bits = if class == header::ELFCLASS64 { 64 } else { 32 };
            return Err(ElfError::Unsupported(
                bits,
                if order == header::ELFDATA2LSB { "little" } else { "big" },
            ));
        }
        let head = Elf::parse_header(bytes).map_err(|_| ElfError::Damaged("file header"))?;
        let program_headers =
            ph::ProgramHeader::parse(bytes, head.e_phoff as usize, usize::from(head.e_phnum), CONTEXT)
                .unwrap_or_default();
        let (sections, section_names) = parse_sections(bytes, &head);
        let mut elf = ElfFile {
            machine: head.e_machine,
            kind: head.e_type,
            entry: ElfAddr(head.e_entry),
            segments: program_headers.iter().filter(|p| p.p_type == ph::PT_LOAD).map(segment).collect(),
            sections: sections.into(),
            section_names,
            budget: budget.file(),
            note_ranges: program_headers
                .iter()
                .filter(|p| p.p_type == ph::PT_NOTE)
                .map(|p| (FileOffset(p.p_offset), p.p_filesz))
                .collect(),
            eh_frame_header: program_headers.iter().find(|p| p.p_type == ph::PT_GNU_EH_FRAME).map(segment),
            dynamic: program_headers.iter().find(|p| p.p_type == ph::PT_DYNAMIC).map(segment),
            build_id: None,
            map,
        };
        elf.build_id = notes::build_id(&elf);
        Ok(elf)
    }

    /// The same file, whose reading draws from another budget.
    pub fn within(&self, budget: &Budget) -> ElfFile {
        ElfFile {
            map: Arc::clone(&self.map),
            segments: Arc::clone(&self.segments),
            sections: Arc::clone(&self.sections),
            section_names: self.section_names.clone(),
            budget: budget.file(),
            note_ranges: self.note_ranges.clone(),
            build_id: self.build_id.clone(),
            ..*self
        }
    }

    /// A number that the same opened file has wherever it is used. It may be used again once the
    /// file is closed everywhere and no [`Presence`] of it is left.
    pub fn number(&self) -> usize {
        Arc::as_ptr(&self.map) as usize
    }

    /// Tells later whether the file is still open.
    pub fn presence(&self) -> Presence {
        Presence(Arc::downgrade(&self.map))
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    /// Lets the kernel drop the pages read so far (see [`FileMap::release_pages`]).
    pub fn release_pages(&self) {
        self.map.release_pages();
    }

    /// `e_machine`.
    pub fn machine(&self) -> u16 {
        self.machine
    }

    /// `e_type` is `ET_EXEC`: linked to a fixed address.
    pub fn is_fixed_address(&self) -> bool {
        self.kind == header::ET_EXEC
    }

    /// `e_entry`: address of the first instruction.
    pub fn entry(&self) -> ElfAddr {
        self.entry
    }

    /// The `PT_LOAD` segments, in file order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The sections, in file order; empty if the section headers are missing or damaged.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The first section with this name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| self.is_named(section, name))
    }

    /// A section's name, a slice of the file; empty if it cannot be read.
    pub fn section_name(&self, section: &Section) -> &[u8] {
        let names = self.bytes().get(self.section_names.clone()).unwrap_or_default();
        name_at(names, section.name as usize)
    }

    /// Compares without looking for the end of the section's name, which may be far away.
    fn is_named(&self, section: &Section, name: &str) -> bool {
        let names = self.bytes().get(self.section_names.clone()).unwrap_or_default();
        let from = names.get(section.name as usize..).unwrap_or_default();
        from.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
    }

    /// What reading this file may cost, and has cost.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Draws `bytes` of scanning from the file's budget; false once that is exhausted.
    pub(crate) fn may_scan(&self, bytes: usize) -> bool {
        self.budget.take(Resource::Work, bytes as u64).is_ok()
    }

    /// `PT_GNU_EH_FRAME`, which needs no section headers.
    pub fn eh_frame_header(&self) -> Option<&Segment> {
        self.eh_frame_header.as_ref()
    }

    /// The bytes of the GNU build ID note (usually 20).
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// A section's bytes as stored in the file, compressed or not; `None` for `SHT_NOBITS` and for
    /// sections that extend beyond the file.
    pub fn section_bytes(&self, section: &Section) -> Option<&[u8]> {
        if section.kind == sh::SHT_NOBITS {
            return None;
        }
        self.range(section.file_offset, section.size)
    }

    /// A section's content by name, decompressed if necessary (`SHF_COMPRESSED` with zlib or zstd,
    /// and the old `.zdebug_*`). `None` if the section is missing or damaged, or would decompress
    /// to more than the bound (see `compressed`).
    pub fn section_data(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        compressed::section_data(self, name, compressed::MAX_UNPACKED)
    }

    /// Like [`ElfFile::section_data`], but refuses to decompress to more than `max_bytes`.
    pub fn section_data_up_to(&self, name: &str, max_bytes: u64) -> Option<Cow<'_, [u8]>> {
        compressed::section_data(self, name, max_bytes)
    }

    /// Like [`ElfFile::section_data`], for sections too large to decompress into memory: large ones
    /// are decompressed into a temporary file and mapped, until the content is dropped.
    pub fn section_content(&self, name: &str) -> Option<SectionContent<'_>> {
        compressed::section_content(self, name)
    }

    /// Bytes of the file by offset and size; `None` if they extend beyond the file.
    pub fn range(&self, offset: FileOffset, size: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset.0).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        self.bytes().get(start..end)
    }

    /// The file's bytes that are loaded at `address`, up to the end of the segment's part in the
    /// file.
    pub fn bytes_from(&self, address: ElfAddr) -> Option<&[u8]> {
        let segment = self.segments.iter().find(|segment| {
            address >= segment.address && address.0 - segment.address.0 < segment.file_size
        })?;
        let skip = address.0 - segment.address.0;
        let start = usize::try_from(segment.file_offset.0.checked_add(skip)?).ok()?;
        let end = usize::try_from(segment.file_offset.0.checked_add(segment.file_size)?).ok()?;
        let bytes = self.bytes();
        bytes.get(start..end.min(bytes.len()))
    }

    /// The ELF address of the byte at file `offset`: that of an executable segment if one contains
    /// it, else that of another. A mapping begins at a page boundary, so its first bytes may belong
    /// to another segment. They are attributed to the executable segment, because most lookups are
    /// of code.
    pub fn address_of(&self, offset: FileOffset) -> Option<ElfAddr> {
        // 4 KiB and, where the kernel and the linker use them, 64 KiB pages.
        const PAGES: [u64; 3] = [1, 0x1000, 0x10000];
        let inside = |segment: &&Segment, page: u64| {
            offset.0 >= (segment.file_offset.0 & !(page - 1))
                && offset.0 < segment.file_offset.0.saturating_add(segment.file_size)
        };
        // Only the first page of a segment can be shared: a mapping starts exactly there.
        let starts = |segment: &&Segment, page: u64| {
            segment.executable && segment.file_size > 0 && offset.0 == (segment.file_offset.0 & !(page - 1))
        };
        let executable = self.segments.iter().find(|s| s.executable && inside(s, 1));
        let found = executable
            .or_else(|| PAGES.iter().find_map(|page| self.segments.iter().find(|s| starts(s, *page))))
            .or_else(|| PAGES.iter().find_map(|page| self.segments.iter().find(|s| inside(s, *page))))?;
        Some(ElfAddr(found.address.0.wrapping_add(offset.0).wrapping_sub(found.file_offset.0)))
    }

    /// `.gnu_debuglink`: the debug file's name and the CRC-32 of its content.
    pub fn debug_link(&self) -> Option<(String, u32)> {
        notes::debug_link(self)
    }

    /// `.gnu_debugaltlink` (dwz): path and build ID of the supplementary file.
    pub fn debug_alt_link(&self) -> Option<(String, Vec<u8>)> {
        notes::debug_alt_link(self)
    }

    /// The symbol tables, `.symtab` and `.dynsym`, in file order; for scanning many symbols and
    /// reading few names. In a file without section headers: the dynamic symbols.
    pub fn symbol_tables(&self) -> impl Iterator<Item = SymbolTable<'_>> {
        symbols::tables(self)
    }

    /// The stubs of the procedure linkage table, in ascending order.
    pub fn linkage_stubs(&self) -> Vec<Stub<'_>> {
        plt::stubs(self)
    }

    /// The functions and other named code of `.symtab` and `.dynsym`, in file order.
    pub fn symbols(&self) -> impl Iterator<Item = Symbol<'_>> {
        symbols::all(self)
    }
}

fn segment(p: &ph::ProgramHeader) -> Segment {
    Segment {
        file_offset: FileOffset(p.p_offset),
        file_size: p.p_filesz,
        address: ElfAddr(p.p_vaddr),
        memory_size: p.p_memsz,
        executable: p.p_flags & ph::PF_X != 0,
        writable: p.p_flags & ph::PF_W != 0,
    }
}

/// The sections, and where their names are in the file.
fn parse_sections(bytes: &[u8], head: &header::Header) -> (Vec<Section>, std::ops::Range<usize>) {
    let count = usize::from(head.e_shnum);
    if head.e_shoff == 0 || count > MAX_SECTIONS {
        return Default::default();
    }
    let Ok(headers) = sh::SectionHeader::parse(bytes, head.e_shoff as usize, count, CONTEXT) else {
        return Default::default();
    };
    // More than 0xfeff sections: section 0 holds the index of the name table.
    let mut names_index = usize::from(head.e_shstrndx);
    if names_index == sh::SHN_XINDEX as usize {
        names_index = headers.first().map_or(0, |first| first.sh_link as usize);
    }
    let names = headers.get(names_index).and_then(|h| {
        let start = usize::try_from(h.sh_offset).ok()?;
        Some(start..start.checked_add(usize::try_from(h.sh_size).ok()?)?)
    });
    (headers.iter().map(section).collect(), names.unwrap_or_default())
}

fn section(h: &sh::SectionHeader) -> Section {
    Section {
        name: u32::try_from(h.sh_name).unwrap_or(u32::MAX),
        address: ElfAddr(h.sh_addr),
        file_offset: FileOffset(h.sh_offset),
        size: h.sh_size,
        kind: h.sh_type,
        flags: h.sh_flags,
        link: h.sh_link,
        entry_size: h.sh_entsize,
    }
}

/// Longest name read. The longest seen in practice are about 30 KB of C++ templates; a crafted
/// table can hold one name of gigabytes for millions of entries.
const MAX_NAME_BYTES: usize = 64 << 10;

/// The bytes before the NUL that ends the string at `offset` of a string table; `None` if the
/// string is longer than [`MAX_NAME_BYTES`] or is not terminated.
fn c_string(table: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = table.get(offset..)?;
    let name = CStr::from_bytes_until_nul(&rest[..rest.len().min(MAX_NAME_BYTES)]).ok()?;
    Some(name.to_bytes())
}

/// The name at `offset` of a string table, cut at [`MAX_NAME_BYTES`]; empty outside the table.
fn name_at(table: &[u8], offset: usize) -> &[u8] {
    let rest = table.get(offset..).unwrap_or_default();
    let rest = &rest[..rest.len().min(MAX_NAME_BYTES)];
    CStr::from_bytes_until_nul(rest).map_or(rest, CStr::to_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose `sections` headers all have one name of `name_bytes` bytes, and whose symbol
    /// table has as many function symbols with that name.
    fn with_one_long_name(entries: usize, name_bytes: usize) -> Vec<u8> {
        const HEADER: usize = 64;
        const SYMBOL: usize = 24;
        let mut bytes = vec![0; HEADER];
        bytes[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        let put =
            |bytes: &mut Vec<u8>, at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(&mut bytes, 16, &[2, 0, 62, 0, 1, 0, 0, 0]);
        let names_at = bytes.len();
        bytes.push(0);
        bytes.resize(bytes.len() + name_bytes, b'A');
        bytes.push(0);
        let symbols_at = bytes.len();
        for _ in 0..entries {
            let mut symbol = [0; SYMBOL];
            symbol[0] = 1;
            symbol[4] = 0x12;
            symbol[6] = 2;
            symbol[8..10].copy_from_slice(&[0x34, 0x12]);
            bytes.extend(symbol);
        }
        let sections_at = bytes.len();
        let section = |kind: u32, flags: u64, offset: usize, size: usize, link: u32| {
            let mut header = Vec::new();
            header.extend(1u32.to_le_bytes());
            header.extend(kind.to_le_bytes());
            for word in [flags, 0, offset as u64, size as u64] {
                header.extend(word.to_le_bytes());
            }
            header.extend(link.to_le_bytes());
            header.extend([0; 4 + 16]);
            header
        };
        bytes.extend(section(sh::SHT_STRTAB, 0, names_at, symbols_at - names_at, 0));
        bytes.extend(section(sh::SHT_SYMTAB, 0, symbols_at, entries * SYMBOL, 0));
        for _ in 2..entries {
            bytes.extend(section(sh::SHT_PROGBITS, u64::from(sh::SHF_EXECINSTR), 0, 0x2000, 0));
        }
        put(&mut bytes, 0x28, &(sections_at as u64).to_le_bytes());
        put(&mut bytes, 0x34, &[64, 0]);
        put(&mut bytes, 0x3a, &[64, 0]);
        put(&mut bytes, 0x3c, &(entries as u16).to_le_bytes());
        put(&mut bytes, 0x3e, &[0, 0]);
        bytes
    }

    fn small_budget() -> Budget {
        Budget::session().with_limits([1 << 20, 1 << 20, 32 << 20])
    }

    #[test]
    fn section_names_are_slices_of_the_file() {
        let budget = small_budget();
        let elf = ElfFile::from_bytes_within(with_one_long_name(2000, 1 << 20), &budget).expect("ELF");
        assert_eq!(elf.sections().len(), 2000);
        assert!(elf.section(".text").is_none());
        assert!(elf.sections().iter().all(|section| elf.section_name(section).len() == MAX_NAME_BYTES));
        assert_eq!((budget.used(Resource::Memory), size_of::<Section>()), (0, 56));
    }

    #[test]
    fn reading_one_long_symbol_name_again_and_again_ends_with_the_budget() {
        let budget = small_budget();
        let elf = ElfFile::from_bytes_within(with_one_long_name(3000, 1 << 20), &budget).expect("ELF");
        let names: Vec<&[u8]> = elf.symbols().map(|symbol| symbol.name).collect();
        assert_eq!(names.len(), (32 << 20) / MAX_NAME_BYTES, "then the budget is exhausted");
        assert!(names.iter().all(|name| elf.bytes().as_ptr_range().contains(&name.as_ptr())));
        assert!(budget.used(Resource::Work) <= 32 << 20);
        assert!(elf.budget().refusal().is_some());
    }
}
