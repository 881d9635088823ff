//! The line of an instruction, from the three tables that code objects have had.

use super::layouts::LineFormat;

/// The line of an instruction at `offset` (in 2-byte units for [`LineFormat::Linetable`] and
/// [`LineFormat::Locations`], in bytes for [`LineFormat::Lnotab`]) of code that begins at
/// `first_line`. `None`: the instruction has no line, or the table does not cover it.
pub fn line_at(format: LineFormat, table: &[u8], first_line: i64, offset: u64) -> Option<i64> {
    match format {
        LineFormat::Lnotab => Some(lnotab(table, first_line, offset)),
        LineFormat::Linetable => linetable(table, first_line, offset.checked_mul(2)?),
        LineFormat::Locations => locations(table, first_line, offset),
    }
}

/// Pairs of bytes: instructions to skip, signed change of the line.
fn lnotab(table: &[u8], first_line: i64, offset: u64) -> i64 {
    let (mut line, mut at) = (first_line, 0);
    for [skip, change] in table.as_chunks::<2>().0 {
        at += u64::from(*skip);
        if at > offset {
            break;
        }
        line += i64::from(change.cast_signed());
    }
    line
}

/// Pairs of bytes: the length of a range, and the signed change of the line before it; -128 is a
/// range without a line.
fn linetable(table: &[u8], first_line: i64, offset: u64) -> Option<i64> {
    let (mut line, mut end) = (first_line, 0);
    for [length, change] in table.as_chunks::<2>().0 {
        let has_line = *change != 0x80;
        if has_line {
            line += i64::from(change.cast_signed());
        }
        end += u64::from(*length);
        if offset < end {
            return has_line.then_some(line);
        }
    }
    None
}

/// Entries: a byte with bit 7 set, the form (4 bits) and the length - 1 (3 bits), then what the
/// form needs.
fn locations(table: &[u8], first_line: i64, offset: u64) -> Option<i64> {
    let mut bytes = table.iter().copied();
    let (mut line, mut end) = (first_line, 0);
    while let Some(head) = bytes.next() {
        let (form, length) = (head >> 3 & 15, u64::from(head & 7) + 1);
        match form {
            15 => {}
            14 => {
                line = line.checked_add(signed(&mut bytes)?)?;
                for _ in 0..3 {
                    unsigned(&mut bytes)?;
                }
            }
            13 => line = line.checked_add(signed(&mut bytes)?)?,
            10..=12 => {
                line += i64::from(form) - 10;
                bytes.nth(1)?;
            }
            _ => {
                bytes.next()?;
            }
        }
        end += length;
        if offset < end {
            return (form != 15).then_some(line);
        }
    }
    None
}

/// 6 bits a byte, the lowest first; bit 6: more follow.
fn unsigned(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut value = 0;
    for index in 0..6 {
        let byte = bytes.next()?;
        value |= i64::from(byte & 63) << (6 * index);
        if byte & 64 == 0 {
            return Some(value);
        }
    }
    None
}

/// The lowest bit is the sign.
fn signed(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let value = unsigned(bytes)?;
    Some(if value & 1 == 1 { -(value >> 1) } else { value >> 1 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lnotab_changes_the_line_at_its_offsets() {
        // From 3.8: x = 1 in line 2, a blank, y = 2 in line 4, then back to line 3.
        let table = [0, 1, 4, 2, 4, 0xff];
        let line = |offset| line_at(LineFormat::Lnotab, &table, 1, offset);
        assert_eq!([line(0), line(2), line(4), line(8), line(100)], [2, 2, 4, 3, 3].map(Some));
    }

    #[test]
    fn a_linetable_has_ranges_some_without_a_line() {
        let table = [4, 1, 2, 0x80, 6, 0xfe];
        let line = |offset| line_at(LineFormat::Linetable, &table, 10, offset);
        assert_eq!(
            [line(0), line(1), line(2), line(3), line(5), line(6)],
            [Some(11), Some(11), None, Some(9), Some(9), None]
        );
    }

    #[test]
    fn a_location_table_has_forms_of_several_lengths() {
        let entry = |form: u8, length: u8| 0x80 | form << 3 | (length - 1);
        let table = [
            entry(13, 2),
            2, // Line + 1, 2 units.
            entry(11, 1),
            4,
            5, // Line + 1, columns.
            entry(0, 3),
            0x11,         // The same line, short form.
            entry(15, 1), // No line.
            entry(14, 1),
            0x40 | 1,
            1,
            0,
            1,
            1, // Line - 32, three more numbers.
        ];
        let line = |offset| line_at(LineFormat::Locations, &table, 100, offset);
        assert_eq!(
            [line(0), line(1), line(2), line(3), line(5), line(6), line(7), line(8)],
            [Some(101), Some(101), Some(102), Some(102), Some(102), None, Some(70), None]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            table in proptest::collection::vec(any::<u8>(), 0..200), first in any::<i32>(), offset in any::<u64>(),
        ) {
            for format in [LineFormat::Lnotab, LineFormat::Linetable, LineFormat::Locations] {
                let _ = line_at(format, &table, i64::from(first), offset);
            }
        }
    }
}
