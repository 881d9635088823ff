//! Who looks: a [`Sampler`] catches moments of threads and hands them on as [`Event`]s, in the order
//! of time, together with what changes a process meanwhile (mappings, forks, execs, names, exits).
//!
//! Three ways of looking stand here, told apart by what they need and alike behind [`RawSample`]:
//! [`bpf`] (tier A), [`perf`] (tier B) and [`ptrace`] (tier C). [`look`] is for one look at a thread,
//! [`idle`] lets time pass, [`checks`] tries out what works. Not here: unwinding, names, counting.

pub mod bpf;
pub mod checks;
pub mod idle;
pub mod look;
pub mod perf;
pub mod ptrace;

use std::time::Duration;

use crate::{addr::RuntimeAddr, arch::Registers, process::TaskLayout};

pub use crate::sys::perf::{Denial, PerfError};

/// A moment of one thread.
#[derive(Debug)]
pub struct RawSample<'a> {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Process and thread, as rprof's own PID namespace numbers them.
    pub pid: u32,
    pub tid: u32,
    /// The thread's name (`comm`), where the sampler has it at hand; bytes up to the first NUL.
    pub comm: Option<&'a [u8]>,
    /// What this sample stands for. Nanoseconds of CPU time, or of all time where that is sampled; page faults
    /// for [`Trigger::PageFault`]; 0 where samples only count.
    pub period: u64,
    /// How many happenings it stands for: 1, unless short ones are taken by chance.
    pub count: u64,
    /// User-space registers; `None` for a thread of the kernel, or where the kernel had none.
    pub registers: Option<Registers>,
    /// A copy of the stack from the stack pointer up.
    pub stack: StackCopy<'a>,
    /// Kernel return addresses, leaf first, when the thread was caught in the kernel and rights
    /// allow; perf's context markers are removed.
    pub kernel_stack: KernelStack<'a>,
    /// The task that the thread works for, where the sampler was told how to find it
    /// ([`Sampler::hint_tasks`]).
    pub task: Option<Task<'a>>,
}

/// What a language's runtime has a thread work for: a goroutine.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The word that [`TaskLayout::labels`] points to.
    pub labels: u64,
    /// If the thread runs on another stack for it: the registers with which it left its own.
    pub registers: Option<Registers>,
    /// Its own stack, as far as it was copied; nothing if the thread runs on it.
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

/// Bytes of a thread's stack, as they stood at the moment of the sample.
#[derive(Clone, Copy, Debug)]
pub struct StackCopy<'a> {
    /// Where the first byte stood.
    pub start: RuntimeAddr,
    pub bytes: &'a [u8],
    /// Whether the copy ends because a size limit was hit (more stack lies above), as opposed to
    /// reaching the end of the stack's memory.
    pub capped: bool,
    /// Whether pages that could not be copied stand as zeros in `bytes`.
    pub has_holes: bool,
}

/// What a sampler reports. Lives on the stack for one call of the sink, so its size costs nothing.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "never stored; boxing would cost an allocation a sample")]
pub enum Event<'a> {
    Sample(RawSample<'a>),
    /// A file (or anonymous memory) was mapped executable.
    Mapped {
        time_ns: u64,
        pid: u32,
        mapping: NewMapping<'a>,
    },
    /// A process (`pid != parent_pid`) or a thread came into being.
    Forked {
        time_ns: u64,
        pid: u32,
        tid: u32,
        parent_pid: u32,
    },
    /// The process replaced its program: all its mappings are gone.
    Execed {
        time_ns: u64,
        pid: u32,
        tid: u32,
        comm: &'a [u8],
    },
    /// A thread took a new name.
    Renamed {
        time_ns: u64,
        pid: u32,
        tid: u32,
        comm: &'a [u8],
    },
    /// A thread ended (`tid == pid`: the thread that the process began with).
    Exited {
        time_ns: u64,
        pid: u32,
        tid: u32,
    },
    /// Samples were taken and could not be kept, for lack of room in a buffer.
    LostSamples {
        count: u64,
    },
    /// Side-band records (mappings, forks) may have been lost: what is known of processes must be
    /// read again.
    LostSideband {
        count: u64,
    },
}

