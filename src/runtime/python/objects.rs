//! Reads Python objects from a process's memory: strings, `bytes`, integers, types, dictionaries,
//! attributes of instances, sets and tuples.
//!
//! Nothing is trusted: every length is bounded, and a pointer is followed only if it can be one.
//! The process runs meanwhile, so that any value may be torn; what does not make sense is `None`.

use super::layouts::Layout;
use crate::{addr::RuntimeAddr, process::ProcessMemory};

/// The most characters of a string that are read.
pub const MAX_TEXT: usize = 4096;
/// The most entries of a dictionary, set, list or tuple that are read.
pub const MAX_ITEMS: u64 = 1 << 20;
/// `Py_TPFLAGS_INLINE_VALUES` (3.13 and newer).
const INLINE_VALUES: u64 = 1 << 2;
/// `Py_TPFLAGS_MANAGED_DICT` (3.11 and newer).
const MANAGED_DICT: u64 = 1 << 4;
/// `Py_TPFLAGS_LONG_SUBCLASS` and the like.
const INT_SUBCLASS: u64 = 1 << 24;

/// Reads objects of one release from one memory.
#[derive(Clone, Copy, Debug)]
pub struct Objects<'a> {
    memory: &'a ProcessMemory,
    layout: &'a Layout,
}

