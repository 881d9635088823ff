//! Reads objects of V8's heap: arrays, strings, types.
//!
//! Nothing is trusted: the process runs meanwhile, its collector moves objects, and its memory may
//! be crafted. Every pointer is checked by the type of what it points to, every length is bounded;
//! what does not make sense is `None`. Not here: functions, code.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::layouts::Layout;
use crate::{addr::RuntimeAddr, process::ProcessMemory};

/// The most elements of an array of objects.
const MAX_ITEMS: u64 = 1 << 20;
/// The most bytes of a table.
const MAX_BYTES: u64 = 4 << 20;
/// The most strings that one string is put together from.
const MAX_PARTS: usize = 256;
/// How long types of maps are remembered: memory of a map that is gone may be used again.
const TYPES_FOR: Duration = Duration::from_secs(1);
/// The most maps that are remembered.
const MAX_TYPES: usize = 4096;

/// The characters of a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// Latin-1.
    OneByte(Vec<u8>),
    /// UTF-16.
    TwoByte(Vec<u16>),
}

impl Text {
    /// The number of UTF-16 units.
    pub fn len(&self) -> usize {
        match self {
            Text::OneByte(units) => units.len(),
            Text::TwoByte(units) => units.len(),
        }
    }

    /// The unit at an index.
    pub fn unit(&self, index: usize) -> Option<u16> {
        match self {
            Text::OneByte(units) => units.get(index).copied().map(u16::from),
            Text::TwoByte(units) => units.get(index).copied(),
        }
    }

    fn slice(&self, start: usize, length: usize) -> Option<Text> {
        let range = start..start.checked_add(length)?;
        Some(match self {
            Text::OneByte(units) => Text::OneByte(units.get(range)?.to_vec()),
            Text::TwoByte(units) => Text::TwoByte(units.get(range)?.to_vec()),
        })
    }

    fn append(&mut self, other: Text) {
        match (&mut *self, other) {
            (Text::OneByte(units), Text::OneByte(more)) => units.extend(more),
            (Text::TwoByte(units), Text::TwoByte(more)) => units.extend(more),
            (Text::TwoByte(units), Text::OneByte(more)) => units.extend(more.into_iter().map(u16::from)),
            (Text::OneByte(units), Text::TwoByte(more)) => {
                let first = units.iter().copied().map(u16::from);
                *self = Text::TwoByte(first.chain(more).collect());
            }
        }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Text::OneByte(units) => {
                f.write_str(&units.iter().map(|unit| char::from(*unit)).collect::<String>())
            }
            Text::TwoByte(units) => f.write_str(&String::from_utf16_lossy(units)),
        }
    }
}

/// Types of maps, by the map's address.
#[derive(Debug)]
struct Types {
    known: FxHashMap<u64, u16>,
    since: Instant,
}

/// The heap of a process.
#[derive(Debug)]
pub struct Heap {
    /// Its memory.
    pub memory: Arc<ProcessMemory>,
    /// The layout of its objects.
    pub layout: Arc<Layout>,
    types: Mutex<Types>,
}

/// Whether a word can be a pointer to an object: tagged, in the half of the addresses that programs
/// have.
pub fn is_object(word: u64) -> bool {
    word & 3 == 1 && (0x1000..1 << 47).contains(&word)
}

/// The value of a small integer; `None`: the word is none.
pub fn small_integer(word: u64) -> Option<i32> {
    (word & 0xffff_ffff == 0).then_some((word >> 32) as u32 as i32)
}

impl Heap {
    /// Reads `memory` as `layout` states.
    pub fn new(memory: Arc<ProcessMemory>, layout: Arc<Layout>) -> Heap {
        let types = Mutex::new(Types { known: FxHashMap::default(), since: Instant::now() });
        Heap { memory, layout, types }
    }

    /// The word at an offset in an object.
    pub fn word(&self, object: u64, offset: u64) -> Option<u64> {
        is_object(object).then(|| self.memory.read_word(RuntimeAddr(object - 1 + offset)))?
    }

    /// Words from an offset on.
    pub fn words<const N: usize>(&self, object: u64, offset: u64) -> Option<[u64; N]> {
        let mut bytes = vec![0; N * 8];
        let is_read =
            is_object(object) && self.memory.read_exact(RuntimeAddr(object - 1 + offset), &mut bytes);
        let words = bytes.as_chunks::<8>().0;
        is_read.then(|| std::array::from_fn(|index| u64::from_le_bytes(words[index])))
    }

