//! The ranges of memory in which the chunks of the arenas are.

use super::{
    arenas::{Arena, Arenas},
    layouts::HEAP_MAX,
    parameters::Parameters,
};
use crate::{heap::Target, process::Mapping};

/// A range of memory that is a sequence of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The address of the first chunk.
    pub start: u64,
    /// The address behind the last one.
    pub end: u64,
    /// Bytes of the allocator in front of the first chunk.
    pub head: u64,
    /// The number of its arena.
    pub arena: u32,
    /// Whether `start` is certain.
    pub is_exact: bool,
}

/// The most heaps of all arenas: the address space has room for 2^21.
const MAX_HEAPS: usize = 1 << 18;

/// The ranges of all chunks, in ascending order.
pub fn segments(target: &Target, arenas: &Arenas, parameters: Option<&Parameters>) -> Vec<Segment> {
    let mut segments = Vec::new();
    for (number, arena) in arenas.list.iter().enumerate() {
        match arena.is_main {
            true => main_segments(target, arena, parameters, &mut segments),
            false => heaps(target, (arenas, arena, number as u32), &mut segments),
        }
    }
    segments.sort_by_key(|segment| segment.start);
    segments
}

/// The heaps of an arena, from the newest, which holds `top`, to the one that begins with the
/// arena. A `heap_info` has the arena, the heap before, and its size.
fn heaps(target: &Target, (arenas, arena, number): (&Arenas, &Arena, u32), segments: &mut Vec<Segment>) {
    let first = arena.base & !(HEAP_MAX - 1);
    let behind_arena = (arena.base + arenas.layout.arena_size()).next_multiple_of(16);
    let header = arena.base - first;
    let mut heap = arena.top & !(HEAP_MAX - 1);
    while heap != 0 && segments.len() < MAX_HEAPS {
        let info = target.memory.words(heap, 3);
        let &[owner, before, size] = info.as_slice() else { return };
        if owner != arena.base
            || size > HEAP_MAX
            || segments.iter().any(|known| known.start & !(HEAP_MAX - 1) == heap)
        {
            return;
        }
        let start = if heap == first { behind_arena } else { heap + header };
        segments.push(Segment { start, end: heap + size, head: start - heap, arena: number, is_exact: true });
        heap = before;
    }
}
/// The heap of the main arena, and the mapping of its last chunk if brk(2) could not grow it.
fn main_segments(
    target: &Target,
    arena: &Arena,
    parameters: Option<&Parameters>,
    segments: &mut Vec<Segment>,
) {
    let holds_top = |mapping: &&Mapping| mapping.start.0 <= arena.top && arena.top < mapping.end.0;
    let is_heap = |mapping: &&Mapping| mapping.path == "[heap]" || holds_top(mapping);
    for mapping in target.space.mappings().iter().filter(|mapping| mapping.writable).filter(is_heap) {
        let (mapped, end) = (mapping.start.0, mapping.end.0);
        let start = parameters.map(|found| found.heap_start).filter(|start| mapped <= *start && *start < end);
        segments.push(Segment {
            start: start.unwrap_or(mapped).next_multiple_of(16),
            end,
            head: 0,
            arena: 0,
            is_exact: start.is_some(),
        });
    }
}
