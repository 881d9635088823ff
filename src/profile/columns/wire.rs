//! The protobuf wire format, as far as `profile.proto` uses it: fields are told apart, numbers read.
//!
//! Not here: what the fields mean.

use super::decode::MAX_BYTES;

/// The bytes are not what the format allows. The reference then tries its older formats and says
/// nothing more precise, so neither does this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A field's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// Wire type 0.
    Number(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire types 1 and 5, which no field of a profile has.
    Fixed,
}

impl<'a> Content<'a> {
    pub(super) fn number(self) -> Result<u64, Malformed> {
        if let Content::Number(number) = self { Ok(number) } else { Err(Malformed) }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        if let Content::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed) }
    }

    /// Calls `each` with the number, or with all packed numbers.
    pub(super) fn numbers(self, mut each: impl FnMut(u64)) -> Result<(), Malformed> {
        match self {
            Content::Number(number) => each(number),
            Content::Bytes(mut bytes) => {
                while !bytes.is_empty() {
                    each(varint(&mut bytes)?);
                }
            }
            Content::Fixed => return Err(Malformed),
        }
        Ok(())
    }
}

/// Takes a number off the front.
#[inline]
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    whole_varint(bytes)?.ok_or(Malformed)
}

/// Takes a number off the front, or, where it is not whole yet, nothing.
#[inline]
fn whole_varint(bytes: &mut &[u8]) -> Result<Option<u64>, Malformed> {
    if let [byte @ 0..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return Ok(Some(u64::from(*byte)));
    }
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Ok(Some(number));
        }
    }
    if bytes.len() < 10 { Ok(None) } else { Err(Malformed) }
}

/// Takes a field off the front: its number and content.
#[inline]
pub(super) fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Content<'a>), Malformed> {
    whole_field(bytes)?.ok_or(Malformed)
}

/// Takes a field off the front, or, where it is not whole yet, nothing.
#[inline]
pub(super) fn whole_field<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u64, Content<'a>)>, Malformed> {
    let mut rest = *bytes;
    let Some(key) = whole_varint(&mut rest)? else { return Ok(None) };
    let length = match key & 7 {
        0 => {
            let Some(number) = whole_varint(&mut rest)? else { return Ok(None) };
            *bytes = rest;
            return Ok(Some((key >> 3, Content::Number(number))));
        }
        1 => 8,
        2 => match whole_varint(&mut rest)? {
            None => return Ok(None),
            // No file is longer: it need not be waited for.
            Some(length) => {
                usize::try_from(length).ok().filter(|length| *length <= MAX_BYTES).ok_or(Malformed)?
            }
        },
        5 => 4,
        _ => return Err(Malformed),
    };
    let Some((content, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    *bytes = rest;
    let content = if key & 7 == 2 { Content::Bytes(content) } else { Content::Fixed };
    Ok(Some((key >> 3, content)))
}

/// Calls `each` with every field of a message.
pub(super) fn fields<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(u64, Content<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !bytes.is_empty() {
        let (number, content) = field(&mut bytes)?;
        each(number, content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_taken_once_it_is_whole() {
        let whole = [0x0a, 0x02, b'a', b'b', 0x10, 0x80, 0x01];
        for end in 0..4 {
            let mut cut = &whole[..end];
            assert_eq!((whole_field(&mut cut), cut.len()), (Ok(None), end));
        }
        let mut rest = &whole[..6];
        assert_eq!(field(&mut rest), Ok((1, Content::Bytes(b"ab"))));
        assert_eq!((whole_field(&mut rest), field(&mut rest)), (Ok(None), Err(Malformed)));
        assert_eq!(field(&mut &whole[4..]), Ok((2, Content::Number(128))));
        assert_eq!(whole_field(&mut &[0x80; 10][..]), Err(Malformed));
        assert_eq!(whole_field(&mut &[0x0b, 0][..]), Err(Malformed));
    }
}
