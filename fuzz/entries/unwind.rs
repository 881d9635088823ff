//! Unwinds through a file of any bytes. The fuzzer controls the file (tables, rules, expressions,
//! machine code), the registers and the stack.

use std::sync::Arc;

use rprof::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    elf::ElfFile,
    unwind::{CopiedStack, Module, Modules, UnwindTables, Unwinder},
};

/// The addresses of the file and of the stack.
const BASE: u64 = 0x5555_0000_0000;
const STACK: u64 = 0x7ffc_0000_0000;
/// The end of the input: registers, then the stack.
const TAIL_BYTES: usize = 512;

/// See the module.
pub fn run(bytes: &[u8]) {
    let Some((file, tail)) = bytes.split_at_checked(bytes.len().saturating_sub(TAIL_BYTES)) else { return };
    let Ok(elf) = ElfFile::from_bytes(file.to_vec()) else { return };
    let words: Vec<u64> =
        tail.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes"))).collect();
    // Most words become addresses in the file, because these reach more code.
    let size = file.len() as u64;
    let pointed = |word: u64| match word & 3 {
        0 => word,
        1 => STACK + word % 4096,
        _ => BASE + word % size.max(1),
    };
    let starts: Vec<u64> = elf.segments().iter().filter(|s| s.executable).map(|s| s.address.0).collect();
    let mut registers = Registers::default();
    for (number, word) in words.iter().take(native::REGISTER_COUNT).enumerate() {
        registers.set(number as u16, pointed(*word));
    }
    let inside = words.first().map_or(0, |word| word % size.max(1));
    let code = starts.first().copied().unwrap_or(0);
    registers.set(native::PC, BASE.wrapping_add(code).wrapping_add(inside));
    registers.set(native::SP, STACK);
    let stack: Vec<u8> = words.iter().flat_map(|word| pointed(*word).to_le_bytes()).collect();

    let modules = Modules::new(vec![Module {
        start: RuntimeAddr(BASE.wrapping_add(code)),
        end: RuntimeAddr(BASE.wrapping_add(code).wrapping_add(size.max(4096))),
        bias: BASE,
        tables: Some(Arc::new(UnwindTables::new(Arc::new(elf)))),
        code: None,
        id: 0,
    }]);
    let mut frames = Vec::new();
    let mut memory = CopiedStack { start: RuntimeAddr(STACK), bytes: &stack, capped: true, has_holes: false };
    Unwinder::new().unwind(&modules, &registers, &mut memory, &mut frames);
}
