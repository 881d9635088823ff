//! The heaps of native allocators, read from a process's memory: every chunk with its size, state
//! and arena. Nothing is stopped, written or injected.
//!
//! An [`Allocator`] recognizes itself in a [`Target`] and returns a [`Heap`], whose
//! [`Heap::census`] walks all chunks once and gives each to a [`Sink`]. One file or folder per
//! allocator; the allocators of language runtimes implement the same traits in `runtime`.
//!
//! Addresses here are run-time addresses of the target. They are plain `u64`, because every one
//! is compared with words of its memory. The target is not stopped, and its memory may be crafted:
//! every loop and every list is bounded, and what cannot be read is counted in [`Coverage`].
//!
//! Not here: profiles and reports of a heap (`capture`).

mod allocator;
mod classes;
mod contexts;
mod glibc;
mod image;
mod index;
mod invented;
mod jemalloc;
mod leaks;
mod mark;
mod memory;
mod pools;
mod registry;
mod roots;
mod sampled;
mod space;
mod stream;
mod tally;
mod target;
mod type_name;
mod types;
mod unread;
mod vtables;

pub use allocator::{Allocator, Chunk, Coverage, Heap, Sink, State};
pub use classes::class_size_of;
pub use contexts::read_contexts;
pub use image::Image;
pub use index::{ChunkId, Index};
pub use invented::walk_damaged;
pub use leaks::{Suspects, Unreached};
pub use mark::{Marks, mark};
pub use memory::{LiveMemory, Memory, Present};
pub use pools::{Pool, Pools};
pub use registry::ALL;
pub use roots::{Holder, Root, roots};
pub use sampled::{Sampled, SampledStack};
pub use space::Space;
pub use stream::Stream;
pub use tally::{Amount, Row, Tally};
pub use target::{Target, Thread};
pub use type_name::{Certainty, TypeId, TypeName};
pub use unread::NAMED;
