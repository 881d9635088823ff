//! Chunks that have a mapping of their own. No list has them: they are at the start of a page of
//! anonymous memory, and the kernel merges neighbouring mappings.

use super::{parameters::Parameters, segments::Segment};
use crate::{
    heap::{Chunk, Coverage, Present, Sink, State, Target, memory::PAGE},
    process::Mapping,
};

/// Pages whose presence is read at once, and how far a mapping is searched for a chunk where
/// malloc's own count is not known.
const SEARCHED_PAGES: u64 = 256;
/// How many pages are searched in all while chunks are missing that malloc counts: 4 GiB.
const MAX_SEARCHED_PAGES: u64 = 1 << 20;
/// The flag of such a chunk, alone.
const IS_MAPPED: u64 = 2;
const FLAGS: u64 = 7;
/// The largest alignment of a content in a mapping that is believed.
const MAX_ALIGNMENT: u64 = 64 << 10;
/// Bytes of the header.
const HEADER: u64 = 16;
/// The most such chunks that are found; the default of `n_mmaps_max` is 65,536.
const MAX_CHUNKS: u64 = 1 << 20;

/// Gives all such chunks to `sink`, as those of the arena with this number.
pub fn census(
    target: &Target,
    segments: &[Segment],
    parameters: Option<&Parameters>,
    arena: u32,
    (sink, coverage): (&mut dyn Sink, &mut Coverage),
) {
    let mut count = 0;
    let own = parameters.map(|parameters| u64::from(parameters.mapped_count));
    let mut left = MAX_SEARCHED_PAGES;
    for mapping in target.space.anonymous().filter(|mapping| !overlaps(segments, mapping)) {
        let mut at = mapping.start.0;
        // Mappings of other allocators are merged with these: with malloc's count, they are passed over.
        while count < own.unwrap_or(MAX_CHUNKS).min(MAX_CHUNKS) {
            let mut near = SEARCHED_PAGES;
            let pages = if own.is_some() { &mut left } else { &mut near };
            let Some(chunk) = next(target, at, mapping.end.0, pages) else { break };
            at = chunk.address - HEADER + chunk.size;
            coverage.walked += chunk.size;
            count += 1;
            let mut content = [0; 48];
            let read = target.memory.read(chunk.address, &mut content);
            sink.chunk(&Chunk { arena, ..chunk }, &content[..read]);
        }
    }
    if let Some(own) = own
        && own != count
    {
        coverage
            .notes
            .push(format!("{count} chunks with a mapping of their own were found, malloc counts {own}"));
    }
}

fn overlaps(segments: &[Segment], mapping: &Mapping) -> bool {
    let at = segments.partition_point(|segment| segment.end <= mapping.start.0);
    segments.get(at).is_some_and(|segment| segment.start - segment.head < mapping.end.0)
}

/// The first chunk at or behind `at`, within the pages that may still be searched.
fn next(target: &Target, at: u64, end: u64, left: &mut u64) -> Option<Chunk> {
    let mut at = at;
    while at < end && *left > 0 {
        // Neighbours are the rule.
        if let Some(chunk) = chunk_at(target, at, end) {
            return Some(chunk);
        }
        let count = (end.saturating_sub(at) / PAGE).min(SEARCHED_PAGES).min(*left);
        if count == 0 {
            return None;
        }
        let mut pages = vec![Present::Yes; count as usize];
        if !target.memory.pages(at, &mut pages) {
            pages.fill(Present::Yes);
        }
        let present = pages.iter().enumerate().skip(1).filter(|(_, page)| **page == Present::Yes);
        let found = present.map(|(page, _)| at + page as u64 * PAGE).find_map(|at| chunk_at(target, at, end));
        if found.is_some() {
            return found;
        }
        (at, *left) = (at + count * PAGE, *left - count);
    }
    None
}

fn chunk_at(target: &Target, at: u64, end: u64) -> Option<Chunk> {
    let mut page = [Present::Yes];
    if target.memory.pages(at, &mut page) && page[0] != Present::Yes {
        return None;
    }
    let &[before, head] = target.memory.words(at, 2).as_slice() else { return None };
    let size = head & !FLAGS;
    let is_header = head & FLAGS == IS_MAPPED && before < MAX_ALIGNMENT && before & 15 == 0;
    let fits = size >= PAGE && size.checked_add(before)? % PAGE == 0 && size <= end - at;
    (is_header && fits).then_some(Chunk {
        address: at + HEADER,
        size,
        usable: size - HEADER,
        state: State::Mapped,
        arena: 0,
        count: 1,
    })
}