    /// The type of an object.
    pub fn type_of(&self, object: u64) -> Option<u16> {
        self.type_of_map(self.word(object, 0)?)
    }

    /// The type that a map gives its objects.
    pub fn type_of_map(&self, map: u64) -> Option<u16> {
        // No code panics while it holds the lock.
        let types = || self.types.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = types();
        if known.since.elapsed() > TYPES_FOR || known.known.len() >= MAX_TYPES {
            known.known.clear();
            known.since = Instant::now();
        }
        if let Some(found) = known.known.get(&map) {
            return Some(*found);
        }
        drop(known);
        // `Map::instance_type`.
        let read = self.word(map, 8)?;
        let found = (read >> 32) as u16;
        types().known.insert(map, found);
        Some(found)
    }

    /// Whether an object has this type.
    pub fn is(&self, object: u64, expected: u16) -> bool {
        expected != u16::MAX && self.type_of(object) == Some(expected)
    }

    /// The elements of an array of objects.
    pub fn array(&self, object: u64) -> Option<Vec<u64>> {
        let is_array = self.type_of(object).is_some_and(|found| self.layout.types.arrays.contains(&found));
        let bytes = self.elements(object, 8, MAX_ITEMS * 8).filter(|_| is_array)?;
        Some(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    /// The content of an array of bytes.
    pub fn bytes(&self, object: u64) -> Option<Vec<u8>> {
        let is_bytes = self.type_of(object).is_some_and(|found| self.layout.types.bytes.contains(&found));
        self.elements(object, 1, MAX_BYTES).filter(|_| is_bytes)
    }

    /// The length of an array, which its second word states.
    pub fn length(&self, object: u64) -> Option<u64> {
        u64::try_from(small_integer(self.word(object, 8)?)?).ok()
    }

    fn elements(&self, object: u64, item: u64, max: u64) -> Option<Vec<u8>> {
        let total = self.length(object)?.checked_mul(item).filter(|total| *total <= max)?;
        self.raw(object - 1 + 16, total)
    }

    /// Bytes at an address.
    pub fn raw(&self, address: u64, count: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(count).ok()?];
        self.memory.read_exact(RuntimeAddr(address), &mut bytes).then_some(bytes)
    }

    /// The text of a string with at most `max` characters.
    pub fn string(&self, object: u64, max: usize) -> Option<String> {
        Some(self.text(object, max)?.to_string())
    }

    /// The characters of a string with at most `max` characters.
    pub fn text(&self, object: u64, max: usize) -> Option<Text> {
        let mut parts = MAX_PARTS;
        self.text_of(object, max, &mut parts)
    }

    fn text_of(&self, object: u64, max: usize, parts: &mut usize) -> Option<Text> {
        *parts = parts.checked_sub(1)?;
        let (found, strings) = (self.type_of(object)?, self.layout.strings);
        if found >= self.layout.types.first_non_string {
            return None;
        }
        // The second word: hash and length.
        let length = (self.word(object, 8)? >> 32) as usize;
        if length > max {
            return None;
        }
        let one_byte = found & strings.one_byte != 0;
        match found & strings.mask {
            kind if kind == strings.sequential => self.characters(object - 1 + 16, length, one_byte),
            kind if kind == strings.external => self.characters(self.word(object, 24)?, length, one_byte),
            kind if kind == strings.thin => self.text_of(self.word(object, 16)?, max, parts),
            kind if kind == strings.sliced => {
                // The parent is flat; its length is bounded by what a source may have.
                let [parent, offset] = self.words(object, 16)?;
                let start = usize::try_from(small_integer(offset)?).ok()?;
                self.text_of(parent, MAX_PARENT, parts)?.slice(start, length)
            }
            kind if kind == strings.cons => {
                let [first, second] = self.words(object, 16)?;
                let mut text = self.text_of(first, length, parts)?;
                text.append(self.text_of(second, length - text.len().min(length), parts)?);
                (text.len() == length).then_some(text)
            }
            _ => None,
        }
    }

    fn characters(&self, address: u64, length: usize, one_byte: bool) -> Option<Text> {
        if one_byte {
            return Some(Text::OneByte(self.raw(address, length as u64)?));
        }
        let bytes = self.raw(address, length as u64 * 2)?;
        Some(Text::TwoByte(bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit)).collect()))
    }
}

/// The most characters of a string of which another one is a part.
const MAX_PARENT: usize = 1 << 20;
