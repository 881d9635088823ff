//! A snapshot of every thread's stack: [`dump`] takes a [`DumpRequest`] and returns a [`Dump`], a
//! profile with one sample per thread, whose labels describe the thread.
//!
//! Each thread is read with the least intrusive method that returns its whole stack (`collect`).
//! Then all addresses are symbolized and the profile is built (`profile`). Not here: text, files,
//! printing.

pub(super) mod collect;
mod core;
mod profile;

pub use core::{about_core, dump_core};

use std::time::{Duration, Instant, SystemTime};

use super::{
    CaptureError, LabelKeys, check_pids,
    collector::ONLY,
    identify_all,
    waits::{self, WaitGraph},
    watch::world::World,
};
use crate::{
    issue::Issues, process::Identity, profile::proto::Profile, sampler::look::LookMethod,
    symbolize::SymbolizeOptions,
};

/// Options of a dump.
#[derive(Clone, Debug)]
pub struct DumpRequest {
    /// The processes to dump.
    pub pids: Vec<u32>,
    /// Also dump their descendants.
    pub children: bool,
    /// Use only this method.
    pub method: Option<LookMethod>,
    /// Never stop a thread, even if its stack is incomplete then.
    pub never_stop: bool,
    /// Stop all threads of a process together, so that all stacks are of the same instant.
    pub consistent: bool,
    /// Include the kernel frames of sleeping threads, where BPF is permitted.
    pub kernel: bool,
    /// The most stack copied per thread, in bytes.
    pub max_stack_bytes: u32,
    /// Also read the local variables of languages' frames, of threads that sleep or are stopped.
    pub variables: bool,
    /// Where symbols are looked up.
    pub symbolize: SymbolizeOptions,
}

impl Default for DumpRequest {
    fn default() -> Self {
        DumpRequest {
            pids: Vec::new(),
            children: false,
            method: None,
            never_stop: false,
            consistent: false,
            kernel: false,
            max_stack_bytes: 512 << 10,
            variables: false,
            symbolize: SymbolizeOptions::default(),
        }
    }
}

/// The stacks of all threads, and the quality of the dump.
#[derive(Debug)]
pub struct Dump {
    /// Sample type `threads/count`; labels `thread tid pid state wait syscall runtime
    /// cpu waited look cut waits_for lock holder holder_evidence`, those that the program has set,
    /// and `local` for each local variable that was read: the index of the frame in the stack, the
    /// name and the value.
    pub profile: Profile,
    /// What threads wait for, and who holds it.
    pub waits: WaitGraph,
    /// What is missing or uncertain.
    pub issues: Issues,
    /// The processes.
    pub identities: Vec<Identity>,
    /// What is known of a process that has ended: the signal.
    pub about: Vec<String>,
    /// Counts and costs.
    pub stats: DumpStats,
}

/// Counts and costs of a dump.
#[derive(Clone, Debug, Default)]
pub struct DumpStats {
    /// Threads found.
    pub threads: usize,
    /// Threads whose stack is whole.
    pub whole: usize,
    /// Threads without a stack (zombies).
    pub without_stack: usize,
    /// The number of threads by the method that returned their stack.
    pub by_method: Vec<(LookMethod, usize)>,
    /// Upper bound of how long each stopped thread was stopped; ascending.
    pub stopped: Vec<Duration>,
    /// The time to read all threads.
    pub reading: Duration,
    /// The time to symbolize and to build the profile.
    pub naming: Duration,
    /// The time to read the graph of waits, without the pause between two looks.
    pub waits: Duration,
}

impl DumpStats {
    /// The share of threads whose stack is whole, 0 to 1; 1 if none has a stack.
    pub fn whole_share(&self) -> f64 {
        let with_stack = self.threads - self.without_stack;
        if with_stack == 0 { 1.0 } else { self.whole as f64 / with_stack as f64 }
    }

    /// How long threads were stopped: the sum, the median, the maximum.
    pub fn stopped_summary(&self) -> (Duration, Duration, Duration) {
        let all = self.stopped.iter().sum();
        let median = self.stopped.get(self.stopped.len() / 2).copied().unwrap_or_default();
        (all, median, self.stopped.last().copied().unwrap_or_default())
    }
}

/// Reads every thread once. Errors: no such process, none of its threads can be read, or another
/// process has got the PID meanwhile.
pub fn dump(request: &DumpRequest) -> Result<Dump, CaptureError> {
    let identities = identify_all(&request.pids, request.children)?;
    let mut world =
        World::within(LabelKeys { pid: true, tid: true, process: true }, &request.symbolize.budget);
    let (began, began_at) = (Instant::now(), SystemTime::now());
    let mut snapshots = collect::ThreadSnapshots::default();
    for identity in &identities {
        collect::collect_process(request, identity, (&mut world, ONLY), &mut snapshots)?;
    }
    check_pids(&identities)?;
    let mut stats = snapshots.stats(began.elapsed());
    let naming = Instant::now();
    let (mut profile, issues) =
        profile::make(&request.symbolize, world.close(), &identities, &snapshots, &[], (&stats, began_at));
    // Names come from files that are found by PID.
    check_pids(&identities)?;
    stats.naming = naming.elapsed();
    let threads: Vec<_> = snapshots.threads.iter().map(|thread| (thread.pid, &thread.state)).collect();
    let waits = waits::read(&profile, &threads, &request.symbolize.budget);
    waits::add_labels(&waits, &mut profile);
    stats.waits = waits.took;
    Ok(Dump { profile, waits, issues, identities, about: Vec::new(), stats })
}
