//! x86-64: System V ABI, AMD64 supplement (register numbers: figure 3.36) and the kernel's
//! `asm/perf_regs.h` (order of sampled registers).

use super::{
    Call, LeafShape, Registers, ReturnAt,
    x86_instructions::{Effect, decode, memory_length},
};

pub use super::x86_instructions::function_starts;

/// The `e_machine` of this CPU's ELF files.
pub const ELF_MACHINE: u16 = goblin::elf::header::EM_X86_64;
/// DWARF number of the program counter (the return-address column).
pub const PC: u16 = 16;
/// DWARF number of the stack pointer (rsp).
pub const SP: u16 = 7;
/// DWARF number of the frame pointer (rbp).
pub const FP: u16 = 6;
/// DWARF number of the return-address column of CFI.
pub const RETURN_ADDRESS: u16 = PC;
/// The callee-saved registers, one bit each by DWARF number: rbx, rbp, rsp, r12 to r15.
pub const PRESERVED: u64 = 1 << 3 | 1 << 6 | 1 << 7 | 0xf << 12;
/// How many registers unwinding tracks: the 16 general ones and the pc.
pub const REGISTER_COUNT: usize = 17;

/// The registers with the second and third argument of a system call: of futex(2), operation and
/// value.
pub const FUTEX_ARGUMENTS: [u16; 2] = [4, 1];
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
/// bx r11 r10 r9 r8 ax cx dx si di, then orig_ax ip cs flags sp ss. `None` is not tracked.
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
    Some(PC),
    None,
    None,
    Some(SP),
    None,
];

/// Words of the kernel's `struct pt_regs` (`asm/ptrace.h`).
pub const PT_REGS_WORDS: usize = 21;

/// Words of the regset NT_PRSTATUS, of which the first are those of `struct pt_regs`.
pub const USER_REGS_WORDS: usize = 27;

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

/// The places of `orig_ax` and `ax` among the words of `struct pt_regs`.
const WORD_ORIG_AX: usize = 15;
const WORD_AX: usize = 10;
/// `EINTR` and, of the kernel's include/linux/errno.h, `ERESTARTNOHAND` and
/// `ERESTART_RESTARTBLOCK`.
const EINTR: i64 = 4;
const ERESTARTNOHAND: i64 = 514;
const ERESTART_RESTARTBLOCK: i64 = 516;

/// The number of the system call that a stopped thread is leaving; `None` if it is in none.
pub fn syscall_being_left(words: &[u64]) -> Option<u64> {
    words.get(WORD_ORIG_AX).copied().filter(|number| (*number as i64) >= 0)
}

/// Whether [`undo_interruption`] and [`restart_anew`] have an effect on this CPU.
pub const CAN_UNDO: bool = true;

/// If the system call that a stopped thread is leaving failed with `EINTR`, changes its result so
/// that the kernel restarts it, unless a signal handler runs first: what would have happened
/// without the stop. Returns whether anything was changed.
pub fn undo_interruption(words: &mut [u64]) -> bool {
    replace_result(words, -EINTR)
}

/// If the system call that a stopped thread is leaving would be continued by restart_syscall(2),
/// changes its result so that the kernel starts the call itself again. Returns whether anything was
/// changed.
pub fn restart_anew(words: &mut [u64]) -> bool {
    replace_result(words, -ERESTART_RESTARTBLOCK)
}

fn replace_result(words: &mut [u64], from: i64) -> bool {
    let found = syscall_being_left(words).is_some()
        && words.get(WORD_AX).is_some_and(|result| *result as i64 == from);
    if found {
        words[WORD_AX] = -ERESTARTNOHAND as u64;
    }
    found
}

/// A code address without its pointer authentication code: unchanged on this CPU.
#[inline]
pub fn strip_pointer_authentication(addr: u64) -> u64 {
    addr
}

/// Where the kernel's signal frame keeps the interrupted registers, in bytes from the stack pointer
/// at the trampoline: `struct ucontext` (flags, link, stack: 40 bytes), then `struct sigcontext_64`
/// (`asm/sigcontext.h`), whose order is this one.
pub const SIGNAL_CONTEXT: [(u16, i64); REGISTER_COUNT] = [
    (8, 40),
    (9, 48),
    (10, 56),
    (11, 64),
    (12, 72),
    (13, 80),
    (14, 88),
    (15, 96),
    (5, 104),
    (4, 112),
    (6, 120),
    (3, 128),
    (1, 136),
    (0, 144),
    (2, 152),
    (SP, 160),
    (PC, 168),
];

