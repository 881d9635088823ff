//! The memory that a runtime manages itself, as an instance returns it, whatever the language.
//!
//! Not here: how it is read, how much of it is resident (`process::account`).

use crate::process::account::OwnedRange;

/// A number that a runtime counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryFigure {
    /// What it is: `V8 heap used`.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// The memory of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeMemory {
    /// Addresses that are the runtime's own: stated by it, and checked.
    pub ranges: Vec<OwnedRange>,
    /// What it counts itself.
    pub figures: Vec<MemoryFigure>,
    /// The name of anonymous memory that nothing else explains, if the runtime is the only one that
    /// may have mapped it.
    pub rest: Option<&'static str>,
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRow {
    /// Bytes of a block.
    pub size: u64,
    /// Blocks in use.
    pub used: u64,
    /// Free blocks.
    pub free: u64,
}

/// Objects of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// The type's name, as the language writes it.
    pub name: String,
    /// Objects.
    pub count: u64,
    /// Bytes of their blocks.
    pub bytes: u64,
}

/// The objects of a runtime's own allocator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeObjects {
    /// The allocator, and what it is for.
    pub heap: &'static str,
    /// Arenas.
    pub arenas: usize,
    /// Blocks in use.
    pub count: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Blocks by size, ascending.
    pub sizes: Vec<SizeRow>,
    /// Objects by type, the most bytes first; blocks that are no object are in none.
    pub types: Vec<ObjectRow>,
    /// Parts of the heap that changed while they were read, or could not be read.
    pub broken: u64,
}

impl RuntimeMemory {
    /// Adds a range of a part.
    pub fn add(&mut self, part: &'static str, range: std::ops::Range<u64>) {
        self.ranges.push(OwnedRange { range, part: part.to_owned() });
    }
}
