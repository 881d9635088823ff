//! The symbol tables `.symtab` and `.dynsym`, read entry by entry without building an index. A
//! symbol's name is read only when requested, because most entries are skipped.

use goblin::elf::{
    section_header as sh,
    sym::{STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, STT_TLS},
};

use super::{
    ElfFile, Section,
    dynamic::{self, ENTRY_BYTES},
    name_at,
};
use crate::addr::ElfAddr;

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SymbolKind {
    /// `STT_FUNC` or `STT_GNU_IFUNC`.
    Function,
    /// `STT_NOTYPE` in an executable section: a label in assembly.
    Label,
}

/// A named code address.
#[derive(Clone, Copy, Debug)]
pub struct Symbol<'a> {
    /// The linkage name, without the terminating NUL; not necessarily UTF-8.
    pub name: &'a [u8],
    /// `st_value`.
    pub address: ElfAddr,
    /// In bytes; 0 if the file does not state it (assembly).
    pub size: u64,
    /// Function or label.
    pub kind: SymbolKind,
    /// Binding is `STB_GLOBAL` or `STB_WEAK`: preferred among aliases.
    pub global: bool,
}

/// One symbol table of a file.
#[derive(Clone, Copy, Debug)]
pub struct SymbolTable<'a> {
    entries: &'a [u8],
    names: &'a [u8],
    elf: &'a ElfFile,
    dynamic: bool,
}

/// A code symbol whose name has not been read yet.
#[derive(Clone, Copy, Debug)]
pub struct CodeSymbol {
    /// `st_value`.
    pub address: ElfAddr,
    /// In bytes; 0 if the file does not state it (assembly).
    pub size: u64,
    /// Function or label.
    pub kind: SymbolKind,
    /// Binding is `STB_GLOBAL` or `STB_WEAK`.
    pub global: bool,
    /// End of the section that holds it: the symbol names nothing beyond.
    pub section_end: ElfAddr,
    name: u32,
}

/// A named address of code or data.
#[derive(Clone, Copy, Debug)]
pub struct DefinedSymbol<'a> {
    /// The linkage name, without the terminating NUL; not necessarily UTF-8.
    pub name: &'a [u8],
    /// `st_value`.
    pub address: ElfAddr,
    /// In bytes; 0 if the file does not state it.
    pub size: u64,
}

impl<'a> SymbolTable<'a> {
    /// True for `.dynsym` (exported symbols only), false for `.symtab`.
    pub fn is_dynamic(&self) -> bool {
        self.dynamic
    }

    /// The functions and labels in executable sections, in file order.
    pub fn code_symbols(&self) -> impl Iterator<Item = CodeSymbol> + use<'a> {
        let elf = self.elf;
        let code_end: Vec<Option<ElfAddr>> = elf.sections().iter().map(code_end).collect();
        let has_sections = !code_end.is_empty();
        let end_of_code = move |section: u16, address: ElfAddr| match has_sections {
            true => *code_end.get(usize::from(section))?,
            false => end_of_segment(elf, address),
        };
        self.entries.chunks_exact(ENTRY_BYTES).filter_map(move |entry| code_symbol(entry, &end_of_code))
    }

    /// The symbols that have an address, including data, in file order.
    pub fn defined_symbols(&self) -> impl Iterator<Item = DefinedSymbol<'a>> + use<'a> {
        let table = *self;
        self.entries.chunks_exact(ENTRY_BYTES).filter_map(move |entry| defined_symbol(entry, &table))
    }

    /// The address of the symbol with this name; faster than reading the names of all symbols.
    /// `None`: the table does not define it.
    pub fn address_of(&self, name: &str) -> Option<ElfAddr> {
        let places = places_of_name(self.names, name);
        let is_it = |entry: &&[u8]| {
            let at = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            places.contains(&(at as usize))
        };
        let mut entries = self.entries.chunks_exact(ENTRY_BYTES).filter(|_| !places.is_empty()).filter(is_it);
        entries.find_map(|entry| defined_symbol(entry, self)).map(|symbol| symbol.address)
    }

    /// Lets the kernel drop the pages of the whole file that were read so far.
    pub fn release_pages(&self) {
        self.elf.release_pages();
    }

    /// Size of the table and its names, in bytes.
    pub fn size(&self) -> usize {
        self.entries.len() + self.names.len()
    }

    /// A symbol's name, a slice of the file; empty if it is outside the string table, or the file's
    /// budget is exhausted.
    pub fn name(&self, symbol: &CodeSymbol) -> &'a [u8] {
        self.bounded_name(symbol.name)
    }

    /// The name of the symbol with this index; empty if there is none.
    pub(super) fn name_of(&self, index: usize) -> &'a [u8] {
        let entry = self.entries.chunks_exact(ENTRY_BYTES).nth(index);
        let name = entry.and_then(|entry| entry.first_chunk::<4>()).map(|name| u32::from_le_bytes(*name));
        name.filter(|name| *name != 0).map_or(&[], |name| self.bounded_name(name))
    }

    fn bounded_name(&self, at: u32) -> &'a [u8] {
        if self.elf.budget().refusal().is_some() {
            return &[];
        }
        let name = name_at(self.names, at as usize);
        if self.elf.may_scan(name.len()) { name } else { &[] }
    }
}

