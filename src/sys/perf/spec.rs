//! What a perf event counts, how often it takes a sample, and what a sample holds.

use std::os::fd::BorrowedFd;

/// What an event counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EventKind {
    /// CPU time, by a timer (PERF_COUNT_SW_CPU_CLOCK); on every machine.
    CpuClock,
    /// CPU cycles, by a hardware counter (PERF_COUNT_HW_CPU_CYCLES); often absent in virtual
    /// machines.
    Cycles,
    /// Page faults (PERF_COUNT_SW_PAGE_FAULTS): accesses to a page for the first time, or again
    /// after it was reclaimed.
    PageFaults,
    /// Each time that the kernel comes by a tracepoint; its number is that of
    /// [`super::probe::tracepoint_id`].
    Tracepoint {
        /// Its number in tracefs (`events/…/id`).
        id: u64,
    },
    /// Nothing (PERF_COUNT_SW_DUMMY): only carries side-band records or owns a ring.
    #[default]
    Dummy,
}

/// How often an event takes a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rate {
    /// Never.
    #[default]
    None,
    /// Each time the count has grown by this much; nanoseconds for [`EventKind::CpuClock`].
    Period(u64),
    /// This many times a second; the kernel adapts the period.
    FrequencyHz(u64),
}

/// The fields of a sample besides thread, time, CPU and identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SampleFields {
    /// By how much the count has grown since the previous sample.
    pub period: bool,
    /// Return addresses in the kernel, without those in user space.
    pub kernel_callchain: bool,
    /// User registers to copy (`perf_event_attr.sample_regs_user`); 0 for none.
    pub user_registers: u64,
    /// Bytes of user stack to copy: a multiple of 8, at most [`EventSpec::MAX_USER_STACK_BYTES`].
    pub user_stack_bytes: u32,
}

/// What to open.
#[derive(Clone, Debug, Default)]
pub struct EventSpec {
    /// What it counts.
    pub kind: EventKind,
    /// How often it takes a sample.
    pub rate: Rate,
    /// What a sample holds.
    pub sample: SampleFields,
    /// Also write records of executable mappings, names, execs, forks and exits.
    pub sideband: bool,
    /// Also count threads and processes that the thread creates from now on.
    pub inherit: bool,
    /// With `inherit`: only threads, not processes. Ignored by kernels before 5.13, which inherit
    /// both.
    pub inherit_threads_only: bool,
    /// Do not count (or sample) while the CPU runs the kernel.
    pub exclude_kernel: bool,
    /// Count from the opening on; otherwise from [`super::Event::enable`] on. (For a thread, either
    /// interrupts the CPU it last ran on.)
    pub start_enabled: bool,
    /// Start counting when the thread next calls execve(2).
    pub enable_on_exec: bool,
    /// Wake up poll(2) on the ring whenever this many bytes were written; 0: at every sample. The
    /// ring's owner sets the mark, but an event that only writes there must set it too, or each of
    /// its samples wakes.
    pub wakeup_bytes: u32,
}

/// What an event counts on.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// One thread.
    Thread {
        /// Thread ID; 0: the calling thread.
        tid: u32,
        /// One CPU, or all. An event that has a ring and inherits must name a CPU.
        cpu: Option<u32>,
    },
    /// Everything on one CPU.
    Cpu(u32),
    /// All threads of a cgroup and of those below it, on one CPU.
    Cgroup {
        /// The open cgroup-v2 folder.
        directory: BorrowedFd<'a>,
        /// The CPU.
        cpu: u32,
    },
}

impl Scope<'_> {
    /// The CPU, if it is one only.
    pub fn cpu(&self) -> Option<u32> {
        match self {
            Scope::Thread { cpu, .. } => *cpu,
            Scope::Cpu(cpu) | Scope::Cgroup { cpu, .. } => Some(*cpu),
        }
    }
}
