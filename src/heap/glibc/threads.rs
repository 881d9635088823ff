//! The caches of threads (`tcache`): found through each thread's own thread-local pointer.
//!
//! The pointer is a thread-local variable of libc without a symbol in stripped files. libc reads
//! its distance from the thread pointer from a slot that a relocation fills in; there are about 16
//! such slots, and in the right one, all threads have a pointer to a chunk of a cache's size. In a
//! static program there are no such relocations: there the first chunk of each arena is tried,
//! which is the cache of the thread that created the arena.

use std::collections::BTreeMap;

use super::{
    arenas::{Arenas, is_libc},
    layouts::{CACHE_LAYOUTS, CacheLayout},
    parameters, segments,
};
use crate::{elf::relocations::thread_local_slots, heap::Target};

/// The cache of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cache {
    /// The address of its structure, which is the content of a chunk.
    pub address: u64,
    /// The number of its layout in [`CACHE_LAYOUTS`].
    layout: usize,
}

impl Cache {
    /// Where it has what.
    pub fn layout(&self) -> &'static CacheLayout {
        &CACHE_LAYOUTS[self.layout]
    }

    /// The heads of its lists: the freed chunks' contents.
    pub fn heads(&self, target: &Target) -> Vec<u64> {
        target.memory.words(self.address + self.layout().entries, self.layout().lists)
    }

    /// The cache at this address, if a chunk of the right size is there.
    fn at(target: &Target, address: u64) -> Option<Cache> {
        if !target.space.may_be_chunk(address) {
            return None;
        }
        let size = target.memory.word(address.checked_sub(8)?)? & !7;
        let layout = CACHE_LAYOUTS.iter().position(|layout| layout.chunk == size)?;
        Some(Cache { address, layout })
    }

    /// Whether its lists look like those of a cache: empty, or with pointers to chunks.
    fn is_plausible(&self, target: &Target) -> bool {
        let heads = self.heads(target);
        let is_list = |head: &u64| *head == 0 || target.space.may_be_chunk(*head);
        heads.len() == self.layout().lists && heads.iter().all(is_list)
    }
}

/// The caches of all threads, in ascending order.
pub fn caches(target: &Target, arenas: &Arenas) -> Vec<Cache> {
    let mut caches = by_thread(target);
    if caches.is_empty() {
        caches = by_arena(target, arenas);
    }
    caches.sort_unstable();
    caches.dedup();
    caches
}

fn by_thread(target: &Target) -> Vec<Cache> {
    let pointers: Vec<u64> = target.threads.iter().filter_map(|thread| thread.pointer).collect();
    let distances = if pointers.is_empty() { Vec::new() } else { thread_local_distances(target) };
    let mut votes = BTreeMap::<u64, Vec<Cache>>::new();
    for distance in distances {
        let at = |pointer: &u64| target.memory.word(pointer.wrapping_add(distance));
        let found = pointers.iter().filter_map(at).filter_map(|address| Cache::at(target, address));
        votes.entry(distance).or_default().extend(found.filter(|cache| cache.is_plausible(target)));
    }
    votes.into_values().max_by_key(Vec::len).unwrap_or_default()
}

fn by_arena(target: &Target, arenas: &Arenas) -> Vec<Cache> {
    let parameters = parameters::find(target, arenas);
    let segments = segments::segments(target, arenas, parameters.as_ref());
    let first = |start: u64| Cache::at(target, start.checked_add(16)?);
    let found = segments.iter().filter_map(|segment| first(segment.start));
    found.filter(|cache| cache.is_plausible(target)).collect()
}

/// The distances of libc's thread-local variables from the thread pointer (which are negative: they
/// wrap around).
fn thread_local_distances(target: &Target) -> Vec<u64> {
    let mut mappings = target.space.mappings().iter();
    let Some(mapping) = mappings.find(|mapping| is_libc(mapping)) else { return Vec::new() };
    let Some((elf, bias)) = target.elf(mapping) else { return Vec::new() };
    let slots = thread_local_slots(&elf).into_iter();
    slots.filter_map(|slot| target.memory.word(slot.0.wrapping_add(bias))).collect()
}
