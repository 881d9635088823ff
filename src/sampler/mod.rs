//! Samplers. A [`Sampler`] takes samples of threads and reports them as [`Event`]s in order of
//! time, together with what changes in a process meanwhile (mappings, forks, execs, names, exits).
//!
//! There are three methods. They need different rights and produce the same [`RawSample`]: [`bpf`]
//! (tier A), [`perf`] (tier B) and [`ptrace`] (tier C). [`wall`] adds sleeping threads to tier A.
//! [`look`] reads one thread once, [`idle`] waits without sampling, [`checks`] tests which methods
//! work. Not here: unwinding, names, counting.

pub mod bpf;
pub mod checks;
pub mod idle;
pub mod look;
pub mod perf;
pub mod ptrace;
pub mod wall;

use std::time::{Duration, Instant};

use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    process::{Hints, Sections},
};

pub use crate::sys::perf::{Denial, PerfError};

/// One sample of one thread: its registers and a copy of its stack.
#[derive(Debug)]
pub struct RawSample<'a> {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Process ID in rprof's own PID namespace.
    pub pid: u32,
    /// Thread ID in rprof's own PID namespace.
    pub tid: u32,
    /// The thread's name (`comm`) if the sampler knows it; bytes up to the first NUL.
    pub comm: Option<&'a [u8]>,
    /// What the sample is worth.
    pub values: Values,
    /// User-space registers; `None` for a thread of the kernel, or where the kernel had none.
    pub registers: Option<Registers>,
    /// A copy of the stack from the stack pointer up.
    pub stack: StackCopy<'a>,
    /// Kernel return addresses, leaf first, if the thread was in the kernel and rights allow
    /// reading them. perf's context markers are removed.
    pub kernel_stack: KernelStack<'a>,
    /// The task that the thread runs, if the sampler knows the task layout
    /// ([`Sampler::hint_runtimes`]).
    pub task: Option<Task<'a>>,
    /// The lock that the thread waited for or released, if it did and that is known.
    pub lock: Option<LockUse>,
    /// If the thread runs a signal handler on a stack of its own (`sigaltstack(2)`): the stack that
    /// the signal interrupted, if the sampler copied it.
    pub interrupted_stack: Option<StackCopy<'a>>,
    /// Frames of languages that are not on the native stack, if the sampler can read them
    /// ([`Sampler::hint_runtimes`]).
    pub sections: Sections<'a>,
}

/// What a sample is worth, by kind. A kind that its source does not have is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// How many occurrences the sample represents: 1, unless short ones are sampled at random.
    pub count: u64,
    /// CPU time, time waited, or wall-clock time where that is sampled.
    pub nanoseconds: u64,
    /// Memory.
    pub bytes: u64,
    /// Objects; for [`Trigger::PageFault`], pages.
    pub objects: u64,
}

impl Values {
    /// One occurrence that lasted this long.
    pub fn of_time(nanoseconds: u64) -> Values {
        Values { count: 1, nanoseconds, ..Values::default() }
    }

    /// The main value of a profile of one kind of samples: nanoseconds, else pages.
    pub fn amount(&self) -> u64 {
        if self.objects > 0 { self.objects } else { self.nanoseconds }
    }

    /// Adds values of the same kinds.
    pub fn add(&mut self, other: Values) {
        self.count = self.count.saturating_add(other.count);
        self.nanoseconds = self.nanoseconds.saturating_add(other.nanoseconds);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.objects = self.objects.saturating_add(other.objects);
    }
}

#[cfg(test)]
impl RawSample<'_> {
    /// A sample of the first thread of a process without registers or stack, of 1 ns.
    pub fn without_stack(time_ns: u64, pid: u32) -> Self {
        RawSample {
            time_ns,
            pid,
            tid: pid,
            comm: None,
            values: Values::of_time(1),
            registers: None,
            stack: StackCopy { start: RuntimeAddr(0), bytes: &[], capped: false, has_holes: false },
            kernel_stack: KernelStack(&[]),
            task: None,
            lock: None,
            interrupted_stack: None,
            sections: Sections::default(),
        }
    }
}

/// A lock that a thread waited for or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockUse {
    /// The address of its futex.
    pub address: u64,
    /// Whether the thread waited as threads wait for a pthread mutex: after pthread_cond_wait(3)
    /// was woken, it takes its mutex again.
    pub as_mutex: bool,
}

