//! Recognizes the runtime's structures by their content: threads, lists of threads, buckets.
//!
//! Not here: what they say (`threads`, `buckets`), where they are (`globals`).

use super::{
    circle::Circle,
    layouts::{G_M, Layout},
};
use crate::{addr::RuntimeAddr, process::ProcessMemory};

/// Where `m.alllink` may be: patch releases have moved it.
const LINKS: std::ops::Range<usize> = 240..480;
const MAX_THREADS: usize = 1 << 20;
/// The deepest stack of a bucket.
pub const MAX_BUCKET_STACK: u64 = 1100;
/// Bytes of a bucket before its stack: allnext, typ, size, nstk.
pub const HEAD_BYTES: usize = 48;
/// The offset of `typ` in a bucket.
pub const TYPE: usize = 16;
/// The offset of `nstk` in a bucket.
pub const NSTK: usize = 40;

/// What the buckets of a list count (`bucketType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketKind {
    /// Allocations.
    Memory = 1,
    /// Waits.
    Block = 2,
    /// Mutex contention.
    Mutex = 3,
}

/// Whether there is an `m` at `at`: its `g0` must point back to it.
pub fn is_thread(memory: &ProcessMemory, at: RuntimeAddr) -> bool {
    let g0 = memory.read_word(at).filter(|g0| *g0 != 0);
    at.0 != 0 && g0.is_some_and(|g0| memory.read_word(RuntimeAddr(g0.wrapping_add(G_M as u64))) == Some(at.0))
}

/// The length of the list of threads that begins at `first`; 0: the list is invalid.
pub fn chain_length(memory: &ProcessMemory, layout: &Layout, first: RuntimeAddr) -> usize {
    find_link(memory, layout, first).map_or(0, |(_, length)| length)
}

/// The offset of `m.alllink`, and the length of the list.
pub fn find_link(memory: &ProcessMemory, layout: &Layout, first: RuntimeAddr) -> Option<(usize, usize)> {
    if !is_thread(memory, first) {
        return None;
    }
    let candidates = std::iter::once(layout.alllink).chain(LINKS.step_by(8));
    let mut best = None;
    for link in candidates {
        let Some(length) = walk_threads(memory, first, link).map(|all| all.len()) else { continue };
        if best.is_none_or(|(_, longest)| length > longest) {
            best = Some((link, length));
        }
        // The offset of the layout is right if the list has more than one thread.
        if link == layout.alllink && length > 1 {
            break;
        }
    }
    best
}

/// The list of threads from `first` on, linked at offset `link`; `None`: it is invalid.
pub fn walk_threads(memory: &ProcessMemory, first: RuntimeAddr, link: usize) -> Option<Vec<RuntimeAddr>> {
    let (mut all, mut at) = (Vec::new(), first);
    let mut circle = Circle::default();
    while at.0 != 0 {
        if circle.closes_at(at) || !is_thread(memory, at) || all.len() >= MAX_THREADS {
            return None;
        }
        all.push(at);
        at = RuntimeAddr(memory.read_word(at.offset(link as i64))?);
    }
    Some(all)
}

/// The kind of the bucket at an address; `None` if there is no bucket.
pub fn kind_of(memory: &ProcessMemory, at: RuntimeAddr) -> Option<BucketKind> {
    let mut head = [0; HEAD_BYTES];
    if at.0 == 0 || !memory.read_exact(at, &mut head) || word(&head, NSTK) > MAX_BUCKET_STACK {
        return None;
    }
    match word(&head, TYPE) {
        1 => Some(BucketKind::Memory),
        2 => Some(BucketKind::Block),
        3 => Some(BucketKind::Mutex),
        _ => None,
    }
}

/// A word of bytes that were read; 0: beyond their end.
pub fn word(bytes: &[u8], offset: usize) -> u64 {
    bytes.get(offset..).and_then(|rest| rest.first_chunk::<8>()).map_or(0, |word| u64::from_le_bytes(*word))
}
