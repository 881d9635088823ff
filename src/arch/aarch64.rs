//! AArch64: DWARF for the Arm 64-bit Architecture (register numbers: table 1) and the kernel's
//! `asm/perf_regs.h` (order of sampled registers).

use super::Registers;

/// The `e_machine` of this CPU's ELF files.
pub const ELF_MACHINE: u16 = goblin::elf::header::EM_AARCH64;
/// DWARF number of the program counter.
pub const PC: u16 = 32;
/// DWARF number of the stack pointer.
pub const SP: u16 = 31;
/// DWARF number of the frame pointer (x29).
pub const FP: u16 = 29;
/// DWARF number of the link register (x30): the return-address column.
pub const LR: u16 = 30;
/// How many registers unwinding tracks: x0 to x30, sp, pc.
pub const REGISTER_COUNT: usize = 33;

/// Which registers perf copies with a sample: x0 to x29, lr, sp, pc (bits 0 to 32).
pub const PERF_REGISTER_MASK: u64 = (1 << 33) - 1;

/// Registers from a perf sample's user-register block: one u64 for each bit of the mask.
pub fn registers_from_perf(block: &[u64]) -> Registers {
    let mut registers = Registers::default();
    for (number, value) in (0..REGISTER_COUNT as u16).zip(block) {
        registers.set(number, *value);
    }
    registers
}

/// Registers from a raw copy of the kernel's `struct user_pt_regs`: x0 to x30, sp, pc, pstate.
pub fn registers_from_pt_regs(words: &[u64]) -> Registers {
    registers_from_perf(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_perf_mask_has_one_bit_for_each_register() {
        assert_eq!(PERF_REGISTER_MASK.count_ones() as usize, REGISTER_COUNT);
    }
}
