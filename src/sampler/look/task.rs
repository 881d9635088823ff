//! Finds and copies the task that a stopped thread runs: the same reads of memory that
//! gather.bpf.h does in the kernel; they take a few microseconds.
//!
//! Not here: threads that are not stopped.

use super::Target;
use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    process::{TaskLayout, TaskPointer},
    sampler::{StackCopy, Task},
};

/// How much of the task's stack is copied (`TASK_STACK_BYTES` of record.bpf.h).
const TASK_STACK_BYTES: u64 = 32 << 10;

/// A copy of a task.
#[derive(Clone, Debug)]
pub struct TaskSnapshot {
    labels: u64,
    /// Saved when the thread left the task's stack, if it runs on another one.
    registers: Option<Registers>,
    stack_start: RuntimeAddr,
    stack: Vec<u8>,
}

impl TaskSnapshot {
    pub(super) fn as_task(&self) -> Task<'_> {
        let (start, bytes) = (self.stack_start, &self.stack[..]);
        let stack = StackCopy { start, bytes, capped: false, has_holes: false };
        Task { labels: self.labels, registers: self.registers, stack }
    }
}

impl Target {
    /// The task of a stopped thread with these registers and, if the CPU has one, this thread
    /// pointer. `None`: the process has no tasks, or the thread runs none.
    pub(super) fn task(&self, registers: &Registers, thread_pointer: Option<u64>) -> Option<TaskSnapshot> {
        let layout = self.hints.tasks.as_ref()?;
        let word = |at: u64, offset: u32| {
            self.memory.read_word(RuntimeAddr(at.checked_add(u64::from(offset))?)).filter(|word| *word != 0)
        };
        let current = match layout.current {
            TaskPointer::ThreadPointer(offset) => {
                self.memory.read_word(RuntimeAddr(thread_pointer?.wrapping_add_signed(offset)))?
            }
            TaskPointer::Register(number) => registers.get(number)?,
        };
        let thread = word(current, layout.thread)?;
        let record = word(thread, layout.task)?;
        let (start, end) = (word(record, layout.stack_start)?, word(record, layout.stack_end)?);
        let sp = registers.get(native::SP)?;
        let labels = word(record, layout.labels).unwrap_or(0);
        let mut moment =
            TaskSnapshot { labels, registers: None, stack_start: RuntimeAddr(end), stack: Vec::new() };
        if start < sp && sp <= end {
            return Some(moment);
        }
        let on_threads_own = word(thread, layout.own_task) == Some(current);
        let left = on_threads_own.then(|| self.left(record, layout)).flatten();
        let left_at =
            left.as_ref().and_then(|left| left.get(native::SP)).filter(|sp| (start..end).contains(sp));
        let from = left_at.unwrap_or(end.saturating_sub(TASK_STACK_BYTES).max(start));
        moment.registers = left.filter(|_| left_at.is_some());
        moment.stack_start = RuntimeAddr(from);
        moment.stack = vec![0; end.checked_sub(from)?.min(TASK_STACK_BYTES) as usize];
        let count = self.memory.read(moment.stack_start, &mut moment.stack);
        moment.stack.truncate(count);
        Some(moment)
    }

    /// The registers that were saved when a task left its stack.
    fn left(&self, record: u64, layout: &TaskLayout) -> Option<Registers> {
        let mut left = Registers::default();
        for (number, at) in [(native::PC, layout.pc), (native::SP, layout.sp), (native::FP, layout.fp)] {
            left.set(number, self.memory.read_word(RuntimeAddr(record.checked_add(u64::from(at))?))?);
        }
        Some(left)
    }
}
