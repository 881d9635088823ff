//! Methods: class, name, source file and the table of lines (`Method`, `ConstMethod`,
//! `ConstantPool`).
//!
//! Not here: compiled code.

use super::{
    compressed::Numbers,
    layout::{Layout, SourceFileIndex},
    memory::{Memory, printable, u16_at, u64_at},
};
use crate::symbolize::SourceFrame;

/// The longest name of a class or method that is read, in bytes.
const MAX_SYMBOL: u16 = 2048;
/// The longest table of lines, in bytes.
const MAX_LINES: usize = 64 << 10;
/// The size of the first attempt to read one.
const FEW_LINES: usize = 512;

/// A method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Class and name: `java.util.HashMap.get`.
    pub name: String,
    /// The source file below the package's folder: `java/util/HashMap.java`.
    pub file: Option<String>,
    /// Address of its bytecode; there is none if the size is 0: a native method.
    pub bytecode: u64,
    /// Size of its bytecode.
    pub bytecode_size: u16,
    /// Bytecode index and line, ascending.
    lines: Vec<(i32, i32)>,
}

impl Method {
    /// The frame of a bytecode index; -1: not known.
    pub fn frame(&self, index: i32, inlined: bool) -> SourceFrame {
        let first = self.lines.iter().map(|(_, line)| *line).min().unwrap_or(0);
        let after = self.lines.partition_point(|(start, _)| *start <= index);
        let line = match after.checked_sub(1) {
            Some(at) => self.lines[at].1,
            None => first,
        };
        SourceFrame {
            function: self.name.clone(),
            system_name: self.name.clone(),
            file: self.file.clone(),
            line: line.max(0) as u32,
            column: 0,
            start_line: first.max(0) as u32,
            inlined,
        }
    }

    /// The index of a bytecode address; `None`: it is not in the method.
    pub fn index_of(&self, address: u64) -> Option<i32> {
        let index = address.checked_sub(self.bytecode)?;
        (index < u64::from(self.bytecode_size)).then_some(index as i32)
    }
}

/// The text of a `Symbol`.
pub fn symbol(memory: &Memory, layout: &Layout, address: u64) -> Option<String> {
    let length = memory.u16(address.checked_add(layout.method.symbol_length)?)?;
    if length > MAX_SYMBOL {
        return None;
    }
    let bytes = memory.bytes(address.checked_add(layout.method.symbol_body)?, usize::from(length))?;
    Some(printable(&bytes))
}

/// What a method's identity is read from: the bytes of its `ConstMethod`, which another method in
/// the same place has different ones of.
pub fn identity(memory: &Memory, layout: &Layout, method: u64) -> Option<(u64, Vec<u8>)> {
    let const_method = memory.pointer(method.checked_add(layout.method.const_method)?)?;
    if !method.is_multiple_of(8) || !const_method.is_multiple_of(8) {
        return None;
    }
    Some((const_method, memory.bytes(const_method, layout.method.const_method_size as usize)?))
}

/// Reads a method. `None`: it is none.
pub fn read(memory: &Memory, layout: &Layout, address: u64) -> Option<Method> {
    let fields = &layout.method;
    let (const_method, bytes) = identity(memory, layout, address)?;
    let pool = u64_at(&bytes, fields.constants).filter(|pool| *pool != 0 && pool.is_multiple_of(8))?;
    let class = memory.pointer(pool.checked_add(fields.pool_holder)?)?;
    let class_name = symbol(memory, layout, memory.pointer(class.checked_add(fields.class_name)?)?)?;
    let text = |index: u16| {
        let entry = memory.pointer(pool + fields.pool_size + u64::from(index) * 8)?;
        symbol(memory, layout, entry & !1)
    };
    let name = text(u16_at(&bytes, fields.name_index)?)?;
    let source = match fields.source_file {
        SourceFileIndex::Pool(offset) => memory.u16(pool + offset),
        SourceFileIndex::Class(offset) => memory.u16(class + offset),
        SourceFileIndex::Unknown => None,
    };
    let source = source.filter(|index| *index != 0).and_then(text);
    let bytecode = const_method + fields.const_method_size;
    let bytecode_size = u16_at(&bytes, fields.code_size)?;
    let has_lines = u16_at(&bytes, fields.flags)? & fields.has_lines != 0;
    let table = bytecode + u64::from(bytecode_size);
    Some(Method {
        name: format!("{}.{name}", external(&class_name)),
        file: source.map(|file| path_of(&class_name, &file)),
        bytecode,
        bytecode_size,
        lines: if has_lines { lines(memory, layout, table) } else { Vec::new() },
    })
}