/// How many bytes below the stack pointer a function may use without moving it (System V ABI,
/// AMD64 supplement, section 3.2.2).
pub const RED_ZONE: u64 = 128;

const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// `mov $15,%eax` and `mov $15,%rax`: rt_sigreturn's number.
const LOAD_SIGRETURN: [&[u8]; 2] = [&[0xb8, 15, 0, 0, 0], &[0x48, 0xc7, 0xc0, 15, 0, 0, 0]];
/// How many bytes of code before an address the functions here need.
pub const CODE_BEFORE: u64 = 8;

/// Whether a thread at the boundary of `before` and `code` is in a signal trampoline: about to load
/// the number of rt_sigreturn(2), or to make the call.
pub fn is_sigreturn(before: &[u8], code: &[u8]) -> bool {
    LOAD_SIGRETURN.iter().any(|load| {
        let about_to_load = code.strip_prefix(*load).is_some_and(|rest| rest.starts_with(&SYSCALL));
        about_to_load || (before.ends_with(load) && code.starts_with(&SYSCALL))
    })
}

/// Whether the code at a return address ends the thread at once: within 24 bytes, exit(2) (60) is
/// called, with nothing before it but moves of its argument.
pub fn is_thread_exit(code: &[u8]) -> bool {
    let mut rest = code.get(..24).unwrap_or(code);
    let mut number_loaded = false;
    loop {
        rest = match rest {
            [0x0f, 0x05, ..] => return number_loaded,
            [0xb0, 60, rest @ ..]
            | [0xb8, 60, 0, 0, 0, rest @ ..]
            | [0x48, 0xc7, 0xc0, 60, 0, 0, 0, rest @ ..] => {
                number_loaded = true;
                rest
            }
            // mov %rax,%rdi; mov %eax,%edi; xor %eax,%eax; xor %edi,%edi; mov $imm32,%edi
            [0x48, 0x89, 0xc7, rest @ ..]
            | [0x89, 0xc7, rest @ ..]
            | [0x31, 0xc0 | 0xff, rest @ ..]
            | [0xbf, _, _, _, _, rest @ ..] => rest,
            _ => return false,
        };
    }
}

/// Whether the code at the bottom of a coroutine's stack ends the process: `xor %rdi,%rdi; call
/// _exit; hlt`, as in boost's and PHP's make_fcontext.
pub fn is_process_exit(code: &[u8]) -> bool {
    let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    let code = code.strip_prefix(&[0x48]).unwrap_or(code);
    matches!(code, [0x31, 0xff, 0xe8, _, _, _, _, 0xf4, ..])
}

/// Whether a thread at `code` has just been created and runs no code of its own yet: it is in the C
/// library's clone(2), after the system call that returned 0 (test; jump if an error; jump to the
/// child's part, which clears rbp), or in the child's part before it calls the thread's function.
pub fn is_new_thread(before: &[u8], code: &[u8], registers: &Registers) -> bool {
    let child = match code {
        // test %rax,%rax; jl; je +n
        [0x48, 0x85, 0xc0, 0x7c, _, 0x74, distance, rest @ ..] => rest.get(usize::from(*distance)..),
        // test %eax,%eax; jnz: the child's part follows
        [0x85, 0xc0, 0x75, _, rest @ ..] => Some(rest),
        _ => None,
    };
    let returned_zero = before.ends_with(&SYSCALL) && registers.get(RAX) == Some(0);
    if returned_zero && child.is_some_and(|child| child.starts_with(&[0x31, 0xed])) {
        return true;
    }
    // At most: xor %ebp,%ebp; and $-16,%rsp; mov %r8,%rdi.
    (0..=9).any(|skipped| match code.get(skipped..) {
        Some([0xff, 0xd0 | 0xd2, rest @ ..] | [0x41, 0xff, 0xd1, rest @ ..]) => is_thread_exit(rest),
        _ => false,
    })
}

/// DWARF number of rax, in which a system call returns.
const RAX: u16 = 0;

/// The thread pointer among the words of `struct user_regs_struct` (sys/user.h): `fs_base` follows
/// the words of `struct pt_regs`.
pub fn thread_pointer(words: &[u64]) -> Option<u64> {
    words.get(PT_REGS_WORDS).copied()
}

/// Where glibc keeps the head of a thread's list of robust mutexes, in bytes from the thread
/// pointer (`robust_head` of `struct pthread`, the same in glibc 2.4 to 2.43).
pub const ROBUST_LIST_OFFSET: Option<u64> = Some(0x2e0);