impl<'a> Objects<'a> {
    /// Reads from `memory` as `layout` states.
    pub fn new(memory: &'a ProcessMemory, layout: &'a Layout) -> Objects<'a> {
        Objects { memory, layout }
    }

    /// The word at an offset of an object.
    pub fn word(&self, object: u64, offset: u32) -> Option<u64> {
        is_pointer(object).then(|| self.memory.read_word(RuntimeAddr(object + u64::from(offset))))?
    }

    /// The pointer at an offset of an object; `None` if it cannot be one.
    pub fn pointer(&self, object: u64, offset: u32) -> Option<u64> {
        self.word(object, offset).filter(|word| is_pointer(*word))
    }

    /// The 4-byte number at an offset of an object.
    pub fn number(&self, object: u64, offset: u32) -> Option<u32> {
        is_pointer(object).then(|| self.memory.read_u32(RuntimeAddr(object + u64::from(offset))))?
    }

    fn bytes_at(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.memory.read_exact(RuntimeAddr(at), &mut bytes).then_some(bytes)
    }

    /// Consecutive words.
    pub fn words(&self, at: u64, count: u64) -> Option<Vec<u64>> {
        let count = usize::try_from(count).ok().filter(|_| count <= 3 * MAX_ITEMS)?;
        let bytes = self.bytes_at(at, count * 8)?;
        Some(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// The name of an object's type.
    pub fn type_name(&self, object: u64) -> Option<String> {
        let kind = self.pointer(object, self.layout.object_type)?;
        let at = self.pointer_unaligned(kind, self.layout.type_name)?;
        let mut bytes = [0; 64];
        let count = self.memory.read(RuntimeAddr(at), &mut bytes);
        let end = bytes[..count].iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok().map(str::to_owned)
    }

    /// A pointer to characters.
    fn pointer_unaligned(&self, object: u64, offset: u32) -> Option<u64> {
        self.word(object, offset).filter(|word| is_pointer(word & !7))
    }

    /// A `str`, at most [`MAX_TEXT`] characters of it.
    pub fn text(&self, object: u64) -> Option<String> {
        let (mut text, length) = self.text_up_to(object, MAX_TEXT)?;
        if length > MAX_TEXT {
            text.push('…');
        }
        Some(text)
    }

    /// At most `max` characters of a `str`, and its length in characters.
    pub fn text_up_to(&self, object: u64, max: usize) -> Option<(String, usize)> {
        let layout = self.layout;
        let length = self.word(object, layout.string_length)?;
        let state = self.number(object, layout.string_state)? >> layout.string_kind_bit;
        let (width, is_compact, is_ascii) = ((state & 7) as usize, state >> 3 & 1 == 1, state >> 4 & 1 == 1);
        if !matches!(width, 1 | 2 | 4) || !is_compact || is_ascii && width != 1 {
            return None;
        }
        let count = usize::try_from(length).ok().filter(|length| *length <= isize::MAX as usize / 8)?;
        let head = if is_ascii { layout.string_ascii_bytes } else { layout.string_compact_bytes };
        let bytes = self.bytes_at(object + u64::from(head), count.min(max) * width)?;
        Some((decode(&bytes, width), count))
    }

    /// A `bytes` object of at most `max` bytes.
    pub fn bytes(&self, object: u64, max: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(self.word(object, self.layout.size)?).ok()?;
        (length <= max).then(|| self.bytes_at(object + u64::from(self.layout.bytes_data), length))?
    }

    /// The first bytes of a `bytes` object, at most `max`.
    pub fn bytes_up_to(&self, object: u64, max: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(self.word(object, self.layout.size)?).ok()?;
        self.bytes_at(object + u64::from(self.layout.bytes_data), length.min(max))
    }

    /// The absolute value of an `int` of `count` digits, at most 4.
    pub fn int_magnitude(&self, object: u64, count: u64) -> Option<u128> {
        let words = self.words(object + u64::from(self.layout.int_digits), count.min(4).div_ceil(2))?;
        let digit = |index: u64| words[(index / 2) as usize] >> (32 * (index % 2)) & 0x3fff_ffff;
        (count <= 4).then(|| (0..count).rev().fold(0, |sum, index| sum << 30 | u128::from(digit(index))))
    }

    /// An `int` from 0 to 2^64 - 1.
    pub fn unsigned(&self, object: u64) -> Option<u64> {
        let kind = self.pointer(object, self.layout.object_type)?;
        if self.word(kind, self.layout.type_flags)? & INT_SUBCLASS == 0 {
            return None;
        }
        let (is_negative, count) = self.int_size(object)?;
        if is_negative || count > 3 {
            return None;
        }
        let digits = self.words(object + u64::from(self.layout.int_digits), 2)?;
        let digit = |index: u64| digits[(index / 2) as usize] >> (32 * (index % 2)) & 0x3fff_ffff;
        (0..count).try_fold(0u64, |sum, index| {
            let digit = digit(index);
            let shifted = digit.checked_shl(30 * index as u32)?;
            (shifted >> (30 * index) == digit).then_some(sum | shifted)
        })
    }

    /// The sign and the number of digits of an integer.
    pub fn int_size(&self, object: u64) -> Option<(bool, u64)> {
        let size = self.word(object, self.layout.int_size)?;
        if self.layout.minor >= 12 { Some((size & 3 == 2, size >> 3)) } else { signed_size(size) }
    }

    /// The items of a tuple, at most `max` of them.
    pub fn tuple(&self, object: u64, max: u64) -> Option<Vec<u64>> {
        let count = self.word(object, self.layout.size)?.min(max);
        self.words(object + u64::from(self.layout.tuple_items), count)
    }

    /// The items of a list, at most `max` of them.
    pub fn list(&self, object: u64, max: u64) -> Option<Vec<u64>> {
        let count = self.word(object, self.layout.size)?.min(max);
        self.words(self.pointer(object, self.layout.list_items)?, count)
    }

    /// The members of a set.
    pub fn set(&self, object: u64) -> Option<Vec<u64>> {
        let count = self.word(object, self.layout.set_mask)?.checked_add(1)?;
        if count > MAX_ITEMS {
            return None;
        }
        let entries = self.words(self.pointer(object, self.layout.set_table)?, count * 2)?;
        let keys = entries.as_chunks::<2>().0.iter().map(|[key, _]| *key);
        // A removed entry refers to a dummy object, whose type no caller accepts.
        Some(keys.filter(|key| is_pointer(*key)).collect())
    }

    /// Keys and values of a dictionary.
    pub fn items(&self, dictionary: u64) -> Option<Vec<(u64, u64)>> {
        let keys = self.keys(self.pointer(dictionary, self.layout.dict_keys)?)?;
        let values = self.word(dictionary, self.layout.dict_values)?;
        if values == 0 {
            return Some(keys.entries());
        }
        let apart = self.words(values + u64::from(self.layout.values_header), keys.count)?;
        let pairs = keys.entries_with_empty().zip(apart).map(|((key, _), value)| (key, value));
        Some(pairs.filter(|(key, value)| is_pointer(*key) && is_pointer(*value)).collect())
    }

    /// The value of a text key of a dictionary.
    pub fn item(&self, dictionary: u64, key: &str) -> Option<u64> {
        let items = self.items(dictionary)?;
        items.into_iter().find(|(name, _)| self.is_text(*name, key)).map(|(_, value)| value)
    }

    /// Compares without reading long strings.
    fn is_text(&self, object: u64, text: &str) -> bool {
        self.word(object, self.layout.string_length) == Some(text.len() as u64)
            && self.text(object).is_some_and(|found| found == text)
    }

    fn keys(&self, at: u64) -> Option<Keys> {
        let layout = self.layout;
        let (start, count, entry_words) = if layout.minor >= 11 {
            let sizes = self.words(at + 8, 2)?;
            let index_bytes = 1u64.checked_shl((sizes[0] >> 8 & 0xff) as u32)?;
            // Kind 0: entries are hash, key, value; else key, value.
            let entry_words = if sizes[0] >> 16 & 0xff == 0 { 3 } else { 2 };
            (at.checked_add(32)?.checked_add(index_bytes)?, self.word(at, 24)?, entry_words)
        } else {
            let size = self.word(at, 8)?;
            let width = match size {
                0..=0xff => 1,
                0x100..=0xffff => 2,
                0x1_0000..=0xffff_ffff => 4,
                _ => return None,
            };
            (at.checked_add(40)?.checked_add(size * width)?, self.word(at, 32)?, 3)
        };
        if count > MAX_ITEMS || !is_pointer(start) {
            return None;
        }
        Some(Keys { words: self.words(start, count * entry_words as u64)?, entry_words, count })
    }

    /// The attribute of an instance (not of its class).
    pub fn attribute(&self, object: u64, name: &str) -> Option<u64> {
        let layout = self.layout;
        let kind = self.pointer(object, layout.object_type)?;
        let flags = self.word(kind, layout.type_flags)?;
        if layout.minor < 11 || flags & MANAGED_DICT == 0 {
            let offset = u32::try_from(self.word(kind, layout.type_dict_offset)?).ok()?;
            return (offset > 0).then(|| self.item(self.pointer(object, offset)?, name))?;
        }
        let before = |bytes: u64| self.word(object.wrapping_sub(bytes), 0);
        match layout.minor {
            11 => match before(32)? {
                0 => self.item(before(24)?, name),
                values => self.inline(kind, values, name),
            },
            12 => match before(24)? {
                tagged if tagged & 1 == 1 => self.inline(kind, tagged + 1, name),
                dictionary => self.item(dictionary, name),
            },
            _ => match before(if layout.free_threaded { 8 } else { 24 })? {
                0 if flags & INLINE_VALUES != 0 => {
                    let size = self.word(kind, layout.type_basic_size)?;
                    self.inline(kind, object.checked_add(size)? + u64::from(layout.values_header), name)
                }
                dictionary => self.item(dictionary, name),
            },
        }
    }

    /// The attribute `name` among values whose keys the class has.
    fn inline(&self, kind: u64, values: u64, name: &str) -> Option<u64> {
        let keys = self.keys(self.pointer(kind, self.layout.cached_keys)?)?;
        let mut names = keys.entries_with_empty().take(256);
        let index = names.position(|(key, _)| is_pointer(key) && self.is_text(key, name))?;
        self.word(values & !7, u32::try_from(index * 8).ok()?).filter(|value| is_pointer(*value))
    }

    /// The memory that is read.
    pub fn memory(&self) -> &'a ProcessMemory {
        self.memory
    }

    /// The layout that is used.
    pub fn layout(&self) -> &'a Layout {
        self.layout
    }
}