/// A new executable mapping, as `PERF_RECORD_MMAP2` describes it.
#[derive(Clone, Copy, Debug)]
pub struct NewMapping<'a> {
    pub start: RuntimeAddr,
    pub length: u64,
    pub file_offset: u64,
    pub device_major: u32,
    pub device_minor: u32,
    pub inode: u64,
    /// The path as the target's mount namespace has it, or `//anon`, `[vdso]`, `[heap]` …
    pub path: &'a [u8],
}

/// A prime number, lest it beat with a program that touches pages in a pattern. Not adapted to the rate: a
/// CPU's faults are those of all processes, and who builds beside the target would thin out its samples.
pub const FAULTS_A_SAMPLE: u64 = 31;

/// At which moments threads are caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trigger {
    /// Again and again, at [`SamplerOptions::frequency_hz`].
    #[default]
    Time,
    /// When they touch a page of memory that is not there: one fault in [`FAULTS_A_SAMPLE`] on each CPU. For
    /// [`bpf`] and [`perf`].
    PageFault,
    /// When they make a thread. For [`bpf`] alone.
    ThreadCreated,
    /// When they have waited: all that lasted longer than a period of [`SamplerOptions::frequency_hz`], of
    /// shorter ones as many as to make one a period.
    Waited,
}

/// What a sampler is asked to do.
#[derive(Clone, Debug)]
pub struct SamplerOptions {
    pub trigger: Trigger,
    /// Samples for each second of CPU time of a thread.
    pub frequency_hz: u32,
    /// Processes to look at, as rprof's PID namespace numbers them.
    pub pids: Vec<u32>,
    /// Also processes that these fork from now on.
    pub follow_forks: bool,
    /// Kernel frames too, where rights allow.
    pub kernel: bool,
    /// The most stack to copy with a sample, in bytes.
    pub max_stack_bytes: u32,
    /// Ring memory to ask for, in bytes, in all; the kernel may grant less. 0: the default.
    pub buffer_bytes: usize,
}

/// How a running sampler looks, for the output and the file's comments.
#[derive(Clone, Debug)]
pub struct Description {
    /// `bpf`, `perf-cpu`, `perf-cgroup`, `perf-thread` or `ptrace`: what `--sampler` forces.
    pub name: &'static str,
    /// `cpu-clock`, `cycles`, or in words.
    pub event: &'static str,
    /// One sentence for a person: how, and why this way.
    pub summary: String,
    /// Kernel frames are being collected.
    pub kernel: bool,
    /// Bytes of ring memory granted.
    pub buffer_bytes: usize,
    /// Number of perf events opened.
    pub event_count: usize,
}

/// A kernel function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelName {
    pub function: String,
    /// `[module]`; `None` for the kernel itself.
    pub module: Option<String>,
}

/// A way of looking at threads. Made by its module's `open`, already counting once made.
pub trait Sampler {
    fn description(&self) -> &Description;
    /// Waits up to `timeout` for events, then hands over all that are ready, oldest first.
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError>;
    /// A profile ends and the next begins: the next `poll` hands over also what goes on (waits), as long as
    /// it has lasted until now.
    fn split(&mut self) -> Result<(), SamplerError> {
        Ok(())
    }
    /// Stops taking samples; a last `poll` with a zero timeout hands over what is still buffered.
    fn stop(&mut self) -> Result<(), SamplerError>;
    /// Tells the sampler where a thread's stack memory lies (`start..end`), learnt from its maps.
    /// Samplers that copy the real extent use it; others ignore it.
    fn hint_stack(&mut self, _tid: u32, _start: RuntimeAddr, _end: RuntimeAddr) {}
    /// Tells the sampler how a process's runtime keeps its tasks, or that it has none any more. Samplers
    /// that can follow pointers at the moment of the sample use it; others ignore it.
    fn hint_tasks(&mut self, _pid: u32, _layout: Option<&TaskLayout>) {}
    /// The names of kernel addresses, in the order asked, where the sampler has a way to learn them
    /// that is cheaper than to read all of the kernel's symbols.
    fn kernel_names(&mut self, _addresses: &[RuntimeAddr]) -> Option<Vec<Option<KernelName>>> {
        None
    }
}

/// Why a sampler could not be opened or went dead.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    #[error("{what}: {source}")]
    System {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// The kernel's perf events refused, or a limit was hit; which one it was stands in the variant.
    #[error(transparent)]
    Perf(#[from] PerfError),
    /// The kernel or the rights do not offer this way of looking.
    #[error("{0}")]
    Unavailable(String),
    /// Every process asked for has ended.
    #[error("the process has ended")]
    NoTarget,
}
