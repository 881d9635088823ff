//! The memory contexts of a PostgreSQL backend: a tree below `TopMemoryContext`, which the program
//! exports (src/include/nodes/memnodes.h, releases 13 and newer: before, contexts did not count
//! their memory).
//!
//! A context counts only if it refers to its parent and to the sibling before it. Its `ident` may
//! contain a query's text and is not read. Not here: the blocks of a context.

use std::collections::BTreeMap;

use super::{
    Memory, Target,
    pools::{Pool, Pools},
};

const WHAT: &str = "PostgreSQL memory contexts";
const ROOT: &[u8] = b"TopMemoryContext";
/// Words of a context: `mem_allocated` 1, then (after its methods) parent, first child, sibling
/// before, sibling after, name.
const WORDS: usize = 8;
const BYTES: usize = 1;
const PARENT: usize = 3;
const FIRST_CHILD: usize = 4;
const BEFORE: usize = 5;
const AFTER: usize = 6;
const NAME: usize = 7;
/// The most contexts, and the most that wait to be read.
const MAX_CONTEXTS: u64 = 1 << 20;
const MAX_WAITING: usize = 1 << 16;
/// The most different names.
const MAX_NAMES: usize = 4096;
/// The longest name.
const MAX_NAME: usize = 128;
/// The most bytes of a context.
const MAX_BYTES: u64 = 1 << 46;

/// Reads the contexts of a process; `None`: its program exports no root, or the root is none.
pub fn read_contexts(target: &Target) -> Option<Pools> {
    let root = root(target)?;
    walk(&*target.memory, target.memory.word(root)?)
}

/// The address of the variable that points to the root.
fn root(target: &Target) -> Option<u64> {
    let (_, module) = target.space.module_data().next()?;
    let (elf, bias) = target.elf(module)?;
    let symbol = elf.symbol_tables().find_map(|table| {
        table.defined_symbols().find(|symbol| symbol.name == ROOT).map(|symbol| symbol.address)
    })?;
    Some(symbol.0.wrapping_add(bias))
}

/// A context that is to be read.
struct Next {
    at: u64,
    parent: u64,
    before: u64,
}

/// Adds up the contexts below a root; `None`: it is no root.
fn walk(memory: &dyn Memory, root: u64) -> Option<Pools> {
    let mut sums: BTreeMap<String, Pool> = BTreeMap::new();
    let mut waiting = vec![Next { at: root, parent: 0, before: 0 }];
    let (mut broken, mut left) = (0, MAX_CONTEXTS);
    while let Some(next) = waiting.pop() {
        let words = memory.words(next.at, WORDS);
        let is_context = words.len() == WORDS
            && words[PARENT] == next.parent
            && words[BEFORE] == next.before
            && words[BYTES] < MAX_BYTES;
        let name = is_context.then(|| name(memory, words[NAME])).flatten();
        let Some(name) = name.filter(|_| left > 0) else {
            if next.parent == 0 {
                return None;
            }
            broken += 1;
            continue;
        };
        left -= 1;
        let name = if sums.len() < MAX_NAMES { name } else { "other contexts".to_owned() };
        let sum = sums.entry(name.clone()).or_insert(Pool { name, count: 0, bytes: 0 });
        (sum.count, sum.bytes) = (sum.count + 1, sum.bytes.saturating_add(words[BYTES]));
        let more = [(words[AFTER], next.parent, next.at), (words[FIRST_CHILD], next.at, 0)];
        let more = more.into_iter().filter(|(at, _, _)| *at != 0 && waiting.len() < MAX_WAITING);
        let more: Vec<Next> = more.map(|(at, parent, before)| Next { at, parent, before }).collect();
        waiting.extend(more);
    }
    let mut pools: Vec<Pool> = sums.into_values().collect();
    pools.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    Some(Pools { what: WHAT, pools, broken })
}

/// The name of a context, a constant of the program.
fn name(memory: &dyn Memory, at: u64) -> Option<String> {
    let mut bytes = [0; MAX_NAME];
    let count = memory.read(at, &mut bytes);
    let end = bytes[..count].iter().position(|byte| *byte == 0).filter(|end| *end > 0)?;
    let is_text = bytes[..end].iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    is_text.then(|| String::from_utf8_lossy(&bytes[..end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::Image;

    const NAMES: u64 = 0x9000;

    /// Contexts at multiples of 256: (parent, first child, before, after, name, bytes).
    fn image(contexts: &[[u64; 6]]) -> Image {
        let mut image = Image::default();
        image.add(0, vec![0; 0x1000]);
        image.add(NAMES, b"TopMemoryContext\0CacheMemoryContext\0\0\0\0\0".to_vec());
        for (index, [parent, child, before, after, name, bytes]) in contexts.iter().enumerate() {
            let at = (index as u64 + 1) << 8;
            for (word, value) in [
                (PARENT, *parent),
                (FIRST_CHILD, *child),
                (BEFORE, *before),
                (AFTER, *after),
                (NAME, *name),
                (BYTES, *bytes),
            ] {
                image.set(at + word as u64 * 8, value);
            }
        }
        image
    }

    #[test]
    fn contexts_are_added_up_by_name() {
        let cache = NAMES + 17;
        let image = image(&[
            [0, 0x200, 0, 0, NAMES, 1000],
            [0x100, 0x400, 0, 0x300, cache, 20],
            [0x100, 0, 0x200, 0, cache, 300],
            [0x200, 0, 0, 0, cache, 4000],
        ]);
        let pools = walk(&image, 0x100).expect("contexts");
        let found: Vec<_> =
            pools.pools.iter().map(|pool| (pool.name.as_str(), pool.count, pool.bytes)).collect();
        assert_eq!(found, [("CacheMemoryContext", 3, 4320), ("TopMemoryContext", 1, 1000)]);
        assert_eq!((pools.count(), pools.bytes(), pools.broken), (4, 5320, 0));
    }

    #[test]
    fn a_child_of_another_parent_is_passed_over_and_a_circle_ends() {
        let image = image(&[[0, 0x200, 0, 0, NAMES, 1], [0x300, 0, 0, 0, NAMES, 2]]);
        let pools = walk(&image, 0x100).expect("contexts");
        assert_eq!((pools.bytes(), pools.broken), (1, 1));
        let image = self::image(&[[0, 0x200, 0, 0, NAMES, 1], [0x100, 0, 0, 0x200, NAMES, 2]]);
        let pools = walk(&image, 0x100).expect("contexts");
        assert_eq!((pools.bytes(), pools.broken), (3, 1));
        assert_eq!(walk(&image, 0x200), None);
    }
}