/// Where a name is in a string table: also as the end of another one.
fn places_of_name(names: &[u8], name: &str) -> Vec<usize> {
    /// Linkers keep equal names once.
    const MAX_PLACES: usize = 8;
    let pattern = regex::bytes::Regex::new(&format!("{}\\x00", regex::escape(name)));
    let places = pattern.iter().flat_map(|pattern| pattern.find_iter(names));
    places.map(|found| found.start()).take(MAX_PLACES).collect()
}

fn code_end(section: &Section) -> Option<ElfAddr> {
    let code = section.flags & u64::from(sh::SHF_EXECINSTR) != 0;
    code.then(|| ElfAddr(section.address.0.saturating_add(section.size)))
}

/// The end of the executable segment that contains `address`.
fn end_of_segment(elf: &ElfFile, address: ElfAddr) -> Option<ElfAddr> {
    let end = |start: ElfAddr, size: u64| ElfAddr(start.0.saturating_add(size));
    let mut code = elf.segments().iter().filter(|segment| segment.executable);
    code.find(|segment| segment.address <= address && address < end(segment.address, segment.memory_size))
        .map(|segment| end(segment.address, segment.memory_size))
}

fn code_symbol(entry: &[u8], end_of_code: &impl Fn(u16, ElfAddr) -> Option<ElfAddr>) -> Option<CodeSymbol> {
    let kind = match entry[4] & 0xf {
        STT_FUNC | STT_GNU_IFUNC => SymbolKind::Function,
        STT_NOTYPE => SymbolKind::Label,
        _ => return None,
    };
    let section = u16::from_le_bytes(entry[6..8].try_into().ok()?);
    let name = u32::from_le_bytes(entry[..4].try_into().ok()?);
    if u32::from(section) == sh::SHN_UNDEF || name == 0 {
        return None;
    }
    let address = ElfAddr(u64::from_le_bytes(entry[8..16].try_into().ok()?));
    let section_end = end_of_code(section, address)?;
    let size = u64::from_le_bytes(entry[16..24].try_into().ok()?);
    Some(CodeSymbol { address, size, kind, global: entry[4] >> 4 != STB_LOCAL, section_end, name })
}

fn defined_symbol<'a>(entry: &[u8], table: &SymbolTable<'a>) -> Option<DefinedSymbol<'a>> {
    let section = u32::from(u16::from_le_bytes(entry[6..8].try_into().ok()?));
    let address = ElfAddr(u64::from_le_bytes(entry[8..16].try_into().ok()?));
    let size = u64::from_le_bytes(entry[16..24].try_into().ok()?);
    if section == sh::SHN_UNDEF || address.0 == 0 || entry[4] & 0xf == STT_TLS {
        return None;
    }
    let name = table.bounded_name(u32::from_le_bytes(entry[..4].try_into().ok()?));
    (!name.is_empty()).then_some(DefinedSymbol { name, address, size })
}

pub(super) fn tables(elf: &ElfFile) -> impl Iterator<Item = SymbolTable<'_>> {
    let without_sections = elf.sections().is_empty().then(|| dynamic::symbols(elf)).flatten();
    let without_sections =
        without_sections.map(|(entries, names)| SymbolTable { entries, names, elf, dynamic: true });
    let listed = elf.sections().iter().filter_map(move |section| {
        let dynamic = section.kind == sh::SHT_DYNSYM;
        if !dynamic && section.kind != sh::SHT_SYMTAB {
            return None;
        }
        let names = elf.section_bytes(elf.sections().get(section.link as usize)?)?;
        Some(SymbolTable { entries: elf.section_bytes(section)?, names, elf, dynamic })
    });
    listed.chain(without_sections)
}

pub(super) fn all(elf: &ElfFile) -> impl Iterator<Item = Symbol<'_>> {
    tables(elf).flat_map(|table| {
        table.code_symbols().filter_map(move |symbol| {
            let CodeSymbol { address, size, kind, global, .. } = symbol;
            let name = Some(table.name(&symbol)).filter(|name| !name.is_empty())?;
            Some(Symbol { name, address, size, kind, global })
        })
    })
}
