//! The interface of allocators: how one is recognized, what a chunk is, who receives the chunks,
//! and how complete a census is.

use std::time::Duration;

use super::Target;
use crate::budget::Exhausted;

/// What a chunk is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Allocated by the program.
    InUse,
    /// Allocated by the program, in a mapping of its own.
    Mapped,
    /// Freed, and kept by a thread for its next allocations.
    ThreadCache,
    /// Freed, and kept in a list of chunks of one size that are not merged.
    FastList,
    /// Free.
    Free,
    /// The free rest at the end of an arena, which grows and shrinks.
    Top,
    /// The allocator's own data.
    Overhead,
}

impl State {
    /// All states, in the order in which reports list them.
    pub const ALL: [State; 7] = [
        State::InUse,
        State::Mapped,
        State::ThreadCache,
        State::FastList,
        State::Free,
        State::Top,
        State::Overhead,
    ];

    /// Its name in reports and labels.
    pub fn name(self) -> &'static str {
        match self {
            State::InUse => "in use",
            State::Mapped => "in use, own mapping",
            State::ThreadCache => "thread cache",
            State::FastList => "fast list",
            State::Free => "free",
            State::Top => "top",
            State::Overhead => "overhead",
        }
    }

    /// Whether the program uses the chunk.
    pub fn is_in_use(self) -> bool {
        matches!(self, State::InUse | State::Mapped)
    }
}

/// A piece of memory that an allocator manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What `malloc` returned for it: the first byte of its content.
    pub address: u64,
    /// Bytes that it takes, with the allocator's own bytes in front of and behind the content; of
    /// all [`Chunk::count`] chunks together.
    pub size: u64,
    /// Bytes that the program may use.
    pub usable: u64,
    /// What it is used for.
    pub state: State,
    /// The number of its arena, from 0.
    pub arena: u32,
    /// How many such chunks: more than 1 where the allocator counts chunks of one size and does not
    /// list them; `address` is 0 then.
    pub count: u64,
}

/// Receives the chunks of a census in the order in which they are read.
pub trait Sink {
    /// Takes a chunk and the first bytes of its content: as many as were read with it, at most
    /// [`Chunk::usable`], possibly none.
    fn chunk(&mut self, chunk: &Chunk, content: &[u8]);
}

/// How complete a census is, in bytes where nothing else is stated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    /// The sum of the sizes of all chunks.
    pub walked: u64,
    /// What the allocator itself counts for the same chunks; `None`: it does not count.
    pub own_total: Option<u64>,
    /// How many arenas there are.
    pub arenas: u32,
    /// Chunks whose header or neighbour did not fit, mostly because the program changed them while
    /// they were read.
    pub breaks: u64,
    /// How often the walk went on behind such a place.
    pub resyncs: u64,
    /// Bytes that were passed over for that.
    pub lost: u64,
    /// Pages never touched by the program, which were not read.
    pub untouched: u64,
    /// Pages in swap, which were not read.
    pub swapped: u64,
    /// Whether the system does not tell which pages are present. All were read then.
    pub pages_unknown: bool,
    /// How many thread caches were found, and how many threads there are.
    pub thread_caches: (u32, u32),
    /// Bytes that the allocator could return to the system at once, where that is known.
    pub trimmable: Option<u64>,
    /// What else the reader of a report must know: one sentence each.
    pub notes: Vec<String>,
    /// Why the walk ended early.
    pub cut: Option<Exhausted>,
    /// How long the pass took.
    pub took: Duration,
}

impl Coverage {
    /// The share of the allocator's own count that was walked: 1 is all; `None`: it does not count.
    pub fn share(&self) -> Option<f64> {
        self.own_total.filter(|total| *total > 0).map(|total| self.walked as f64 / total as f64)
    }
}

/// An allocator that rprof can read.
pub trait Allocator: Sync {
    /// Its name: `glibc malloc`.
    fn name(&self) -> &'static str;

    /// Finds it in a process; `None`: the process does not use it, or not a known release. Reads
    /// at most the writable data of modules.
    fn detect(&self, target: &Target) -> Option<Box<dyn Heap>>;
}

/// An allocator in a process.
pub trait Heap {
    /// Its name and release as far as it is known: `glibc malloc (2.35–2.41)`.
    fn name(&self) -> String;

    /// The name of an arena in reports and frames: `main arena`, `arena 3`.
    fn arena_name(&self, arena: u32) -> String {
        format!("arena {arena}")
    }

    /// Reads all chunks once and gives each to `sink`.
    fn census(&self, target: &Target, sink: &mut dyn Sink) -> Coverage;

    /// Address ranges that are the allocator's own data: pointers in them do not hold chunks.
    fn own_data(&self) -> Vec<(u64, u64)> {
        Vec::new()
    }
}
