//! The protobuf wire format, as far as `profile.proto` uses it: fields are told apart, numbers read.
//!
//! Not here: what the fields mean.

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

    /// How many numbers [`Content::numbers`] gives, if they are all well formed.
    pub(super) fn count(self) -> usize {
        match self {
            Content::Bytes(bytes) => bytes.iter().filter(|byte| **byte < 0x80).count(),
            _ => 1,
        }
    }
}

/// Takes a number off the front.
#[inline]
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// Takes a field off the front: its number and content.
#[inline]
pub(super) fn field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Content<'a>), Malformed> {
    let key = varint(bytes)?;
    let content = match key & 7 {
        0 => Content::Number(varint(bytes)?),
        1 => fixed(bytes, 8)?,
        2 => {
            let length = usize::try_from(varint(bytes)?).map_err(|_| Malformed)?;
            let (content, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
            *bytes = rest;
            Content::Bytes(content)
        }
        5 => fixed(bytes, 4)?,
        _ => return Err(Malformed),
    };
    Ok((key >> 3, content))
}

fn fixed<'a>(bytes: &mut &'a [u8], length: usize) -> Result<Content<'a>, Malformed> {
    *bytes = bytes.get(length..).ok_or(Malformed)?;
    Ok(Content::Fixed)
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
