//! Tests each source of data on a target or on rprof itself: whether it works, and the kernel's
//! error if it does not. The target is neither stopped nor changed.
//!
//! Not here: advice, and debug information in files.

use std::fs;

use super::{
    BpfDenial, Denial, PerfError, SamplerError, SamplerOptions, Trigger, bpf,
    perf::{PerfMethod, probe},
};
use crate::{
    process::{self, Mapping, ProcessError, WalkerProgram, memory, thread_state, threads, wait::Blocked},
    sys::{
        perf::{self, EventKind, EventSpec, Scope, probe::TracepointError},
        ptrace,
    },
};

/// A source of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// CPU samples of the process, user space.
    PerfThread,
    /// CPU samples of whole CPUs.
    PerfCpu,
    /// Kernel frames, and time spent in the kernel.
    KernelFrames,
    /// Perf events at tracepoints.
    Tracepoints,
    /// Perf events at instructions of a program.
    Uprobes,
    /// The BPF program that takes CPU samples and samples of page faults.
    BpfCpu,
    /// The BPF program that follows forks (`--children`).
    BpfForks,
    /// The BPF program that sees threads being created.
    BpfThreadCreate,
    /// The BPF programs that see threads wait.
    BpfWaits,
    /// The BPF programs that see threads run, wait and wake.
    BpfTrace,
    /// The BPF program that reads the registers of sleeping threads.
    BpfThreads,
    /// The BPF program that names kernel functions.
    BpfKernelNames,
    /// The BPF program that reads the frames of a language ([`walker`]).
    BpfWalker,
    /// Stopping a thread for some microseconds by ptrace(2).
    Ptrace,
    /// Reading memory by process_vm_readv(2).
    ProcessVmReadv,
    /// Reading memory by /proc/PID/mem.
    ProcMem,
    /// /proc/PID/maps.
    Maps,
    /// The system call that a thread sleeps in: /proc/PID/task/TID/syscall.
    ThreadState,
    /// Mapped files that no longer exist under their path: /proc/PID/map_files.
    MapFiles,
}

/// The result of testing one source.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was tested.
    pub source: Source,
    /// How it works, or why it does not.
    pub result: Result<String, String>,
    /// What is in the way, where that is known.
    pub barrier: Option<Barrier>,
    /// The error number, if the kernel returned one.
    pub errno: Option<i32>,
    /// The whole log of the kernel's verifier, where that refused a BPF program.
    pub log: Option<String>,
}

/// What is in the way of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// A capability is missing.
    Capability,
    /// A seccomp filter.
    Seccomp,
    /// A security module, or kernel lockdown.
    SecurityModule,
    /// The limit of locked memory.
    LockedMemory,
    /// The kernel does not describe its types.
    KernelTypes,
    /// tracefs is not mounted here, or must not be read.
    Tracefs,
}

impl Barrier {
    fn of_perf(error: &PerfError) -> Option<Barrier> {
        match error {
            PerfError::NotPermitted { denial: Denial::Seccomp, .. } => Some(Barrier::Seccomp),
            PerfError::NotPermitted { denial: Denial::SecurityModule, .. } => Some(Barrier::SecurityModule),
            _ => None,
        }
    }

    fn of(error: &SamplerError) -> Option<Barrier> {
        match error {
            SamplerError::Perf(error) => Barrier::of_perf(error),
            SamplerError::Only { source, .. } => Barrier::of(source),
            SamplerError::NoKernelTypes(_) => Some(Barrier::KernelTypes),
            SamplerError::BpfDenied(denial) => Some(match denial {
                BpfDenial::Capabilities(_) => Barrier::Capability,
                BpfDenial::LockedMemory(_) => Barrier::LockedMemory,
                BpfDenial::Seccomp => Barrier::Seccomp,
                BpfDenial::SecurityModule(_) => Barrier::SecurityModule,
            }),
            _ => None,
        }
    }
}

