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

impl RuntimeMemory {
    /// Adds a range of a part.
    pub fn add(&mut self, part: &'static str, range: std::ops::Range<u64>) {
        self.ranges.push(OwnedRange { range, part: part.to_owned() });
    }
}
