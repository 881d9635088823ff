//! Freed chunks that look used: those of the threads' caches and of the fast bins.
//!
//! A chunk in a cache has a key in its second word since 2.29: since 2.34 a random number, the same
//! for all threads, before that the address of the cache. The key identifies such a chunk wherever
//! it is met, so that the lists, which change all the time, need not be followed. The random key is
//! believed only if libc's data has it too: a program's own data may have any value.

use std::collections::BTreeMap;

use super::{
    arenas::{Arenas, is_libc},
    layouts::FAST_BINS,
    threads::Cache,
};
use crate::heap::{Coverage, State, Target, stream::read_present};

/// The most chunks of all lists that are followed.
const MAX_LISTED: usize = 4 << 20;
/// The largest module data that is searched for the key.
const MAX_DATA: u64 = 16 << 20;

/// Freed chunks that look used.
#[derive(Debug, Default)]
pub struct Freed {
    /// Addresses of the contents of chunks in fast bins, ascending.
    fast: Vec<u64>,
    /// The same of chunks in caches, where there is no key.
    cached: Vec<u64>,
    /// The addresses of the caches, ascending.
    caches: Vec<u64>,
    /// The random key.
    key: Option<u64>,
    /// Whether the address of a cache is the key.
    has_own_keys: bool,
}

impl Freed {
    /// Reads the lists of all arenas and caches.
    pub fn read(target: &Target, arenas: &Arenas, caches: &[Cache], coverage: &mut Coverage) -> Freed {
        let mut freed =
            Freed { caches: caches.iter().map(|cache| cache.address).collect(), ..Freed::default() };
        let mut lists = Lists { target, is_mangled: None, page: (0, Vec::new()), torn: 0, left: MAX_LISTED };
        let heads: Vec<(u64, u64)> = (caches.iter())
            .flat_map(|cache| cache.heads(target).into_iter().map(|head| (cache.address, head)))
            .filter(|(_, head)| *head != 0 && target.space.may_be_chunk(*head))
            .collect();
        freed.find_key(target, &heads);
        if freed.key.is_none() && !freed.has_own_keys {
            for (_, head) in &heads {
                lists.follow(*head, 0, &mut freed.cached);
            }
        }
        for base in arenas.list.iter().filter_map(|arena| arenas.layout.fast_bins(arena.base)) {
            for head in target.memory.words(base, FAST_BINS) {
                lists.follow(head, 16, &mut freed.fast);
            }
        }
        freed.fast.sort_unstable();
        freed.cached.sort_unstable();
        coverage.breaks += lists.torn;
        if lists.left == 0 {
            coverage.notes.push("the lists of freed chunks are longer than rprof follows".to_owned());
        }
        freed
    }

    /// The key that most chunks at the heads of lists have.
    fn find_key(&mut self, target: &Target, heads: &[(u64, u64)]) {
        let mut votes = BTreeMap::<u64, usize>::new();
        for (cache, head) in heads {
            let Some(key) = target.memory.word(head + 8) else { continue };
            self.has_own_keys |= key == *cache;
            *votes.entry(key).or_default() += 1;
        }
        let best = votes.into_iter().filter(|(key, _)| key >> 24 != 0).max_by_key(|(_, count)| *count);
        self.key = best.map(|(key, _)| key).filter(|key| !self.has_own_keys && is_in_libc(target, *key));
    }

    /// The state of a chunk that is not free by its successor's flag. `address` and `content`: of
    /// its content.
    pub fn state(&self, address: u64, content: &[u8]) -> State {
        let second =
            content.get(8..).and_then(|rest| rest.first_chunk::<8>()).map(|key| u64::from_le_bytes(*key));
        let is_key = |key: u64| Some(key) == self.key || (self.has_own_keys && has(&self.caches, key));
        match second {
            _ if has(&self.caches, address) => State::Overhead,
            Some(key) if key != 0 && is_key(key) => State::ThreadCache,
            _ if has(&self.cached, address) => State::ThreadCache,
            _ if has(&self.fast, address) => State::FastList,
            _ => State::InUse,
        }
    }
}

fn has(sorted: &[u64], value: u64) -> bool {
    !sorted.is_empty() && sorted.binary_search(&value).is_ok()
}

/// Whether the writable data of libc (in a static program, of any module) has this value.
fn is_in_libc(target: &Target, value: u64) -> bool {
    let has_libc = target.space.module_data().any(|(_, module)| is_libc(module));
    let data = target.space.module_data().filter(|(_, module)| !has_libc || is_libc(module));
    let sized = data.map(|(mapping, _)| (mapping.start.0, mapping.end.0 - mapping.start.0));
    sized.filter(|(_, size)| *size <= MAX_DATA).any(|(start, size)| {
        let bytes = read_present(&*target.memory, start, size as usize);
        bytes.as_chunks::<8>().0.iter().any(|word| u64::from_le_bytes(*word) == value)
    })
}

/// Follows lists of freed chunks.
struct Lists<'t> {
    target: &'t Target,
    /// Whether pointers are combined with their address (2.32 and newer); `None`: not known yet.
    is_mangled: Option<bool>,
    /// The page read last.
    page: (u64, Vec<u8>),
    torn: u64,
    left: usize,
}

const PAGE: u64 = 4096;

impl Lists<'_> {
    /// Adds the addresses of the contents of a list's chunks. `content`: from what the list points
    /// to, to the content, where the pointer to the next one is.
    fn follow(&mut self, head: u64, content: u64, found: &mut Vec<u64>) {
        let (mut at, first) = (head, found.len());
        while at != 0 && self.left > 0 {
            if !self.target.space.may_be_chunk(at) {
                self.torn += 1;
                return;
            }
            let Some(place) = at.checked_add(content) else { return };
            found.push(place);
            self.left -= 1;
            let Some(next) = self.word(place) else { return };
            at = self.reveal(place, next);
            // A list that was changed during the read may be a ring.
            let length = found.len() - first;
            if length.is_power_of_two() && length > 16 && found[first..found.len() - 1].contains(&place) {
                self.torn += 1;
                return;
            }
        }
    }

    fn reveal(&mut self, place: u64, stored: u64) -> u64 {
        let combined = stored ^ (place >> 12);
        let is_mangled = *self.is_mangled.get_or_insert_with(|| {
            let is_plain = stored == 0 || self.target.space.may_be_chunk(stored);
            !is_plain && (combined == 0 || self.target.space.may_be_chunk(combined))
        });
        if is_mangled { combined } else { stored }
    }

    fn word(&mut self, address: u64) -> Option<u64> {
        let start = address & !(PAGE - 1);
        if self.page.0 != start || self.page.1.is_empty() {
            let mut bytes = vec![0; PAGE as usize];
            let read = self.target.memory.read(start, &mut bytes);
            bytes.truncate(read);
            self.page = (start, bytes);
        }
        let bytes = self.page.1.get((address - start) as usize..)?;
        bytes.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
    }
}