/// The call instruction at the end of `before`; `None`: there is none.
pub fn call_before(before: &[u8]) -> Option<Call> {
    if let Some([0xe8, displacement @ ..]) = before.last_chunk::<5>() {
        return Some(Call::Direct(i64::from(i32::from_le_bytes(*displacement))));
    }
    let indirect = (2..=7).any(|length| {
        let Some([0xff, modrm, rest @ ..]) = before.len().checked_sub(length).map(|at| &before[at..]) else {
            return false;
        };
        modrm >> 3 & 7 == 2 && length == 2 + memory_length(*modrm, rest.first().copied().unwrap_or(0))
    });
    indirect.then_some(Call::Indirect)
}

/// The frame of the function that the instructions at `code` (after `before`) belong to; `None` if
/// it cannot be derived, or if the frame pointer is in use.
pub fn leaf_shape(before: &[u8], code: &[u8]) -> Option<LeafShape> {
    // A stub of the linkage table, which jumps to the function.
    let linkage_stub = matches!(
        code,
        [0xff, 0x25, ..]
            | [0xf2, 0xff, 0x25, ..]
            | [0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, ..]
            | [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, ..]
    );
    if linkage_stub || is_function_entry(code) {
        return Some(leaf(SP, 0, Vec::new()));
    }
    if before.ends_with(&[0x55]) && is_frame_pointer_setup(code) {
        return Some(leaf(SP, 8, vec![(FP, 0)]));
    }
    epilogue(code)
}

/// The frame of a function that returns without a further call after the call that `code` follows.
pub fn shape_before_return(code: &[u8]) -> Option<LeafShape> {
    epilogue(code)
}

fn leaf(base: u16, return_at: i64, saved: Vec<(u16, i64)>) -> LeafShape {
    LeafShape { base, return_address: ReturnAt::Offset(return_at), caller_sp: return_at + 8, saved }
}

/// Follows the stack pointer from the start of a function, `code`, to the instruction at offset
/// `to`; returns where the return address and the pushed registers are then. `None` if the function
/// changes the stack pointer in an unsupported way.
///
/// The code is read once from top to bottom: forward branches carry their depth to their targets,
/// and what comes after an end that nothing before jumps to is taken to be at the depth of the
/// body.
pub fn frame_at(code: &[u8], to: usize) -> Option<LeafShape> {
    const MAX_TARGETS: usize = 256;
    let mut targets: Vec<(usize, i64)> = Vec::new();
    let mut pushed: Vec<(u16, i64)> = Vec::new();
    let (mut at, mut depth, mut body) = (0, Some(0i64), 0);
    while at < to {
        let instruction = decode(code.get(at..)?)?;
        at += instruction.length;
        let mut carry = |distance: i64, depth: i64| {
            if let Some(target) = at.checked_add_signed(distance as isize).filter(|target| *target >= at)
                && targets.len() < MAX_TARGETS
            {
                targets.push((target, depth));
            }
        };
        depth = match (instruction.effect, depth) {
            (Effect::End, _) => None,
            (Effect::Jump(distance), Some(depth)) => {
                carry(distance, depth);
                None
            }
            (Effect::Branch(distance), Some(depth)) => {
                carry(distance, depth);
                body = depth;
                Some(depth)
            }
            (Effect::Push(register), Some(depth)) => {
                let number = register.and_then(|encoded| POP_ORDER.get(usize::from(encoded)).copied());
                let number = number.or(register.map(u16::from)).filter(|number| PRESERVED >> number & 1 == 1);
                if let Some(number) = number.filter(|number| pushed.iter().all(|(known, _)| known != number))
                {
                    pushed.push((number, depth + 8));
                }
                Some(depth + 8)
            }
            (Effect::Pop, Some(depth)) => Some(depth - 8),
            (Effect::MoveStack(bytes), Some(depth)) => Some(depth.checked_sub(bytes)?),
            (Effect::LoseStack, Some(_)) => return None,
            (Effect::Call, Some(depth)) => {
                body = depth;
                Some(depth)
            }
            (_, depth) => depth,
        };
        let carried = targets.iter().rev().find(|(target, _)| *target == at).map(|(_, depth)| *depth);
        depth = depth.or(carried).or(Some(body));
        depth.filter(|depth| (0..1 << 30).contains(depth))?;
    }
    let depth = depth.filter(|_| at == to)?;
    // A register that was pushed at a depth that is given up again has been restored.
    pushed.retain(|(_, pushed_at)| *pushed_at <= depth);
    let saved = pushed.iter().map(|(number, pushed_at)| (*number, depth - pushed_at)).collect();
    Some(leaf(SP, depth, saved))
}

