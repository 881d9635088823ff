//! Chunks that nothing points to. While a program runs, a pointer may be in a register, or just
//! being moved: one pass finds many chunks that are not lost. So a chunk counts as leaked only if
//! several passes, each at least a second after the one before, find it unreachable at the same
//! address with the same size and content.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use super::{Index, Marks, Target, type_name::TypeId};

/// How much of the content must be unchanged, in bytes.
const COMPARED: u64 = 512;

/// A chunk that was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// Bytes that the program may use.
    pub size: u64,
    /// Its type.
    pub of_type: TypeId,
    content: u64,
}

/// Chunks that no pass has reached, by address.
#[derive(Debug, Default)]
pub struct Suspects {
    hasher: RandomState,
    chunks: Option<HashMap<u64, Unreached>>,
    /// How many passes there were.
    pub passes: u32,
    /// How many chunks the first pass did not reach.
    pub first: u64,
}

impl Suspects {
    /// Takes a pass into account. One that was cut short proves nothing and is ignored.
    pub fn add(&mut self, target: &Target, index: &Index, marks: &Marks) {
        if marks.cut.is_some() {
            return;
        }
        let unreached = (0..index.len() as u32).filter(|chunk| marks.holder(*chunk).is_none());
        let mut found = HashMap::new();
        for chunk in unreached {
            let (address, size) = index.content(chunk);
            // Size and content decide whether it is the same chunk; its type is that of this pass.
            let known = self.chunks.as_ref().map(|chunks| chunks.get(&address));
            if let Some(None) = known {
                continue;
            }
            let mut bytes = vec![0; size.min(COMPARED) as usize];
            let read = target.memory.read(address, &mut bytes);
            let content = self.hasher.hash_one(&bytes[..read]);
            let own = Unreached { size, of_type: index.of_type(chunk), content };
            let is_same = |known: &Unreached| known.size == size && known.content == content;
            if known.flatten().is_none_or(is_same) {
                found.insert(address, own);
            }
        }
        if self.passes == 0 {
            self.first = found.len() as u64;
        }
        self.passes += 1;
        self.chunks = Some(found);
    }

    /// The chunks that no pass has reached, by address.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, &Unreached)> {
        self.chunks.iter().flatten().map(|(address, chunk)| (*address, chunk))
    }
}
