//! Snapshots of single threads: registers and a copy of the stack, read now.
//!
//! [`asleep`] reads a sleeping thread and checks that it kept sleeping; [`running`] samples a
//! running thread by a perf event; [`hold`] stops a thread for some microseconds. The first two do
//! not disturb the thread. (The BPF task iterator is in [`super::bpf::threads`]; it gives the most,
//! if rights allow.) Not here: which method for which thread, unwinding.

pub mod asleep;
pub mod hold;
pub mod running;
mod task;

use std::time::Duration;

pub use crate::sys::ptrace::HoldError;
pub use task::TaskSnapshot;

use super::{KernelStack, RawSample, StackCopy, Values};
use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    process::{self, Hints, Mapping, OwnedSection, ProcessMemory, SectionOrigin, Sections},
};

/// How many bytes of a stack are copied at first: enough for nearly all. More is read later if it
/// is needed and the stack has not changed.
const COPIED_AT_FIRST: usize = 128 << 10;

/// The registers of all sleeping threads, read by BPF: the input of [`asleep::look_at`].
pub use super::bpf::threads::{COMM_BYTES, Sleeper, sleepers};

/// How a thread was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LookMethod {
    /// By the BPF task iterator, while it slept.
    Bpf,
    /// By /proc and its memory, while it slept.
    Asleep,
    /// By a perf event, while it ran.
    Perf,
    /// By ptrace: it was stopped for some microseconds.
    Held,
    /// From a core file.
    Core,
}

impl LookMethod {
    /// All methods, the least intrusive first.
    pub const ALL: [LookMethod; 5] =
        [LookMethod::Bpf, LookMethod::Asleep, LookMethod::Perf, LookMethod::Held, LookMethod::Core];

    /// The name in output and options: `bpf`, `proc`, `perf`, `ptrace`, `core`.
    pub fn name(self) -> &'static str {
        match self {
            LookMethod::Bpf => "bpf",
            LookMethod::Asleep => "proc",
            LookMethod::Perf => "perf",
            LookMethod::Held => "ptrace",
            LookMethod::Core => "core",
        }
    }
}

/// The registers and the stack of one thread at one time.
#[derive(Clone, Debug)]
pub struct StackSnapshot {
    /// Thread ID.
    pub tid: u32,
    /// Its name (`comm`), padded with NUL, if the method reads it.
    pub comm: Option<[u8; COMM_BYTES]>,
    /// Program counter and stack pointer at least.
    pub registers: Registers,
    /// Address of the first byte of `stack`.
    pub stack_start: RuntimeAddr,
    /// The stack from the stack pointer up.
    pub stack: Vec<u8>,
    /// Whether more of the stack lies above the copy.
    pub capped: bool,
    /// Kernel return addresses, leaf first, as in [`KernelStack`]; empty if not requested.
    pub kernel: Vec<u8>,
    /// How it was read.
    pub way: LookMethod,
    /// Whether its process was stopped already (SIGSTOP, Ctrl-Z).
    pub in_stop: bool,
    /// An upper bound of how long the thread was stopped for this.
    pub stopped: Duration,
    /// The task that it ran, if it was stopped.
    pub task: Option<TaskSnapshot>,
    /// Its frames of a language that are not on the native stack.
    pub section: Option<OwnedSection>,
}

impl StackSnapshot {
    /// Program counter and stack pointer.
    pub fn pc_and_sp(&self) -> Option<(u64, u64)> {
        Some((self.registers.get(native::PC)?, self.registers.get(native::SP)?))
    }

    /// The snapshot as a sample that lasted no time.
    pub fn as_sample(&self, pid: u32, time_ns: u64) -> RawSample<'_> {
        RawSample {
            time_ns,
            pid,
            tid: self.tid,
            comm: self.comm.as_ref().and_then(|comm| comm.split(|byte| *byte == 0).next()),
            values: Values::of_time(0),
            registers: Some(self.registers),
            stack: StackCopy {
                start: self.stack_start,
                bytes: &self.stack,
                capped: self.capped,
                has_holes: false,
            },
            kernel_stack: KernelStack(&self.kernel),
            task: self.task.as_ref().map(TaskSnapshot::as_task),
            lock: None,
            interrupted_stack: None,
            sections: self
                .section
                .as_ref()
                .map_or_else(Sections::default, |section| Sections::one(section.as_section())),
        }
    }
}

/// A process whose threads are read: its memory, and the ranges that may hold stacks.
#[derive(Debug)]
pub struct Target {
    /// Process ID.
    pub pid: u32,
    memory: ProcessMemory,
    /// Readable and writable memory: first address and the one past the last, ascending.
    areas: Vec<(RuntimeAddr, RuntimeAddr)>,
    /// How much of a stack is copied now, and at most.
    max_stack_bytes: usize,
    stack_limit: usize,
    /// What its language runtimes ask to read of each thread.
    pub hints: Hints,
}

impl Target {
    /// Reads the memory map of the process. At most `max_stack_bytes` of each stack are copied.
    pub fn new(pid: u32, max_stack_bytes: u32) -> Target {
        let mut target = Target {
            pid,
            memory: ProcessMemory::new(process::threads::reader(pid)),
            areas: Vec::new(),
            max_stack_bytes: (max_stack_bytes as usize).min(COPIED_AT_FIRST),
            stack_limit: max_stack_bytes as usize,
            hints: Hints::default(),
        };
        target.refresh();
        target
    }

    /// A process that has ended, with its memory and its mappings.
    pub fn ended(
        pid: u32,
        memory: ProcessMemory,
        mappings: &[Mapping],
        max_stack_bytes: u32,
        hints: Hints,
    ) -> Target {
        let stack_limit = max_stack_bytes as usize;
        let max_stack_bytes = stack_limit.min(COPIED_AT_FIRST);
        Target { pid, memory, areas: areas(mappings), max_stack_bytes, stack_limit, hints }
    }

    /// Reads the memory map again.
    pub fn refresh(&mut self) {
        let mappings = process::read_mappings(process::threads::reader(self.pid)).unwrap_or_default();
        self.areas = areas(&mappings);
    }

    /// A thread whose registers are known: `words`, in the order of the kernel's regset
    /// NT_PRSTATUS.
    pub fn with_registers(&self, tid: u32, words: &[u64]) -> Option<StackSnapshot> {
        let registers = native::registers_from_pt_regs(words);
        let moment = self.moment(tid, registers, LookMethod::Core)?;
        let task = self.task(&registers, native::thread_pointer(words));
        Some(StackSnapshot { task, ..moment })
    }

    /// Changes how many bytes of each stack are copied at most.
    pub fn limit_copy(&mut self, bytes: usize) {
        self.max_stack_bytes = bytes.min(COPIED_AT_FIRST).min(self.stack_limit);
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
        let section = (self.hints.reader.as_deref())
            .and_then(|reader| OwnedSection::read(reader, tid, &registers, SectionOrigin::AtRest));
        Some(StackSnapshot {
            tid,
            comm: None,
            registers,
            stack_start: sp,
            stack,
            capped,
            kernel: Vec::new(),
            way,
            in_stop: false,
            stopped: Duration::ZERO,
            task: None,
            section,
        })
    }
}

/// Readable and writable memory.
fn areas(mappings: &[Mapping]) -> Vec<(RuntimeAddr, RuntimeAddr)> {
    let writable = |mapping: &&Mapping| mapping.readable && mapping.writable;
    mappings.iter().filter(writable).map(|mapping| (mapping.start, mapping.end)).collect()
}
