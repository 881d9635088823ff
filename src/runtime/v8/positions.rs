//! V8's tables of positions: which position of the source a bytecode or an instruction is of.
//!
//! Sources: `src/codegen/source-position-table.cc`, `source-position.h`,
//! `src/baseline/bytecode-offset-iterator.h`. Not here: reading them from a process.

/// The most functions inlined into each other at one place.
const MAX_INLINED: usize = 40;
/// Bytes of an entry of the inlining positions.
const INLINING_BYTES: usize = 16;

/// A position in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Offset in the source, in characters; `None`: not stated.
    pub offset: Option<u32>,
    /// Number of the inlining position; `None`: of the function itself.
    pub inlined: Option<usize>,
}

/// `SourcePosition`: external bit, offset + 1 (30 bits), inlining id + 1 (16 bits).
fn decode_position(raw: i64) -> Position {
    let offset = (raw >> 1 & 0x3fff_ffff) as u32;
    Position {
        offset: offset.checked_sub(1).filter(|_| raw & 1 == 0),
        inlined: ((raw >> 31 & 0xffff) as usize).checked_sub(1),
    }
}

/// An unsigned number in groups of 7 bits; moves `at` behind it.
fn number(table: &[u8], at: &mut usize) -> Option<u64> {
    let (mut value, mut shift) = (0u64, 0);
    while shift < 64 {
        let byte = *table.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
    None
}

fn signed(table: &[u8], at: &mut usize) -> Option<i64> {
    let value = number(table, at)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// The entries of a table: code offset and raw position.
fn entries(table: &[u8], is_unsigned: bool) -> impl Iterator<Item = (i64, i64)> + '_ {
    let (mut at, mut code, mut position) = (0, -1i64, 0i64);
    std::iter::from_fn(move || {
        let distance = match is_unsigned {
            true => (number(table, &mut at)? >> 2) as i64,
            // A negative one is of an expression, else of a statement.
            false => match signed(table, &mut at)? {
                negative if negative < 0 => -(negative.wrapping_add(1)),
                other => other,
            },
        };
        code = code.wrapping_add(distance);
        position = position.wrapping_add(signed(table, &mut at)?);
        Some((code, position))
    })
}

/// A table of positions of code with `length` bytes. `is_unsigned`: as the release writes them; if
/// that leads beyond the code, the other form is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions(Vec<(i64, i64)>);

impl Positions {
    /// Decodes a table; empty if it is not one of this code.
    pub fn decode(table: &[u8], length: u64, is_unsigned: bool) -> Positions {
        let fits = |entries: &Vec<(i64, i64)>| {
            let inside = |(code, _): &(i64, i64)| (-1..=length as i64).contains(code);
            entries.iter().all(inside) && entries.is_sorted_by_key(|(code, _)| *code)
        };
        let mut forms = [is_unsigned, !is_unsigned].into_iter();
        let found = forms.find_map(|form| Some(entries(table, form).collect()).filter(fits));
        Positions(found.unwrap_or_default())
    }

    /// The position of the instruction at an offset.
    pub fn at(&self, offset: u64) -> Option<Position> {
        let next = self.0.partition_point(|(code, _)| *code <= offset as i64);
        Some(decode_position(self.0.get(next.checked_sub(1)?)?.1))
    }
}

/// One function at an instruction, as an index into the literals; `None`: the function whose code
/// it is. And the offset in its source.
pub type At = (Option<usize>, Option<u32>);

/// The functions at a position, the innermost first. `inlining`: the inlining positions of the
/// code.
pub fn expand(position: Position, inlining: &[u8]) -> Vec<At> {
    let (mut all, mut now) = (Vec::new(), position);
    while let Some(entry) = now.inlined.filter(|_| all.len() < MAX_INLINED).and_then(|index| {
        let at = index.checked_mul(INLINING_BYTES)?;
        inlining.get(at..)?.first_chunk::<INLINING_BYTES>()
    }) {
        let (raw, function) = entry.split_at(8);
        let function = i32::from_le_bytes(function[..4].try_into().unwrap_or_default());
        // A builtin that is inlined has no function.
        if let Ok(function) = usize::try_from(function) {
            all.push((Some(function), now.offset));
        }
        now = decode_position(i64::from_le_bytes(raw.try_into().unwrap_or_default()));
    }
    all.push((None, now.offset));
    all
}

/// The offset of the bytecode whose baseline code contains `distance`, in bytes from the start of
/// the machine code. `table`: one length of machine code a bytecode, after that of the prologue.
pub fn bytecode_of_baseline(table: &[u8], bytecodes: &[u8], sizes: &[u8], distance: u64) -> Option<u64> {
    let count = sizes.len() / 3;
    let (mut at, mut offset, mut last) = (0, 0usize, None);
    let mut machine = number(table, &mut at)?;
    while machine <= distance && offset < bytecodes.len() {
        last = Some(offset as u64);
        // Wide and ExtraWide, and their forms with a debugger's break, scale the operands.
        let (scale, prefix) = match bytecodes[offset] {
            0 | 2 => (1, 1),
            1 | 3 => (2, 1),
            _ => (0, 0),
        };
        let code = usize::from(*bytecodes.get(offset + prefix)?);
        let size = *sizes.get(scale * count + code).filter(|_| code < count)?;
        offset += prefix + usize::from(size.max(1));
        machine = machine.checked_add(number(table, &mut at)?)?;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zigzag(value: i64) -> u8 {
        ((value << 1) ^ (value >> 63)) as u8
    }

    #[test]
    fn both_forms_of_tables_are_decoded() {
        // Offsets 0 (statement), 5 (expression); positions 10 and 7, doubled as raw + 1.
        let old = [zigzag(1), zigzag(22), zigzag(-6), zigzag(-6)];
        let new = [1 << 2 | 1, zigzag(22), 5 << 2, zigzag(-6)];
        for (table, is_unsigned) in [(old, false), (new, true)] {
            let positions = Positions::decode(&table, 20, is_unsigned);
            assert_eq!(positions.at(0).and_then(|at| at.offset), Some(10), "{is_unsigned}");
            assert_eq!(positions.at(4).and_then(|at| at.offset), Some(10));
            assert_eq!(positions.at(5).and_then(|at| at.offset), Some(7));
            assert_eq!(positions.at(19).and_then(|at| at.offset), Some(7));
        }
    }

    #[test]
    fn a_table_that_leads_beyond_the_code_is_not_used() {
        assert_eq!(Positions::decode(&[0xff, 0xff, 0x7f, 2], 20, true), Positions::default());
        assert_eq!(Positions::decode(&[0x80; 40], 20, false).at(3), None);
    }

    #[test]
    fn inlined_functions_are_expanded_innermost_first() {
        // Function 3 inlined at offset 9 of function 1, which is inlined at offset 4.
        let entry = |raw: i64, function: i32| {
            [raw.to_le_bytes().to_vec(), function.to_le_bytes().to_vec(), vec![0; 4]].concat()
        };
        let inlining = [entry(5 << 1, 1), entry(10 << 1 | 1 << 31, 3)].concat();
        let position = decode_position(21 << 1 | 2 << 31);
        assert_eq!(expand(position, &inlining), [(Some(3), Some(20)), (Some(1), Some(9)), (None, Some(4))]);
        // A cycle ends.
        let cycle = entry(1 << 31, 0);
        assert_eq!(expand(decode_position(1 << 31), &cycle).len(), MAX_INLINED + 1);
    }

    #[test]
    fn machine_code_of_a_bytecode() {
        // Bytecodes 4 (1 byte) and 5 (2 bytes; 3 if wide); 10 bytes of prologue, then 6, 8, 4.
        let mut sizes = vec![1; 30];
        sizes[5] = 2;
        sizes[15] = 3;
        let bytecodes = [4, 5, 0, 0, 5, 0, 0];
        let of = |distance| bytecode_of_baseline(&[10, 6, 8, 4], &bytecodes, &sizes, distance);
        assert_eq!([of(3), of(10), of(15), of(16), of(24)], [None, Some(0), Some(0), Some(1), Some(3)]);
        assert_eq!(bytecode_of_baseline(&[0x80; 9], &bytecodes, &sizes, 3), None);
    }
}
