//! Where jemalloc keeps the counters of an arena, one row per release, and its size classes.
//!
//! Measured in the library itself: the offsets at which all checks of [`super`] hold, compared with
//! `malloc_stats_print` of the same process, class by class. x86-64, 4 KiB pages.

/// Offsets in an arena, in bytes.
#[derive(Debug)]
pub struct Layout {
    /// The release.
    pub release: &'static str,
    /// From the arena to the counters of its first bin: allocations, frees, requests, current
    /// regions, fills, flushes, slabs, reused slabs, current slabs.
    pub bins: u64,
    /// From one bin's counters to the next one's.
    pub stride: u64,
    /// From the counters to the pointer to the current slab.
    pub slab: u64,
    /// In a slab's first word: the bit that tells slabs from large allocations.
    pub slab_bit: u32,
    /// In a slab's first word: the bit from which on the size class is stated, in 8 bits.
    pub class_shift: u32,
    /// From the arena to the counters of the first large class: allocations, frees.
    pub large: u64,
    /// From one large class to the next.
    pub large_stride: u64,
}

/// All known releases.
pub static ROWS: &[Layout] = &[Layout {
    release: "5.3.0",
    bins: 79064,
    stride: 224,
    slab: 80,
    slab_bit: 12,
    class_shift: 20,
    large: 976,
    large_stride: 48,
}];

/// Small size classes.
pub const SMALL: usize = 36;
/// Large size classes.
pub const LARGE: usize = 196;

/// The size of each class in bytes, small ones first: 8, 16 to 128 in steps of 16, then four per
/// power of two.
pub fn sizes() -> impl Iterator<Item = u64> {
    let groups =
        (7..63u32).flat_map(|log2| (1..=4u64).map(move |step| (1 << log2) + step * (1 << (log2 - 2))));
    std::iter::once(8).chain((1..=8).map(|step| step * 16)).chain(groups).take(SMALL + LARGE)
}

/// How many regions of a small class a slab holds: a slab is the shortest run of pages without a
/// rest.
pub fn regions_per_slab(size: u64) -> u64 {
    const PAGE: u64 = 4096;
    let pages = (1..=16).find(|pages| (pages * PAGE).is_multiple_of(size)).unwrap_or(1);
    pages * PAGE / size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_classes_are_those_of_jemalloc() {
        let all: Vec<u64> = sizes().collect();
        assert_eq!(all[..12], [8, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224]);
        assert_eq!((all[SMALL - 1], all[SMALL], all[SMALL + 1]), (14336, 16384, 20480));
        assert_eq!((all.len(), all[53]), (SMALL + LARGE, 327_680));
    }

    #[test]
    fn a_slab_has_no_rest() {
        for (size, regions) in [(8, 512), (16, 256), (48, 256), (320, 64), (14336, 2), (7168, 4)] {
            assert_eq!(regions_per_slab(size), regions, "{size}");
        }
    }
}
