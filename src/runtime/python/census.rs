//! The small objects of an interpreter by size class and type: every block of every pool
//! ([`super::pools`]).
//!
//! A block begins with the object, or with the header of the collector before it (16 bytes), or
//! with that and the pointers to its dictionary and weak references (32 bytes, from 3.11 on). It is
//! an object if the word where its type must be is a type: an object whose own type is `type`, or
//! an instance of `type`. The others are data of objects: keys of dictionaries, attributes,
//! buffers.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    layouts::Layout,
    objects::is_pointer,
    pools::{self, HEADER, Pool},
};
use crate::{
    heap::Memory,
    process::Mapping,
    runtime::{ObjectRow, RuntimeObjects, SizeRow},
};

/// The most types, and the most words that are remembered to be none.
const MAX_TYPES: usize = 1 << 16;
const MAX_OTHERS: usize = 1 << 20;
/// The most bytes of pools that are read.
const MAX_BYTES: u64 = 16 << 30;
/// The longest name of a type.
const MAX_NAME: usize = 200;
/// Where the type may be, as an index of words: without and with the collector's header, and with
/// the pointers before it.
const PLACES: [usize; 3] = [1, 3, 5];

/// Counts the objects.
pub fn read(memory: &dyn Memory, mappings: &[Mapping], layout: &Layout) -> RuntimeObjects {
    let bytes = pools::pool_bytes(layout.minor);
    let pools = pools::find(memory, mappings, bytes);
    let mut census = Census {
        memory,
        layout,
        pools: pools.iter().map(|pool| pool.start).collect(),
        pool_bytes: bytes,
        meta: 0,
        types: HashMap::new(),
        others: HashSet::new(),
        names: Vec::new(),
        rows: Vec::new(),
        sizes: BTreeMap::new(),
        broken: 0,
    };
    let (mut content, mut left) = (vec![0; bytes as usize], MAX_BYTES);
    for pool in &pools {
        left = left.saturating_sub(bytes);
        let is_read = left > 0 && memory.read(pool.start, &mut content) == content.len();
        // The header is read again with the blocks, which it must fit.
        match is_read.then(|| Pool::decode(pool.start, bytes, &content)).flatten() {
            Some(pool) => census.pool(&pool, &content),
            None => census.broken += 1,
        }
    }
    census.finish(pools::arenas(&pools, bytes).len())
}

struct Census<'m> {
    memory: &'m dyn Memory,
    layout: &'m Layout,
    /// The addresses of all pools, in ascending order: no type is in a pool.
    pools: Vec<u64>,
    pool_bytes: u64,
    /// The address of `type`; 0: not met yet.
    meta: u64,
    /// Types by address, as indexes of `names`.
    types: HashMap<u64, usize>,
    others: HashSet<u64>,
    names: Vec<String>,
    /// Objects and bytes of each type.
    rows: Vec<(u64, u64)>,
    /// Blocks in use, free ones, and bytes of objects by size.
    sizes: BTreeMap<u32, (u64, u64)>,
    broken: u64,
}

impl Census<'_> {
    fn pool(&mut self, pool: &Pool, content: &[u8]) {
        let free = free_blocks(pool, content);
        let size = pool.size as usize;
        let end = (pool.handed_out as usize).min(content.len());
        let mut used = 0;
        for at in (HEADER as usize..end).step_by(size) {
            let Some(block) = content.get(at..at + size) else { break };
            if free.contains(&(at as u32)) {
                continue;
            }
            used += 1;
            if let Some(row) = self.type_of(block) {
                self.rows[row].0 += 1;
                self.rows[row].1 += size as u64;
            }
        }
        self.broken += u64::from(used != u64::from(pool.used));
        let sizes = self.sizes.entry(pool.size).or_default();
        sizes.0 += used;
        sizes.1 += pool.capacity(self.pool_bytes).saturating_sub(used);
    }

    /// The type of the object in a block.
    fn type_of(&mut self, block: &[u8]) -> Option<usize> {
        let words = block.as_chunks::<8>().0;
        PLACES.iter().find_map(|place| self.type_at(u64::from_le_bytes(*words.get(*place)?)))
    }

    /// The index of the type at an address; `None`: there is none.
    fn type_at(&mut self, at: u64) -> Option<usize> {
        if let Some(row) = self.types.get(&at) {
            return Some(*row);
        }
        let is_in_pool = || {
            let before = self.pools.partition_point(|start| *start <= at).checked_sub(1);
            before.is_some_and(|index| at - self.pools[index] < self.pool_bytes)
        };
        let is_full = self.others.len() >= MAX_OTHERS || self.names.len() >= MAX_TYPES;
        if !is_pointer(at) || is_in_pool() || self.others.contains(&at) || is_full {
            return None;
        }
        let Some(name) = self.type_name(at) else {
            self.others.insert(at);
            return None;
        };
        self.names.push(name);
        self.rows.push((0, 0));
        self.types.insert(at, self.names.len() - 1);
        Some(self.names.len() - 1)
    }

    fn type_name(&mut self, at: u64) -> Option<String> {
        let own = self.word(at, self.layout.object_type).filter(|own| is_pointer(*own))?;
        if !self.is_meta(own)
            && !self.word(own, self.layout.object_type).is_some_and(|meta| self.is_meta(meta))
        {
            return None;
        }
        self.name_at(at)
    }

    /// Whether an object is `type`: its own type, with that name.
    fn is_meta(&mut self, at: u64) -> bool {
        if self.meta == 0
            && is_pointer(at)
            && self.word(at, self.layout.object_type) == Some(at)
            && self.name_at(at).as_deref() == Some("type")
        {
            self.meta = at;
        }
        self.meta == at && at != 0
    }

    fn word(&self, at: u64, offset: u32) -> Option<u64> {
        self.memory.word(at.checked_add(u64::from(offset))?)
    }

    fn name_at(&self, at: u64) -> Option<String> {
        let name = self.word(at, self.layout.type_name).filter(|name| *name > 0x1000)?;
        let mut bytes = [0; MAX_NAME];
        let count = self.memory.read(name, &mut bytes);
        let end = bytes[..count].iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
        let name = std::str::from_utf8(&bytes[..end]).ok()?;
        (!name.chars().any(char::is_control)).then(|| name.to_owned())
    }

    fn finish(self, arenas: usize) -> RuntimeObjects {
        let sizes = self.sizes.iter().map(|(size, (used, free))| SizeRow {
            size: u64::from(*size),
            used: *used,
            free: *free,
        });
        let sizes: Vec<SizeRow> = sizes.collect();
        let count: u64 = sizes.iter().map(|row| row.used).sum();
        let bytes: u64 = sizes.iter().map(|row| row.used * row.size).sum();
        let mut types: BTreeMap<String, ObjectRow> = BTreeMap::new();
        for (name, (count, bytes)) in self.names.into_iter().zip(self.rows) {
            let row = types.entry(name.clone()).or_insert(ObjectRow { name, count: 0, bytes: 0 });
            row.count += count;
            row.bytes += bytes;
        }
        let mut types: Vec<ObjectRow> = types.into_values().filter(|row| row.count > 0).collect();
        types.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        RuntimeObjects {
            heap: "pymalloc (objects of at most 512 bytes)",
            arenas,
            count,
            bytes,
            sizes,
            types,
            broken: self.broken,
        }
    }
}

