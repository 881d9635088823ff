//! What is captured: the processes, the kinds, the time, and how.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::kinds::{self, Kind, Live, TextForm};
use crate::{core_file::CoreFile, sampler::look::LookMethod, symbolize::SymbolizeOptions};

/// Which sampler to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SamplerChoice {
    /// The best one that works.
    #[default]
    Auto,
    /// One event per CPU; a BPF program filters the samples and copies the stacks.
    Bpf,
    /// One event per CPU; samples of other processes are dropped.
    PerfCpu,
    /// One event per CPU that counts only the target's control group.
    PerfCgroup,
    /// One event for each thread and CPU.
    PerfThread,
    /// Threads are stopped one by one, for microseconds each.
    Ptrace,
}

/// Which frames stacks have where a language keeps frames of its own (Python).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameChoice {
    /// The language's frames in the place of the interpreter's, between native frames.
    #[default]
    Mixed,
    /// The language's frames alone; native ones only where a thread has none of a language.
    Language,
    /// Native frames alone.
    Native,
}

impl FrameChoice {
    /// The name in options and comments.
    pub fn name(self) -> &'static str {
        match self {
            FrameChoice::Mixed => "mixed",
            FrameChoice::Language => "language",
            FrameChoice::Native => "native",
        }
    }
}

/// Options of a capture.
#[derive(Clone, Debug)]
pub struct Request {
    /// The processes to profile.
    pub pids: Vec<u32>,
    /// Read a core file instead; only for instant kinds.
    pub core: Option<Arc<CoreFile>>,
    /// Also profile their descendants, existing and future ones.
    pub children: bool,
    /// What to measure; several kinds are captured in the same time.
    pub kinds: Vec<Kind>,
    /// `None`: until stopped, or until the last process ends. Zero: an instant kind shows the state
    /// now.
    pub duration: Option<Duration>,
    /// The length of each window of a series; `None`: one window. Only for kinds that are sampled.
    pub every: Option<Duration>,
    /// Of an instant kind with a duration: what changed in that time.
    pub only_changes: bool,
    /// A text that is wanted instead of the profile, where a runtime has its own.
    pub text: Option<TextForm>,
    /// A timeline is written as a profile too, which holds fewer events.
    pub as_profile: bool,
    /// Samples per second of CPU time, or of wall-clock time.
    pub frequency_hz: u32,
    /// The sampler to use.
    pub sampler: SamplerChoice,
    /// Include kernel frames, where permitted.
    pub kernel: bool,
    /// Which frames stacks have.
    pub frames: FrameChoice,
    /// The most stack copied per sample, in bytes.
    pub max_stack_bytes: u32,
    /// Size of the ring buffers in bytes; 0: chosen by rprof.
    pub buffer_bytes: usize,
    /// The most anonymous and shared memory that rprof should take, in bytes; 0: no limit but those
    /// of its parts. At the limit, new stacks are counted under one name until the window ends.
    pub max_memory_bytes: u64,
    /// How the stacks of an instant kind are read.
    pub stacks: StackOptions,
    /// What is read of heaps.
    pub heap: HeapOptions,
    /// Optional labels.
    pub labels: LabelKeys,
    /// Where symbols are looked up.
    pub symbolize: SymbolizeOptions,
    /// Ends the capture early.
    pub stop: Stop,
}

impl Request {
    /// Whether the state now is requested.
    pub fn is_now(&self) -> bool {
        self.duration == Some(Duration::ZERO)
    }

    /// A request for the state of a process now.
    pub fn now(pid: u32) -> Request {
        Request { pids: vec![pid], duration: Some(Duration::ZERO), ..Request::default() }
    }
}

impl Default for Request {
    fn default() -> Self {
        Request {
            pids: Vec::new(),
            core: None,
            children: false,
            kinds: vec![kinds::DEFAULT],
            duration: Some(Duration::from_secs(30)),
            every: None,
            only_changes: false,
            text: None,
            as_profile: false,
            frequency_hz: 99,
            sampler: SamplerChoice::Auto,
            kernel: true,
            frames: FrameChoice::Mixed,
            max_stack_bytes: 512 << 10,
            buffer_bytes: 0,
            max_memory_bytes: 0,
            stacks: StackOptions::default(),
            heap: HeapOptions::default(),
            labels: LabelKeys::default(),
            symbolize: SymbolizeOptions::default(),
            stop: Stop::default(),
        }
    }
}

/// How the stacks of all threads or tasks are read at one instant.
#[derive(Clone, Copy, Debug, Default)]
pub struct StackOptions {
    /// Use only this method.
    pub method: Option<LookMethod>,
    /// Never stop a thread, even if its stack is incomplete then. A sampler that stops threads is
    /// not tried.
    pub never_stop: bool,
    /// Stop all threads of a process together, so that all stacks are of the same instant.
    pub consistent: bool,
    /// Include the kernel frames of sleeping threads, where BPF is permitted.
    pub kernel: bool,
    /// Include the tasks of the runtime itself.
    pub system: bool,
    /// Include the local variables of languages' frames, where they can be read.
    pub variables: bool,
}

/// What is read of heaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapOptions {
    /// The heaps of native allocators, also where a language runtime records its heap.
    pub native: bool,
    /// A census of the process that was taken within this time may be returned again.
    pub max_age: Duration,
    /// Also who holds the chunks in use.
    pub holders: bool,
    /// Also which chunks nothing holds: several passes, seconds apart.
    pub leaks: bool,
}

/// Which labels samples have besides the thread's name.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelKeys {
    /// The process's number.
    pub pid: bool,
    /// The thread's number.
    pub tid: bool,
    /// The process's name; always set when several processes are profiled.
    pub process: bool,
}

/// Ends a capture early and keeps its samples. It may be set by a signal handler or another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(pub Arc<AtomicBool>);

impl Stop {
    /// Whether the capture should end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Ends the capture.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Waits for `duration`, or until the capture should end.
    pub fn wait(&self, duration: Duration) {
        let began = Instant::now();
        while !self.is_set() && began.elapsed() < duration {
            thread::sleep(Duration::from_millis(20).min(duration.saturating_sub(began.elapsed())));
        }
    }
}

/// A kind that is sampled, as one of the kinds of a request.
#[derive(Clone)]
pub struct Plan {
    request: Arc<Request>,
    /// The kind.
    pub kind: Kind,
    /// How its samples are taken.
    pub live: &'static Live,
}

impl Plan {
    /// The plan to sample this kind.
    pub fn new(request: Arc<Request>, kind: Kind, live: &'static Live) -> Plan {
        Plan { request, kind, live }
    }
}

impl Deref for Plan {
    type Target = Request;

    fn deref(&self) -> &Request {
        &self.request
    }
}

#[cfg(test)]
impl Default for Plan {
    fn default() -> Plan {
        let request = Request::default();
        let kind = request.kinds[0];
        let live = kind.makers.iter().find_map(|maker| match maker.make {
            kinds::Make::Live(live) => Some(live),
            kinds::Make::Once(_) => None,
        });
        Plan::new(Arc::new(request), kind, live.expect("CPU time is sampled"))
    }
}