impl Check {
    fn new<E: std::fmt::Display>(source: Source, result: Result<impl Into<String>, E>) -> Check {
        let result = result.map(Into::into).map_err(|error| error.to_string());
        Check { source, result, barrier: None, errno: None, log: None }
    }

    fn bpf(source: Source, works: &str, result: Result<(), SamplerError>) -> Check {
        let log = match &result {
            Err(SamplerError::BpfRefused { log, .. }) => Some(log.clone()),
            _ => None,
        };
        let barrier = result.as_ref().err().and_then(Barrier::of);
        Check { log, barrier, ..Check::new(source, result.map(|()| works)) }
    }

    fn perf<E: std::fmt::Display>(
        source: Source,
        result: Result<&'static str, E>,
        barrier: impl FnOnce(&E) -> Option<Barrier>,
    ) -> Check {
        let barrier = result.as_ref().err().and_then(barrier);
        Check { barrier, ..Check::new(source, result) }
    }

    fn io(source: Source, works: &str, result: std::io::Result<()>) -> Check {
        let errno = result.as_ref().err().and_then(std::io::Error::raw_os_error);
        Check { errno, ..Check::new(source, result.map(|()| works)) }
    }
}

/// Tests all sources on the process `pid`, or on rprof itself if there is none.
pub fn all(pid: Option<u32>) -> Vec<Check> {
    let own = std::process::id();
    let target = pid.unwrap_or(own);
    let probed = probe();
    let mut checks = vec![
        Check::perf(
            Source::PerfThread,
            thread_event(target).map(|()| "perf_event_open on its threads"),
            Barrier::of_perf,
        ),
        Check::perf(Source::PerfCpu, whole_cpus(&probed), |error| Barrier::of(error)),
        Check::perf(
            Source::KernelFrames,
            probed.kernel.as_ref().map(|()| "perf events see the kernel"),
            |error| Barrier::of_perf(error),
        ),
        Check::perf(
            Source::Tracepoints,
            perf::probe::tracepoint().map(|()| "sched:sched_switch opens"),
            |error| matches!(error, TracepointError::NoId(_)).then_some(Barrier::Tracefs),
        ),
        Check::io(Source::Uprobes, "the uprobe PMU opens", perf::probe::uprobe()),
        Check::new(Source::Ptrace, may_hold(target)),
    ];
    checks.splice(checks.len() - 1..checks.len() - 1, bpf_programs(target));
    checks.extend(reading(target));
    checks
}

/// Each group of BPF programs that works or fails as one, loaded and attached by itself.
fn bpf_programs(pid: u32) -> [Check; 7] {
    let open = |trigger, follow_forks| bpf::open(&options(pid, trigger, follow_forks)).map(drop);
    [
        Check::bpf(Source::BpfCpu, "whole stacks, no cost per context switch", open(Trigger::Time, false)),
        Check::bpf(
            Source::BpfForks,
            "child processes are sampled from their start",
            open(Trigger::Time, true),
        ),
        Check::bpf(Source::BpfThreadCreate, "every new thread is seen", open(Trigger::ThreadCreated, false)),
        Check::bpf(Source::BpfWaits, "every wait is timed", open(Trigger::Waited, false)),
        Check::bpf(Source::BpfTrace, "every switch and wake-up is seen", bpf::trace::open(&[pid]).map(drop)),
        Check::bpf(
            Source::BpfThreads,
            "registers of all sleeping threads, which are not stopped",
            bpf::threads::sleepers(pid, true).map(drop),
        ),
        Check::bpf(
            Source::BpfKernelNames,
            "kernel functions are named one by one",
            bpf::check_kernel_names(),
        ),
    ]
}

/// Tests whether the kernel takes a language's walker.
pub fn walker(program: &WalkerProgram) -> Check {
    let options = options(std::process::id(), Trigger::Time, false);
    Check::bpf(
        Source::BpfWalker,
        "read at the sample, without stopping the thread",
        bpf::check_walker(&options, program),
    )
}

