//! Stacks of allocations that an allocator samples itself, because its program or environment
//! turned that on: jemalloc with `prof:true`, gperftools' tcmalloc with
//! `TCMALLOC_SAMPLE_PARAMETER`. They are read from the allocator's own tables, without symbols.
//!
//! Only memory that is still in use is in the tables. Numbers are estimates: each sample stands for
//! the allocations that were not sampled. Not here: names of functions, profiles.

mod gperftools;
mod jemalloc;
mod words;

use super::Target;

/// The memory in use that one stack allocated.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledStack {
    /// Return addresses, the innermost call first.
    pub frames: Vec<u64>,
    /// Sampled objects.
    pub samples: u64,
    /// Estimated objects.
    pub objects: f64,
    /// Estimated bytes.
    pub bytes: f64,
}

/// What an allocator has sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The allocator and how it samples: `jemalloc (prof:true)`.
    pub allocator: &'static str,
    /// The mean number of bytes between two samples.
    pub period: u64,
    /// Whether the period is the allocator's default, because its real one is not stated.
    pub is_period_assumed: bool,
    /// The stacks.
    pub stacks: Vec<SampledStack>,
    /// Entries of the tables that were passed over, because they changed or did not make sense.
    pub broken: u64,
}

impl Sampled {
    /// Reads what the allocator of a process has sampled; `None`: it does not sample.
    pub fn read(target: &Target) -> Option<Sampled> {
        jemalloc::read(target).or_else(|| gperftools::read(target))
    }

    /// All sampled objects.
    pub fn samples(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.samples).sum()
    }
}

/// The most memory that the stacks of a process may take, in bytes.
const MAX_STACK_BYTES: usize = 256 << 20;

/// About how many bytes a stack takes.
fn bytes_of(frames: &[u64]) -> usize {
    size_of::<SampledStack>() + size_of_val(frames)
}

/// How many objects of a size one sampled object stands for: the chance that a stretch of `size`
/// bytes contains a sample is 1 - e^(-size/period).
fn weight(size: f64, period: u64) -> f64 {
    1.0 / -(-size / period.max(1) as f64).exp_m1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_objects_stand_for_many_and_large_ones_for_themselves() {
        assert!((weight(1.0, 1024) - 1024.5).abs() < 0.1);
        assert!((weight(1e9, 1024) - 1.0).abs() < 1e-9);
    }
}
