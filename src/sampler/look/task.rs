//! The task that a held thread works for (a goroutine), found and copied while the thread stands still:
//! what cpu.bpf.c does in the kernel, some reads of memory that take a few microseconds.
//!
//! Not here: threads that run on.

use super::Target;
use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    process::TaskLayout,
    sampler::{StackCopy, Task},
};

/// So much is copied of the task's stack (`TASK_STACK_BYTES`).
const TASK_STACK_BYTES: u64 = 32 << 10;

/// A task, owned.
#[derive(Clone, Debug)]
pub struct TaskSnapshot {
    labels: u64,
    /// With which it left its stack, if the thread runs on another for it.
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
    /// The task of a thread that stands still with these registers and, where the CPU has one, this thread
    /// pointer. `None`: the process has no tasks, or the thread works for none.
    pub(super) fn task(&self, registers: &Registers, thread_pointer: Option<u64>) -> Option<TaskSnapshot> {
        let layout = self.tasks.as_ref()?;
        let word = |at: u64, offset: u32| {
            self.memory.read_word(RuntimeAddr(at.checked_add(u64::from(offset))?)).filter(|word| *word != 0)
        };
        let current = match layout.thread_pointer_offset {
            Some(offset) => {
                self.memory.read_word(RuntimeAddr(thread_pointer?.wrapping_add_signed(offset)))?
            }
            None => registers.get(native::GO_G)?,
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

    /// The registers with which a task left its stack.
    fn left(&self, record: u64, layout: &TaskLayout) -> Option<Registers> {
        let mut left = Registers::default();
        for (number, at) in [(native::PC, layout.pc), (native::SP, layout.sp), (native::FP, layout.fp)] {
            left.set(number, self.memory.read_word(RuntimeAddr(record.checked_add(u64::from(at))?))?);
        }
        Some(left)
    }
}
