//! The labels that a program has set on a goroutine (`pprof.Do`, `pprof.SetGoroutineLabels`).
//!
//! Up to Go 1.23 they are a `map[string]string`, since 1.24 a list of pairs. They are immutable,
//! but they are garbage collected and their memory is reused, so labels are cached by address for
//! one pass only. Not here: which goroutine has which labels.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{loaded::read_string, process::GoProcess};
use crate::{addr::RuntimeAddr, budget::Resource, process::ProcessMemory};

/// Limit of the labels of one goroutine.
const MAX_LABELS: u64 = 1024;
/// Limit of the length of a key or value, in bytes.
const MAX_TEXT: usize = 16 << 10;
/// `hmap`: count, B, buckets, oldbuckets; a bucket of `map[string]string`: 8 hashes, 8 keys, 8
/// values.
const MAP_B: usize = 9;
const MAP_BUCKETS: usize = 16;
const MAP_OLD_BUCKETS: usize = 24;
const IN_BUCKET: usize = 8;
const BUCKET_BYTES: usize = 8 + IN_BUCKET * 32 + 8;
const MAX_BUCKETS: u64 = MAX_LABELS / IN_BUCKET as u64;
/// The smallest hash of a used slot (`minTopHash`).
const MIN_TOP_HASH: u8 = 5;

/// Labels, sorted by key.
pub type Labels = Arc<Vec<(String, String)>>;

/// Reads labels in one pass over goroutines.
#[derive(Debug, Default)]
pub struct LabelReader {
    known: FxHashMap<u64, Option<Labels>>,
}

impl LabelReader {
    /// The labels at an address; `None` if there are none.
    pub fn read(&mut self, process: &GoProcess, at: u64) -> Option<Labels> {
        if at == 0 {
            return None;
        }
        let read = || {
            let labels = read(&process.memory, RuntimeAddr(at), process.layout.labels_are_list)?;
            let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len() + 64).sum();
            process.budget.take(Resource::Memory, bytes as u64).ok().map(|()| labels)
        };
        self.known.entry(at).or_insert_with(read).clone()
    }
}

/// The labels at an address; `None` if there are none, or the memory there is not a label set.
pub fn read(memory: &ProcessMemory, at: RuntimeAddr, is_list: bool) -> Option<Labels> {
    let mut labels = if is_list { list(memory, at)? } else { map(memory, at)? };
    labels.sort();
    (!labels.is_empty()).then(|| Arc::new(labels))
}

fn pair(memory: &ProcessMemory, key: RuntimeAddr, value: RuntimeAddr) -> Option<(String, String)> {
    Some((read_string(memory, key, MAX_TEXT)?, read_string(memory, value, MAX_TEXT)?))
}

fn list(memory: &ProcessMemory, at: RuntimeAddr) -> Option<Vec<(String, String)>> {
    let start = RuntimeAddr(memory.read_word(at)?);
    let count = memory.read_word(at.offset(8)).filter(|count| *count <= MAX_LABELS)?;
    (0..count as i64)
        .map(|index| pair(memory, start.offset(index * 32), start.offset(index * 32 + 16)))
        .collect()
}

fn map(memory: &ProcessMemory, at: RuntimeAddr) -> Option<Vec<(String, String)>> {
    // The goroutine points to a variable that points to the map.
    let at = RuntimeAddr(memory.read_word(at)?);
    let mut head = [0; 32];
    memory.read_exact(at, &mut head).then_some(())?;
    let word = |offset: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[offset + byte]));
    if word(0) > MAX_LABELS {
        return None;
    }
    let buckets = 1u64.checked_shl(head[MAP_B].into()).filter(|buckets| *buckets <= MAX_BUCKETS)?;
    let mut labels = Vec::new();
    let tables = [(word(MAP_BUCKETS), buckets), (word(MAP_OLD_BUCKETS), buckets.div_ceil(2))];
    for (start, count) in tables {
        for index in 0..if start == 0 { 0 } else { count } {
            let mut bucket = start.wrapping_add(index * BUCKET_BYTES as u64);
            for _ in 0..MAX_LABELS {
                bucket = bucket_pairs(memory, RuntimeAddr(bucket), &mut labels)?;
                if bucket == 0 {
                    break;
                }
            }
        }
    }
    labels.sort();
    labels.dedup();
    (labels.len() as u64 == word(0)).then_some(labels)
}

/// Adds the pairs of a bucket. Returns the address of its overflow bucket.
fn bucket_pairs(memory: &ProcessMemory, at: RuntimeAddr, labels: &mut Vec<(String, String)>) -> Option<u64> {
    let mut hashes = [0; IN_BUCKET];
    memory.read_exact(at, &mut hashes).then_some(())?;
    for (slot, _) in hashes.iter().enumerate().filter(|(_, hash)| **hash >= MIN_TOP_HASH) {
        let key = at.offset(8 + slot as i64 * 16);
        labels.push(pair(memory, key, key.offset(IN_BUCKET as i64 * 16))?);
    }
    memory.read_word(at.offset(BUCKET_BYTES as i64 - 8))
}
