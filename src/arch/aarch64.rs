//! AArch64: DWARF for the Arm 64-bit Architecture (register numbers: table 1) and the kernel's
//! `asm/perf_regs.h` (order of sampled registers).

use super::{Call, LeafShape, Registers, ReturnAt};

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
/// DWARF number of the return-address column of CFI.
pub const RETURN_ADDRESS: u16 = LR;
/// The callee-saved registers, one bit each by DWARF number: x19 to x29 and sp.
pub const PRESERVED: u64 = 0x7ff << 19 | 1 << SP;
/// How many registers unwinding tracks: x0 to x30, sp, pc.
pub const REGISTER_COUNT: usize = 33;

/// The registers with the second and third argument of a system call: of futex(2), operation and
/// value.
pub const FUTEX_ARGUMENTS: [u16; 2] = [1, 2];
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

/// Words of the kernel's `struct user_pt_regs` (`asm/ptrace.h`), with which `struct pt_regs`
/// begins.
pub const PT_REGS_WORDS: usize = 34;

/// Words of the regset NT_PRSTATUS, of which the first are those of `struct pt_regs`.
pub const USER_REGS_WORDS: usize = 34;

/// Registers from a raw copy of the kernel's `struct user_pt_regs`: x0 to x30, sp, pc, pstate.
pub fn registers_from_pt_regs(words: &[u64]) -> Registers {
    registers_from_perf(words)
}

/// The number of the system call that a stopped thread is leaving. The general registers of this
/// CPU do not hold it: always `None`.
pub fn syscall_being_left(_words: &[u64]) -> Option<u64> {
    None
}

/// Undoing an interruption is not possible on this CPU: the kernel decides how an interrupted
/// system call continues before it stops the thread, by a register that is not visible (`orig_x0`).
pub const CAN_UNDO: bool = false;

/// See [`CAN_UNDO`]: always `false`.
pub fn undo_interruption(_words: &mut [u64]) -> bool {
    false
}

/// See [`CAN_UNDO`]: always `false`.
pub fn restart_anew(_words: &mut [u64]) -> bool {
    false
}

/// A code address without its pointer authentication code: user-space addresses have 48 bits (52
/// with large virtual addresses, which programs must request); the code is in the bits above them.
#[inline]
pub fn strip_pointer_authentication(addr: u64) -> u64 {
    addr & ((1 << 48) - 1)
}

/// Where the kernel's signal frame keeps the interrupted registers, in bytes from the stack pointer
/// at the trampoline: siginfo (128), then `struct ucontext` (flags, link, stack: 40; mask: 128; up
/// to a multiple of 16), then `struct sigcontext` (`asm/sigcontext.h`): fault address, x0 to x30,
/// sp, pc.
pub const SIGNAL_CONTEXT: [(u16, i64); REGISTER_COUNT] = {
    let mut places = [(0, 0); REGISTER_COUNT];
    let mut number = 0;
    while number < REGISTER_COUNT {
        places[number] = (number as u16, 304 + 8 + 8 * number as i64);
        number += 1;
    }
    places
};

/// How many bytes below the stack pointer a function may use without moving it: none (AAPCS64,
/// section 6.4.5).
pub const RED_ZONE: u64 = 0;

/// How many bytes of code before an address the functions here need.
pub const CODE_BEFORE: u64 = 8;
const LOAD_SIGRETURN: u32 = 0xd280_1168; // mov x8, #139
const SVC: u32 = 0xd400_0001; // svc #0
const RET: u32 = 0xd65f_03c0;

fn instruction(code: &[u8], index: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*code.get(index * 4..)?.first_chunk()?))
}

fn last_instruction(code: &[u8]) -> Option<u32> {
    code.last_chunk().map(|word| u32::from_le_bytes(*word))
}

/// Whether a thread at the boundary of `before` and `code` is in a signal trampoline: about to load
/// the number of rt_sigreturn(2), or to make the call.
pub fn is_sigreturn(before: &[u8], code: &[u8]) -> bool {
    let first = instruction(code, 0);
    (first == Some(LOAD_SIGRETURN) && instruction(code, 1) == Some(SVC))
        || (last_instruction(before) == Some(LOAD_SIGRETURN) && first == Some(SVC))
}

/// Whether a thread at `code` has just been created. Not recognised on this CPU: always `false`.
pub fn is_new_thread(_before: &[u8], _code: &[u8], _registers: &Registers) -> bool {
    false
}

/// Whether the code at a return address ends the thread at once: exit(2) (93), with at most a move
/// of its argument before it.
pub fn is_thread_exit(code: &[u8]) -> bool {
    const LOAD_EXIT: u32 = 0xd280_0ba8; // mov x8, #93
    (0..3).any(|at| instruction(code, at) == Some(LOAD_EXIT) && instruction(code, at + 1) == Some(SVC))
}

/// The thread pointer. On this CPU it is not among the general registers: always `None`.
pub fn thread_pointer(_words: &[u64]) -> Option<u64> {
    None
}

/// Where glibc keeps the head of a thread's list of robust mutexes, in bytes from the thread
/// pointer: in front of it, at a distance that depends on the release. Not read.
pub const ROBUST_LIST_OFFSET: Option<u64> = None;

/// The call instruction at the end of `before`; `None`: there is none.
pub fn call_before(before: &[u8]) -> Option<Call> {
    let word = last_instruction(before)?;
    if word >> 26 == 0b10_0101 {
        // bl: a 26-bit signed count of instructions, from the call itself.
        let displacement = i64::from(((word << 6) as i32) >> 6) * 4;
        return Some(Call::Direct(displacement - 4));
    }
    // blr, and blraa, blrab, blraaz, blrabz with pointer authentication.
    let indirect = word & 0xffff_fc1f == 0xd63f_0000 || word & 0xfeff_f800 == 0xd63f_0800;
    indirect.then_some(Call::Indirect)
}