impl LockUse {
    /// The lock at an address (0: there is none), and how a thread waits whose registers have the
    /// arguments of futex(2).
    pub fn of(address: u64, registers: Option<&Registers>) -> Option<LockUse> {
        /// FUTEX_CMD_MASK without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME.
        const COMMAND: u64 = 0x7f;
        /// FUTEX_WAIT.
        const WAIT: u64 = 0;
        /// The word of a mutex that threads wait for.
        const CONTENDED: u64 = 2;
        let argument = |number| registers.and_then(|registers| registers.get(number)).unwrap_or(u64::MAX);
        let [operation, value] = native::FUTEX_ARGUMENTS.map(argument);
        let as_mutex = operation & COMMAND == WAIT && value & 0xffff_ffff == CONTENDED;
        (address != 0).then_some(LockUse { address, as_mutex })
    }
}

/// A task of a language runtime that a thread runs.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The word that [`crate::process::TaskLayout::labels`] points to.
    pub labels: u64,
    /// If the thread currently runs on another stack: the registers saved when it left the task's
    /// stack.
    pub registers: Option<Registers>,
    /// The task's own stack, as far as it was copied; empty if the thread runs on it.
    pub stack: StackCopy<'a>,
}

/// Kernel frames as little-endian u64 words, leaf first.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelStack<'a>(pub &'a [u8]);

impl<'a> KernelStack<'a> {
    /// The addresses, leaf first.
    pub fn addresses(self) -> impl Iterator<Item = RuntimeAddr> + 'a {
        self.0.chunks_exact(8).map(|word| RuntimeAddr(u64::from_ne_bytes(word.try_into().expect("8 bytes"))))
    }
}

/// Bytes of a thread's stack at the time of the sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct StackCopy<'a> {
    /// Address of the first byte.
    pub start: RuntimeAddr,
    /// The copied bytes, in ascending order of address.
    pub bytes: &'a [u8],
    /// Whether the copy ends at a size limit and more stack lies above it.
    pub capped: bool,
    /// Whether pages that could not be copied are zeros in `bytes`.
    pub has_holes: bool,
}

/// What a sampler reports. It exists on the stack for one call of the sink.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "never stored; boxing would cost an allocation a sample")]
pub enum Event<'a> {
    /// A sample was taken.
    Sample(RawSample<'a>),
    /// A file (or anonymous memory) was mapped executable.
    Mapped {
        /// CLOCK_MONOTONIC, nanoseconds.
        time_ns: u64,
        /// The process whose memory changed.
        pid: u32,
        /// What was mapped.
        mapping: NewMapping<'a>,
    },
    /// A process (`pid != parent_pid`) or a thread was created.
    Forked {
        /// CLOCK_MONOTONIC, nanoseconds.
        time_ns: u64,
        /// The process of the new thread.
        pid: u32,
        /// The new thread.
        tid: u32,
        /// The process of the thread that created it.
        parent_pid: u32,
    },
    /// The process replaced its program by execve(2); all its mappings are gone.
    Execed {
        /// CLOCK_MONOTONIC, nanoseconds.
        time_ns: u64,
        /// The process.
        pid: u32,
        /// The thread that called execve(2).
        tid: u32,
        /// Its new name; bytes up to the first NUL.
        comm: &'a [u8],
    },
    /// A thread changed its name.
    Renamed {
        /// CLOCK_MONOTONIC, nanoseconds.
        time_ns: u64,
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// Its new name; bytes up to the first NUL.
        comm: &'a [u8],
    },
    /// A thread ended (`tid == pid`: the first thread of the process).
    Exited {
        /// CLOCK_MONOTONIC, nanoseconds.
        time_ns: u64,
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
    },
    /// Samples were taken and then dropped because a buffer was full.
    LostSamples {
        /// How many.
        count: u64,
    },
    /// Side-band records (mappings, forks) may have been lost: mappings and threads must be read
    /// again from /proc.
    LostSideband {
        /// How many.
        count: u64,
    },
}

