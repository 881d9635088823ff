//! Each source of data tried out, on a target or on rprof itself: does it work, and what does the kernel
//! say if not. Nothing of the target is stopped or changed by it.
//!
//! Not here: advice, and what is read of files (debug information).

use std::fs;

use super::{
    SamplerError, SamplerOptions, Trigger, bpf,
    perf::{PerfMethod, probe},
};
use crate::{
    process::{self, Mapping, memory, thread_state, threads},
    sys::{
        perf::{self, EventKind, EventSpec, Scope},
        ptrace,
    },
};

/// Where data come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// CPU samples of the process, user space.
    PerfThread,
    /// CPU samples of whole CPUs.
    PerfCpu,
    /// Kernel frames, and time in the kernel.
    KernelFrames,
    Tracepoints,
    Uprobes,
    Bpf,
    /// When threads begin and end to wait, and who wakes them.
    Switches,
    Ptrace,
    ProcessVmReadv,
    ProcMem,
    /// /proc/PID/maps.
    Maps,
    /// Where threads sleep: /proc/PID/task/TID/syscall.
    ThreadState,
    /// Files that are mapped and gone from their path.
    MapFiles,
}

/// What came of trying one.
#[derive(Clone, Debug)]
pub struct Check {
    pub source: Source,
    /// How it works, or why it does not.
    pub result: Result<String, String>,
    /// The error number of the refusal, where there was one.
    pub errno: Option<i32>,
}

impl Check {
    fn new<E: std::fmt::Display>(source: Source, result: Result<impl Into<String>, E>) -> Check {
        let result = result.map(Into::into).map_err(|error| error.to_string());
        Check { source, result, errno: None }
    }

    fn io(source: Source, works: &str, result: std::io::Result<()>) -> Check {
        let errno = result.as_ref().err().and_then(std::io::Error::raw_os_error);
        Check { errno, ..Check::new(source, result.map(|()| works)) }
    }
}

/// Tries everything; of a process if one is named, else on rprof itself.
pub fn all(pid: Option<u32>) -> Vec<Check> {
    let own = std::process::id();
    let target = pid.unwrap_or(own);
    let probed = probe();
    let mut checks = vec![
        Check::new(Source::PerfThread, thread_event(target).map(|()| "perf_event_open on its threads")),
        Check::new(Source::PerfCpu, whole_cpus(&probed)),
        Check::new(Source::KernelFrames, probed.kernel.as_ref().map(|()| "perf events see the kernel")),
        Check::new(Source::Tracepoints, perf::probe::tracepoint().map(|()| "sched:sched_switch opens")),
        Check::io(Source::Uprobes, "the uprobe PMU opens", perf::probe::uprobe()),
        Check::new(
            Source::Bpf,
            bpf::threads::sleepers(target, false).map(|_| "programs load; whole stacks, task iterator"),
        ),
        Check::new(Source::Switches, switches(target).map(|()| "BPF programs are called at them")),
        Check::new(Source::Ptrace, may_hold(target)),
    ];
    checks.extend(reading(target));
    checks
}

fn thread_event(pid: u32) -> Result<(), perf::PerfError> {
    let spec = EventSpec { kind: EventKind::CpuClock, exclude_kernel: true, ..EventSpec::default() };
    spec.open(Scope::Thread { tid: threads::reader(pid), cpu: None }).map(drop)
}

fn whole_cpus(probed: &super::perf::Probe) -> Result<&'static str, &SamplerError> {
    let way = probed.ways.iter().find(|way| way.way == PerfMethod::Cpu);
    way.map_or(Ok(""), |way| way.outcome.as_ref().map(|()| "one event a CPU"))
}

fn switches(pid: u32) -> Result<(), SamplerError> {
    let options = SamplerOptions {
        trigger: Trigger::Waited,
        frequency_hz: 99,
        pids: vec![pid],
        follow_forks: false,
        kernel: false,
        max_stack_bytes: 1024,
        buffer_bytes: 0,
    };
    bpf::open(&options).map(drop)
}

fn may_hold(pid: u32) -> Result<&'static str, String> {
    if pid == std::process::id() {
        return Ok("not tried: name a process with --pid");
    }
    let tried = ptrace::session(|session| session.may_hold(threads::reader(pid)));
    match tried {
        Ok(Ok(())) => Ok("its threads may be held for microseconds"),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// What is read of a process's /proc folder and memory.
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
    let tid = threads::list(pid).into_iter().next_back().unwrap_or(pid);
    checks.push(Check::new(
        Source::ThreadState,
        thread_state::blocked(pid, tid)
            .map(|_| "system call, stack pointer and program counter of sleeping threads"),
    ));
    let file = mappings.as_ref().ok().and_then(|all| all.iter().find(|m| m.executable && m.inode != 0));
    let map_files = file.map(|mapping| map_file(reader, mapping));
    checks.extend(map_files.map(|opened| {
        Check::io(Source::MapFiles, "programs that were deleted or replaced are read too", opened)
    }));
    checks.push(Check::new(Source::Maps, mappings.map(|all| format!("{} mappings", all.len()))));
    checks
}

fn map_file(pid: u32, mapping: &Mapping) -> std::io::Result<()> {
    fs::File::open(format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_tried_once_and_reading_oneself_works() {
        let checks = all(None);
        let sources: std::collections::HashSet<Source> = checks.iter().map(|check| check.source).collect();
        assert_eq!(sources.len(), checks.len());
        assert_eq!(sources.len(), 13);
        for source in [Source::ProcMem, Source::Maps, Source::ThreadState] {
            let check = checks.iter().find(|check| check.source == source).expect("tried");
            assert!(check.result.is_ok(), "{check:?}");
        }
    }
}
