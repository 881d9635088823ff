//! HotSpot's compressed numbers (`UNSIGNED5` of src/hotspot/share/utilities/unsigned5.hpp): one to
//! five bytes, the lowest digit first; a byte below 192 is the last one.
//!
//! Not here: what the numbers mean.

/// The first byte that another one follows.
const CONTINUES: u8 = 192;
/// The most bytes of a number.
const MAX_BYTES: u32 = 5;

/// Numbers in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Numbers<'b> {
    bytes: &'b [u8],
    excluded: u8,
}

impl<'b> Numbers<'b> {
    /// The numbers of `bytes`. `excluded`: 1 in releases whose numbers do not use the byte 0.
    pub fn new(bytes: &'b [u8], excluded: u8) -> Numbers<'b> {
        Numbers { bytes, excluded }
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// The next number; `None`: the bytes end, or it is none.
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut sum = 0u32;
        for index in 0..MAX_BYTES {
            let byte = self.byte()?;
            let digit = u32::from(byte.checked_sub(self.excluded)?);
            sum = sum.wrapping_add(digit.wrapping_shl(index * 6));
            if byte < CONTINUES {
                break;
            }
        }
        Some(sum)
    }

    /// The next number with a sign, which is its lowest bit.
    pub fn signed(&mut self) -> Option<i32> {
        let coded = self.unsigned()?;
        Some((coded >> 1) as i32 ^ -((coded & 1) as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_to_five_bytes() {
        let all = |bytes: &[u8], excluded| {
            let mut numbers = Numbers::new(bytes, excluded);
            std::iter::from_fn(|| numbers.unsigned()).collect::<Vec<_>>()
        };
        assert_eq!(all(&[0, 1, 191, 192, 0, 255, 191], 0), [0, 1, 191, 192, 255 + (191 << 6)]);
        assert_eq!(all(&[1, 2, 191, 192, 1], 1), [0, 1, 190, 191]);
        // The byte 0 is excluded, and a number has at most five bytes.
        assert!(all(&[0], 1).is_empty());
        assert_eq!(all(&[255; 5], 0).len(), 1);
        assert!(all(&[255; 4], 0).is_empty());
    }

    #[test]
    fn the_sign_is_the_lowest_bit() {
        let mut numbers = Numbers::new(&[0, 1, 2, 3, 4], 0);
        let found: Vec<i32> = std::iter::from_fn(|| numbers.signed()).collect();
        assert_eq!(found, [0, -1, 1, -2, 2]);
    }
}
