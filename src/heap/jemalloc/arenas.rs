//! Finds the arenas and reads their counters.
//!
//! Not here: where the counters are (`layouts`).

use std::collections::BTreeSet;

use super::{
    super::{Stream, Target},
    layouts::{LARGE, Layout, ROWS, SMALL, regions_per_slab, sizes},
};
use crate::process::Mapping;

/// The most bytes of a module's data that are searched.
const MAX_DATA: u64 = 64 << 20;
/// The most pointers that are tried.
const MAX_TRIED: usize = 1 << 16;
/// The most arenas: `MALLOCX_ARENA_LIMIT`.
const MAX_ARENAS: usize = 4095;
/// Arenas are aligned to a cache line.
const ALIGNMENT: u64 = 64;
/// Numbers above this are no counters.
const MAX_COUNT: u64 = 1 << 48;
/// Words of a bin's counters that are used.
const COUNTERS: usize = 9;

/// A small size class of an arena.
#[derive(Debug)]
pub struct Bin {
    /// The size of a region.
    pub size: u64,
    /// Regions in use.
    pub regions: u64,
    /// Free regions of its slabs.
    pub free: u64,
}

/// A large size class of an arena.
#[derive(Debug)]
pub struct LargeClass {
    /// The size.
    pub size: u64,
    /// Allocations in use.
    pub count: u64,
}

/// The counters of an arena.
#[derive(Debug)]
pub struct Arena {
    /// Its small classes.
    pub bins: Vec<Bin>,
    /// Its large classes.
    pub large: Vec<LargeClass>,
    /// Bins whose counters did not agree.
    pub contradictions: u32,
    /// Slabs that state the class of their bin.
    slabs: usize,
}

/// Finds the arenas of a known release in the data of the library or the program: the layout that
/// fits, and their addresses.
pub fn find(target: &Target) -> Option<(&'static Layout, Vec<u64>)> {
    let program = target.space.module_data().next().map(|(_, module)| module.path.clone());
    let modules = target
        .space
        .module_data()
        .filter(|(_, module)| module.path.contains("jemalloc") || Some(&module.path) == program.as_ref());
    let mut pointers = BTreeSet::new();
    for (mapping, _) in modules {
        collect(target, mapping, &mut pointers);
    }
    ROWS.iter().find_map(|layout| {
        let is_arena = |address: &&u64| {
            let read = || Arena::read(target, layout, **address);
            // One contradiction may be a counter that changes; a wrong address has many.
            read().is_some_and(|arena| arena.slabs > 0 && arena.contradictions <= 1)
                && (0..5).any(|_| read().is_some_and(|arena| arena.contradictions == 0))
        };
        let arenas: Vec<u64> = pointers.iter().filter(is_arena).copied().take(MAX_ARENAS).collect();
        (!arenas.is_empty()).then_some((layout, arenas))
    })
}

/// The aligned pointers to anonymous memory in a mapping.
fn collect(target: &Target, mapping: &Mapping, pointers: &mut BTreeSet<u64>) {
    let end = mapping.end.0.min(mapping.start.0.saturating_add(MAX_DATA));
    let mut stream = Stream::new(&*target.memory, &target.budget);
    let mut at = mapping.start.0;
    while at < end && pointers.len() < MAX_TRIED {
        let Some(word) = stream.word(at, end) else { return };
        let is_pointer = word != 0 && word.is_multiple_of(ALIGNMENT);
        if is_pointer && target.space.find(word).is_some_and(|found| found.writable && found.inode == 0) {
            pointers.insert(word);
        }
        at += 8;
    }
}

impl Arena {
    /// Reads an arena; `None`: there is none, or a slab states another class than its bin's.
    pub fn read(target: &Target, layout: &Layout, address: u64) -> Option<Arena> {
        let start = address.checked_add(layout.bins)?;
        let count = (layout.stride / 8) as usize * SMALL;
        let words = target.memory.words(start, count);
        let (mut bins, mut contradictions, mut slabs) = (Vec::with_capacity(SMALL), 0, 0);
        if words.len() < count {
            return None;
        }
        for (index, (bin, size)) in words.chunks_exact((layout.stride / 8) as usize).zip(sizes()).enumerate()
        {
            let counters: &[u64; COUNTERS] = bin.first_chunk()?;
            let (allocated, freed, regions, runs) = (counters[0], counters[1], counters[3], counters[8]);
            if counters.iter().any(|counter| *counter >= MAX_COUNT) {
                return None;
            }
            contradictions += u32::from(allocated.wrapping_sub(freed) != regions);
            let slab = *bin.get((layout.slab / 8) as usize)?;
            if slab != 0 {
                slabs += usize::from(layout.is_slab(target.memory.word(slab)?, index)?);
            }
            let free = runs.saturating_mul(regions_per_slab(size)).saturating_sub(regions);
            bins.push(Bin { size, regions, free });
        }
        let large = Arena::read_large(target, layout, address).unwrap_or_default();
        Some(Arena { bins, large, contradictions, slabs })
    }

    fn read_large(target: &Target, layout: &Layout, address: u64) -> Option<Vec<LargeClass>> {
        let words = target
            .memory
            .words(address.checked_add(layout.large)?, (layout.large_stride / 8) as usize * LARGE);
        let classes = words.chunks_exact((layout.large_stride / 8) as usize).zip(sizes().skip(SMALL));
        let counts = classes.map(|(counters, size)| {
            let (allocated, freed) = (counters[0], counters[1]);
            let count = allocated.checked_sub(freed).filter(|_| allocated < MAX_COUNT)?;
            Some(LargeClass { size, count })
        });
        counts.collect()
    }
}

impl Layout {
    /// Whether a slab's first word states this class; `None`: another one.
    fn is_slab(&self, word: u64, class: usize) -> Option<bool> {
        let stated = (word >> self.class_shift & 0xff) as usize;
        (stated == class && word >> self.slab_bit & 1 == 1).then_some(true)
    }
}
