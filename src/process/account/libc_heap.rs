//! The memory of glibc's malloc, recognized by structures that are checked: the chunks of `[heap]`,
//! the `heap_info` at the beginning of each heap of a further arena, and the headers of chunks that
//! have a mapping of their own (malloc/malloc.c, malloc/arena.c of glibc 2.12 to 2.43, 64-bit).
//!
//! Not here: which chunks are in use.

use std::ops::Range;

use crate::{
    addr::RuntimeAddr,
    process::{ProcessMemory, regions::Region},
};

/// The part's name.
pub const PART: &str = "glibc malloc";
/// Heaps of further arenas begin at multiples of this, their largest size.
const HEAP_MAX: u64 = 64 << 20;
/// The most heaps of arenas in one mapping.
const MAX_HEAPS: u64 = 1 << 14;
/// The size of `heap_info`: to 2.34, and from 2.35 on.
const HEAP_HEADERS: [u64; 2] = [32, 48];
const PAGE: u64 = 4096;
/// How many pages in a row without a header end the search of a mapping for mapped chunks.
const MAX_MISSES: u64 = 16;
/// The most mapped chunks of one mapping.
const MAX_MAPPED: usize = 4096;
/// The first chunk of `[heap]` is searched for in so many bytes, and so many must follow it.
const SEARCHED: usize = 16 << 10;
const CHAIN: usize = 16;
/// Bits of a chunk's size.
const FLAGS: u64 = 7;
const IS_MAPPED: u64 = 2;

/// The memory of glibc's malloc in mappings that no one else claims.
pub fn find(
    memory: &ProcessMemory,
    regions: &[Region],
    is_free: &dyn Fn(&Range<u64>) -> bool,
) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for region in regions {
        let mapping = &region.mapping;
        let range = mapping.start.0..mapping.end.0;
        let is_candidate = mapping.readable && mapping.writable && mapping.inode == 0 && !region.is_shared;
        if !is_candidate || region.used.rss + region.used.swap == 0 {
            continue;
        }
        if mapping.path == "[heap]" {
            // A process that forked has its heap in several mappings; only the first begins with one.
            let goes_on = found.last().is_some_and(|before| before.end == range.start);
            found.extend((goes_on || begins_with_chunks(memory, &range)).then_some(range));
        } else if mapping.path.is_empty() && is_free(&range) {
            let before = found.len();
            found.extend(heaps(memory, &range));
            if found.len() == before {
                found.extend(mapped_chunks(memory, &range));
            }
        }
    }
    found
}

/// Whether a chain of chunks begins near the start of a range.
fn begins_with_chunks(memory: &ProcessMemory, range: &Range<u64>) -> bool {
    let length = range.end - range.start;
    let starts = (0..SEARCHED.min(length as usize)).step_by(16).map(|offset| range.start + offset as u64);
    starts.take(SEARCHED / 16).any(|start| {
        let mut at = start;
        for _ in 0..CHAIN {
            let Some(size) = memory.read_word(RuntimeAddr(at + 8)) else { return false };
            let next = at.checked_add(size & !FLAGS);
            match next {
                Some(next) if size & !FLAGS >= 32 && size & 8 == 0 && size & IS_MAPPED == 0 => at = next,
                _ => return false,
            }
            if at >= range.end {
                // The last chunk, `top`, ends at a page of the heap's end.
                return at == range.end;
            }
        }
        true
    })
}

/// The heaps of arenas that begin in a range.
fn heaps(memory: &ProcessMemory, range: &Range<u64>) -> Vec<Range<u64>> {
    let first = range.start.next_multiple_of(HEAP_MAX);
    let starts = (0..MAX_HEAPS).map(|index| first + index * HEAP_MAX).take_while(|start| *start < range.end);
    starts.filter_map(|start| heap(memory, start, range.end)).collect()
}

