//! Who may hold a lock that records no owner: the threads whose stacks refer to it. Guards are
//! references to their locks, so the holder's stack has the address of the lock, or of the object
//! that contains it.
//!
//! A thread that only keeps a reference is a candidate too. Not here: locks without any reference.

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    frames::{Frames, StackFrame},
    graph::VertexId,
    space::Space,
};
use crate::addr::RuntimeAddr;

/// The most stack that is read of one thread, in bytes.
const MAX_STACK: u64 = 512 << 10;
/// The most stack that is read in all, in bytes.
const MAX_STACKS: u64 = 512 << 20;
/// The most references to one address that are kept.
const MAX_HITS: usize = 64;

/// A thread that sleeps.
pub struct Sleeper<'a> {
    /// Its vertex.
    pub id: VertexId,
    /// Its stack pointer.
    pub sp: u64,
    /// Its frames.
    pub frames: Option<&'a Frames<'a>>,
}

/// A lock whose holder is searched.
pub struct Search {
    /// The addresses to look for; earlier ones are better.
    pub addresses: Vec<u64>,
    /// The threads that wait for the same lock.
    pub waiters: FxHashSet<VertexId>,
}

/// A candidate and the evidence for it.
pub type Candidate = (VertexId, String);

/// References to an address: the thread, how many, and the function whose frame has the last one.
type Hit = (VertexId, usize, String);

/// The candidates of each search.
pub fn find(space: &Space, searches: &[Search], sleepers: &[Sleeper<'_>]) -> Vec<Vec<Candidate>> {
    let addresses: FxHashSet<u64> = searches.iter().flat_map(|search| search.addresses.clone()).collect();
    let hits = if addresses.is_empty() { FxHashMap::default() } else { scan(space, &addresses, sleepers) };
    searches.iter().map(|search| candidates(search, &hits)).collect()
}

fn candidates(search: &Search, hits: &FxHashMap<u64, Vec<Hit>>) -> Vec<Candidate> {
    for (index, address) in search.addresses.iter().enumerate() {
        let others = hits.get(address).into_iter().flatten();
        let found: Vec<Candidate> = others
            .filter(|(id, ..)| !search.waiters.contains(id))
            .map(|(id, count, function)| (*id, evidence(index > 0, *count, function)))
            .collect();
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

fn evidence(of_object: bool, count: usize, function: &str) -> String {
    let to = if of_object { "the object that contains it" } else { "it" };
    let pointers = if count == 1 { "1 pointer".to_owned() } else { format!("{count} pointers") };
    let place = if function.is_empty() { String::new() } else { format!(", in {function}") };
    format!("{pointers} to {to} on the stack{place}")
}

/// Searches the stacks of all threads for the addresses.
fn scan(space: &Space, addresses: &FxHashSet<u64>, sleepers: &[Sleeper<'_>]) -> FxHashMap<u64, Vec<Hit>> {
    let least = addresses.iter().min().copied().unwrap_or(0);
    let most = addresses.iter().max().copied().unwrap_or(0);
    let mut found: FxHashMap<u64, Vec<Hit>> = FxHashMap::default();
    let (mut buffer, mut total) = (Vec::new(), 0);
    for sleeper in sleepers {
        let Some(mapping) = space.mapping(sleeper.sp) else { continue };
        let length = (mapping.end.0 - sleeper.sp).min(MAX_STACK);
        total += length;
        if total > MAX_STACKS {
            break;
        }
        buffer.resize(length as usize, 0);
        let count = space.memory.read(RuntimeAddr(sleeper.sp), &mut buffer);
        let words: Vec<u64> =
            buffer[..count].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let mut hits: FxHashMap<u64, Vec<usize>> = FxHashMap::default();
        for (at, word) in words.iter().enumerate() {
            if (least..=most).contains(word) && addresses.contains(word) {
                let places = hits.entry(*word).or_default();
                if places.len() < MAX_HITS {
                    places.push(at);
                }
            }
        }
        for (address, places) in hits {
            let last = places.last().copied().unwrap_or(0);
            let function = frame_of(sleeper.frames, &words, last).map(StackFrame::text).unwrap_or_default();
            found.entry(address).or_default().push((sleeper.id, places.len(), function));
        }
    }
    found
}

/// The function whose frame has the word at index `hit`: the known return addresses are on the
/// stack in order.
fn frame_of<'f>(frames: Option<&'f Frames<'_>>, words: &[u64], hit: usize) -> Option<&'f StackFrame<'f>> {
    let mut with_code = frames?.0.iter().filter(|frame| frame.address != 0);
    let mut current = with_code.next()?;
    let mut from = 0;
    for next in with_code {
        // The profile has the address of the call, which is before the return address.
        let is_return = |word: &u64| *word == next.address || *word == next.address + 1;
        let Some(at) = words.get(from..)?.iter().position(is_return).map(|at| at + from) else { continue };
        if at > hit {
            break;
        }
        (current, from) = (next, at);
    }
    Some(current)
}
