//! Finds the arenas by their shape.

use super::layouts::{
    ATTACHED, BINS, HEAP_MAX, LAYOUTS, Layout, MAX_SYSTEM_MEMORY, MAX_THREADS, NEXT, SYSTEM_MEMORY, TOP,
};
use crate::{
    heap::{Space, Target, stream::read_present},
    process::Mapping,
};

/// An arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arena {
    /// The address of its `struct malloc_state`.
    pub base: u64,
    /// The chunk at its end when the arena was found.
    pub top: u64,
    /// Whether it is the main arena.
    pub is_main: bool,
}

/// All arenas of a process; the main one first.
#[derive(Debug)]
pub struct Arenas {
    /// The layout of all.
    pub layout: &'static Layout,
    /// The arenas.
    pub list: Vec<Arena>,
}

/// The largest mapping of module data that is searched.
const MAX_DATA: u64 = 16 << 20;
/// The most arenas. Their default number is eight for each CPU.
const MAX_ARENAS: usize = 1 << 14;
/// List heads that may look wrong because the program changed them during the read.
const MAX_TORN: usize = 8;

impl Arenas {
    /// Searches the data of the C library, or of all modules if there is none: a static program.
    pub fn find(target: &Target) -> Option<Arenas> {
        let has_libc = target.space.module_data().any(|(_, module)| is_libc(module));
        let data = target.space.module_data().filter(|(_, module)| !has_libc || is_libc(module));
        let found = data.filter_map(|(mapping, _)| bins_in(target, mapping)).max_by_key(|(good, _)| *good);
        let (_, bins) = found?;
        LAYOUTS.iter().find_map(|layout| Arenas::around(target, layout, bins.wrapping_sub(layout.bins)))
    }

    /// The ring of arenas that has one at `base`; `None`: with this layout it does not close.
    fn around(target: &Target, layout: &'static Layout, base: u64) -> Option<Arenas> {
        let mut ring = vec![base];
        loop {
            let next = target.memory.word(ring.last()? + layout.bins + NEXT)?;
            if next == base {
                break;
            }
            let is_plausible =
                next & 7 == 0 && target.space.find(next).is_some_and(|mapping| mapping.writable);
            if !is_plausible || ring.len() >= MAX_ARENAS {
                return None;
            }
            ring.push(next);
        }
        // Only the main arena does not know a heap that it begins. Without names of mappings, the
        // first one found may be another.
        let is_main = |base: u64| target.memory.word(base & !(HEAP_MAX - 1)) != Some(base);
        let main = ring.iter().position(|base| is_main(*base))?;
        ring.rotate_left(main);
        let arena =
            |(at, base): (usize, u64)| Arena { base, top: layout.top(target, base), is_main: at == 0 };
        Some(Arenas { layout, list: ring.into_iter().enumerate().map(arena).collect() })
    }
}

/// Whether a mapping is of the C library: `libc.so.6`, `libc-2.31.so`.
pub fn is_libc(module: &Mapping) -> bool {
    let name = module.path.rsplit('/').next().unwrap_or_default();
    name.starts_with("libc.so") || name.starts_with("libc-2")
}

/// The address of the `bins` of the most plausible arena in a mapping, and how many of its list
/// heads are as they should be.
fn bins_in(target: &Target, mapping: &Mapping) -> Option<(usize, u64)> {
    let (start, size) = (mapping.start.0, mapping.end.0 - mapping.start.0);
    if size > MAX_DATA {
        return None;
    }
    let bytes = read_present(&*target.memory, start, size as usize);
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let last = words.len().saturating_sub(MAX_SYSTEM_MEMORY as usize / 8 + 1);
    let candidates = (TOP as usize / 8..last).filter(|at| has_arena_fields(&target.space, &words, *at));
    candidates
        .filter_map(|at| Some((good_heads(&target.space, &words[at..], start + at as u64 * 8)?, at)))
        .max()
        .map(|(good, at)| (good, start + at as u64 * 8))
}

/// Whether the words around `bins` at index `at` are as in an arena: the cheap test.
fn has_arena_fields(space: &Space, words: &[u64], at: usize) -> bool {
    let field = |offset: u64| words[at + offset as usize / 8];
    let (top, next) = (words[at - TOP as usize / 8], field(NEXT));
    // Before 2.23 there is no number of threads.
    let (memory, most) = match field(ATTACHED) {
        attached if attached < MAX_THREADS => (field(SYSTEM_MEMORY), field(MAX_SYSTEM_MEMORY)),
        memory => (memory, field(SYSTEM_MEMORY)),
    };
    let has_memory = memory >= 4096 && memory <= most && memory >> 46 == 0 && (memory | most) & 7 == 0;
    has_memory && next != 0 && next & 7 == 0 && top & 15 == 0 && space.may_be_chunk(top)
}

/// How many of the pairs of list heads are empty or point to memory; `None`: too few.
fn good_heads(space: &Space, heads: &[u64], bins: u64) -> Option<usize> {
    let mut torn = 0;
    for (at, pair) in heads.as_chunks::<2>().0.iter().take(BINS).enumerate() {
        let own = bins + at as u64 * 16 - 16;
        if !pair.iter().all(|link| *link == own || space.may_be_chunk(*link)) {
            torn += 1;
            if torn >= MAX_TORN {
                return None;
            }
        }
    }
    Some(BINS - torn)
}
