//! The threads of a process that has ended, from its core file: the same unwinding, runtimes and
//! names as those of a live process.
//!
//! Not here: reading the core (`core_file`).

use std::time::{Duration, Instant, SystemTime};

use super::{
    Dump, DumpRequest,
    collect::{ProcessReader, ThreadSnapshots, hints},
    profile,
};
use crate::{
    budget::Exhausted,
    capture::{CaptureError, LabelKeys, WaitGraph, collector::ONLY, watch::world::World},
    core_file::{CoreFile, CoreThread},
    issue::Issue,
    process::{
        ProcessMemory, comm,
        identity::monotonic_ns,
        thread_state::ThreadState,
        wait::{Waiting, waited},
    },
    sampler::look::Target,
};

/// Reads every thread of a core.
pub fn dump_core(core: &CoreFile, request: &DumpRequest) -> Result<Dump, CaptureError> {
    let identity = core.identity();
    let budget = &request.symbolize.budget;
    let mut world = World::within(LabelKeys { pid: true, tid: true, process: true }, budget);
    let (began, began_at) = (Instant::now(), SystemTime::now());
    world.add_core(core, monotonic_ns());
    add_issues(core, &mut world);
    let target = target(core, request, &world);
    let mut snapshots = ThreadSnapshots::default();
    let mut reader = ProcessReader::new(request, (&identity, target), (&mut world, ONLY), &mut snapshots);
    for (number, thread) in core.threads.iter().enumerate() {
        if budget.is_ending() {
            let what = format!("threads of process {}", identity.pid);
            reader.add_limit(what, Exhausted::Stopped, core.threads.len() - number);
            break;
        }
        reader.keep_ended(state(core, thread, number == 0), &thread.words);
    }
    if let Some((first, signal)) = snapshots.threads.first_mut().zip(core.signal) {
        first.signal = Some(signal.to_string());
    }
    let identities = vec![identity];
    let mut stats = snapshots.stats(began.elapsed());
    let (naming, about) = (Instant::now(), about_core(core));
    let window = world.close();
    let (profile, issues) =
        profile::make(&request.symbolize, window, &identities, &snapshots, &about, (&stats, began_at));
    stats.naming = naming.elapsed();
    stats.waits = Duration::ZERO;
    Ok(Dump { profile, waits: WaitGraph::default(), issues, identities, about, stats })
}

/// The threads of a core, as they are read with the hints of the runtimes in `world`.
fn target(core: &CoreFile, request: &DumpRequest, world: &World) -> Target {
    let (pid, memory) = (core.process.pid, ProcessMemory::of_source(core.memory()));
    Target::ended(pid, memory, &core.mappings, request.max_stack_bytes, hints(request, pid, world))
}

fn add_issues(core: &CoreFile, world: &mut World) {
    if core.missing_bytes > 0 {
        let why = format!("{} bytes are missing at its end", core.missing_bytes);
        world.issues.add(Issue::LimitReached { what: core.path.display().to_string(), why }, 1);
    }
}

/// What a thread did. The core has no names of single threads.
fn state(core: &CoreFile, thread: &CoreThread, is_first: bool) -> ThreadState {
    let signal = core.signal.filter(|_| is_first);
    let waiting = match signal {
        Some(signal) => Some(Waiting { what: signal.to_string(), syscall: None, interruptible: false }),
        None => thread.system_call().map(waited),
    };
    ThreadState {
        tid: thread.tid,
        name: comm::printable(&core.process.name),
        state: if waiting.is_some() { 'S' } else { 'R' },
        cpu_ns: None,
        waiting,
        waited_ns: None,
        turns: None,
    }
}

/// The signal, and where the core is from.
pub fn about_core(core: &CoreFile) -> Vec<String> {
    let by = core.threads.first().map_or(0, |thread| thread.tid);
    let mut lines = vec![format!("core: {}", core.path.display())];
    lines.push(match core.signal {
        Some(signal) => format!("signal: {signal}, in thread {by}"),
        None => "signal: none; the core was written while the process ran".to_owned(),
    });
    let command = String::from_utf8_lossy(&core.process.command_line).trim().to_owned();
    if !command.is_empty() {
        lines.push(format!("command: {command}"));
    }
    lines
}
