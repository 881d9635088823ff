//! Marks the chunks that are reachable: from roots through chunks, where any word that is an
//! address in a chunk counts as a pointer. Each chunk is marked with the first holder that reaches
//! it.

use std::collections::HashMap;

use super::{
    ChunkId, Index, Target,
    memory::PAGE,
    roots::{Globals, Holder, Root},
    stream::Stream,
};
use crate::budget::Exhausted;

/// The most holders that have a name of their own.
const MAX_HOLDERS: usize = 1 << 16;
/// How many small chunks are read with one call.
const BATCH: usize = 512;
/// The size up to which a chunk is read without a look at its pages.
const SMALL: u64 = PAGE;
/// The size of a piece of a root or a large chunk.
const PIECE: u64 = 256 << 10;

/// Which chunks are reachable, and who holds them.
#[derive(Debug, Default)]
pub struct Marks {
    /// For each chunk, 0 or the number of its holder + 1.
    by_chunk: Vec<u32>,
    /// The names of the holders.
    pub holders: Vec<String>,
    /// Why marking ended early: what was not reached then is not unreachable.
    pub cut: Option<Exhausted>,
}

impl Marks {
    /// The holder of a chunk; `None`: it was not reached.
    pub fn holder(&self, chunk: ChunkId) -> Option<&str> {
        let number = self.by_chunk[chunk as usize].checked_sub(1)?;
        Some(&self.holders[number as usize])
    }
}

/// Marks what the roots reach.
pub fn mark(target: &Target, index: &Index, roots: &[Root]) -> Marks {
    let mut marker = Marker {
        target,
        index,
        marks: Marks { by_chunk: vec![0; index.len()], ..Marks::default() },
        numbers: HashMap::new(),
        globals: Globals::new(target),
        queue: Vec::new(),
    };
    for root in roots {
        marker.root(root);
        marker.drain();
    }
    marker.marks
}

struct Marker<'m> {
    target: &'m Target,
    index: &'m Index,
    marks: Marks,
    numbers: HashMap<String, u32>,
    globals: Globals<'m>,
    /// Chunks that are marked and not read yet.
    queue: Vec<ChunkId>,
}

impl Marker<'_> {
    fn root(&mut self, root: &Root) {
        let (target, index) = (self.target, self.index);
        let cut = range(target, root.start, root.end - root.start, &mut |at, word| {
            if let Some(chunk) = index.find(word) {
                self.hold(root, at, chunk);
            }
        });
        self.marks.cut = self.marks.cut.or(cut);
    }

    /// Marks a chunk that the word at an address of a root points to.
    fn hold(&mut self, root: &Root, at: u64, chunk: ChunkId) {
        if self.marks.by_chunk[chunk as usize] == 0 {
            let name = match &root.holder {
                Holder::Globals(path) => self.globals.name(path, at),
                Holder::Thread(tid) => format!("stack of thread {tid}"),
                Holder::Mapped => "other memory of the program".to_owned(),
            };
            self.marks.by_chunk[chunk as usize] = self.number(name) + 1;
            self.queue.push(chunk);
        }
    }

    fn number(&mut self, name: String) -> u32 {
        let next = self.marks.holders.len();
        if next >= MAX_HOLDERS {
            return next as u32 - 1;
        }
        let number = *self.numbers.entry(name.clone()).or_insert(next as u32);
        if number as usize == next {
            self.marks.holders.push(name);
        }
        number
    }

    /// Reads the chunks of the queue, and those that they point to.
    fn drain(&mut self) {
        while !self.queue.is_empty() && self.marks.cut.is_none() {
            let batch: Vec<ChunkId> = self.queue.split_off(self.queue.len().saturating_sub(BATCH));
            let is_small = |chunk: &ChunkId| self.index.content(*chunk).1 <= SMALL;
            let (small, large): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_small);
            self.small(&small);
            for chunk in large {
                let (target, index) = (self.target, self.index);
                let (address, size) = index.content(chunk);
                let cut = range(target, address, size, &mut |_, word| {
                    index.find(word).into_iter().for_each(|other| self.reach(chunk, other));
                });
                self.marks.cut = self.marks.cut.or(cut);
            }
        }
    }

    fn small(&mut self, chunks: &[ChunkId]) {
        let ranges: Vec<(u64, usize)> = chunks
            .iter()
            .map(|chunk| self.index.content(*chunk))
            .map(|(address, size)| (address, size as usize))
            .collect();
        let mut bytes = vec![0; ranges.iter().map(|(_, size)| size).sum()];
        self.target.memory.read_many(&ranges, &mut bytes);
        let mut rest = &bytes[..];
        for (chunk, (_, size)) in chunks.iter().zip(ranges) {
            let (content, later) = rest.split_at(size);
            rest = later;
            for word in content.as_chunks::<8>().0 {
                if let Some(other) = self.index.find(u64::from_le_bytes(*word)) {
                    self.reach(*chunk, other);
                }
            }
        }
    }

    fn reach(&mut self, from: ChunkId, to: ChunkId) {
        let holder = self.marks.by_chunk[from as usize];
        let mark = &mut self.marks.by_chunk[to as usize];
        if *mark == 0 {
            *mark = holder;
            self.queue.push(to);
        }
    }
}

/// Calls `visit` with the address and the value of each word of a range; returns why it ended
/// early.
fn range(target: &Target, start: u64, size: u64, visit: &mut dyn FnMut(u64, u64)) -> Option<Exhausted> {
    let mut stream = Stream::new(&*target.memory, &target.budget);
    let (mut at, end) = (start.next_multiple_of(8), start.saturating_add(size));
    while at < end {
        let bytes = stream.bytes(at, PIECE, end);
        if bytes.len() < 8 {
            break;
        }
        for (place, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            visit(at + place as u64 * 8, u64::from_le_bytes(*word));
        }
        at += bytes.len() as u64 & !7;
    }
    stream.cut
}
