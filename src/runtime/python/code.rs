//! Code objects: what a frame's code word stands for. They hardly ever change, but their memory is
//! used again once they are gone, so a cached one is compared with the memory.

use std::sync::Arc;

use super::{layouts::LineFormat, lines, objects::is_pointer, process::PythonProcess};
use crate::{addr::RuntimeAddr, symbolize::SourceFrame};

/// The longest table of lines that is read: that of a function with 100,000 lines.
const MAX_TABLE: usize = 1 << 20;
/// The most characters of a name.
const MAX_NAME: usize = 1024;
/// The most per-thread copies of instructions that are compared (free-threaded builds).
const MAX_COPIES: u64 = 4096;

/// A function, class body or module.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// The qualified name (3.11 and newer), else the name.
    pub name: String,
    /// The file as the program knows it; may be relative, or no file (`<string>`).
    pub file: String,
    /// The line of its definition.
    pub first_line: u32,
    /// Changes when the memory holds another code object.
    pub generation: u64,
    table: Vec<u8>,
    format: LineFormat,
    /// The address of the first instruction.
    start: u64,
    /// The number of 2-byte units of the instructions, and the addresses of copies of them.
    units: u64,
    copies: Vec<u64>,
}

impl PythonProcess {
    /// Reads a code object; `None`: it is none, or cannot be read.
    pub fn code(&self, address: u64) -> Option<Arc<Code>> {
        let (objects, layout) = (self.objects(), &self.layout);
        let generation = self.code_generation(address)?;
        if objects.type_name(address)? != "code" {
            return None;
        }
        let text = |offset: u32| objects.text(objects.pointer(address, offset)?);
        let name = text(layout.code_qualified_name).or_else(|| text(layout.code_name))?;
        let code = Code {
            name: printable(&name, MAX_NAME),
            file: printable(&text(layout.code_file)?, usize::MAX),
            first_line: objects.number(address, layout.code_first_line)?,
            generation,
            table: objects.bytes(objects.pointer(address, layout.code_lines)?, MAX_TABLE)?,
            format: layout.lines,
            start: address + u64::from(layout.code_instructions),
            units: objects.word(address, layout.size)?,
            copies: self.copies(address).unwrap_or_default(),
        };
        Some(Arc::new(code))
    }

    /// A number that changes when another code object is at the address. One read.
    pub fn code_generation(&self, address: u64) -> Option<u64> {
        let layout = &self.layout;
        let fields =
            [layout.code_file, layout.code_qualified_name, layout.code_lines, layout.code_first_line];
        let end = fields.iter().max().map_or(0, |last| *last as usize + 8);
        let mut bytes = vec![0; end];
        if !is_pointer(address) || !self.memory.read_exact(RuntimeAddr(address), &mut bytes) {
            return None;
        }
        let word = |at: u32| {
            let at = at as usize & !7;
            bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
        };
        // FNV-1a over the words: the pointers to the name, the file and the table, and the line.
        fields.iter().try_fold(0xcbf2_9ce4_8422_2325_u64, |hash, field| {
            Some((hash ^ word(*field)?.rotate_left(*field)).wrapping_mul(0x100_0000_01b3))
        })
    }

    /// The addresses of the per-thread copies of the instructions.
    fn copies(&self, address: u64) -> Option<Vec<u64>> {
        let objects = self.objects();
        let offset = Some(self.layout.code_copies).filter(|offset| *offset != 0)?;
        let array = objects.pointer(address, offset)?;
        let count = objects.word(array, 0)?.min(MAX_COPIES);
        objects.words(array + 8, count)
    }
}

impl Code {
    /// The line of an instruction; that of the definition if it has none (a function that is being
    /// entered).
    pub fn line(&self, instr: u64) -> u32 {
        let line = self
            .offset(instr)
            .and_then(|offset| lines::line_at(self.format, &self.table, i64::from(self.first_line), offset));
        line.and_then(|line| u32::try_from(line).ok()).unwrap_or(self.first_line)
    }

    /// Where an instruction is in the code.
    fn offset(&self, instr: u64) -> Option<u64> {
        if self.format != LineFormat::Locations {
            // -1: the function has not begun.
            return (instr != u64::from(u32::MAX)).then_some(instr);
        }
        let starts = std::iter::once(&self.start).chain(&self.copies);
        let mut offsets = starts.filter_map(|start| Some(instr.checked_sub(*start)? / 2));
        offsets.find(|offset| *offset <= self.units)
    }
}

fn printable(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A frame of a profile.
pub fn source_frame(code: &Code, instr: u64) -> SourceFrame {
    SourceFrame {
        function: code.name.clone(),
        system_name: code.name.clone(),
        file: Some(code.file.clone()),
        line: code.line(instr),
        column: 0,
        start_line: code.first_line,
        inlined: false,
    }
}
