//! The wait graph: what each waiting thread waits for, who can end the wait, and whether threads
//! wait for one another for ever.
//!
//! ```text
//! look        what a thread sleeps in, and how often it has run
//! futex       the lock behind a futex wait, and its owner as the lock records it
//! candidates  threads whose stacks refer to a lock that records no owner
//! peers       processes at the other end of pipes and sockets, holders of file locks, children
//! graph       blocked vertices, cycles, counts (pure)
//! verdict     deadlocks and other findings, after a second look
//! ```
//!
//! All of it is read from /proc and by process_vm_readv(2); nothing is stopped. The target controls
//! its memory: reads have fixed sizes, and pointers are followed only to fixed depths. Not here:
//! stacks and names, which come from the profile of the dump.

mod build;
mod candidates;
mod frames;
mod futex;
pub mod graph;
mod labels;
mod look;
pub mod model;
mod names;
mod peers;
mod read;
mod space;
mod text;
mod verdict;

pub use labels::add_labels;
pub use model::{Finding, WaitGraph};
pub use read::read;
