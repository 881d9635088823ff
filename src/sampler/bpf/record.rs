//! The records that cpu.bpf.c writes: `struct record_head`, then kernel frames and stack bytes.
//!
//! Not here: the ring that holds them.

use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    process::Sections,
    sampler::{KernelStack, RawSample, StackCopy, Task},
};

/// Offsets in `struct record_head`.
const TIME_NS: usize = 0;
const PERIOD: usize = 8;
const STACK_START: usize = 16;
const PID: usize = 24;
const TID: usize = 28;
const FLAGS: usize = 32;
const STACK_BYTES: usize = 36;
const KERNEL_BYTES: usize = 40;
const STACK_ROOM: usize = 44;
const COMM: usize = 48;
const TASK_LABELS: usize = 64;
const TASK_PC: usize = 72;
const TASK_SP: usize = 80;
const TASK_FP: usize = 88;
const TASK_STACK_START: usize = 96;
const TASK_STACK_BYTES: usize = 104;
const REGISTERS: usize = 112;
const COMM_BYTES: usize = 16;
const HEAD_BYTES: usize = REGISTERS + 8 * native::PT_REGS_WORDS;

/// Bytes that kernel frames take before the stack (`KERNEL_ROOM`), if there are any.
const KERNEL_ROOM: usize = 1024;

/// `HAS_REGISTERS`.
const HAS_REGISTERS: u32 = 1;
/// `EXTENT_CUT`.
const EXTENT_CUT: u32 = 4;
/// `HAS_HOLES`.
const HAS_HOLES: u32 = 8;
/// `HAS_TASK_REGISTERS`.
const HAS_TASK_REGISTERS: u32 = 32;
/// `HAS_TASK`.
const HAS_TASK: u32 = 64;
/// `HAS_INTERRUPTED_STACK`.
const HAS_INTERRUPTED_STACK: u32 = 128;

/// A number at an offset; `None` beyond the end.
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

/// A number at an offset; `None` beyond the end.
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(offset..offset.checked_add(8)?)?.try_into().ok()?))
}

/// The time at which the record's sample was taken (CLOCK_MONOTONIC, nanoseconds).
pub fn time_ns(record: &[u8]) -> Option<u64> {
    u64_at(record, TIME_NS)
}

/// The sample in a record, from which it borrows; `None` if the record is cut short.
pub fn parse(record: &[u8]) -> Option<RawSample<'_>> {
    let payload = record.get(HEAD_BYTES..)?;
    let kernel_bytes = u32_at(record, KERNEL_BYTES)? as usize;
    let kernel = payload.get(..kernel_bytes)?;
    let stacks = payload.get(if kernel_bytes > 0 { KERNEL_ROOM } else { 0 }..)?;
    let stack = stacks.get(..u32_at(record, STACK_BYTES)? as usize)?;
    let flags = u32_at(record, FLAGS)?;
    Some(RawSample {
        time_ns: time_ns(record)?,
        pid: u32_at(record, PID)?,
        tid: u32_at(record, TID)?,
        comm: Some(until_nul(record.get(COMM..COMM + COMM_BYTES)?)),
        period: u64_at(record, PERIOD)?,
        count: 1,
        registers: if flags & HAS_REGISTERS != 0 { registers_at(record, REGISTERS) } else { None },
        stack: StackCopy {
            start: RuntimeAddr(u64_at(record, STACK_START)?),
            bytes: stack,
            capped: flags & EXTENT_CUT != 0,
            has_holes: flags & HAS_HOLES != 0,
        },
        kernel_stack: KernelStack(kernel),
        task: task(record, stacks, flags),
        interrupted_stack: second_stack(record, stacks).filter(|_| flags & HAS_INTERRUPTED_STACK != 0),
        sections: Sections::default(),
    })
}

/// The task that the thread works for; `stacks` begins with the thread's own stack.
fn task<'r>(record: &[u8], stacks: &'r [u8], flags: u32) -> Option<Task<'r>> {
    if flags & HAS_TASK == 0 {
        return None;
    }
    let stack = second_stack(record, stacks)?;
    let labels = u64_at(record, TASK_LABELS)?;
    let registers = if flags & HAS_TASK_REGISTERS != 0 {
        let mut registers = Registers::default();
        for (number, at) in [(native::PC, TASK_PC), (native::SP, TASK_SP), (native::FP, TASK_FP)] {
            registers.set(number, u64_at(record, at)?);
        }
        Some(registers)
    } else {
        None
    };
    Some(Task { labels, registers, stack })
}

/// The stack that follows the thread's own in `stacks`; empty if it could not be copied, `None` if
/// the record is cut short.
fn second_stack<'r>(record: &[u8], stacks: &'r [u8]) -> Option<StackCopy<'r>> {
    let start = RuntimeAddr(u64_at(record, TASK_STACK_START)?);
    let count = usize::try_from(u64_at(record, TASK_STACK_BYTES)?).ok()?;
    let room = u32_at(record, STACK_ROOM)? as usize;
    let bytes = match count {
        0 => &[],
        count => stacks.get(room..room.checked_add(count)?)?,
    };
    Some(StackCopy { start, bytes, capped: false, has_holes: false })
}

