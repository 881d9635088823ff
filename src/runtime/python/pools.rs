//! The small-object allocator of CPython (Objects/obmalloc.c, `pymalloc`): pools of blocks of one
//! size, up to 512 bytes, in arenas of 256 KiB or, from 3.10 on, 1 MiB.
//!
//! A pool begins with a header that states its size class, the blocks in use, the list of free ones
//! and how far blocks have been handed out. Pools are recognized by that header alone, without
//! symbols: all of it must agree. Not here: what the blocks are (`census`), larger objects, which
//! come from malloc; builds without the interpreter lock, which use another allocator.

use std::{collections::BTreeMap, ops::Range};

use crate::{
    heap::{Memory, Present},
    process::Mapping,
};

/// The size of a pool and its alignment: to 3.9, and from 3.10 on.
const POOL: [u64; 2] = [4 << 10, 16 << 10];
/// The first minor release with the larger one.
const WITH_LARGE_POOLS: u32 = 10;
/// The bytes of a header.
pub const HEADER: u64 = 48;
/// Sizes are multiples of this.
const STEP: u32 = 16;
/// The most size classes.
const CLASSES: u32 = 32;
/// The most arenas.
const MAX_ARENAS: u32 = 1 << 22;
/// The most pools: 64 GiB.
const MAX_POOLS: usize = 4 << 20;
/// Pages whose state is read at a time.
const PAGES: usize = 4096;
const PAGE: u64 = 4096;

/// A pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its address.
    pub start: u64,
    /// The arena, by its index.
    pub arena: u32,
    /// Blocks in use.
    pub used: u32,
    /// The size of a block in bytes.
    pub size: u32,
    /// The first free block of the list; 0: none.
    pub first_free: u64,
    /// Bytes from the pool's start to the first block that was never handed out.
    pub handed_out: u32,
}

/// The size of a pool of the release 3.`minor`.
pub fn pool_bytes(minor: u32) -> u64 {
    POOL[usize::from(minor >= WITH_LARGE_POOLS)]
}

impl Pool {
    /// Decodes a header; `None`: there is no pool in use.
    pub fn decode(start: u64, bytes: u64, header: &[u8]) -> Option<Pool> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(*header.get(at..)?.first_chunk()?));
        let word_at = |at: usize| Some(u64::from_le_bytes(*header.get(at..)?.first_chunk()?));
        let (used, first_free, next, previous) = (u32_at(0)?, word_at(8)?, word_at(16)?, word_at(24)?);
        let (arena, class, handed_out, last) = (u32_at(32)?, u32_at(36)?, u32_at(40)?, u32_at(44)?);
        if class >= CLASSES || used == 0 || arena >= MAX_ARENAS {
            return None;
        }
        let size = (class + 1) * STEP;
        let is_free_block =
            |at: u64| at == 0 || (start + HEADER..start + bytes).contains(&at) && at.is_multiple_of(16);
        let is_pool = u64::from(last) == bytes - u64::from(size)
            && (HEADER + 1..=bytes + u64::from(size)).contains(&u64::from(handed_out))
            && (u64::from(handed_out) - HEADER).is_multiple_of(u64::from(size))
            && u64::from(used) <= (bytes - HEADER) / u64::from(size)
            && is_free_block(first_free)
            && [next, previous].iter().all(|link| *link != 0 && link.is_multiple_of(8));
        is_pool.then_some(Pool { start, arena, used, size, first_free, handed_out })
    }

    /// Blocks that fit into the pool.
    pub fn capacity(&self, bytes: u64) -> u64 {
        (bytes - HEADER) / u64::from(self.size)
    }
}

