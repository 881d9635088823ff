//! All texts of a profile, each stored once, in one block of memory.
//!
//! Not here: their meaning. Equal texts have equal numbers, so texts are compared as numbers.

use std::{fmt, hash::BuildHasher, sync::LazyLock};

use hashbrown::{DefaultHashBuilder, HashTable};

/// Number of a text in [`Texts`]; 0 is the empty text.
pub type TextId = u32;

/// Shared by all [`Texts`], so that hashes can be reused when a text is copied from one to another.
/// Its seed is drawn at program start, because the names in a profile may be crafted.
static HASHER: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// Hash function for keys that may be crafted.
pub fn hasher() -> DefaultHashBuilder {
    HASHER.clone()
}

/// All texts of a profile, each stored once.
#[derive(Clone)]
pub struct Texts {
    bytes: String,
    /// End of each text in `bytes`; the next text begins there.
    ends: Vec<usize>,
    hashes: Vec<u64>,
    ids: HashTable<TextId>,
    hasher: DefaultHashBuilder,
}

impl fmt::Debug for Texts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries((0..self.len()).map(|id| self.get(id as TextId))).finish()
    }
}

impl Default for Texts {
    fn default() -> Texts {
        Texts::with_room(0, 0)
    }
}

impl Texts {
    /// An empty table with space for `count` texts of `bytes` bytes in total.
    pub fn with_room(count: usize, bytes: usize) -> Texts {
        let mut texts = Texts {
            bytes: String::with_capacity(bytes),
            ends: Vec::with_capacity(count),
            hashes: Vec::with_capacity(count),
            ids: HashTable::with_capacity(count),
            hasher: hasher(),
        };
        texts.intern("");
        texts
    }

    /// The number of `text`; a new text gets a new number.
    pub fn intern(&mut self, text: &str) -> TextId {
        self.intern_hashed(text, self.hasher.hash_one(text))
    }

    /// The number, in this table, of a text of `other`.
    pub fn intern_from(&mut self, other: &Texts, id: TextId) -> TextId {
        match other.hashes.get(id as usize) {
            Some(hash) => self.intern_hashed(other.get(id), *hash),
            None => 0,
        }
    }

    fn intern_hashed(&mut self, text: &str, hash: u64) -> TextId {
        let (bytes, ends, hashes) = (&self.bytes, &self.ends, &self.hashes);
        let is_equal = |id: &TextId| hashes[*id as usize] == hash && slice(bytes, ends, *id) == text;
        match self.ids.entry(hash, is_equal, |id| hashes[*id as usize]) {
            hashbrown::hash_table::Entry::Occupied(known) => *known.get(),
            hashbrown::hash_table::Entry::Vacant(new) => {
                let id = ends.len() as TextId;
                new.insert(id);
                self.bytes.push_str(text);
                self.ends.push(self.bytes.len());
                self.hashes.push(hash);
                id
            }
        }
    }

    /// Number of leading texts that are the same in both tables; 0 also if two different texts have
    /// the same hash.
    pub fn common_start(&self, other: &Texts) -> usize {
        let alike = self.hashes.iter().zip(&other.hashes).take_while(|(own, other)| own == other).count();
        let end = alike.checked_sub(1).map_or(0, |last| self.ends[last]);
        let are_same =
            self.ends[..alike] == other.ends[..alike] && self.bytes.get(..end) == other.bytes.get(..end);
        if are_same { alike } else { 0 }
    }

    /// The text with number `id`; empty if there is none.
    pub fn get(&self, id: TextId) -> &str {
        if (id as usize) < self.ends.len() { slice(&self.bytes, &self.ends, id) } else { "" }
    }

    /// The number of `text`, if it occurs.
    pub fn find(&self, text: &str) -> Option<TextId> {
        self.ids.find(self.hasher.hash_one(text), |id| self.get(*id) == text).copied()
    }

    /// Total size in bytes.
    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// Number of texts, including the empty one.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Always false: the empty text is always in the table.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

fn slice<'a>(bytes: &'a str, ends: &[usize], id: TextId) -> &'a str {
    let start = if id == 0 { 0 } else { ends[id as usize - 1] };
    &bytes[start..ends[id as usize]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_one_number_in_each_table() {
        let (mut one, mut other) = (Texts::default(), Texts::default());
        let ids = ["a", "", "b", "a"].map(|text| one.intern(text));
        assert_eq!((ids, one.len()), ([1, 0, 2, 1], 3));
        assert_eq!([0, 1, 2, 9].map(|id| one.get(id)), ["", "a", "b", ""]);
        assert_eq!((other.intern_from(&one, 2), other.intern_from(&one, 2), other.get(1)), (1, 1, "b"));
        assert_eq!((other.find("b"), other.find("a")), (Some(1), None));
        assert_eq!((one.common_start(&other), one.common_start(&one.clone())), (1, 3));
    }
}