/// Whether the function that starts with `code` may end in a jump to `distance` bytes from its
/// start: a direct jump there is among its first instructions.
pub fn jumps_to(code: &[u8], distance: i64) -> bool {
    let mut at = 0;
    for _ in 0..8 {
        let Some(instruction) = code.get(at..).and_then(decode) else { return false };
        at += instruction.length;
        match instruction.effect {
            Effect::Jump(to) if at as i64 + to == distance => return true,
            Effect::Jump(_) | Effect::End => return false,
            _ => {}
        }
    }
    false
}

/// Whether a function that starts like `code` keeps a frame pointer: somewhere in its first bytes
/// are `mov %rsp,%rbp`, or Go's older `mov %rbp,n(%rsp)` and `lea n(%rsp),%rbp`.
pub fn sets_up_frame_pointer(code: &[u8]) -> bool {
    code.windows(4).any(|window| {
        is_frame_pointer_setup(window) || matches!(window, [0x48, 0x89 | 0x8d, 0x6c | 0xac, 0x24])
    })
}

/// `mov %rsp,%rbp`, in both encodings.
fn is_frame_pointer_setup(code: &[u8]) -> bool {
    code.starts_with(&[0x48, 0x89, 0xe5]) || code.starts_with(&[0x48, 0x8b, 0xec])
}

/// Whether nothing has been pushed yet: what is next is `push %rbp; mov %rsp,%rbp`, after at most a
/// branch target mark and Go's check of the stack's limit; or the older frame of Go, `sub $n,%rsp;
/// mov %rbp,m(%rsp)`.
fn is_function_entry(code: &[u8]) -> bool {
    let mut rest = code;
    for _ in 0..8 {
        rest = match rest {
            [0x55, rest @ ..] => return is_frame_pointer_setup(rest),
            [0x48, 0x83, 0xec, _, 0x48, 0x89, 0x6c, 0x24, ..]
            | [0x48, 0x83, 0xec, _, 0x48, 0x89, 0xac, 0x24, ..]
            | [0x48, 0x81, 0xec, _, _, _, _, 0x48, 0x89, 0x6c | 0xac, 0x24, ..] => return true,
            // endbr64; cmp 0x10(%r14),%rsp; cmp 0x10(%r14),%r12; lea n(%rsp),%r12; jbe
            [0xf3, 0x0f, 0x1e, 0xfa, rest @ ..]
            | [0x49 | 0x4d, 0x3b, 0x66, 0x10, rest @ ..]
            | [0x4c, 0x8d, 0x64, 0x24, _, rest @ ..]
            | [0x4c, 0x8d, 0xa4, 0x24, _, _, _, _, rest @ ..]
            | [0x76, _, rest @ ..]
            | [0x0f, 0x86, _, _, _, _, rest @ ..] => rest,
            _ => return false,
        };
    }
    false
}

/// Follows an epilogue to its `ret`: `add $n,%rsp`, pops, `leave`, `vzeroupper`.
fn epilogue(code: &[u8]) -> Option<LeafShape> {
    let (mut base, mut offset, mut saved, mut rest) = (SP, 0i64, Vec::new(), code);
    for _ in 0..12 {
        rest = match rest {
            [0xc3, ..] | [0xc2, ..] | [0xf3, 0xc3, ..] => return Some(leaf(base, offset, saved)),
            [0xc5, 0xf8, 0x77, rest @ ..] => rest,
            [0x48, 0x83, 0xc4, bytes, rest @ ..] => {
                offset += i64::from(*bytes as i8);
                rest
            }
            [0x48, 0x81, 0xc4, a, b, c, d, rest @ ..] => {
                offset += i64::from(i32::from_le_bytes([*a, *b, *c, *d]));
                rest
            }
            [0xc9, rest @ ..] => {
                (base, offset, saved) = (FP, 8, vec![(FP, 0)]);
                rest
            }
            [0x41, pop @ 0x58..=0x5f, rest @ ..] => {
                saved.push((u16::from(pop - 0x58) + 8, offset));
                offset += 8;
                rest
            }
            [pop @ 0x58..=0x5f, rest @ ..] => {
                saved.push((POP_ORDER[usize::from(pop - 0x58)], offset));
                offset += 8;
                rest
            }
            _ => return None,
        };
    }
    None
}

