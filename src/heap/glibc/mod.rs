//! glibc's malloc, 2.27 to 2.43 (older ones as far as their layout is the same): all arenas, the
//! chunks of their heaps, the thread caches, and chunks with a mapping of their own.
//!
//! # How its memory looks
//!
//! An arena (`struct malloc_state`) has 127 pairs of list heads, `bins`, for free chunks. The main
//! arena is a variable of libc and takes its memory from brk(2). Each further arena begins a heap
//! of its own at a multiple of 64 MiB, behind a `heap_info`; more heaps are chained to it. All
//! arenas form a ring.
//!
//! A heap is a sequence of chunks without gaps. The word at offset 8 of a chunk is its size, with
//! flags in the low bits; the content begins at offset 16 and reaches 8 bytes into the next chunk.
//! Whether a chunk is free is a flag of the chunk behind it. Freed chunks of a thread's cache and
//! of the fast bins have the flag of used ones: the lists, and a key in the content, identify them.
//!
//! # How it is found
//!
//! By its shape alone, so that stripped and static programs are read too: 127 pairs of pointers
//! that point to themselves or to memory, then the ring of arenas. Where the ring closes decides
//! the layout ([`layouts`]). What other C libraries have does not look like that.
//!
//! Sources: malloc.c and arena.c of glibc; nptl/descr.h.

mod arenas;
mod layouts;
mod lists;
mod mapped;
mod parameters;
mod segments;
mod threads;
mod walk;

use std::time::Instant;

use super::{Allocator, Coverage, Heap, Sink, Stream, Target};
use arenas::Arenas;
use lists::Freed;
use walk::Walk;

/// glibc's malloc.
pub struct Glibc;

impl Allocator for Glibc {
    fn name(&self) -> &'static str {
        "glibc malloc"
    }

    fn detect(&self, target: &Target) -> Option<Box<dyn Heap>> {
        let arenas = Arenas::find(target)?;
        Some(Box::new(GlibcHeap { arenas }))
    }
}

/// glibc's malloc in a process.
struct GlibcHeap {
    arenas: Arenas,
}

impl Heap for GlibcHeap {
    fn name(&self) -> String {
        format!("glibc malloc ({})", self.arenas.layout.releases)
    }

    fn arena_name(&self, arena: u32) -> String {
        match arena {
            0 => "main arena".to_owned(),
            _ if arena as usize >= self.arenas.list.len() => "own mappings".to_owned(),
            _ => format!("arena {arena}"),
        }
    }

    fn census(&self, target: &Target, sink: &mut dyn Sink) -> Coverage {
        let started = Instant::now();
        let mut coverage = Coverage { arenas: self.arenas.list.len() as u32, ..Coverage::default() };
        let parameters = parameters::find(target, &self.arenas);
        let caches = threads::caches(target, &self.arenas);
        coverage.thread_caches = (caches.len() as u32, target.threads.len() as u32);
        let freed = Freed::read(target, &self.arenas, &caches, &mut coverage);
        let segments = segments::segments(target, &self.arenas, parameters.as_ref());
        let mut stream = Stream::new(&*target.memory, &target.budget);
        coverage.trimmable = Some(0);
        for segment in &segments {
            let arena = &self.arenas.list[segment.arena as usize];
            let place = (self.arenas.layout, arena);
            Walk::new(target, place, &freed, &mut stream, &mut coverage).segment(segment, sink);
        }
        let own_mappings = self.arenas.list.len() as u32;
        mapped::census(target, &segments, parameters.as_ref(), own_mappings, (sink, &mut coverage));
        coverage.own_total = self.own_total(target);
        coverage.untouched = stream.untouched;
        coverage.swapped = stream.swapped;
        coverage.pages_unknown = !stream.knows_pages;
        coverage.cut = stream.cut;
        coverage.took = started.elapsed();
        coverage
    }

    fn own_data(&self) -> Vec<(u64, u64)> {
        let size = self.arenas.layout.arena_size();
        self.arenas.list.iter().map(|arena| (arena.base, arena.base + size)).collect()
    }
}

impl GlibcHeap {
    /// What the arenas count themselves, and the mapped chunks.
    fn own_total(&self, target: &Target) -> Option<u64> {
        let sum = self.arenas.list.iter().map(|arena| self.arenas.layout.system_memory(target, arena.base));
        let mapped = parameters::find(target, &self.arenas).map_or(0, |found| found.mapped_bytes);
        Some(sum.sum::<u64>().saturating_add(mapped))
    }
}
