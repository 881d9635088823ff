//! Go's function table ("pclntab") in an ELF file: for an address, its function, the size of the
//! frame there, file and line, and the inlined functions.
//!
//! The format has changed little since Go 1.18 (source: `src/internal/abi/symtab.go`,
//! `src/runtime/symtab.go`, `src/cmd/link/internal/ld/pcln.go` of each release). Stripped programs
//! keep the table, because the runtime needs it. Not here: finding it ([`super::find`]).

use std::sync::Arc;

use crate::{addr::ElfAddr, elf::ElfFile};

/// `magic`, two zero bytes, instruction quantum (1 or 4), pointer size (8): the header's first
/// word.
const MAGIC_118: u32 = 0xffff_fff0;
const MAGIC_120: u32 = 0xffff_fff1;
/// Limit of the steps of one pc-value table: only a function with 64 MiB of code has more.
const MAX_STEPS: usize = 1 << 20;
/// The longest name or path, in bytes.
const MAX_NAME: usize = 1 << 14;
/// Limit of the functions inlined at one address.
const MAX_INLINED: usize = 256;
/// Limit of the functions of a program.
const MAX_FUNCTIONS: u64 = 1 << 24;

/// `PCDATA_InlTreeIndex`.
const PCDATA_INLINE_TREE: u32 = 2;
/// `PCDATA_ArgLiveIndex`.
pub const PCDATA_ARG_LIVE: u32 = 3;
/// `FUNCDATA_InlTree`.
const FUNCDATA_INLINE_TREE: u8 = 3;
/// `FUNCDATA_ArgInfo`.
pub const FUNCDATA_ARG_INFO: u8 = 5;
/// `FUNCDATA_ArgLiveInfo`.
pub const FUNCDATA_ARG_LIVE: u8 = 6;

/// `FuncFlagTopFrame`: the function is the outermost of its stack.
pub const FLAG_TOP_FRAME: u8 = 1;
/// `FuncFlagSPWrite`: the function writes the stack pointer itself.
pub const FLAG_SP_WRITE: u8 = 2;

/// Whether `word` is the first word of a function table.
pub fn is_header(word: u64) -> bool {
    let magic = word as u32;
    let [_, _, _, _, zero_a, zero_b, quantum, pointer] = word.to_le_bytes();
    matches!(magic, MAGIC_118 | MAGIC_120)
        && zero_a == 0
        && zero_b == 0
        && matches!(quantum, 1 | 4)
        && pointer == 8
}

/// The header of a function table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    quantum: u64,
    is_118: bool,
    function_count: u64,
    /// The offsets of the five tables from the header, in the order of the slices in `moduledata`:
    /// function names, compilation units, files, pc-value tables, functions.
    pub tables: [u64; 5],
}

impl Header {
    /// Parses a header; `None` if it is not one, or the offsets do not ascend.
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

/// The function table of one file. Addresses are those in the file.
#[derive(Debug)]
pub struct Pclntab {
    elf: Arc<ElfFile>,
    /// Position of the header in the file.
    start: usize,
    /// The exclusive end of the table, as a position in the file.
    end: usize,
    header: Header,
    /// `moduledata.text`: function entries are relative to it.
    text: u64,
    /// `moduledata.gofunc`: function data is relative to it.
    gofunc: u64,
    /// The `FuncID` of compiler-generated wrappers: the largest one in use.
    wrapper_id: u8,
}

/// A function: its entry in the function table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// The address of its first instruction.
    pub entry: u64,
    /// The address of the next function.
    pub end: u64,
    /// Position of `_func` in the table of functions.
    at: usize,
    name_offset: u32,
    pcsp: u32,
    pcfile: u32,
    pcln: u32,
    pcdata_count: u32,
    unit_offset: u32,
    /// The line of its declaration; 0 before Go 1.20.
    pub start_line: u32,
    /// `FuncID`.
    pub id: u8,
    /// `FuncFlag` bits.
    pub flags: u8,
    funcdata_count: u8,
}

