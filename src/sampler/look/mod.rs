//! One look at one thread: its registers and a copy of its stack, taken now, by the gentlest way that
//! works.
//!
//! [`asleep`] reads a thread that sleeps and proves that it slept on; [`running`] has the kernel's perf
//! events catch one that runs; [`hold`] stops one for some microseconds. None of the first two touches
//! the thread. (The BPF task iterator, better than all of them where rights allow, is
//! [`super::bpf::threads`].) Not here: which way for which thread, unwinding.

pub mod asleep;
pub mod hold;
pub mod running;
mod task;

use std::time::Duration;

pub use crate::sys::ptrace::HoldError;
pub use task::TaskSnapshot;

use super::{KernelStack, RawSample, StackCopy};
use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    process::{self, Mapping, ProcessMemory, TaskLayout},
};

/// How much of a stack is copied at first: enough for nearly all. Where more is needed it is read later,
/// if it has not changed until then.
const COPIED_AT_FIRST: usize = 128 << 10;

/// The registers of all threads that sleep, by BPF: what [`asleep::look_at`] goes on from.
pub use super::bpf::threads::{Sleeper, sleepers};

/// How a thread was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LookMethod {
    /// By the BPF task iterator, while it slept.
    Bpf,
    /// By /proc and its memory, while it slept.
    Asleep,
    /// By a perf event, while it ran.
    Perf,
    /// By ptrace: it was stopped for a moment.
    Held,
}

impl LookMethod {
    pub const ALL: [LookMethod; 4] =
        [LookMethod::Bpf, LookMethod::Asleep, LookMethod::Perf, LookMethod::Held];

    /// `bpf`, `proc`, `perf`, `ptrace`.
    pub fn name(self) -> &'static str {
        match self {
            LookMethod::Bpf => "bpf",
            LookMethod::Asleep => "proc",
            LookMethod::Perf => "perf",
            LookMethod::Held => "ptrace",
        }
    }
}

/// A moment of a thread, owned.
#[derive(Clone, Debug)]
pub struct StackSnapshot {
    pub tid: u32,
    /// Program counter and stack pointer at least.
    pub registers: Registers,
    pub stack_start: RuntimeAddr,
    pub stack: Vec<u8>,
    /// More of the stack lies above the copy.
    pub capped: bool,
    /// Kernel return addresses, leaf first, as [`KernelStack`] has them; empty where not asked for.
    pub kernel: Vec<u8>,
    pub way: LookMethod,
    /// Its process was stopped already (SIGSTOP, Ctrl-Z).
    pub in_stop: bool,
    /// How long the thread stood still for this, at most.
    pub stopped: Duration,
    /// The task that it worked for, if it stood still.
    pub task: Option<TaskSnapshot>,
}

impl StackSnapshot {
    /// Program counter and stack pointer.
    pub fn pc_and_sp(&self) -> Option<(u64, u64)> {
        Some((self.registers.get(native::PC)?, self.registers.get(native::SP)?))
    }

    /// The moment as samplers hand it on.
    pub fn as_sample(&self, pid: u32, time_ns: u64) -> RawSample<'_> {
        RawSample {
            time_ns,
            pid,
            tid: self.tid,
            comm: None,
            period: 0,
            count: 1,
            registers: Some(self.registers),
            stack: StackCopy {
                start: self.stack_start,
                bytes: &self.stack,
                capped: self.capped,
                has_holes: false,
            },
            kernel_stack: KernelStack(&self.kernel),
            task: self.task.as_ref().map(TaskSnapshot::as_task),
        }
    }
}

/// A process whose threads are looked at: its memory, and where stacks may lie in it.
#[derive(Debug)]
pub struct Target {
    pub pid: u32,
    memory: ProcessMemory,
    /// Readable and writable memory: first address and the one past the last, ascending.
    areas: Vec<(RuntimeAddr, RuntimeAddr)>,
    max_stack_bytes: usize,
    /// How its runtime keeps tasks, if that is known.
    pub tasks: Option<TaskLayout>,
}

impl Target {
    /// Reads where the process has memory. It may be read again at any time.
    pub fn new(pid: u32, max_stack_bytes: u32) -> Target {
        let mut target = Target {
            pid,
            memory: ProcessMemory::new(process::threads::reader(pid)),
            areas: Vec::new(),
            max_stack_bytes: (max_stack_bytes as usize).min(COPIED_AT_FIRST),
            tasks: None,
        };
        target.refresh();
        target
    }

    /// Reads the memory map again.
    pub fn refresh(&mut self) {
        let mappings = process::read_mappings(process::threads::reader(self.pid)).unwrap_or_default();
        let writable = |mapping: &&Mapping| mapping.readable && mapping.writable;
        self.areas = mappings.iter().filter(writable).map(|mapping| (mapping.start, mapping.end)).collect();
    }

    /// Copies the stack from `sp` up; whether more lies above the copy.
    fn copy_stack(&self, sp: RuntimeAddr) -> (Vec<u8>, bool) {
        let after = self.areas.partition_point(|(start, _)| *start <= sp);
        let area = after.checked_sub(1).map(|at| self.areas[at]).filter(|(_, end)| sp < *end);
        // A stack that the map did not show yet.
        let end = area.map_or(sp.0.saturating_add(self.max_stack_bytes as u64), |(_, end)| end.0);
        let whole = usize::try_from(end.saturating_sub(sp.0)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; whole.min(self.max_stack_bytes)];
        let count = self.memory.read(sp, &mut bytes);
        bytes.truncate(count);
        (bytes, count < whole)
    }

    fn moment(&self, tid: u32, registers: Registers, way: LookMethod) -> Option<StackSnapshot> {
        let sp = RuntimeAddr(registers.get(native::SP)?);
        let (stack, capped) = self.copy_stack(sp);
        Some(StackSnapshot {
            tid,
            registers,
            stack_start: sp,
            stack,
            capped,
            kernel: Vec::new(),
            way,
            in_stop: false,
            stopped: Duration::ZERO,
            task: None,
        })
    }
}