/// The offsets of the free blocks that were in use before.
fn free_blocks(pool: &Pool, content: &[u8]) -> HashSet<u32> {
    let mut free = HashSet::new();
    let mut at = pool.first_free;
    while let Some(offset) = at.checked_sub(pool.start).and_then(|offset| u32::try_from(offset).ok()) {
        let Some(next) = content.get(offset as usize..).and_then(|rest| rest.first_chunk::<8>()) else {
            break;
        };
        if !free.insert(offset) {
            break;
        }
        at = u64::from_le_bytes(*next);
    }
    free
}

#[cfg(test)]
mod tests {
    use super::{super::pools::tests::header, *};
    use crate::{heap::Image, process::maps};

    const POOL: u64 = 0x40000;
    const META: u64 = 0x90000;
    const CART: u64 = 0x90400;
    const NAMES: u64 = 0x90800;

    fn image(blocks: &[(u64, u64)]) -> Image {
        let layout = Layout::of(11).expect("a release");
        let bytes = pools::pool_bytes(11);
        let mut image = Image::default();
        let mut pool = vec![0; bytes as usize];
        // Blocks of 48 bytes: an object, a free block, an object with a header, data.
        pool[..48].copy_from_slice(&header(3, 2, 48 + 4 * 48, POOL + 96, bytes));
        image.add(POOL, pool);
        image.add(META, vec![0; 0x1000]);
        for (at, own, name) in [(META, META, NAMES), (CART, META, NAMES + 8)] {
            image.set(at + u64::from(layout.object_type), own);
            image.set(at + u64::from(layout.type_name), name);
        }
        image.set(NAMES, u64::from_le_bytes(*b"type\0\0\0\0"));
        image.set(NAMES + 8, u64::from_le_bytes(*b"Cart\0\0\0\0"));
        for (at, word) in blocks {
            image.set(POOL + at, *word);
        }
        image
    }

    #[test]
    fn objects_are_counted_by_type_and_blocks_by_size() {
        let image = image(&[(48 + 8, CART), (96 + 8, CART), (144 + 24, CART), (192 + 8, 0x1234)]);
        let mappings = maps::parse(b"40000-44000 rw-p 0 0:0 0 \n90000-91000 rw-p 0 0:0 0 \n");
        let found = read(&image, &mappings, &Layout::of(11).expect("a release"));
        let types: Vec<_> = found.types.iter().map(|row| (row.name.as_str(), row.count, row.bytes)).collect();
        assert_eq!(types, [("Cart", 2, 96)]);
        assert_eq!((found.count, found.bytes, found.arenas, found.broken), (3, 144, 1, 0));
        assert_eq!((found.sizes[0].size, found.sizes[0].used, found.sizes[0].free), (48, 3, 337));
    }

    #[test]
    fn a_circle_of_free_blocks_ends() {
        let image = image(&[(96, POOL + 96)]);
        let mappings = maps::parse(b"40000-44000 rw-p 0 0:0 0 \n");
        let found = read(&image, &mappings, &Layout::of(11).expect("a release"));
        assert_eq!((found.count, found.types.len()), (3, 0));
    }
}