/// A function at an address: the physical one, or one inlined into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalFrame<'a> {
    /// The linker's name with full type arguments.
    pub name: &'a str,
    /// The source file.
    pub file: &'a str,
    /// The current line.
    pub line: u32,
    /// The line of its declaration; 0: unknown.
    pub start_line: u32,
    /// `FuncID`.
    pub id: u8,
    /// Whether it is inlined into the next frame.
    pub is_inlined: bool,
    /// The address that the line belongs to, in the physical function's code.
    pub address: u64,
}

impl Pclntab {
    /// The table whose header is at position `start` of the file; `limit` is its exclusive end.
    /// `None`: the header is invalid.
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

    /// The file that has the table.
    pub fn elf(&self) -> &Arc<ElfFile> {
        &self.elf
    }

    /// The number of functions.
    pub fn function_count(&self) -> u64 {
        self.header.function_count
    }

    /// All functions, ascending by entry.
    pub fn functions(&self) -> impl Iterator<Item = Function> + '_ {
        (0..self.header.function_count as usize).filter_map(|index| self.function(index))
    }

    /// The function that contains an address.
    pub fn find(&self, address: ElfAddr) -> Option<Function> {
        let offset = u32::try_from(address.0.checked_sub(self.text)?).ok()?;
        let (mut low, mut high) = (0usize, self.header.function_count as usize);
        // Entry `high` (the end of the text) must be greater than the address.
        if offset < self.entry_offset(0)? || offset >= self.entry_offset(high)? {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.entry_offset(middle)? <= offset { low = middle } else { high = middle }
        }
        self.function(low)
    }

    /// The first address and the exclusive end of the Go code, according to the table.
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
        // Go 1.20 inserted `startLine` before the last four bytes.
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

    /// Whether the function is a compiler-generated wrapper (`FuncIDWrapper`).
    pub fn is_wrapper(&self, id: u8) -> bool {
        id == self.wrapper_id
    }

    /// The distance of the stack pointer below its value at the function's entry, in bytes.
    pub fn stack_depth(&self, function: &Function, address: ElfAddr) -> Option<i32> {
        self.value(function.pcsp, function.entry, address.0)
    }

    /// A `PCDATA` value of a function at an address.
    pub fn pcdata(&self, function: &Function, kind: u32, address: ElfAddr) -> Option<i32> {
        if kind >= function.pcdata_count {
            return None;
        }
        let table = self.u32_in(4, function.at + self.function_bytes() + 4 * kind as usize)?;
        self.value(table, function.entry, address.0)
    }

    /// The bytes from a `FUNCDATA` of a function on.
    pub fn funcdata(&self, function: &Function, kind: u8) -> Option<&[u8]> {
        if kind >= function.funcdata_count || function.pcdata_count > 64 {
            return None;
        }
        let at = function.at + self.function_bytes() + 4 * (function.pcdata_count as usize + kind as usize);
        let offset = self.u32_in(4, at).filter(|offset| *offset != u32::MAX)?;
        self.elf.bytes_from(ElfAddr(self.gofunc.wrapping_add(offset.into())))
    }

    /// The functions at an address, the innermost inlined one first, the physical one last.
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

    /// Whether `gofunc` is plausible: the functions' inline trees must be valid.
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

    /// The file and line of an address, disregarding inlined functions.
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

    /// The value of a pc-value table at an address: the table has pairs of value delta and length,
    /// as variable-length numbers.
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

    /// The bytes from one of the five tables to the end of all.
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
    /// The offset of the call from the function's entry.
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

/// A name without type arguments (`f[...]`), as Go's own reports show it.
pub fn printed_name(name: &str) -> std::borrow::Cow<'_, str> {
    let Some(open) = name.find('[') else { return name.into() };
    let Some(close) = name.rfind(']').filter(|close| *close > open) else { return name.into() };
    // A generic method of a generic type (Go 1.27) has two lists.
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
    fn printed_names_have_no_type_arguments() {
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
    fn a_header_whose_offsets_do_not_ascend_is_rejected() {
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
        fn a_variable_length_number_is_not_read_beyond_its_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            let mut rest = &bytes[..];
            varint(&mut rest);
            prop_assert!(rest.len() <= bytes.len());
        }
    }
}