/// A class's name as Java prints it. That of a hidden class ends with its address.
fn external(class: &str) -> String {
    let (name, address) = match class.rsplit_once('+') {
        Some((name, address)) if address.starts_with("0x") => (name, Some(address)),
        _ => (class, None),
    };
    let name = name.replace('/', ".");
    address.map_or(name.clone(), |address| format!("{name}/{address}"))
}

fn path_of(class: &str, file: &str) -> String {
    match class.rsplit_once('/') {
        Some((package, _)) if !file.contains('/') => format!("{package}/{file}"),
        _ => file.to_owned(),
    }
}

fn lines(memory: &Memory, layout: &Layout, address: u64) -> Vec<(i32, i32)> {
    let decode = |length| decode_lines(&memory.some_bytes(address, length), layout.excluded);
    let mut lines = decode(FEW_LINES).or_else(|| decode(MAX_LINES)).unwrap_or_default();
    lines.sort_by_key(|(index, _)| *index);
    lines
}

/// The pairs of a compressed table of lines; `None`: the bytes do not have its end.
pub fn decode_lines(bytes: &[u8], excluded: u8) -> Option<Vec<(i32, i32)>> {
    let mut numbers = Numbers::new(bytes, excluded);
    let (mut lines, mut index, mut line) = (Vec::new(), 0i32, 0i32);
    loop {
        match numbers.byte()? {
            0 => return Some(lines),
            0xff => {
                index = index.wrapping_add(numbers.signed()?);
                line = line.wrapping_add(numbers.signed()?);
            }
            byte => {
                index = index.wrapping_add(i32::from(byte >> 3));
                line = line.wrapping_add(i32::from(byte & 7));
            }
        }
        lines.push((index, line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_lines_is_decoded_up_to_its_end() {
        // (0, 10) needs a long entry, (4, 11) fits a byte.
        let bytes = [0xff, 1, 21, 4 << 3 | 1, 0, 77];
        assert_eq!(decode_lines(&bytes, 1), Some(vec![(0, 10), (4, 11)]));
        assert_eq!(decode_lines(&bytes[..4], 1), None);
    }

    #[test]
    fn names_are_those_that_java_prints() {
        assert_eq!(external("java/util/HashMap"), "java.util.HashMap");
        assert_eq!(external("Main$$Lambda+0x0000000800c031f0"), "Main$$Lambda/0x0000000800c031f0");
        assert_eq!(external("a/B+C"), "a.B+C");
        assert_eq!(path_of("java/util/HashMap$Node", "HashMap.java"), "java/util/HashMap.java");
        assert_eq!(path_of("Main", "Main.java"), "Main.java");
    }

    #[test]
    fn the_line_of_a_bytecode_index_is_the_last_one_that_begins_before() {
        let method = Method {
            name: "A.b".to_owned(),
            file: None,
            bytecode: 100,
            bytecode_size: 20,
            lines: vec![(0, 7), (5, 9), (9, 8)],
        };
        let line = |index| method.frame(index, false).line;
        assert_eq!([line(-1), line(0), line(4), line(5), line(19)], [7, 7, 7, 9, 8]);
        assert_eq!(
            (method.index_of(100), method.index_of(119), method.index_of(120)),
            (Some(0), Some(19), None)
        );
    }
}
