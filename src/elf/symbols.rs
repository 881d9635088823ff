//! The symbol tables: `.symtab` and `.dynsym`, read entry by entry without building anything.

use goblin::elf::{
    section_header as sh,
    sym::{STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, Symtab},
};

use super::{CONTEXT, ElfFile, Section, c_string};
use crate::addr::ElfAddr;

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SymbolKind {
    Function,
    /// `STT_NOTYPE` in an executable section: a label in assembly.
    Label,
}

/// A named address of code.
#[derive(Clone, Copy, Debug)]
pub struct Symbol<'a> {
    pub name: &'a [u8],
    pub address: ElfAddr,
    /// 0 where the file does not say (assembly).
    pub size: u64,
    pub kind: SymbolKind,
    /// Bound globally (`STB_GLOBAL`, `STB_WEAK`): preferred among aliases.
    pub global: bool,
}

pub(super) fn all(elf: &ElfFile) -> impl Iterator<Item = Symbol<'_>> {
    elf.sections()
        .iter()
        .filter(|section| section.kind == sh::SHT_SYMTAB || section.kind == sh::SHT_DYNSYM)
        .flat_map(move |section| table(elf, section))
}

fn table<'a>(elf: &'a ElfFile, section: &'a Section) -> impl Iterator<Item = Symbol<'a>> {
    let entry = goblin::elf64::sym::SIZEOF_SYM as u64;
    let names = elf.sections().get(section.link as usize).and_then(|strings| elf.section_bytes(strings));
    let parsed = (elf.section_bytes(section).zip(names)).and_then(|(_, names)| {
        let count = (section.size / entry) as usize;
        Symtab::parse(elf.bytes(), section.file_offset.0 as usize, count, CONTEXT).ok().zip(Some(names))
    });
    parsed.into_iter().flat_map(move |(table, names)| {
        table.iter().filter_map(move |symbol| {
            let kind = match symbol.st_type() {
                STT_FUNC | STT_GNU_IFUNC => SymbolKind::Function,
                STT_NOTYPE => SymbolKind::Label,
                _ => return None,
            };
            let home = elf.sections().get(symbol.st_shndx)?;
            let code = home.flags & u64::from(sh::SHF_EXECINSTR) != 0;
            if symbol.st_shndx == sh::SHN_UNDEF as usize || !code {
                return None;
            }
            let name = c_string(names, symbol.st_name).filter(|name| !name.is_empty())?;
            let global = symbol.st_bind() != goblin::elf::sym::STB_LOCAL;
            Some(Symbol { name, address: ElfAddr(symbol.st_value), size: symbol.st_size, kind, global })
        })
    })
}
