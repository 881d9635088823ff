//! Pools that a program manages itself on top of malloc, and names: PostgreSQL's memory contexts.
//!
//! Not here: the chunks below them.

/// A pool, or several of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, without control characters.
    pub name: String,
    /// How many pools have it.
    pub count: u64,
    /// The bytes that they took from malloc.
    pub bytes: u64,
}

/// The pools of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// What they are: `PostgreSQL memory contexts`.
    pub what: &'static str,
    /// The pools by name, the most bytes first.
    pub pools: Vec<Pool>,
    /// Pools that changed while they were read.
    pub broken: u64,
}

impl Pools {
    /// All pools.
    pub fn count(&self) -> u64 {
        self.pools.iter().map(|pool| pool.count).sum()
    }

    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.pools.iter().fold(0, |sum, pool| sum.saturating_add(pool.bytes))
    }
}
