//! Every thread's stack, now: [`dump`] takes a [`DumpRequest`] and gives a [`Dump`], a profile with one
//! sample a thread and what is known of each thread in its labels.
//!
//! Each thread is looked at by the gentlest way that gives its whole stack (`look`); then all addresses
//! get their names at once, and the profile is made (`profile`). Not here: text, files, printing.

pub(super) mod look;
mod profile;

use std::time::{Duration, Instant, SystemTime};

use super::{CaptureError, LabelKeys, identify_all, world::World};
use crate::{
    issue::Issues,
    process::Identity,
    profile::proto::Profile,
    sampler::{bpf, look::LookMethod},
    symbolize::SymbolizeOptions,
};

/// What is wanted.
#[derive(Clone, Debug)]
pub struct DumpRequest {
    pub pids: Vec<u32>,
    /// Also the processes that these have started.
    pub children: bool,
    /// The only way to use, where one was asked for.
    pub way: Option<LookMethod>,
    /// Never stop a thread, whatever is lost by that.
    pub never_stop: bool,
    /// Stop all threads of a process together, so that their stacks are of one moment.
    pub consistent: bool,
    /// Kernel frames too, of threads that sleep, where BPF allows.
    pub kernel: bool,
    /// The most stack copied of a thread, in bytes.
    pub max_stack_bytes: u32,
    pub symbolize: SymbolizeOptions,
}

impl Default for DumpRequest {
    fn default() -> Self {
        DumpRequest {
            pids: Vec::new(),
            children: false,
            way: None,
            never_stop: false,
            consistent: false,
            kernel: false,
            max_stack_bytes: 512 << 10,
            symbolize: SymbolizeOptions::default(),
        }
    }
}

/// All threads' stacks, and what must be known to judge them.
#[derive(Debug)]
pub struct Dump {
    /// Sample type `threads/count`; labels `thread tid pid state wait syscall cpu waited look cut`.
    pub profile: Profile,
    pub issues: Issues,
    pub identities: Vec<Identity>,
    pub stats: DumpStats,
}

/// What looking has cost, whom.
#[derive(Clone, Debug, Default)]
pub struct DumpStats {
    /// Threads found.
    pub threads: usize,
    /// Those of them whose stack is whole.
    pub whole: usize,
    /// Those that have no stack any more (they have ended and wait for their process to).
    pub without_stack: usize,
    /// How many were looked at by each way.
    pub by_way: Vec<(LookMethod, usize)>,
    /// How long each thread that was stopped stood still, at most; ascending.
    pub stopped: Vec<Duration>,
    /// From the first look to the last.
    pub looking: Duration,
    /// Finding names, and making the profile.
    pub naming: Duration,
}

impl DumpStats {
    /// The share of threads whose stack is whole, 0 to 1; 1 where none has a stack.
    pub fn whole_share(&self) -> f64 {
        let with_stack = self.threads - self.without_stack;
        if with_stack == 0 { 1.0 } else { self.whole as f64 / with_stack as f64 }
    }

    /// How long threads stood still: all together, the median, the longest.
    pub fn stopped_summary(&self) -> (Duration, Duration, Duration) {
        let all = self.stopped.iter().sum();
        let median = self.stopped.get(self.stopped.len() / 2).copied().unwrap_or_default();
        (all, median, self.stopped.last().copied().unwrap_or_default())
    }
}

/// Looks at every thread once. Errors: no such process, or none of its threads may be looked at.
pub fn dump(request: &DumpRequest) -> Result<Dump, CaptureError> {
    let identities = identify_all(&request.pids, request.children)?;
    let mut world = World::new(LabelKeys { pid: true, tid: true, process: true });
    let (began, began_at) = (Instant::now(), SystemTime::now());
    let mut looked = look::ThreadSnapshots::default();
    for identity in &identities {
        look::at_process(request, identity, &mut world, &mut looked)?;
    }
    let mut stats = looked.stats(began.elapsed());
    let naming = Instant::now();
    let kernel_addresses = world.kernel_addresses(0);
    if !kernel_addresses.is_empty() {
        world.kernel_names = bpf::kernel_names(&kernel_addresses);
    }
    let (profile, issues) = profile::make(&request.symbolize, world, &identities, &looked, &stats, began_at);
    stats.naming = naming.elapsed();
    Ok(Dump { profile, issues, identities, stats })
}
