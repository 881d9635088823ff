//! What a session keeps in memory, by owner, beside what the kernel charges to rprof.
//!
//! A limit on memory means anonymous plus shared memory (RssAnon + RssShmem of proc(5)): pages of
//! mapped files are the kernel's to drop. Not here: limits on single readers (`crate::budget`).

use crate::process::own_memory_bytes;

/// The memory of a session.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What holds memory, and about how many bytes.
    pub owners: Vec<(&'static str, usize)>,
    /// Anonymous and shared memory of rprof as a whole, in bytes; 0 if it cannot be read.
    pub resident_bytes: u64,
}

impl Memory {
    /// With the memory that rprof has now.
    pub fn of(owners: Vec<(&'static str, usize)>) -> Memory {
        Memory { owners, resident_bytes: own_memory_bytes().unwrap_or(0) }
    }
}
