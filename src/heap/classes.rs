//! Size classes: the sizes into which reports group chunks.
//!
//! Up to 1 KiB a class is 16 bytes wide, beyond that a quarter of a power of two. The classes of
//! allocators with classes are among them, so that their chunks are not mixed.

/// The number of classes.
pub const CLASSES: usize = LINEAR + 54 * STEPS;

/// Classes up to [`LINEAR_END`].
const LINEAR: usize = 65;
const LINEAR_END: u64 = 1024;
/// Classes in each power of two beyond.
const STEPS: usize = 4;

/// The number of the class of a chunk of `size` bytes.
pub fn class_of(size: u64) -> usize {
    if size <= LINEAR_END {
        return size.div_ceil(16) as usize;
    }
    // The power of two below, and the quarter behind it in which the size ends.
    let power = (size - 1).ilog2();
    let quarter = 1u64 << (power - 2);
    let step = (size - (1 << power)).div_ceil(quarter) as usize - 1;
    LINEAR + (power as usize - 10) * STEPS + step
}

/// The largest size of a class, in bytes.
pub fn class_size(class: usize) -> u64 {
    if class < LINEAR {
        return class as u64 * 16;
    }
    let (power, step) = (10 + (class - LINEAR) / STEPS, (class - LINEAR) % STEPS);
    let size = (1u128 << power) + (step as u128 + 1) * (1u128 << (power - 2));
    u64::try_from(size).unwrap_or(u64::MAX)
}

/// The largest size of the class of a chunk of `size` bytes.
pub fn class_size_of(size: u64) -> u64 {
    class_size(class_of(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_in_the_smallest_class_that_holds_it() {
        let mut last = 0;
        for size in (0..=5000).chain([1 << 20, (1 << 20) + 1, u64::MAX - 1, u64::MAX]) {
            let class = class_of(size);
            assert!(class < CLASSES && class >= last, "{size}");
            assert!(class_size(class) >= size, "{size}: {}", class_size(class));
            assert!(class == 0 || class_size(class - 1) < size, "{size}");
            last = class;
        }
        for bin in [1280, 1536, 1792, 2048, 2560, 14336, 16384, 20480] {
            assert_eq!(class_size(class_of(bin)), bin);
        }
    }
}