/// The heap at a multiple of [`HEAP_MAX`]: `heap_info` has the arena, the heap before, its size and
/// how much of it is accessible.
fn heap(memory: &ProcessMemory, start: u64, end: u64) -> Option<Range<u64>> {
    let word = |index: u64| memory.read_word(RuntimeAddr(start + index * 8));
    let (arena, previous, size, accessible) = (word(0)?, word(1)?, word(2)?, word(3)?);
    let first = arena & !(HEAP_MAX - 1);
    let is_arena = HEAP_HEADERS.contains(&(arena - first))
        && (first == start || memory.read_word(RuntimeAddr(first)) == Some(arena));
    let is_size = size.is_multiple_of(PAGE) && (PAGE..=HEAP_MAX).contains(&size) && size <= accessible;
    let is_heap = is_arena && is_size && accessible <= HEAP_MAX && previous.is_multiple_of(HEAP_MAX);
    is_heap.then(|| start..(start + accessible).min(end))
}

/// The chunks with mappings of their own. Mappings that follow one another are one for the kernel.
fn mapped_chunks(memory: &ProcessMemory, range: &Range<u64>) -> Vec<Range<u64>> {
    let (mut found, mut at, mut misses) = (Vec::<Range<u64>>::new(), range.start, 0);
    while at < range.end && misses < MAX_MISSES && found.len() < MAX_MAPPED {
        match mapped_chunk(memory, at, range.end) {
            Some(end) => {
                found.push(at..end);
                (at, misses) = (end, 0);
            }
            None => (at, misses) = (at + PAGE, misses + 1),
        }
    }
    found
}

/// The end of the mapped chunk at a page's start; `None`: there is none. Only what is before the
/// chunk's alignment counts as its previous size.
fn mapped_chunk(memory: &ProcessMemory, at: u64, end: u64) -> Option<u64> {
    let (before, size) = (memory.read_word(RuntimeAddr(at))?, memory.read_word(RuntimeAddr(at + 8))?);
    let bytes = size & !FLAGS;
    let is_chunk = size & FLAGS == IS_MAPPED && before == 0 && bytes >= PAGE && bytes.is_multiple_of(PAGE);
    at.checked_add(bytes).filter(|next| is_chunk && *next <= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory at `start` with words at offsets.
    fn image(start: u64, length: usize, words: &[(u64, u64)]) -> ProcessMemory {
        let mut bytes = vec![0; length];
        for (offset, word) in words {
            let at = *offset as usize;
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        ProcessMemory::of_image(RuntimeAddr(start), bytes)
    }

    #[test]
    fn a_heap_of_an_arena_is_recognized_and_a_damaged_one_is_not() {
        let start = 5 * HEAP_MAX;
        let good = [(0, start + 48), (8, 0), (16, 0x21000), (24, 0x21000)];
        let found = |words: &[(u64, u64)]| heaps(&image(start, 64, words), &(start - PAGE..start + 0x30000));
        assert_eq!(found(&good), vec![Range { start, end: start + 0x21000 }]);
        for bad in [(0, start + 40), (0, 7), (8, 1), (16, 0x21001), (16, HEAP_MAX * 2), (24, PAGE)] {
            let words: Vec<_> = good.iter().copied().chain([bad]).collect();
            assert!(found(&words).is_empty(), "{bad:x?}");
        }
    }

    #[test]
    fn mapped_chunks_follow_one_another() {
        let start = 0x7000_0000;
        let memory = image(
            start,
            8 * PAGE as usize,
            &[(8, PAGE | 2), (PAGE + 8, (2 * PAGE) | 2), (4 * PAGE + 8, PAGE | 3)],
        );
        let found = mapped_chunks(&memory, &(start..start + 8 * PAGE));
        assert_eq!(found, [start..start + PAGE, start + PAGE..start + 3 * PAGE]);
    }

    #[test]
    fn the_heap_begins_with_a_chain_of_chunks_that_ends_at_its_end() {
        let start = 0x5000_0000;
        let words = [(8, 0x291), (0x298, 0x21), (0x2b8, (PAGE - 0x2b0) | 1)];
        assert!(begins_with_chunks(&image(start, PAGE as usize, &words), &(start..start + PAGE)));
        let damaged = [(8, 0x291), (0x298, 0x21), (0x2b8, PAGE | 1)];
        assert!(!begins_with_chunks(&image(start, PAGE as usize, &damaged), &(start..start + PAGE)));
        assert!(!begins_with_chunks(&image(start, PAGE as usize, &[]), &(start..start + PAGE)));
    }
}
