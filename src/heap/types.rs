//! The types of chunks' contents, as far as the content itself proves one.
//!
//! An object of a C++ class with virtual functions begins with the address of its class's table of
//! virtual functions. In front of the table is a pointer to the class's type information, which has
//! its name (Itanium C++ ABI, 2.5.2 and 2.9): stripped programs have it too. Without type
//! information, the table's symbol names the class.
//!
//! What only looks like something (text) is a shape, whose name begins with `~`; it is not counted
//! as a type. The content itself is never returned.

use std::collections::HashMap;

use super::{
    Target,
    type_name::{Certainty, TypeId, TypeName},
    vtables::Vtables,
};

/// The type of a chunk of which nothing is known.
pub const UNKNOWN: TypeId = 0;
/// The type of a chunk that begins with text.
const TEXT: TypeId = 1;
/// The most types that are kept; further ones are unknown.
const MAX_TYPES: usize = 1 << 16;
/// The most first words whose type is kept.
const MAX_WORDS: usize = 1 << 18;
/// The size of the table of words met last.
const RECENT: usize = 1 << 12;
/// How many characters a text has at least.
const TEXT_BYTES: usize = 12;

/// Finds the types of contents.
pub struct Types<'t> {
    vtables: Vtables<'t>,
    names: Vec<TypeName>,
    by_text: HashMap<(String, String), TypeId>,
    by_word: HashMap<u64, TypeId>,
    /// Words met last and their types, by the word's low bits.
    recent: Vec<(u64, TypeId)>,
}

impl<'t> Types<'t> {
    /// Finds types in this process.
    pub fn new(target: &'t Target) -> Types<'t> {
        let plain =
            |text: &str, certainty| TypeName { text: text.to_owned(), certainty, module: String::new() };
        Types {
            vtables: Vtables::new(target),
            names: vec![plain("[unknown]", Certainty::Unknown), plain("~text", Certainty::Shape)],
            by_text: HashMap::new(),
            by_word: HashMap::new(),
            recent: vec![(0, UNKNOWN); RECENT],
        }
    }

    /// The types that were found, by number.
    pub fn into_names(self) -> Vec<TypeName> {
        self.names
    }

    /// The type of a content, of which these are the first bytes.
    pub fn of(&mut self, content: &[u8]) -> TypeId {
        let Some(first) = content.first_chunk::<8>() else { return UNKNOWN };
        let word = u64::from_le_bytes(*first);
        let known = match word & 7 == 0 && word > 4096 {
            true => self.of_word(word),
            false => UNKNOWN,
        };
        if known == UNKNOWN && is_text(content) { TEXT } else { known }
    }

    fn of_word(&mut self, word: u64) -> TypeId {
        let place = (word >> 3) as usize % RECENT;
        if self.recent[place].0 == word {
            return self.recent[place].1;
        }
        let id = match self.by_word.get(&word) {
            Some(id) => *id,
            None => self.find(word),
        };
        self.recent[place] = (word, id);
        id
    }

    fn find(&mut self, word: u64) -> TypeId {
        // Most words are pointers to the heap: not worth remembering.
        let Some(found) = self.vtables.class_of(word) else { return UNKNOWN };
        let id = found.map_or(UNKNOWN, |name| self.add(name));
        if self.by_word.len() < MAX_WORDS {
            self.by_word.insert(word, id);
        }
        id
    }

    fn add(&mut self, name: TypeName) -> TypeId {
        let key = (name.text.clone(), name.module.clone());
        if let Some(id) = self.by_text.get(&key) {
            return *id;
        }
        if self.names.len() >= MAX_TYPES {
            return UNKNOWN;
        }
        let id = self.names.len() as TypeId;
        self.by_text.insert(key, id);
        self.names.push(name);
        id
    }
}

/// Whether a content begins with printable text up to a NUL or the end.
fn is_text(content: &[u8]) -> bool {
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t' | b'\r');
    let length = content.iter().take_while(|byte| is_printable(byte)).count();
    length >= TEXT_BYTES && content.get(length).is_none_or(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_with_a_nul_or_the_content() {
        assert!(is_text(b"a text of bytes\0\x07") && is_text(b"a text of bytes"));
        assert!(!is_text(b"short\0") && !is_text(b"a text of bytes\x07") && !is_text(b""));
    }
}