/// All pools in use, by address.
pub fn find(memory: &dyn Memory, mappings: &[Mapping], bytes: u64) -> Vec<Pool> {
    let mut pools = Vec::new();
    let is_candidate = |mapping: &&Mapping| {
        mapping.readable && mapping.writable && mapping.inode == 0 && !mapping.path.starts_with("[stack")
    };
    for mapping in mappings.iter().filter(is_candidate) {
        let mut at = mapping.start.0.next_multiple_of(bytes);
        let mut pages = vec![Present::Yes; PAGES];
        while at + bytes <= mapping.end.0 && pools.len() < MAX_POOLS {
            let window = PAGES as u64 * PAGE;
            let is_known = memory.pages(at, &mut pages);
            let end = (at + window).min(mapping.end.0);
            let starts = (at..end)
                .step_by(bytes as usize)
                .filter(|start| !is_known || pages[((start - at) / PAGE) as usize] == Present::Yes);
            let mut header = [0; HEADER as usize];
            pools.extend(starts.filter_map(|start| {
                (memory.read(start, &mut header) == header.len())
                    .then(|| Pool::decode(start, bytes, &header))?
            }));
            at += window;
        }
    }
    pools
}

/// The addresses of each arena, from its first to its last pool in use.
pub fn arenas(pools: &[Pool], bytes: u64) -> Vec<Range<u64>> {
    let mut arenas: BTreeMap<u32, Range<u64>> = BTreeMap::new();
    // Pools with the same arena are near each other; others are copies of headers.
    let longest = 1 << 20;
    for pool in pools {
        let own = pool.start..pool.start + bytes;
        let arena = arenas.entry(pool.arena).or_insert(own.clone());
        if own.end.max(arena.end) - own.start.min(arena.start) <= longest {
            *arena = own.start.min(arena.start)..own.end.max(arena.end);
        }
    }
    arenas.into_values().collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::{heap::Image, process::maps};

    /// A header of a pool at `start` with `used` blocks of 16·(class + 1) bytes.
    pub fn header(used: u32, class: u32, handed_out: u32, first_free: u64, bytes: u64) -> Vec<u8> {
        let mut header = used.to_le_bytes().to_vec();
        header.extend([0; 4]);
        [first_free, 0x1000, 0x2000].iter().for_each(|word| header.extend(word.to_le_bytes()));
        let last = bytes as u32 - (class + 1) * STEP;
        [3, class, handed_out, last].iter().for_each(|word: &u32| header.extend(word.to_le_bytes()));
        header
    }

    #[test]
    fn pools_are_found_by_their_headers() {
        let bytes = pool_bytes(11);
        let mut image = Image::default();
        let mut memory = vec![0; 4 * bytes as usize];
        memory[..48].copy_from_slice(&header(2, 2, 48 + 3 * 48, 0x40000 + 96, bytes));
        let third = 2 * bytes as usize;
        memory[third..third + 48].copy_from_slice(&header(1, 0, 64, 0, bytes));
        image.add(0x40000, memory);
        let mappings = maps::parse(b"40000-50000 rw-p 0 0:0 0 \n");
        let pools = find(&image, &mappings, bytes);
        let found: Vec<_> = pools.iter().map(|pool| (pool.start, pool.used, pool.size)).collect();
        assert_eq!(found, [(0x40000, 2, 48), (0x40000 + 2 * bytes, 1, 16)]);
        assert_eq!(arenas(&pools, bytes), vec![Range { start: 0x40000, end: 0x40000 + 3 * bytes }]);
    }

    #[test]
    fn a_header_that_contradicts_itself_is_no_pool() {
        let bytes = pool_bytes(9);
        let good = header(2, 2, 48 + 3 * 48, 0x40000 + 96, bytes);
        assert!(Pool::decode(0x40000, bytes, &good).is_some());
        for (at, byte) in [(0, 0), (0, 200), (8, 7), (36, 40), (36, 3), (40, 49), (44, 1)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Pool::decode(0x40000, bytes, &bad), None, "{at}");
        }
        for length in 0..48 {
            assert_eq!(Pool::decode(0x40000, bytes, &good[..length]), None);
        }
    }
}