/// The entries of a dictionary's keys.
struct Keys {
    words: Vec<u64>,
    entry_words: usize,
    count: u64,
}

impl Keys {
    /// Key and value; 0 for entries without.
    fn entries_with_empty(&self) -> impl Iterator<Item = (u64, u64)> {
        let skip = self.entry_words - 2;
        self.words.chunks_exact(self.entry_words).map(move |entry| (entry[skip], entry[skip + 1]))
    }

    fn entries(&self) -> Vec<(u64, u64)> {
        self.entries_with_empty().filter(|(key, value)| is_pointer(*key) && is_pointer(*value)).collect()
    }
}

fn signed_size(size: u64) -> Option<(bool, u64)> {
    let size = size.cast_signed();
    Some((size < 0, size.unsigned_abs())).filter(|(_, count)| *count < 1 << 32)
}

/// Whether a word can be a pointer to an object: aligned, and in the half of the addresses that
/// programs have, beyond the first page.
pub fn is_pointer(word: u64) -> bool {
    word.is_multiple_of(8) && (0x1000..1 << 56).contains(&word)
}

/// Characters of 1, 2 or 4 bytes each.
fn decode(bytes: &[u8], width: usize) -> String {
    let unit = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |unit, byte| unit << 8 | u32::from(*byte));
    let units = bytes.chunks_exact(width).map(unit);
    units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x10_0000;

    fn memory(words: &[u64]) -> ProcessMemory {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        ProcessMemory::of_image(RuntimeAddr(START), bytes)
    }

    fn row(minor: u32) -> Layout {
        Layout::of(minor).expect("a row")
    }

    /// A `str` of 3.12: refcount, type, length, hash, state, characters.
    fn text_words(length: u64, state: u64, characters: &[u64]) -> Vec<u64> {
        [&[1, 0x20_0000, length, 0, state], characters].concat()
    }

    #[test]
    fn strings_of_each_width_are_read() {
        let layout = row(12);
        let ascii = u64::from_le_bytes(*b"main\0\0\0\0");
        let words = text_words(4, 1 << 2 | 1 << 5 | 1 << 6, &[ascii]);
        let image = memory(&words);
        assert_eq!(Objects::new(&image, &layout).text(START).as_deref(), Some("main"));
        // Not ASCII: two more words before the characters; garbage above the state's bits.
        let wide = u64::from('ж' as u32) | u64::from('a' as u32) << 16;
        let words = text_words(2, 0xffff_0000 | 2 << 2 | 1 << 5, &[0, 0, wide]);
        let image = memory(&words);
        assert_eq!(Objects::new(&image, &layout).text(START).as_deref(), Some("жa"));
        let astral = u64::from('🐍' as u32);
        let words = text_words(1, 4 << 2 | 1 << 5, &[0, 0, astral]);
        let image = memory(&words);
        assert_eq!(Objects::new(&image, &layout).text(START).as_deref(), Some("🐍"));
    }

    #[test]
    fn a_string_of_4_gb_is_neither_read_nor_allocated() {
        let layout = row(12);
        let image = memory(&text_words(4 << 30, 1 << 2 | 1 << 5 | 1 << 6, &[0]));
        assert_eq!(Objects::new(&image, &layout).text(START), None);
        let image = memory(&text_words(u64::MAX, 4 << 2 | 1 << 5, &[0]));
        assert_eq!(Objects::new(&image, &layout).text(START), None);
    }

    #[test]
    fn a_long_string_is_cut() {
        let layout = row(12);
        let words =
            text_words(MAX_TEXT as u64 + 8, 1 << 2 | 1 << 5 | 1 << 6, &vec![0x6161_6161_6161_6161; 600]);
        let text = Objects::new(&memory(&words), &layout).text(START).expect("a text");
        assert_eq!((text.chars().count(), text.ends_with('…')), (MAX_TEXT + 1, true));
    }

    #[test]
    fn integers_of_up_to_three_digits_are_read() {
        // A type with the flag of integers, then the integer: 2^47 + 5 = 5 + 2^17 * 2^30.
        for (minor, size) in [(11, 2), (12, 2 << 3)] {
            let mut words = vec![0; 32];
            words[168 / 8] = INT_SUBCLASS;
            let at = START + words.len() as u64 * 8;
            words.extend([1, START, size, 5 | 1 << (32 + 17), 0]);
            let (layout, image) = (row(minor), memory(&words));
            assert_eq!(Objects::new(&image, &layout).unsigned(at), Some((1 << 47) + 5), "3.{minor}");
        }
    }

    #[test]
    fn a_dictionary_with_a_hostile_number_of_entries_is_refused() {
        for (minor, keys) in [(10, [1, u64::MAX, 0, 0, 5]), (12, [1, 0x00ff_ff03, 0, u64::MAX, 0])] {
            let mut words = vec![1, START, 0, 0, START + 64, 0, 0, 0];
            words.extend(keys);
            let (layout, image) = (row(minor), memory(&words));
            assert_eq!(Objects::new(&image, &layout).items(START), None, "3.{minor}");
        }
    }

    #[test]
    fn a_word_that_cannot_be_a_pointer_is_not_followed() {
        assert!(!is_pointer(0) && !is_pointer(8) && !is_pointer(0x1001) && !is_pointer(!7));
        assert!(is_pointer(0x7fff_1234_5678));
    }
}
