//! The heap of a Go process: arenas of 64 MiB, aligned to their size (`heapArenaBytes` of
//! runtime/malloc.go, 64-bit Linux), with objects and the stacks of goroutines.
//!
//! The structures of goroutines are on the heap, so the arenas that contain them are Go's; the
//! runtime maps further arenas directly after them. Not here: objects.

use std::{collections::BTreeSet, ops::Range};

use super::process::GoProcess;
use crate::{
    process::Mapping,
    runtime::{MemoryFigure, RuntimeMemory},
};

/// The part's name.
const PART: &str = "Go heap and goroutine stacks";
/// Other memory of the runtime: structures of the heap, the scheduler's, tables.
const REST: &str = "Go runtime";
const ARENA: u64 = 64 << 20;
/// The most arenas: 4 TiB.
const MAX_ARENAS: usize = 1 << 16;

/// The memory of the runtime of a process with these mappings.
pub fn memory(process: &GoProcess, mappings: &[Mapping]) -> RuntimeMemory {
    let mut memory = RuntimeMemory::default();
    let goroutines = process.goroutine_table().unwrap_or_default();
    arenas(&goroutines, mappings).into_iter().for_each(|range| memory.add(PART, range));
    let live = process.info().heap_live_bytes;
    memory.figures.extend(live.map(|bytes| MemoryFigure { name: "Go heap live", bytes }));
    // Without a C library nothing else maps anonymous memory.
    let has_loader = mappings.iter().any(|mapping| {
        let file = mapping.path.rsplit('/').next().unwrap_or_default();
        file.starts_with("ld-") || file.starts_with("libc.so")
    });
    memory.rest = (!has_loader && !memory.ranges.is_empty()).then_some(REST);
    memory
}

/// The arenas that contain these addresses, and those that follow them.
fn arenas(addresses: &[u64], mappings: &[Mapping]) -> Vec<Range<u64>> {
    let is_mapped = |address: u64| {
        let index = mappings.partition_point(|mapping| mapping.end.0 <= address);
        mappings.get(index).is_some_and(|mapping| {
            mapping.start.0 <= address && mapping.inode == 0 && !mapping.path.starts_with("[stack")
        })
    };
    let known: BTreeSet<u64> = addresses.iter().map(|address| address & !(ARENA - 1)).collect();
    let mut found = BTreeSet::new();
    for first in known {
        let mut at = first;
        while found.len() < MAX_ARENAS && is_mapped(at) && found.insert(at) {
            at += ARENA;
        }
    }
    found.into_iter().map(|start| start..start + ARENA).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::RuntimeAddr;

    #[test]
    fn arenas_follow_those_with_goroutines() {
        let mapping = |start: u64, end: u64| Mapping {
            start: RuntimeAddr(start),
            end: RuntimeAddr(end),
            readable: true,
            writable: true,
            executable: false,
            file_offset: 0,
            device_major: 0,
            device_minor: 0,
            inode: 0,
            path: String::new(),
            deleted: false,
        };
        let base = 0xc0_0000_0000;
        let mappings = [mapping(base, base + ARENA + 4096), mapping(base + 4 * ARENA, base + 5 * ARENA)];
        let found = arenas(&[base + 0x1234, base + 0x5678], &mappings);
        assert_eq!(found, [base..base + ARENA, base + ARENA..base + 2 * ARENA]);
        assert!(arenas(&[base + 3 * ARENA], &mappings).is_empty());
    }
}
