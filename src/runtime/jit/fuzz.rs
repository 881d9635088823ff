//! The readers of descriptions of generated code, for any bytes.

use std::{fs::File, sync::Arc};

use super::{jitdump::Jitdump, object, source::Generated};
use crate::{addr::RuntimeAddr, budget::Budget, process::ProcessMemory, unwind::UnwindTables};

/// Where the memory begins that [`read_images`] reads: the head of a list is its first word.
const START: u64 = 0x10000;
/// The most functions that are read of one input.
const MAX_FUNCTIONS: usize = 64;

/// Reads a jitdump file; `grow` makes it longer.
pub fn read_dump(file: File, budget: &Budget, grow: impl FnOnce()) {
    let Some(mut dump) = Jitdump::open(file, u64::MAX, budget) else { return };
    dump.read_on();
    dump.advance(u64::MAX / 2, |range| assert!(range.start < range.end));
    grow();
    dump.read_on();
    let mut last = u64::MAX;
    dump.advance(u64::MAX, |range| last = range.start);
    for address in [0, 0x1000, 0x1020, last, u64::MAX] {
        if let Some((range, _)) = dump.find(address) {
            assert!(range.contains(&address));
        }
    }
    for start in dump.starts().take(MAX_FUNCTIONS) {
        let Some(function) = dump.function(start) else { continue };
        assert_eq!(function.address, start);
        function.line_at(start);
    }
}

/// Reads the bytes as a process's memory that begins with the head of a list, finds code in it, and
/// links the bytes as an image.
pub fn read_images(bytes: &[u8], budget: &Budget) {
    let memory = Arc::new(ProcessMemory::of_image(RuntimeAddr(START), bytes.to_vec()));
    let mut generated = Generated::new(&memory, budget, [START].into_iter(), None, 0);
    generated.read_on(1, |_| {});
    for address in [START, START + 0x1000, 0x1000, 0x40_0000] {
        let Some(piece) = generated.piece_at(address) else { continue };
        assert!(piece.code.iter().any(|range| range.contains(&address)));
        let tables = UnwindTables::new(Arc::clone(&piece.elf));
        tables.described_function(crate::addr::ElfAddr(address));
    }
    if let Some(linked) = object::link(bytes.to_vec(), &memory) {
        assert!(linked.code.iter().all(|range| range.start < range.end));
    }
}
