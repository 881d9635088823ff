//! Go's function table ("pclntab") as it lies in an ELF file: which function an address is in, how deep
//! its frame is there, its file and line, and what was inlined into it.
//!
//! The form has been the same since Go 1.18 but for small things (source: `src/internal/abi/symtab.go`,
//! `src/runtime/symtab.go`, `src/cmd/link/internal/ld/pcln.go` of each release). Linkers keep the table
//! in stripped programs: the runtime itself needs it. Not here: finding it ([`super::find`]).

use std::sync::Arc;

use crate::{addr::ElfAddr, elf::ElfFile};

/// `magic`, two zero bytes, instruction quantum (1 or 4), pointer size (8): the header's first word.
const MAGIC_118: u32 = 0xffff_fff0;
const MAGIC_120: u32 = 0xffff_fff1;
/// Steps of one pc-value table that are followed: a function of 64 MiB of code would have more.
const MAX_STEPS: usize = 1 << 20;
/// Longest name or path that is read.
const MAX_NAME: usize = 1 << 14;
/// Functions inlined into one another at one place.
const MAX_INLINED: usize = 256;
/// Most functions of a program.
const MAX_FUNCTIONS: u64 = 1 << 24;

/// `PCDATA_InlTreeIndex`, `PCDATA_ArgLiveIndex`.
const PCDATA_INLINE_TREE: u32 = 2;
pub const PCDATA_ARG_LIVE: u32 = 3;
/// `FUNCDATA_InlTree`, `FUNCDATA_ArgInfo`, `FUNCDATA_ArgLiveInfo`.
const FUNCDATA_INLINE_TREE: u8 = 3;
pub const FUNCDATA_ARG_INFO: u8 = 5;
pub const FUNCDATA_ARG_LIVE: u8 = 6;

/// `FuncFlag`: the function is the outermost of its stack; it writes the stack pointer itself.
pub const FLAG_TOP_FRAME: u8 = 1;
pub const FLAG_SP_WRITE: u8 = 2;

/// The first 8 bytes of a table of this form, as a word; `None` if `word` is not such.
pub fn is_header(word: u64) -> bool {
    let magic = word as u32;
    let [_, _, _, _, zero_a, zero_b, quantum, pointer] = word.to_le_bytes();
    matches!(magic, MAGIC_118 | MAGIC_120)
        && zero_a == 0
        && zero_b == 0
        && matches!(quantum, 1 | 4)
        && pointer == 8
}

/// The five tables behind the header, as offsets from it, in the order of `moduledata`'s slices:
/// function names, compilation units, files, pc-value tables, functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    quantum: u64,
    is_118: bool,
    function_count: u64,
    pub tables: [u64; 5],
}

impl Header {
    /// Parses and checks: the offsets ascend, as linkers lay the tables.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
        let first = word(0)?;
        if !is_header(first) {
            return None;
        }
        let function_count = word(8)?;
        let tables = [word(32)?, word(40)?, word(48)?, word(56)?, word(64)?];
        let ascending = tables.is_sorted() && tables[0] >= 72 && tables[4] <= bytes.len() as u64;
        (ascending && (1..MAX_FUNCTIONS).contains(&function_count)).then_some(Header {
            quantum: u64::from(first.to_le_bytes()[6]),
            is_118: first as u32 == MAGIC_118,
            function_count,
            tables,
        })
    }
}

/// The function table of one file. Addresses are those that the file states.
#[derive(Debug)]
pub struct Pclntab {
    elf: Arc<ElfFile>,
    /// Position of the header in the file.
    start: usize,
    /// Position in the file of the byte behind what may belong to the table.
    end: usize,
    header: Header,
    /// `moduledata.text`: functions' entries count from it.
    text: u64,
    /// `moduledata.gofunc`: functions' own data counts from it.
    gofunc: u64,
    /// The `FuncID` of compiler-made wrappers: the largest in use.
    wrapper_id: u8,
}

/// A function: its entry in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    pub entry: u64,
    /// The next function's entry.
    pub end: u64,
    /// Position of `_func` in the table of functions.
    at: usize,
    name_offset: u32,
    pcsp: u32,
    pcfile: u32,
    pcln: u32,
    pcdata_count: u32,
    unit_offset: u32,
    /// 0 before Go 1.20.
    pub start_line: u32,
    pub id: u8,
    pub flags: u8,
    funcdata_count: u8,
}