/// A new executable mapping, as `PERF_RECORD_MMAP2` describes it.
#[derive(Clone, Copy, Debug)]
pub struct NewMapping<'a> {
    /// First address.
    pub start: RuntimeAddr,
    /// Length in bytes.
    pub length: u64,
    /// Where in the file it begins, in bytes.
    pub file_offset: u64,
    /// Major number of the file's device.
    pub device_major: u32,
    /// Minor number of the file's device.
    pub device_minor: u32,
    /// Inode number of the file; 0 for memory without a file.
    pub inode: u64,
    /// The path as the target's mount namespace has it, or `//anon`, `[vdso]`, `[heap]` …
    pub path: &'a [u8],
}

/// Page faults per sample. A prime number, so that it does not resonate with programs that touch
/// pages in a pattern. It is not adapted to the fault rate: a CPU counts the faults of all
/// processes, so a busy neighbour would reduce the target's samples.
pub const FAULTS_A_SAMPLE: u64 = 31;

/// The event that takes a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// A timer, at [`SamplerOptions::frequency_hz`].
    #[default]
    Time,
    /// A page fault: one in [`FAULTS_A_SAMPLE`] on each CPU. For [`bpf`] and [`perf`].
    PageFault,
    /// The creation of a thread. For [`bpf`], and for [`perf`] on whole CPUs.
    ThreadCreated,
    /// The end of a wait. All waits longer than one period of [`SamplerOptions::frequency_hz`] are
    /// taken; shorter ones are taken at random, one per period of waiting.
    Waited,
    /// The same, of waits for other threads alone: locks, conditions, joins. For [`bpf`].
    Blocked,
    /// The release of a lock that threads have waited for: their time, charged to the thread that
    /// released it. For [`bpf`].
    Released,
}

/// What to sample, and how.
#[derive(Clone, Debug)]
pub struct SamplerOptions {
    /// The event that takes a sample.
    pub trigger: Trigger,
    /// Samples for each second of CPU time of a thread.
    pub frequency_hz: u32,
    /// Processes to sample, as rprof's PID namespace numbers them.
    pub pids: Vec<u32>,
    /// Also sample the processes that these fork from now on.
    pub follow_forks: bool,
    /// Also collect kernel frames, if rights allow.
    pub kernel: bool,
    /// Maximum number of stack bytes to copy with a sample.
    pub max_stack_bytes: u32,
    /// Copy no stack of threads whose frames a language's walker reads: only those are wanted. Of
    /// samplers without walkers: no effect.
    pub language_alone: bool,
    /// Total ring memory to request, in bytes; the kernel may grant less. 0: the default.
    pub buffer_bytes: usize,
    /// Also report what changes in the processes: mappings, forks, execs, names, exits. False where
    /// another sampler reports that: then new and ended processes are to be stated by
    /// [`Sampler::watch`] and [`Sampler::unwatch`]. Some samplers report it in any case.
    pub reports_changes: bool,
}

/// How a running sampler works, for the output and the file's comments.
#[derive(Clone, Debug)]
pub struct Description {
    /// `bpf`, `perf-cpu`, `perf-cgroup`, `perf-thread` or `ptrace`: the values of `--sampler`.
    pub name: &'static str,
    /// `cpu-clock`, `cycles`, or in words.
    pub event: &'static str,
    /// One sentence for the user: how it samples, and why this way.
    pub summary: String,
    /// Whether kernel frames are collected.
    pub kernel: bool,
    /// Bytes of ring memory granted.
    pub buffer_bytes: usize,
    /// Number of perf events opened.
    pub event_count: usize,
}

/// The name of a kernel function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelName {
    /// The function's symbol.
    pub function: String,
    /// `[module]`; `None` for the kernel itself.
    pub module: Option<String>,
}