/// The registers in a `struct pt_regs` that begins at `offset`; `None` if it is cut short.
pub(super) fn registers_at(record: &[u8], offset: usize) -> Option<Registers> {
    let mut words = [0; native::PT_REGS_WORDS];
    for (index, word) in words.iter_mut().enumerate() {
        *word = u64_at(record, offset + 8 * index)?;
    }
    Some(native::registers_from_pt_regs(&words))
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kernel_bytes: u32, stack_bytes: u32, flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES + 2048];
        bytes[TIME_NS..][..8].copy_from_slice(&77u64.to_ne_bytes());
        bytes[FLAGS..][..4].copy_from_slice(&flags.to_ne_bytes());
        bytes[STACK_BYTES..][..4].copy_from_slice(&stack_bytes.to_ne_bytes());
        bytes[KERNEL_BYTES..][..4].copy_from_slice(&kernel_bytes.to_ne_bytes());
        bytes[COMM..][..4].copy_from_slice(b"name");
        bytes[HEAD_BYTES] = 1;
        bytes[HEAD_BYTES + KERNEL_ROOM] = 2;
        bytes
    }

    #[test]
    fn the_stack_follows_the_kernel_frames_if_there_are_any() {
        let bytes = record(0, 16, HAS_REGISTERS);
        let sample = parse(&bytes).expect("parses");
        assert_eq!((sample.time_ns, sample.comm), (77, Some(&b"name"[..])));
        assert_eq!((sample.stack.bytes.len(), sample.stack.bytes[0]), (16, 1));
        assert!(sample.registers.is_some() && !sample.stack.capped);

        let bytes = record(8, 16, EXTENT_CUT | HAS_HOLES);
        let sample = parse(&bytes).expect("parses");
        assert!(sample.stack.capped && sample.stack.has_holes);
        assert_eq!((sample.kernel_stack.0.len(), sample.stack.bytes[0]), (8, 2));
        assert!(sample.registers.is_none() && sample.stack.capped);
    }

    #[test]
    fn a_tasks_stack_follows_the_bytes_reserved_for_the_threads() {
        let mut bytes = record(0, 16, HAS_REGISTERS);
        assert!(parse(&bytes).expect("parses").task.is_none());
        bytes[FLAGS..][..4].copy_from_slice(&(HAS_TASK | HAS_TASK_REGISTERS).to_ne_bytes());
        bytes[STACK_ROOM..][..4].copy_from_slice(&32u32.to_ne_bytes());
        bytes[TASK_SP..][..8].copy_from_slice(&9u64.to_ne_bytes());
        bytes[TASK_STACK_BYTES..][..8].copy_from_slice(&24u64.to_ne_bytes());
        bytes[HEAD_BYTES + 32] = 7;
        let task = parse(&bytes).expect("parses").task.expect("a task");
        assert_eq!((task.stack.bytes.len(), task.stack.bytes[0]), (24, 7));
        assert_eq!(task.registers.and_then(|registers| registers.get(native::SP)), Some(9));
        bytes[TASK_STACK_BYTES..][..8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert!(parse(&bytes).expect("parses").task.is_none());
    }

    #[test]
    fn an_interrupted_stack_follows_the_bytes_reserved_for_the_threads() {
        let mut bytes = record(0, 16, HAS_REGISTERS);
        assert!(parse(&bytes).expect("parses").interrupted_stack.is_none());
        bytes[FLAGS..][..4].copy_from_slice(&(HAS_REGISTERS | HAS_INTERRUPTED_STACK).to_ne_bytes());
        bytes[STACK_ROOM..][..4].copy_from_slice(&32u32.to_ne_bytes());
        bytes[TASK_STACK_START..][..8].copy_from_slice(&0x7000u64.to_ne_bytes());
        bytes[TASK_STACK_BYTES..][..8].copy_from_slice(&24u64.to_ne_bytes());
        bytes[HEAD_BYTES + 32] = 7;
        let sample = parse(&bytes).expect("parses");
        let stack = sample.interrupted_stack.expect("a second stack");
        assert_eq!((stack.start.0, stack.bytes.len(), stack.bytes[0]), (0x7000, 24, 7));
        assert!(sample.task.is_none());
        bytes[TASK_STACK_BYTES..][..8].copy_from_slice(&u64::MAX.to_ne_bytes());
        assert!(parse(&bytes).expect("parses").interrupted_stack.is_none());
    }

    proptest! {
        #[test]
        fn lengths_beyond_the_record_are_refused(kernel: u32, stack: u32, length in 0usize..3000) {
            let mut bytes = record(kernel, stack, HAS_REGISTERS);
            bytes.truncate(length);
            if let Some(sample) = parse(&bytes) {
                prop_assert!(sample.stack.bytes.len() == stack as usize);
            }
        }
    }
}