/// Follows the stack pointer through a function without call-frame information. Not needed on this
/// CPU: by its procedure call standard every function that calls another keeps a frame record.
/// Always `None`.
pub fn frame_at(_code: &[u8], _to: usize) -> Option<LeafShape> {
    None
}

/// Offsets at which functions seem to start in code without symbols: not supported on this CPU.
pub fn function_starts(_address: u64, _code: &[u8]) -> Vec<usize> {
    Vec::new()
}

/// Whether the code at the bottom of a coroutine's stack ends the process: not recognised on this
/// CPU.
pub fn is_process_exit(_code: &[u8]) -> bool {
    false
}

/// The frame of a function that returns without a further call after the call that `code` follows:
/// `ldp x29, x30, [sp], #n` comes next.
pub fn shape_before_return(code: &[u8]) -> Option<LeafShape> {
    leaf_shape(&[], code).filter(|shape| matches!(shape.return_address, ReturnAt::Offset(_)))
}

/// Whether the function that starts with `code` may end in a jump to `distance` bytes from its
/// start: a direct jump there is among its first instructions.
pub fn jumps_to(code: &[u8], distance: i64) -> bool {
    (0..8).any(|index| {
        instruction(code, index).is_some_and(|word| {
            word >> 26 == 0b00_0101 && 4 * index as i64 + i64::from(((word << 6) as i32) >> 6) * 4 == distance
        })
    })
}

/// Whether a function that starts like `code` keeps a frame pointer: `stp x29, x30, [sp, …]`
/// somewhere in its first instructions.
pub fn sets_up_frame_pointer(code: &[u8]) -> bool {
    code.chunks_exact(4).any(|word| {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        word & 0xfe40_7fff == 0xa800_7bfd
    })
}

/// The frame of the function that the instructions at `code` belong to; `None` if it cannot be
/// derived, or if the frame pointer is in use.
pub fn leaf_shape(before: &[u8], code: &[u8]) -> Option<LeafShape> {
    const BTI_C: u32 = 0xd503_245f;
    const PACIASP: u32 = 0xd503_233f;
    const AUTIASP: u32 = 0xd503_23bf;
    const FRAME_POINTER_SETUP: u32 = 0x9100_03fd; // mov x29, sp
    let marks = (0..2).take_while(|at| matches!(instruction(code, *at), Some(BTI_C | PACIASP | AUTIASP)));
    let word = instruction(code, marks.count())?;
    // stp x29, x30, [sp, #-n]! comes next: nothing is saved yet. ret: nothing is saved any more.
    if word & 0xffc0_7fff == 0xa980_7bfd || word == RET {
        let return_address = ReturnAt::Register(LR);
        return Some(LeafShape { base: SP, return_address, caller_sp: 0, saved: Vec::new() });
    }
    let (return_address, saved) = (ReturnAt::Offset(8), vec![(FP, 0)]);
    // ldp x29, x30, [sp], #n comes next: both lie at sp.
    if word & 0xffc0_7fff == 0xa8c0_7bfd {
        let caller_sp = i64::from((word >> 15 & 0x7f) << 3);
        return Some(LeafShape { base: SP, return_address, caller_sp, saved });
    }
    // The pair was just saved at sp; the size of the frame is in the previous instruction.
    let size = last_instruction(before).filter(|store| store & 0xffc0_7fff == 0xa980_7bfd)?;
    let caller_sp = -(i64::from((size << 10) as i32 >> 25) * 8);
    (word == FRAME_POINTER_SETUP).then_some(LeafShape { base: SP, return_address, caller_sp, saved })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOP: u32 = 0xd503_201f;

    fn code(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn calls_are_recognised_by_the_bytes_before_a_return_address() {
        assert_eq!(call_before(&code(&[0x9400_0002])), Some(Call::Direct(4)), "bl .+8");
        assert_eq!(call_before(&code(&[0x97ff_ffff])), Some(Call::Direct(-8)), "bl .-4");
        assert_eq!(call_before(&code(&[0xd63f_0020])), Some(Call::Indirect), "blr x1");
        assert_eq!(call_before(&code(&[RET])), None);
        assert_eq!(call_before(&[1]), None);
    }

    #[test]
    fn prologues_and_epilogues_give_the_place_of_the_return_address() {
        let store = 0xa9bd_7bfd; // stp x29, x30, [sp, #-48]!
        let shape = leaf_shape(&[], &code(&[store])).expect("entry");
        assert_eq!((shape.return_address, shape.caller_sp), (ReturnAt::Register(LR), 0));
        let shape = leaf_shape(&code(&[store]), &code(&[0x9100_03fd])).expect("frame saved");
        assert_eq!((shape.return_address, shape.caller_sp), (ReturnAt::Offset(8), 48));
        let shape = leaf_shape(&[], &code(&[0xa8c3_7bfd])).expect("ldp x29, x30, [sp], #48");
        assert_eq!((shape.return_address, shape.caller_sp), (ReturnAt::Offset(8), 48));
        assert_eq!(leaf_shape(&[], &code(&[NOP])), None);
    }

    #[test]
    fn trampolines_are_recognised_at_both_instructions() {
        let trampoline = code(&[LOAD_SIGRETURN, SVC]);
        assert!(is_sigreturn(&[], &trampoline));
        assert!(is_sigreturn(&trampoline[..4], &trampoline[4..]));
        assert!(!is_sigreturn(&[], &trampoline[4..]));
    }

    #[test]
    fn the_perf_mask_has_one_bit_for_each_register() {
        assert_eq!(PERF_REGISTER_MASK.count_ones() as usize, REGISTER_COUNT);
    }
}
