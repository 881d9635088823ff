//! The current state of one thread, from /proc/PID/task/TID/{stat,schedstat,sched,syscall,wchan}
//! (proc(5), kernel document scheduler/sched-stats).
//!
//! Not here: its stack.

use std::fs;

use super::{
    ProcessError, comm,
    wait::{Blocked, Waiting, parse_blocked, waiting},
};
use crate::sys::proc::read_text;

/// The state of a thread, without its stack. Parts may be unknown, depending on rights and the
/// kernel's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// Thread ID.
    pub tid: u32,
    /// Its name (`comm`), control characters replaced.
    pub name: String,
    /// One of `R S D T t Z X I`, as in proc(5).
    pub state: char,
    /// CPU time used, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// What it waits in; `None` if it does not wait, or if that is not known.
    pub waiting: Option<Waiting>,
    /// For how long it has not run, nanoseconds.
    pub waited_ns: Option<u64>,
    /// How often it has started to run (see [`turns`]).
    pub turns: Option<u64>,
}

/// Reads the state of a thread. Errors: it is gone.
pub fn read(pid: u32, tid: u32, now: &SchedulerClock) -> Result<ThreadState, ProcessError> {
    let (name, state, ticks) = read_stat(pid, tid)?;
    let [run_ns, _, turns] = schedstat(pid, tid);
    let cpu_ns = run_ns.filter(|ns| *ns > 0).or(ticks);
    let asleep = matches!(state, 'S' | 'D' | 'I');
    let waiting = asleep.then(|| waiting(pid, tid, blocked(pid, tid).ok())).flatten();
    let waited_ns = if asleep { now.since_it_ran(pid, tid) } else { None };
    Ok(ThreadState { tid, name, state, cpu_ns, waiting, waited_ns, turns })
}

/// Where a thread left user space. Errors: it is gone, or not permitted (the file needs the rights
/// of ptrace(2)).
pub fn blocked(pid: u32, tid: u32) -> Result<Blocked, ProcessError> {
    let text = read_text(format!("/proc/{pid}/task/{tid}/syscall"))
        .map_err(|error| ProcessError::reading(pid, "where a thread is (syscall)", error))?;
    parse_blocked(&text).ok_or_else(|| {
        ProcessError::reading(pid, "where a thread is (syscall)", std::io::ErrorKind::InvalidData.into())
    })
}

/// Whether system calls of a thread pass a seccomp filter (`Seccomp:` of proc_pid_status(5) is not
/// 0); also `true` if that cannot be read, and if it is in strict mode.
pub fn has_seccomp_filter(pid: u32, tid: u32) -> bool {
    let Ok(status) = fs::read(format!("/proc/{pid}/task/{tid}/status")) else { return true };
    let status = String::from_utf8_lossy(&status);
    match status.lines().find_map(|line| line.strip_prefix("Seccomp:")) {
        Some(mode) => mode.trim() != "0",
        // A kernel without seccomp.
        None => !status.starts_with("Name:"),
    }
}

/// Whether a thread has children, ended ones included until they are waited for. `false` also if
/// the kernel does not list them (CONFIG_PROC_CHILDREN).
pub fn has_children(pid: u32, tid: u32) -> bool {
    fs::read(format!("/proc/{pid}/task/{tid}/children")).is_ok_and(|list| !list.is_empty())
}

/// How often a thread has started to run: while that stays the same, it has not run. `None` if the
/// kernel does not count it (CONFIG_SCHED_INFO).
pub fn turns(pid: u32, tid: u32) -> Option<u64> {
    let [_, _, turns] = schedstat(pid, tid);
    turns
}

/// The total time that a thread has waited for a CPU, nanoseconds; counted when it gets one.
pub fn queued_ns(pid: u32, tid: u32) -> Option<u64> {
    let [_, queued_ns, _] = schedstat(pid, tid);
    queued_ns
}

