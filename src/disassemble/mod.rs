//! Machine code as text: the instructions of a range of an ELF file's code, and the symbols that
//! mark the start and end of functions.
//!
//! Not here: source lines of instructions (`symbolize`) and how reports show them.
//!
//! x86 instructions are written in the syntax of `go tool objdump` (Go's assembler) or Intel's;
//! 64-bit ARM instructions in ARM's syntax.

mod arm64;
mod plan9;
mod x86;

use std::sync::Arc;

use crate::{
    addr::ElfAddr,
    budget::Resource,
    elf::{DefinedSymbol, ElfFile, Section},
};

/// `e_machine` of the supported CPUs.
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// Longer functions are cut. The limit bounds the work, because the file states the function's
/// size.
const MAX_CODE_BYTES: u64 = 2 << 20;

/// The syntax instructions are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syntax {
    /// The syntax of Go's assembler: operands from left to right.
    #[default]
    Go,
    /// The syntax of Intel's manuals; [`Syntax::Go`] where the CPU has no such syntax.
    Intel,
}

/// One instruction, or one byte that cannot be decoded (`?`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeLine {
    /// Address of its first byte.
    pub address: ElfAddr,
    /// The instruction as text, without its address.
    pub text: String,
}

/// A symbol: its name and address range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRange {
    /// Linkage name.
    pub name: String,
    /// First address.
    pub start: ElfAddr,
    /// 0 if the file does not state it.
    pub size: u64,
}

/// Why code cannot be disassembled.
#[derive(Debug, thiserror::Error)]
pub enum DisassembleError {
    /// The file has no symbol table.
    #[error("no symbol section")]
    NoSymbols,
    /// The CPU, by its `e_machine`.
    #[error("unsupported architecture {0:?}")]
    Cpu(String),
}

/// A file's code and symbols, ready to be disassembled.
#[derive(Debug)]
pub struct Disassembler {
    elf: Arc<ElfFile>,
    /// Sorted by address.
    symbols: Vec<NamedRange>,
}

impl Disassembler {
    /// Reads the symbols of a file: `.symtab`, or `.dynsym` if the file is stripped.
    pub fn new(elf: Arc<ElfFile>) -> Result<Disassembler, DisassembleError> {
        if ![EM_X86_64, EM_AARCH64].contains(&elf.machine()) {
            return Err(DisassembleError::Cpu(format!("machine {}", elf.machine())));
        }
        let mut symbols = symbols_of(&elf, false);
        if symbols.is_empty() {
            symbols = symbols_of(&elf, true);
        }
        if symbols.is_empty() {
            return Err(DisassembleError::NoSymbols);
        }
        Ok(Disassembler { elf, symbols })
    }

    /// All symbols with an address, sorted by address.
    pub fn symbols(&self) -> &[NamedRange] {
        &self.symbols
    }

    /// The instructions in `start..end`, as far as that range is code. An instruction that extends
    /// beyond `end` is reported as undecodable bytes.
    pub fn code(&self, start: ElfAddr, end: ElfAddr, syntax: Syntax) -> Vec<CodeLine> {
        let Some(section) = self.section(start, end) else { return Vec::new() };
        let Some(bytes) = self.elf.section_bytes(section) else { return Vec::new() };
        let first = start.0.max(section.address.0);
        let last = end.0.min(section.address.0.saturating_add(section.size)).max(first);
        let last = last.min(first.saturating_add(MAX_CODE_BYTES));
        let range = (first - section.address.0) as usize..(last - section.address.0) as usize;
        let Some(code) = bytes.get(range) else { return Vec::new() };
        if self.elf.machine() == EM_AARCH64 {
            arm64::code(code, first, &|address| self.symbol(address))
        } else {
            x86::code(code, first, syntax, &|address| self.symbol(address))
        }
    }

    /// The code section that overlaps `start..end`; `.text` is preferred.
    fn section(&self, start: ElfAddr, end: ElfAddr) -> Option<&Section> {
        const EXECUTABLE: u64 = 4;
        let overlaps = |section: &&Section| {
            section.flags & EXECUTABLE != 0
                && section.address < end
                && start.0 < section.address.0.saturating_add(section.size)
        };
        let sections = self.elf.sections();
        let text =
            sections.iter().filter(overlaps).find(|section| self.elf.section_name(section) == b".text");
        text.or_else(|| sections.iter().find(overlaps))
    }

    /// The symbol that covers an address, and the symbol's start.
    fn symbol(&self, address: u64) -> Option<(&str, u64)> {
        let behind = self.symbols.partition_point(|symbol| symbol.start.0 <= address);
        let symbol = self.symbols[..behind].last()?;
        // Gaps between functions are covered by linker-defined symbols, which name nothing useful.
        let is_mark = ["text", "_text", "etext", "_etext", "runtime.text", "runtime.etext"]
            .contains(&symbol.name.as_str());
        let covers = address - symbol.start.0 < symbol.size;
        (covers && !is_mark).then_some((&*symbol.name, symbol.start.0))
    }
}

fn symbols_of(elf: &ElfFile, dynamic: bool) -> Vec<NamedRange> {
    let tables = elf.symbol_tables().filter(|table| table.is_dynamic() == dynamic);
    let mut symbols: Vec<NamedRange> = tables
        .flat_map(|table| table.defined_symbols())
        .take_while(|symbol| elf.budget().take(Resource::Memory, cost(symbol)).is_ok())
        .map(|symbol| NamedRange {
            name: String::from_utf8_lossy(symbol.name).into_owned(),
            start: symbol.address,
            size: symbol.size,
        })
        .collect();
    symbols.sort_by_key(|symbol| (symbol.start, symbol.size > 0));
    symbols
}

/// Bytes of memory that a symbol takes here.
fn cost(symbol: &DefinedSymbol<'_>) -> u64 {
    (size_of::<NamedRange>() + symbol.name.len()) as u64
}

/// Looks up the symbol that covers an address, and the symbol's start.
type Lookup<'l> = &'l dyn Fn(u64) -> Option<(&'l str, u64)>;
