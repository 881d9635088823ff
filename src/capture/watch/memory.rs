//! What a session keeps in memory, by owner, beside what the kernel charges to rprof.
//!
//! A limit on memory means anonymous plus shared memory (RssAnon + RssShmem of proc(5)): pages of
//! mapped files are the kernel's to drop. Not here: limits on single readers (`crate::budget`).

use super::{
    space::Space,
    world::{Thread, World},
};
use crate::{
    process::{own_allocated_bytes, own_memory_bytes},
    unwind::Module,
};

/// The memory of a session.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// What holds memory, and about how many bytes.
    pub owners: Vec<(&'static str, usize)>,
    /// Anonymous and shared memory of rprof as a whole, in bytes; 0 if it cannot be read.
    pub resident_bytes: u64,
    /// What rprof as a whole has allocated, in bytes; 0 if the allocator does not tell.
    pub allocated_bytes: u64,
}

impl Memory {
    /// With the memory that rprof has now.
    pub fn of(owners: Vec<(&'static str, usize)>) -> Memory {
        let (resident_bytes, allocated_bytes) =
            (own_memory_bytes().unwrap_or(0), own_allocated_bytes().unwrap_or(0));
        Memory { owners, resident_bytes, allocated_bytes }
    }
}

impl World {
    /// What holds memory, and about how many bytes.
    pub fn memory_bytes(&self) -> [(&'static str, usize); 4] {
        const SPACE_BYTES: usize = size_of::<Space>() + 256;
        const THREAD_BYTES: usize = size_of::<((u32, u32), Thread)>() + 32;
        const MODULE_BYTES: usize = size_of::<Module>();
        let modules: usize = self.spaces.values().map(|space| space.modules.as_slice().len()).sum();
        let ended = self.ended.capacity() * size_of::<(u64, u32, u32)>();
        [
            ("counted stacks", self.collector.memory_bytes()),
            ("processes", self.spaces.capacity() * SPACE_BYTES + modules * MODULE_BYTES),
            ("threads", self.threads.capacity() * THREAD_BYTES + ended),
            ("files and mappings", self.images.memory_bytes()),
        ]
    }
}
