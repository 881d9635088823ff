//! x86-64: System V ABI, AMD64 supplement (register numbers: figure 3.36) and the kernel's
//! `asm/perf_regs.h` (order of sampled registers).

use super::Registers;

/// The `e_machine` of this CPU's ELF files.
pub const ELF_MACHINE: u16 = goblin::elf::header::EM_X86_64;
/// DWARF number of the program counter (the return-address column).
pub const PC: u16 = 16;
/// DWARF number of the stack pointer (rsp).
pub const SP: u16 = 7;
/// DWARF number of the frame pointer (rbp).
pub const FP: u16 = 6;
/// How many registers unwinding tracks: the 16 general ones and the pc.
pub const REGISTER_COUNT: usize = 17;

/// Which registers perf copies with a sample (`perf_event_attr.sample_regs_user`): ax bx cx dx si
/// di bp sp ip (bits 0 to 8) and r8 to r15 (bits 16 to 23).
pub const PERF_REGISTER_MASK: u64 = 0x00ff_01ff;

/// DWARF numbers in the order in which perf writes the registers of [`PERF_REGISTER_MASK`]
/// (ascending bit).
pub const PERF_REGISTER_ORDER: [u16; REGISTER_COUNT] =
    [0, 3, 2, 1, 4, 5, 6, 7, PC, 8, 9, 10, 11, 12, 13, 14, 15];

/// Registers from a perf sample's user-register block: one u64 for each bit of the mask.
pub fn registers_from_perf(block: &[u64]) -> Registers {
    let mut registers = Registers::default();
    for (number, value) in PERF_REGISTER_ORDER.iter().zip(block) {
        registers.set(*number, *value);
    }
    registers
}

/// DWARF numbers in the order of the kernel's `struct pt_regs` (`asm/ptrace.h`): r15 r14 r13 r12 bp
/// bx r11 r10 r9 r8 ax cx dx si di, then orig_ax cs ip flags sp ss. `None` is not tracked.
pub const PT_REGS_ORDER: [Option<u16>; 21] = [
    Some(15),
    Some(14),
    Some(13),
    Some(12),
    Some(6),
    Some(3),
    Some(11),
    Some(10),
    Some(9),
    Some(8),
    Some(0),
    Some(2),
    Some(1),
    Some(4),
    Some(5),
    None,
    None,
    Some(PC),
    None,
    Some(SP),
    None,
];

/// Registers from a raw copy of the kernel's `struct pt_regs`.
pub fn registers_from_pt_regs(words: &[u64]) -> Registers {
    let mut registers = Registers::default();
    for (number, value) in PT_REGS_ORDER.iter().zip(words) {
        if let Some(number) = number {
            registers.set(*number, *value);
        }
    }
    registers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_perf_mask_has_one_bit_for_each_register_in_the_order() {
        assert_eq!(PERF_REGISTER_MASK.count_ones() as usize, PERF_REGISTER_ORDER.len());
    }

    #[test]
    fn pt_regs_give_pc_sp_and_fp() {
        let words: Vec<u64> = (0..21).collect();
        let registers = registers_from_pt_regs(&words);
        assert_eq!(registers.get(PC), Some(16 + 1));
        assert_eq!(registers.get(SP), Some(19));
        assert_eq!(registers.get(FP), Some(4));
    }
}
