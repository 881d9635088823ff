//! One parsed view of an ELF file: segments, sections, notes, symbols, and how its addresses relate
//! to file offsets. Everything is read lazily from the mapped bytes and bounded by them: the file
//! is the target's, and may be crafted.
//!
//! Not here: DWARF, the meaning of unwinding tables, finding files.

mod compressed;
mod notes;
mod relocations;
mod symbols;

use std::{borrow::Cow, fs::File, sync::Arc};

use goblin::{
    container::{Container, Ctx, Endian},
    elf::{Elf, header, program_header as ph, section_header as sh},
};

pub use compressed::SectionContent;
pub use relocations::RelocatedWords;
pub use symbols::{CodeSymbol, DefinedSymbol, Symbol, SymbolKind, SymbolTable};

use crate::{
    addr::{ElfAddr, FileOffset},
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

/// A section header, its name resolved.
#[derive(Clone, Debug)]
pub struct Section {
    /// The name, from the section name table; empty if it cannot be read.
    pub name: String,
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
    segments: Vec<Segment>,
    sections: Vec<Section>,
    /// File ranges of `PT_NOTE` segments, for files without section headers.
    note_ranges: Vec<(FileOffset, u64)>,
    /// `PT_GNU_EH_FRAME`: where `.eh_frame_hdr` lies, section headers or not.
    eh_frame_header: Option<Segment>,
    build_id: Option<Vec<u8>>,
}

const CONTEXT: Ctx = Ctx { container: Container::Big, le: Endian::Little };

impl ElfFile {
    /// Maps and parses a file.
    pub fn open(file: &File) -> Result<ElfFile, ElfError> {
        ElfFile::parse(Arc::new(FileMap::open(file)?))
    }

    /// Parses an image that is already in memory: read from a process, or decompressed.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<ElfFile, ElfError> {
        ElfFile::parse(Arc::new(FileMap::from_vec(bytes)))
    }

    /// Parses headers, segments and section names. Damaged section headers are dropped (a file
    /// without them can still be unwound through its segments); a damaged file header is an error.
    pub fn parse(map: Arc<FileMap>) -> Result<ElfFile, ElfError> {
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
        let mut elf = ElfFile {
            machine: head.e_machine,
            kind: head.e_type,
            entry: ElfAddr(head.e_entry),
            segments: program_headers.iter().filter(|p| p.p_type == ph::PT_LOAD).map(segment).collect(),
            sections: parse_sections(bytes, &head),
            note_ranges: program_headers
                .iter()
                .filter(|p| p.p_type == ph::PT_NOTE)
                .map(|p| (FileOffset(p.p_offset), p.p_filesz))
                .collect(),
            eh_frame_header: program_headers.iter().find(|p| p.p_type == ph::PT_GNU_EH_FRAME).map(segment),
            build_id: None,
            map,
        };
        elf.build_id = notes::build_id(&elf);
        Ok(elf)
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
        self.sections.iter().find(|section| section.name == name)
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
    /// are decompressed into a temporary file and mapped. `allowance` is the number of bytes that
    /// may be decompressed; the bytes used are subtracted.
    pub fn section_content(&self, name: &str, allowance: &mut u64) -> Option<SectionContent<'_>> {
        compressed::section_content(self, name, allowance)
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
    /// reading few names.
    pub fn symbol_tables(&self) -> impl Iterator<Item = SymbolTable<'_>> {
        symbols::tables(self)
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

fn parse_sections(bytes: &[u8], head: &header::Header) -> Vec<Section> {
    let count = usize::from(head.e_shnum);
    if head.e_shoff == 0 || count > MAX_SECTIONS {
        return Vec::new();
    }
    let Ok(headers) = sh::SectionHeader::parse(bytes, head.e_shoff as usize, count, CONTEXT) else {
        return Vec::new();
    };
    // More than 0xfeff sections: section 0 holds the index of the name table.
    let mut names_index = usize::from(head.e_shstrndx);
    if names_index == sh::SHN_XINDEX as usize {
        names_index = headers.first().map_or(0, |first| first.sh_link as usize);
    }
    let names = headers.get(names_index).and_then(|h| {
        let start = usize::try_from(h.sh_offset).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(h.sh_size).ok()?)?)
    });
    headers.iter().map(|h| section(h, names.unwrap_or_default())).collect()
}

fn section(h: &sh::SectionHeader, names: &[u8]) -> Section {
    Section {
        name: String::from_utf8_lossy(c_string(names, h.sh_name).unwrap_or_default()).into_owned(),
        address: ElfAddr(h.sh_addr),
        file_offset: FileOffset(h.sh_offset),
        size: h.sh_size,
        kind: h.sh_type,
        flags: h.sh_flags,
        link: h.sh_link,
        entry_size: h.sh_entsize,
    }
}

/// The bytes before the NUL that ends the string at `offset` of a string table.
fn c_string(table: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = table.get(offset..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(&rest[..end])
}