/// A running sampler. Its module's `open` creates and starts it.
pub trait Sampler {
    /// How it samples. After [`Sampler::stop`] and a last `poll` it may hold final figures.
    fn description(&self) -> &Description;
    /// Waits up to `timeout` for events, then passes all that are ready to `sink`, oldest first.
    /// Errors: [`SamplerError::NoTarget`] once every process has ended.
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError>;
    /// Ends one profile and begins the next: the next `poll` also reports waits that are still in
    /// progress, with the time that they have lasted so far.
    fn split(&mut self) -> Result<(), SamplerError> {
        Ok(())
    }
    /// Stops taking samples. A last `poll` with a zero timeout reports what is still buffered.
    fn stop(&mut self) -> Result<(), SamplerError>;
    /// Sets the address range `start..end` of a thread's stack, as read from its maps. Samplers
    /// that copy only the used part of the stack need it; others ignore it.
    fn hint_stack(&mut self, _tid: u32, _start: RuntimeAddr, _end: RuntimeAddr) {}
    /// Sets what the language runtimes of a process ask samplers to read with a sample; empty hints
    /// replace earlier ones. Samplers that can read it with a sample do; others ignore it. Errors:
    /// the kernel refuses the runtime's walker; samples have no frames of its language then.
    fn hint_runtimes(&mut self, _pid: u32, _hints: &Hints) -> Result<(), SamplerError> {
        Ok(())
    }
    /// Sets the address of the state that a language's runtime keeps for a thread, for walkers that
    /// do not find it by themselves; `None`: the thread has none any more.
    fn hint_thread_state(&mut self, _tid: u32, _state: Option<u64>) {}
    /// Whether it reports what changes in the processes: mappings, forks, execs, names, exits.
    fn reports_changes(&self) -> bool {
        true
    }
    /// Also samples this process from now on; does nothing if it is sampled already. Errors:
    /// `NoTarget`: it has ended; another error: this sampler cannot sample it.
    fn watch(&mut self, _pid: u32) -> Result<(), SamplerError> {
        Err(SamplerError::Unavailable("its processes are fixed when it begins".to_owned()))
    }
    /// Stops sampling this process, and forgets what belongs to it. Samples that are buffered may
    /// still be reported.
    fn unwatch(&mut self, _pid: u32) {}
    /// Forgets what belongs to a process that has ended. Its children may still be sampled.
    fn ended(&mut self, pid: u32) {
        self.unwatch(pid);
    }
    /// When it must be polled next at the latest, if it does work of its own in `poll`.
    fn due(&self) -> Option<Instant> {
        None
    }
}

/// What denies BPF to rprof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BpfDenial {
    /// These capabilities are missing.
    Capabilities(Vec<&'static str>),
    /// The limit of locked memory, in KiB. Before Linux 5.11 BPF maps count as locked memory.
    LockedMemory(u64),
    /// A seccomp filter. Container runtimes install one.
    Seccomp,
    /// A security module, or kernel lockdown at this level.
    SecurityModule(Option<String>),
}

impl std::fmt::Display for BpfDenial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BpfDenial::Capabilities(missing) => write!(f, "no {}", missing.join(" and no ")),
            BpfDenial::LockedMemory(kib) => write!(
                f,
                "the limit of locked memory is {kib} KiB, and before Linux 5.11 BPF maps count as locked memory"
            ),
            BpfDenial::Seccomp => f.write_str("a seccomp filter forbids it"),
            BpfDenial::SecurityModule(None) => f.write_str("a security module forbids it"),
            BpfDenial::SecurityModule(Some(level)) => {
                write!(f, "kernel lockdown ({level}) or a security module forbids it")
            }
        }
    }
}

/// Why a sampler could not be opened, or why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// The call, or what it was for.
        what: String,
        /// The error of the kernel.
        #[source]
        source: std::io::Error,
    },
    /// A perf event was refused, or a limit was reached; the inner error says which.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// The kernel's verifier refused a BPF program.
    #[error("the kernel refuses the BPF program `{program}`: {reason}")]
    BpfRefused {
        /// The program's name.
        program: String,
        /// The error and the last line of the verifier's log.
        reason: String,
        /// The verifier's whole log.
        log: String,
    },
    /// rprof may not use BPF.
    #[error("BPF is not permitted: {0}")]
    BpfDenied(BpfDenial),
    /// The kernel does not describe its types, which BPF programs need.
    #[error("the kernel does not describe its types ({0}; CONFIG_DEBUG_INFO_BTF)")]
    NoKernelTypes(String),
    /// Only this sampler can record what was requested.
    #[error("{source}; {instead}")]
    Only {
        /// Its error.
        #[source]
        source: Box<SamplerError>,
        /// Why there is no other, and what is available instead.
        instead: &'static str,
    },
    /// The kernel or rprof's rights do not allow this method.
    #[error("{0}")]
    Unavailable(String),
    /// Every requested process has ended.
    #[error("the process has ended")]
    NoTarget,
}