/// A function at an address: itself, or one inlined into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalFrame<'a> {
    /// The linker's name, type arguments in full.
    pub name: &'a str,
    pub file: &'a str,
    pub line: u32,
    pub start_line: u32,
    pub id: u8,
    pub is_inlined: bool,
    /// Where in its caller's (or its own) code it stands.
    pub address: u64,
}

impl Pclntab {
    /// A table whose header lies at `start` of the file. `limit`: behind the last byte it may have.
    pub fn new(
        elf: Arc<ElfFile>,
        start: usize,
        limit: usize,
        text: ElfAddr,
        gofunc: ElfAddr,
    ) -> Option<Pclntab> {
        let end = limit.min(elf.bytes().len());
        let header = Header::parse(elf.bytes().get(start..end)?)?;
        let mut table =
            Pclntab { elf, start, end, header, text: text.0, gofunc: gofunc.0, wrapper_id: u8::MAX };
        let last = table.functions().map(|function| function.id).max()?;
        table.wrapper_id = last;
        Some(table)
    }

    pub fn elf(&self) -> &Arc<ElfFile> {
        &self.elf
    }

    pub fn function_count(&self) -> u64 {
        self.header.function_count
    }

    /// All functions, ascending by entry.
    pub fn functions(&self) -> impl Iterator<Item = Function> + '_ {
        (0..self.header.function_count as usize).filter_map(|index| self.function(index))
    }

    /// The function that an address lies in.
    pub fn find(&self, address: ElfAddr) -> Option<Function> {
        let offset = u32::try_from(address.0.checked_sub(self.text)?).ok()?;
        let (mut low, mut high) = (0usize, self.header.function_count as usize);
        // Entry `high` (the end of the text) is beyond the address, or nothing is.
        if offset < self.entry_offset(0)? || offset >= self.entry_offset(high)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.entry_offset(middle)? <= offset { low = middle } else { high = middle }
        }
        self.function(low)
    }

    /// The first and the last address of the program's Go code, as far as the table says.
    pub fn text_range(&self) -> Option<(ElfAddr, ElfAddr)> {
        let at = |index: usize| Some(ElfAddr(self.text.wrapping_add(self.entry_offset(index)?.into())));
        Some((at(0)?, at(self.header.function_count as usize)?))
    }

    fn entry_offset(&self, index: usize) -> Option<u32> {
        self.u32_in(4, index.checked_mul(8)?)
    }

    fn function(&self, index: usize) -> Option<Function> {
        let at = self.u32_in(4, index * 8 + 4)? as usize;
        let field = |offset: usize| self.u32_in(4, at + offset);
        // Go 1.20 put `startLine` in front of the last four bytes.
        let (start_line, last) = if self.header.is_118 { (0, 36) } else { (field(36)?, 40) };
        let [id, flags, _, funcdata_count] = field(last)?.to_le_bytes();
        Some(Function {
            entry: self.text.wrapping_add(field(0)?.into()),
            end: self.text.wrapping_add(self.entry_offset(index + 1)?.into()),
            at,
            name_offset: field(4)?,
            pcsp: field(16)?,
            pcfile: field(20)?,
            pcln: field(24)?,
            pcdata_count: field(28)?,
            unit_offset: field(32)?,
            start_line,
            id,
            flags,
            funcdata_count,
        })
    }

    /// The linker's name of a function; empty if the table is damaged there.
    pub fn name(&self, function: &Function) -> &str {
        self.name_at(function.name_offset)
    }

    fn name_at(&self, offset: u32) -> &str {
        self.text_in(0, offset as usize).unwrap_or_default()
    }

    /// Whether the compiler made the function to call another (`FuncIDWrapper`).
    pub fn is_wrapper(&self, id: u8) -> bool {
        id == self.wrapper_id
    }

    /// How far the stack pointer lies below where it was at the function's entry, in bytes.
    pub fn stack_depth(&self, function: &Function, address: ElfAddr) -> Option<i32> {
        self.value(function.pcsp, function.entry, address.0)
    }

    /// `PCDATA` of a function at an address.
    pub fn pcdata(&self, function: &Function, kind: u32, address: ElfAddr) -> Option<i32> {
        if kind >= function.pcdata_count {
            return None;
        }
        let table = self.u32_in(4, function.at + self.function_bytes() + 4 * kind as usize)?;
        self.value(table, function.entry, address.0)
    }

    /// `FUNCDATA` of a function: the bytes from there on.
    pub fn funcdata(&self, function: &Function, kind: u8) -> Option<&[u8]> {
        if kind >= function.funcdata_count || function.pcdata_count > 64 {
            return None;
        }
        let at = function.at + self.function_bytes() + 4 * (function.pcdata_count as usize + kind as usize);
        let offset = self.u32_in(4, at).filter(|offset| *offset != u32::MAX)?;
        self.elf.bytes_from(ElfAddr(self.gofunc.wrapping_add(offset.into())))
    }

    /// What stands at an address, innermost inlined function first, the function itself last.
    pub fn frames(&self, function: &Function, address: ElfAddr) -> Vec<LogicalFrame<'_>> {
        let mut frames = Vec::new();
        let mut at = address.0;
        let tree = self.funcdata(function, FUNCDATA_INLINE_TREE);
        while frames.len() < MAX_INLINED {
            let index = self.pcdata(function, PCDATA_INLINE_TREE, ElfAddr(at)).unwrap_or(-1);
            let entry = usize::try_from(index).ok().and_then(|index| self.inlined(tree?, index));
            let (file, line) = self.file_line(function, ElfAddr(at));
            let Some(inlined) = entry else {
                frames.push(LogicalFrame {
                    name: self.name(function),
                    file,
                    line,
                    start_line: function.start_line,
                    id: function.id,
                    is_inlined: false,
                    address: at,
                });
                break;
            };
            let name = self.name_at(inlined.name_offset);
            let (start_line, id) = (inlined.start_line, inlined.id);
            frames.push(LogicalFrame { name, file, line, start_line, id, is_inlined: true, address: at });
            at = function.entry.wrapping_add(u64::from(inlined.parent_offset));
        }
        frames
    }

    fn inlined(&self, tree: &[u8], index: usize) -> Option<Inlined> {
        let size = if self.header.is_118 { 20 } else { 16 };
        let bytes = tree.get(index.checked_mul(size)?..)?.get(..size)?;
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Some(if self.header.is_118 {
            // parent i16, funcID u8, _ u8, file i32, line i32, func_ i32, parentPc i32
            Inlined { id: bytes[2], name_offset: word(12), parent_offset: word(16), start_line: 0 }
        } else {
            // funcID u8, _ [3]u8, nameOff i32, parentPc i32, startLine i32
            Inlined { id: bytes[0], name_offset: word(4), parent_offset: word(8), start_line: word(12) }
        })
    }

    /// Whether `gofunc` fits: the inline trees that the functions point to are such.
    pub fn inline_trees_fit(&self) -> bool {
        const ENOUGH: usize = 16;
        let mut seen = 0;
        for function in self.functions() {
            let Some(tree) = self.funcdata(&function, FUNCDATA_INLINE_TREE) else { continue };
            let fits = self.inlined(tree, 0).is_some_and(|first| {
                u64::from(first.parent_offset) < function.end.wrapping_sub(function.entry)
                    && !self.name_at(first.name_offset).is_empty()
            });
            if !fits {
                return false;
            }
            seen += 1;
            if seen == ENOUGH {
                break;
            }
        }
        seen > 0
    }

    /// File and line of an address as if nothing had been inlined.
    pub fn file_line(&self, function: &Function, address: ElfAddr) -> (&str, u32) {
        let file = self.value(function.pcfile, function.entry, address.0);
        let line = self.value(function.pcln, function.entry, address.0).unwrap_or(0);
        let path = file.and_then(|file| {
            let index = function.unit_offset.checked_add(u32::try_from(file).ok()?)?;
            let offset = self.u32_in(1, index as usize * 4).filter(|offset| *offset != u32::MAX)?;
            self.text_in(2, offset as usize)
        });
        (path.unwrap_or("?"), u32::try_from(line).unwrap_or(0))
    }

    /// The value that a pc-value table has for an address: pairs of (change of value, length) in
    /// variable-length numbers.
    fn value(&self, table: u32, entry: u64, address: u64) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut bytes = self.slice(3)?.get(table as usize..)?;
        let (mut pc, mut value) = (entry, -1i32);
        for step in 0..MAX_STEPS {
            let change = varint(&mut bytes)?;
            if change == 0 && step > 0 {
                return None;
            }
            let signed = if change & 1 != 0 { !(change >> 1) } else { change >> 1 } as i32;
            value = value.wrapping_add(signed);
            let length = u64::from(varint(&mut bytes)?);
            pc = pc.wrapping_add(length * self.header.quantum);
            if address < pc {
                return Some(value);
            }
        }
        None
    }

    fn function_bytes(&self) -> usize {
        if self.header.is_118 { 40 } else { 44 }
    }

    /// One of the five tables, up to the end of all.
    fn slice(&self, table: usize) -> Option<&[u8]> {
        let start = self.start.checked_add(usize::try_from(self.header.tables[table]).ok()?)?;
        self.elf.bytes().get(start..self.end)
    }

    fn u32_in(&self, table: usize, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(*self.slice(table)?.get(at..)?.first_chunk::<4>()?))
    }

    fn text_in(&self, table: usize, at: usize) -> Option<&str> {
        let bytes = self.slice(table)?.get(at..)?;
        let bytes = &bytes[..bytes.len().min(MAX_NAME)];
        let end = bytes.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

struct Inlined {
    id: u8,
    name_offset: u32,
    /// Of the call, from the function's entry.
    parent_offset: u32,
    start_line: u32,
}

fn varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u32::from(first & 0x7f).checked_shl(shift).unwrap_or(0);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The name that Go's own reports show: type arguments are left out (`f[...]`).
pub fn printed_name(name: &str) -> std::borrow::Cow<'_, str> {
    let Some(open) = name.find('[') else { return name.into() };
    let Some(close) = name.rfind(']').filter(|close| *close > open) else { return name.into() };
    // A method of a generic type that has type parameters of its own (Go 1.27): both lists.
    let inner = &name[open..=close];
    let mut depth = 0usize;
    let first_end = inner.bytes().position(|byte| {
        depth = match byte {
            b'[' => depth + 1,
            b']' => depth.saturating_sub(1),
            _ => depth,
        };
        depth == 0
    });
    match first_end.map(|end| open + end).filter(|end| *end < close) {
        Some(end) => {
            let second = name[end..].find('[').map_or(close, |at| end + at);
            format!("{}[...]{}[...]{}", &name[..open], &name[end + 1..second], &name[close + 1..]).into()
        }
        None => format!("{}[...]{}", &name[..open], &name[close + 1..]).into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn type_arguments_are_left_out_of_printed_names() {
        for (name, printed) in [
            ("main.f", "main.f"),
            ("main.f[go.shape.int]", "main.f[...]"),
            ("main.(*T[go.shape.map[string]int]).m", "main.(*T[...]).m"),
            ("main.f[a].func1", "main.f[...].func1"),
            ("main.(*T[a[b]]).m[c]", "main.(*T[...]).m[...]"),
            ("odd]name[", "odd]name["),
        ] {
            assert_eq!(printed_name(name), printed);
        }
    }

    #[test]
    fn a_header_whose_tables_do_not_ascend_is_none() {
        let mut bytes = vec![0u8; 200];
        bytes[..8].copy_from_slice(&0x0801_0000_ffff_fff1u64.to_le_bytes());
        for (at, word) in [(8, 3u64), (32, 72), (40, 80), (48, 90), (56, 100), (64, 110)] {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        assert_eq!(Header::parse(&bytes).map(|header| header.tables), Some([72, 80, 90, 100, 110]));
        bytes[40] = 71;
        assert_eq!(Header::parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn a_variable_length_number_never_reads_beyond_its_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            let mut rest = &bytes[..];
            varint(&mut rest);
            prop_assert!(rest.len() <= bytes.len());
        }
    }
}