/// DWARF numbers in the order in which instructions encode registers: ax cx dx bx sp bp si di.
const POP_ORDER: [u16; 8] = [0, 2, 1, 3, SP, FP, 4, 5];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_recognised_by_the_bytes_before_a_return_address() {
        assert_eq!(call_before(&[0x90, 0xe8, 0xfb, 0xff, 0xff, 0xff]), Some(Call::Direct(-5)));
        for indirect in [
            &[0xff, 0xd0][..],               // call *%rax
            &[0x41, 0xff, 0xd1],             // call *%r9
            &[0xff, 0x15, 1, 2, 3, 4],       // call *1234(%rip)
            &[0xff, 0x50, 0x18],             // call *0x18(%rax)
            &[0xff, 0x14, 0xd8],             // call *(%rax,%rbx,8)
            &[0xff, 0x94, 0xd8, 1, 2, 3, 4], // call *x(%rax,%rbx,8)
            &[0xff, 0x14, 0xc5, 1, 2, 3, 4], // call *x(,%rax,8)
        ] {
            assert_eq!(call_before(indirect), Some(Call::Indirect), "{indirect:x?}");
        }
        assert_eq!(call_before(&[0x48, 0x89, 0xe5]), None);
        assert_eq!(call_before(&[0xff, 0xe0]), None, "a jump");
        assert_eq!(call_before(&[]), None);
    }

    #[test]
    fn trampolines_are_recognised_at_both_instructions() {
        let code = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
        assert!(is_sigreturn(&[], &code));
        assert!(is_sigreturn(&code[..7], &code[7..]));
        assert!(!is_sigreturn(&[], &code[7..]));
        assert!(!is_sigreturn(&[], &[0xb8, 14, 0, 0, 0, 0x0f, 0x05]));
    }

    #[test]
    fn the_end_of_a_thread_is_recognised() {
        // mov %eax,%edi; xor %eax,%eax; mov $60,%al; syscall
        assert!(is_thread_exit(&[0x89, 0xc7, 0x31, 0xc0, 0xb0, 60, 0x0f, 0x05]));
        assert!(!is_thread_exit(&[0xb0, 61, 0x0f, 0x05]));
        // mov %rax,%rdi; mov $60,%eax; syscall
        assert!(is_thread_exit(&[0x48, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]));
        assert!(!is_thread_exit(&[0x0f, 0x05]));
    }

    #[test]
    fn a_thread_between_clone_and_its_function_is_recognised_by_its_zero() {
        // test; jl; je +1; ret; xor %ebp,%ebp; and $-16,%rsp; mov %r8,%rdi; call *%rdx; mov; mov;
        // syscall
        let code = [
            0x48, 0x85, 0xc0, 0x7c, 0x18, 0x74, 0x01, 0xc3, 0x31, 0xed, 0x48, 0x83, 0xe4, 0xf0, 0x4c, 0x89,
            0xc7, 0xff, 0xd2, 0x48, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05,
        ];
        let returned = |value| {
            let mut registers = Registers::default();
            registers.set(RAX, value);
            registers
        };
        assert!(is_new_thread(&SYSCALL, &code, &returned(0)));
        assert!(!is_new_thread(&SYSCALL, &code, &returned(4711)));
        assert!(!is_new_thread(&[0x90, 0x90], &code, &returned(0)));
        for at in [8, 10, 14, 17] {
            assert!(is_new_thread(&code[..at], &code[at..], &returned(7)), "{at}");
        }
        assert!(!is_new_thread(&code[..19], &code[19..], &returned(0)));
        assert!(!is_new_thread(&SYSCALL, &[0x48, 0x85, 0xc0, 0x7c, 0, 0x74, 0xff], &returned(0)));
    }

    #[test]
    fn prologues_and_epilogues_tell_where_the_return_address_is() {
        let entry = [0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5];
        assert_eq!(leaf_shape(&[], &entry), Some(leaf(SP, 0, vec![])));
        assert_eq!(leaf_shape(&entry[..5], &entry[5..]), Some(leaf(SP, 8, vec![(FP, 0)])));
        // add $24,%rsp; pop %rbx; pop %r12; ret
        let end = [0x48, 0x83, 0xc4, 24, 0x5b, 0x41, 0x5c, 0xc3];
        assert_eq!(leaf_shape(&[], &end), Some(leaf(SP, 40, vec![(3, 24), (12, 32)])));
        assert_eq!(leaf_shape(&[], &[0xc9, 0xc3]), Some(leaf(FP, 8, vec![(FP, 0)])));
        assert_eq!(leaf_shape(&[], &[0x90, 0x90]), None);
        assert_eq!(leaf_shape(&[], &[]), None);
    }

    #[test]
    fn the_perf_mask_has_one_bit_for_each_register_in_the_order() {
        assert_eq!(PERF_REGISTER_MASK.count_ones() as usize, PERF_REGISTER_ORDER.len());
    }

    #[test]
    fn pt_regs_give_pc_sp_and_fp() {
        let words: Vec<u64> = (0..21).collect();
        let registers = registers_from_pt_regs(&words);
        assert_eq!(registers.get(PC), Some(16));
        assert_eq!(registers.get(SP), Some(19));
        assert_eq!(registers.get(FP), Some(4));
    }

    #[test]
    fn a_call_that_was_broken_off_begins_again_and_any_other_result_stays() {
        let mut words = vec![0u64; 27];
        words[WORD_ORIG_AX] = 232;
        words[WORD_AX] = -4i64 as u64;
        assert!(undo_interruption(&mut words));
        assert_eq!((words[WORD_ORIG_AX], words[WORD_AX] as i64), (232, -514));
        assert!(!undo_interruption(&mut words), "once");
        words[WORD_AX] = 1;
        assert!(!undo_interruption(&mut words), "it succeeded");
        words[WORD_ORIG_AX] = u64::MAX;
        words[WORD_AX] = -4i64 as u64;
        assert!(!undo_interruption(&mut words), "in no system call");
        assert!(!undo_interruption(&mut []));
    }

    #[test]
    fn the_stack_pointer_is_followed_through_a_function_with_an_early_return() {
        // push %rbp; push %rbx; sub $24,%rsp; test %edi,%edi; je 1f; add $24,%rsp; pop %rbx; pop
        // %rbp; ret; 1: call x; nop
        let code = [
            0x55, 0x53, 0x48, 0x83, 0xec, 24, 0x85, 0xff, 0x74, 7, 0x48, 0x83, 0xc4, 24, 0x5b, 0x5d, 0xc3,
            0xe8, 0, 0, 0, 0, 0x90,
        ];
        let at = |to| frame_at(&code, to);
        assert_eq!(at(0), Some(leaf(SP, 0, vec![])));
        assert_eq!(at(1), Some(leaf(SP, 8, vec![(FP, 0)])));
        assert_eq!(at(6), Some(leaf(SP, 40, vec![(FP, 32), (3, 24)])));
        assert_eq!(at(15), Some(leaf(SP, 8, vec![(FP, 0)])), "one register popped");
        assert_eq!(at(22), Some(leaf(SP, 40, vec![(FP, 32), (3, 24)])), "behind the early return");
        assert_eq!(at(3), None, "inside an instruction");
        assert_eq!(frame_at(&[0x48, 0x83, 0xe4, 0xf0, 0x90], 5), None, "and $-16,%rsp");
    }

    #[test]
    fn a_tail_call_is_seen_in_the_function_that_makes_it() {
        // mov %rsi,%rdi; jmp .+16
        let code = [0x48, 0x89, 0xf7, 0xe9, 16, 0, 0, 0];
        assert!(jumps_to(&code, 24));
        assert!(!jumps_to(&code, 25));
        assert!(!jumps_to(&[0xc3], 1));
    }

    #[test]
    fn only_the_result_of_a_call_that_was_broken_off_is_changed() {
        let words = |number: i64, result: i64| {
            let mut words = [7u64; PT_REGS_WORDS];
            (words[WORD_ORIG_AX], words[WORD_AX]) = (number as u64, result as u64);
            words
        };
        let changed = |undo: fn(&mut [u64]) -> bool, number, result| {
            let mut after = words(number, result);
            let said = undo(&mut after);
            assert_eq!(said, after != words(number, result));
            said.then(|| after[WORD_AX] as i64)
        };
        assert_eq!(changed(undo_interruption, 232, -EINTR), Some(-ERESTARTNOHAND));
        assert_eq!(changed(restart_anew, 35, -ERESTART_RESTARTBLOCK), Some(-ERESTARTNOHAND));
        assert_eq!(changed(undo_interruption, 232, -ERESTART_RESTARTBLOCK), None);
        assert_eq!(changed(restart_anew, 35, -EINTR), None);
        // Not in a system call.
        assert_eq!(changed(undo_interruption, -1, -EINTR), None);
        assert_eq!(changed(undo_interruption, 232, 1), None);
    }
}
