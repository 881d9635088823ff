//! Offsets in glibc's structures, a row per range of releases; from the debug information of 2.31,
//! 2.36, 2.41 and 2.43, and from malloc.c for the releases between.

use crate::heap::Target;

/// Where the fields of an arena are. Everything behind `bins` has the same distance to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The releases, for messages.
    pub releases: &'static str,
    /// Offset of `bins` in `struct malloc_state`.
    pub bins: u64,
    /// Whether an arena has fast bins, which end 16 bytes before `bins`.
    pub has_fast_bins: bool,
}

/// The known layouts.
pub static LAYOUTS: [Layout; 3] = [
    Layout { releases: "2.27–2.42", bins: 112, has_fast_bins: true },
    Layout { releases: "2.43 or newer", bins: 24, has_fast_bins: false },
    Layout { releases: "2.26 or older", bins: 104, has_fast_bins: true },
];

/// From `bins` to the pointer to the next arena of the ring.
pub const NEXT: u64 = 2048;
/// From `bins` to `attached_threads`, before 2.23 to `system_mem`.
pub const ATTACHED: u64 = 2064;
/// From `bins` to `system_mem`, the bytes of the arena's heaps.
pub const SYSTEM_MEMORY: u64 = 2072;
/// From `bins` to `max_system_mem`.
pub const MAX_SYSTEM_MEMORY: u64 = 2080;
/// From `bins` back to `top`.
pub const TOP: u64 = 16;
/// The number of pairs of list heads.
pub const BINS: usize = 127;
/// The number of fast bins.
pub const FAST_BINS: usize = 10;
/// The most bytes of a heap other than the main arena's, and the alignment of its start.
pub const HEAP_MAX: u64 = 64 << 20;
/// The most threads of a process (PID_MAX_LIMIT), so that a larger number is not one of threads.
pub const MAX_THREADS: u64 = 1 << 22;

impl Layout {
    /// The size of an arena's structure, in bytes.
    pub fn arena_size(&self) -> u64 {
        self.bins + MAX_SYSTEM_MEMORY + 8
    }

    /// The address of the fast bins of the arena at `base`.
    pub fn fast_bins(&self, base: u64) -> Option<u64> {
        self.has_fast_bins.then(|| (base + self.bins).wrapping_sub(TOP + 8 * FAST_BINS as u64))
    }

    /// The pointer to the chunk at the end of the arena at `base`; 0 if it cannot be read.
    pub fn top(&self, target: &Target, base: u64) -> u64 {
        target.memory.word((base + self.bins).wrapping_sub(TOP)).unwrap_or(0)
    }

    /// Bytes that the arena at `base` has from the system; 0 if it cannot be read.
    pub fn system_memory(&self, target: &Target, base: u64) -> u64 {
        target.memory.word(base + self.bins + SYSTEM_MEMORY).unwrap_or(0)
    }
}

/// Where a thread's cache (`struct tcache_perthread_struct`) has what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// The size of its chunk.
    pub chunk: u64,
    /// From the structure to the list heads: behind a counter for each list.
    pub entries: u64,
    /// The number of lists.
    pub lists: usize,
}

/// The known layouts: 2.26–2.29, 2.30–2.41, 2.42 and newer.
pub static CACHE_LAYOUTS: [CacheLayout; 3] = [
    CacheLayout { chunk: 0x250, entries: 64, lists: 64 },
    CacheLayout { chunk: 0x290, entries: 128, lists: 64 },
    CacheLayout { chunk: 0x300, entries: 152, lists: 76 },
];

/// Where `struct malloc_par` has the number and bytes of mapped chunks and the start of the main
/// arena's heap: 2.26–2.34, 2.35–2.41, 2.42 and newer.
pub static PARAMETER_LAYOUTS: [ParameterLayout; 3] = [
    ParameterLayout { mapped_count: 40, mapped_bytes: 56, heap_start: 72 },
    ParameterLayout { mapped_count: 60, mapped_bytes: 80, heap_start: 96 },
    ParameterLayout { mapped_count: 68, mapped_bytes: 88, heap_start: 104 },
];

/// Offsets in `struct malloc_par`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterLayout {
    /// `n_mmaps`, 4 bytes; `n_mmaps_max` follows.
    pub mapped_count: usize,
    /// `mmapped_mem`.
    pub mapped_bytes: usize,
    /// `sbrk_base`.
    pub heap_start: usize,
}