/// The scheduler's account of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// CPU time used, nanoseconds. For a running thread it may lag by a tick (1 to 10 ms).
    pub run_ns: u64,
    /// See [`turns`].
    pub turns: Option<u64>,
}

/// Reads a thread's account; `None` once it is gone.
pub fn account(pid: u32, tid: u32) -> Option<Account> {
    let [run_ns, _, turns] = schedstat(pid, tid);
    let run_ns = match run_ns {
        Some(run_ns) => run_ns,
        // A kernel without schedstat: in clock ticks.
        None => read_stat(pid, tid).ok()?.2?,
    };
    Some(Account { run_ns, turns })
}

/// Nanoseconds run, nanoseconds waited for a CPU, and turns.
fn schedstat(pid: u32, tid: u32) -> [Option<u64>; 3] {
    let text = read_text(format!("/proc/{pid}/task/{tid}/schedstat")).unwrap_or_default();
    let mut words = text.split_ascii_whitespace().map(|word| word.parse().ok());
    [(); 3].map(|()| words.next().flatten())
}

/// Name, state and CPU time in nanoseconds of /proc/PID/task/TID/stat.
fn read_stat(pid: u32, tid: u32) -> Result<(String, char, Option<u64>), ProcessError> {
    let bytes = fs::read(format!("/proc/{pid}/task/{tid}/stat"))
        .map_err(|error| ProcessError::reading(pid, "stat", error))?;
    let text = String::from_utf8_lossy(&bytes);
    let (name, state, cpu_ns) = super::identity::name_state_cpu(&text)
        .ok_or_else(|| ProcessError::reading(pid, "stat", std::io::ErrorKind::InvalidData.into()))?;
    Ok((comm::printable(name.as_bytes()), state, Some(cpu_ns)))
}

/// The current time of the scheduler's clock. The scheduler records by it when a thread last ran
/// (`se.exec_start` of /proc/PID/task/TID/sched; kernels without CONFIG_SCHED_DEBUG have no such
/// file).
#[derive(Clone, Copy, Debug)]
pub struct SchedulerClock {
    scheduler_ns: Option<u64>,
}

impl SchedulerClock {
    /// Reads the clock.
    pub fn read() -> SchedulerClock {
        // Our own last tick: at most some milliseconds ago.
        SchedulerClock { scheduler_ns: last_ran_ns("/proc/thread-self/sched") }
    }

    fn since_it_ran(&self, pid: u32, tid: u32) -> Option<u64> {
        let last = last_ran_ns(&format!("/proc/{pid}/task/{tid}/sched"))?;
        Some(self.scheduler_ns?.saturating_sub(last))
    }
}

fn last_ran_ns(path: &str) -> Option<u64> {
    let text = read_text(path).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.exec_start"))?;
    let milliseconds: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    Some((milliseconds * 1e6) as u64).filter(|ns| *ns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_thread_of_this_process_is_described() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let sleeper = std::thread::Builder::new().name("sleeper".into()).spawn(move || {
            tell.send(nix::unistd::gettid().as_raw() as u32).expect("heard");
            let _ = receiver.recv();
        });
        let tid = told.recv().expect("told");
        let pid = std::process::id();
        let seen = (0..200).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            read(pid, tid, &SchedulerClock::read()).ok().filter(|seen| seen.state == 'S')
        });
        let seen = seen.expect("it sleeps");
        assert_eq!((seen.tid, seen.name.as_str()), (tid, "sleeper"));
        assert_eq!(seen.waiting.expect("in a system call").what, "futex wait");
        assert!(seen.waited_ns.is_none_or(|ns| ns < 60_000_000_000), "{:?}", seen.waited_ns);
        drop(sender);
        sleeper.expect("started").join().expect("ended");
        // `join` returns when the thread says it ends; its entry in /proc goes a moment later.
        let gone = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            read(pid, tid, &SchedulerClock::read()).is_err()
        });
        assert!(gone, "its entry stays");
    }
}
