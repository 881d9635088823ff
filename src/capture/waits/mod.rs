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
pub mod by_name;
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

use std::collections::{BTreeMap, BTreeSet};

use super::collector::Lock;
use crate::budget::Budget;

pub use labels::add_labels;
pub use model::{Finding, WaitGraph};
pub use read::read;

/// The addresses of locks with the names of the variables there: ``0x404060 `g_lock` in bank``.
/// Processes that have ended have no names.
pub fn lock_names(locks: &BTreeSet<Lock>, budget: &Budget) -> BTreeMap<Lock, String> {
    let mut all = BTreeMap::new();
    let pids: BTreeSet<u32> = locks.iter().map(|lock| lock.pid).collect();
    for pid in pids {
        let own = || locks.iter().filter(|lock| lock.pid == pid);
        let addresses: Vec<u64> = own().map(|lock| lock.address).collect();
        let names = names::objects(&space::Space::of(pid), &addresses, budget);
        all.extend(own().map(|lock| {
            let name = names.get(&lock.address).map(String::as_str).unwrap_or_default();
            (*lock, format!("{:#x} {name}", lock.address).trim_end().to_owned())
        }));
    }
    all
}