fn thread_event(pid: u32) -> Result<(), perf::PerfError> {
    let spec = EventSpec { kind: EventKind::CpuClock, exclude_kernel: true, ..EventSpec::default() };
    spec.open(Scope::Thread { tid: threads::reader(pid), cpu: None }).map(drop)
}

fn whole_cpus(probed: &super::perf::Probe) -> Result<&'static str, &SamplerError> {
    let way = probed.ways.iter().find(|way| way.way == PerfMethod::Cpu);
    way.map_or(Ok(""), |way| way.outcome.as_ref().map(|()| "one event a CPU"))
}

fn options(pid: u32, trigger: Trigger, follow_forks: bool) -> SamplerOptions {
    SamplerOptions {
        trigger,
        frequency_hz: 99,
        pids: vec![pid],
        follow_forks,
        kernel: true,
        max_stack_bytes: 1024,
        language_alone: false,
        buffer_bytes: 0,
        reports_changes: true,
    }
}

fn may_hold(pid: u32) -> Result<&'static str, String> {
    if pid == std::process::id() {
        return Ok("not tried: name a process with --pid");
    }
    let tried = ptrace::session(|session| session.may_hold(threads::reader(pid)));
    match tried {
        Ok(Ok(())) => Ok("its threads can be stopped for microseconds"),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The checks of a process's /proc folder and memory.
fn reading(pid: u32) -> Vec<Check> {
    let reader = threads::reader(pid);
    let mappings = process::read_mappings(reader);
    let readable = mappings.as_ref().ok().and_then(|all| all.iter().find(|mapping| mapping.readable));
    let mut checks = Vec::new();
    let [vm_readv, mem] = match readable {
        Some(mapping) => memory::ways(reader, mapping.start),
        None => [(), ()].map(|()| Err(std::io::Error::from_raw_os_error(libc::EACCES))),
    };
    checks.push(Check::io(Source::ProcessVmReadv, "its memory is read in one call", vm_readv));
    checks.push(Check::io(Source::ProcMem, "its memory can be read as a file", mem));
    checks.push(Check::new(
        Source::ThreadState,
        any_thread_state(pid).map(|_| "system call, stack pointer and program counter of sleeping threads"),
    ));
    let file = mappings.as_ref().ok().and_then(|all| all.iter().find(|m| m.executable && m.inode != 0));
    let map_files = file.map(|mapping| map_file(reader, mapping));
    checks.extend(
        map_files.map(|opened| {
            Check::io(Source::MapFiles, "deleted or replaced programs can be read too", opened)
        }),
    );
    checks.push(Check::new(Source::Maps, mappings.map(|all| format!("{} mappings", all.len()))));
    checks
}

fn map_file(pid: u32, mapping: &Mapping) -> std::io::Result<()> {
    fs::File::open(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end)).map(drop)
}

/// Where the first thread that does not end meanwhile sleeps.
fn any_thread_state(pid: u32) -> Result<Blocked, ProcessError> {
    let mut states = threads::list(pid).into_iter().map(|tid| thread_state::blocked(pid, tid));
    let is_there =
        |state: &Result<Blocked, ProcessError>| !matches!(state, Err(ProcessError::NoSuchProcess(_)));
    states.find(is_there).unwrap_or(Err(ProcessError::NoSuchProcess(pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_is_tested_once_and_reading_rprof_itself_works() {
        let checks = all(None);
        let sources: std::collections::HashSet<Source> = checks.iter().map(|check| check.source).collect();
        assert_eq!(sources.len(), checks.len());
        assert_eq!(sources.len(), 18);
        for source in [Source::ProcMem, Source::Maps, Source::ThreadState] {
            let check = checks.iter().find(|check| check.source == source).expect("tried");
            assert!(check.result.is_ok(), "{check:?}");
        }
    }
}
