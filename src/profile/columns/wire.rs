//! The protobuf wire format, as far as `profile.proto` uses it: splits fields and reads numbers.
//!
//! Not here: the meaning of fields.

use super::error::MAX_BYTES;

/// The bytes are not valid protobuf. The reference then tries its older formats without a more
/// precise message, and so does this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A field's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// Wire type 0.
    Number(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which no field of a profile uses.
    Fixed,
}

impl<'a> Content<'a> {
    pub(super) fn number(self) -> Result<u64, Malformed> {
        if let Content::Number(number) = self { Ok(number) } else { Err(Malformed) }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Content::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed) }
    }

    /// Calls `each` with the number, or with each of the packed numbers.
    #[inline]
    pub(super) fn numbers(self, mut each: impl FnMut(u64)) -> Result<(), Malformed> {
        match self {
            Content::Number(number) => each(number),
            Content::Bytes(bytes) => {
                let mut at = 0;
                while at < bytes.len() {
                    // Short and long numbers are mixed: no branch for each length.
                    let (number, end) = match short_varint(bytes, at) {
                        Some(read) => read,
                        None => varint(bytes, at)?.ok_or(Malformed)?,
                    };
                    each(number);
                    at = end;
                }
            }
            Content::Fixed => return Err(Malformed),
        }
        Ok(())
    }
}

/// The number at `at` and its end, if eight bytes are available and the number is not longer.
#[inline(always)]
fn short_varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    const MORE: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let ends = !word & MORE;
    if ends == 0 {
        return None;
    }
    // The bits up to the first byte that ends a number, joined in groups of 7, then 14, 28, 56.
    let groups = word & (ends ^ (ends - 1)) & !MORE;
    let pairs = (groups & 0x007f_007f_007f_007f) | ((groups & 0x7f00_7f00_7f00_7f00) >> 1);
    let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
    let number = (fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4);
    Some((number, at + ends.trailing_zeros() as usize / 8 + 1))
}

/// The number at `at` and its end; `None` if it is incomplete.
#[inline(always)]
fn varint(bytes: &[u8], at: usize) -> Result<Option<(u64, usize)>, Malformed> {
    // Short messages do not have eight bytes: the most common lengths come first.
    match *bytes.get(at..).unwrap_or_default() {
        [only @ 0..0x80, ..] => Ok(Some((u64::from(only), at + 1))),
        [low, high @ 0..0x80, ..] => Ok(Some((u64::from(low & 0x7f) | u64::from(high) << 7, at + 2))),
        [low, middle, high @ 0..0x80, ..] => {
            let low = u64::from(low & 0x7f) | u64::from(middle & 0x7f) << 7;
            Ok(Some((low | u64::from(high) << 14, at + 3)))
        }
        _ => match short_varint(bytes, at) {
            None => long_varint(bytes, at),
            read => Ok(read),
        },
    }
}

fn long_varint(bytes: &[u8], at: usize) -> Result<Option<(u64, usize)>, Malformed> {
    let bytes = bytes.get(at..).unwrap_or_default();
    let mut number = 0;
    for (length, byte) in (0..).zip(bytes.iter().take(10)) {
        number |= u64::from(byte & 0x7f) << (7 * length);
        if *byte < 0x80 {
            return Ok(Some((number, at + length + 1)));
        }
    }
    if bytes.len() < 10 { Ok(None) } else { Err(Malformed) }
}

/// The fields of a message, one by one. The position is a number rather than a slice, which the CPU
/// would have to store and load again for each field.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, at: 0 }
    }

    /// The bytes not yet consumed.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Consumes a field: its number and content. `None` if it is incomplete.
    #[inline(always)]
    pub(super) fn next_whole(&mut self) -> Result<Option<(u64, Content<'a>)>, Malformed> {
        let bytes = self.bytes;
        let Some((key, at)) = varint(bytes, self.at)? else { return Ok(None) };
        let (length, at) = match key & 7 {
            0 => {
                let Some((number, end)) = varint(bytes, at)? else { return Ok(None) };
                self.at = end;
                return Ok(Some((key >> 3, Content::Number(number))));
            }
            2 => match varint(bytes, at)? {
                None => return Ok(None),
                // No file is longer, so the field will never be complete.
                Some((length, _)) if length > MAX_BYTES as u64 => return Err(Malformed),
                Some((length, at)) => (length as usize, at),
            },
            1 => (8, at),
            5 => (4, at),
            _ => return Err(Malformed),
        };
        let Some(content) = bytes.get(at..at + length) else { return Ok(None) };
        self.at = at + length;
        let content = if key & 7 == 2 { Content::Bytes(content) } else { Content::Fixed };
        Ok(Some((key >> 3, content)))
    }
}

/// Calls `each` with every field of a message.
#[inline(always)]
pub(super) fn fields<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(u64, Content<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut fields = Fields::new(bytes);
    while fields.at < bytes.len() {
        let (number, content) = fields.next_whole()?.ok_or(Malformed)?;
        each(number, content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_read_the_same_at_every_position() {
        for bits in 0..64 {
            for number in [1u64 << bits, (1 << bits) - 1, 0x1234_5678_9abc_def0 >> (63 - bits)] {
                let (mut bytes, mut rest) = (Vec::new(), number);
                while rest >= 0x80 {
                    bytes.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                bytes.push(rest as u8);
                let read = (number, bytes.len());
                for behind in [0, 1, 20] {
                    let all = [&bytes[..], &vec![0xff; behind]].concat();
                    assert_eq!(varint(&all, 0), Ok(Some(read)));
                    assert_eq!(long_varint(&all, 0), Ok(Some(read)));
                    assert!(short_varint(&all, 0).is_none_or(|short| short == read));
                }
                let mut twice = Vec::new();
                Content::Bytes(&bytes.repeat(2)).numbers(|number| twice.push(number)).unwrap();
                assert_eq!(twice, [number; 2]);
            }
        }
    }

    #[test]
    fn a_field_is_consumed_once_it_is_complete() {
        let whole = [0x0a, 0x02, b'a', b'b', 0x10, 0x80, 0x01];
        for end in 0..4 {
            let mut cut = Fields::new(&whole[..end]);
            assert_eq!((cut.next_whole(), cut.rest().len()), (Ok(None), end));
        }
        let mut cut = Fields::new(&whole[..6]);
        assert_eq!(cut.next_whole(), Ok(Some((1, Content::Bytes(b"ab")))));
        assert_eq!((cut.next_whole(), cut.rest()), (Ok(None), &whole[4..6]));
        assert_eq!(fields(&whole[..6], |_, _| Ok(())), Err(Malformed));
        let mut numbers = Vec::new();
        let each = |number, content| {
            numbers.push((number, content));
            Ok(())
        };
        assert_eq!(fields(&whole, each), Ok(()));
        assert_eq!(numbers, [(1, Content::Bytes(b"ab")), (2, Content::Number(128))]);
        assert_eq!(fields(&[0x80; 10], |_, _| Ok(())), Err(Malformed));
        assert_eq!(fields(&[0x0b, 0], |_, _| Ok(())), Err(Malformed));
    }
}
