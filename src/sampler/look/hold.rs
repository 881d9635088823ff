//! Stops a thread for some microseconds by ptrace and reads all its registers and its stack. One
//! thread at a time; it is released before the data is processed.
//!
//! A thread that sleeps in a call that would fail with EINTR must not be stopped ([`may_hold`]). A
//! running thread may enter such a call between the check and the stop: the interruption is then
//! undone, so that the kernel starts the call again. Not here: unwinding.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use super::{LookMethod, StackSnapshot, Target, asleep};
use crate::{
    arch::{self, native},
    process::{identity, thread_state, wait},
    sys::{
        interruptions,
        ptrace::{self, HoldError, Session, StopCause, StoppedThread, Undo},
    },
};

/// How long a thread may take to stop. One that takes longer is in an uninterruptible part of the
/// kernel, or gets no CPU.
pub const PATIENCE: Duration = Duration::from_millis(20);

/// Whether a thread may be stopped now: it runs, or sleeps in a call that the kernel restarts
/// without the program noticing.
///
/// A sleeping thread with a seccomp filter is never stopped: its call would pass the filter once
/// more, some as restart_syscall(2), and a filter that kills on it would end the process.
///
/// A thread with children is never stopped if its process has other threads. Most programs ignore
/// SIGCHLD, but the kernel does not while the thread that created the child is traced
/// (`sig_ignored` in kernel/signal.c): it wakes another thread for the signal, whose call fails.
pub fn may_hold(pid: u32, tid: u32) -> bool {
    if interruptions::is_open(tid) || is_parent_beside_others(pid, tid) {
        return false;
    }
    let filtered = thread_state::has_seccomp_filter(pid, tid);
    match thread_state::blocked(pid, tid) {
        Ok(wait::Blocked::Running) => !filtered || native::CAN_UNDO,
        _ if filtered => false,
        blocked => {
            let waiting = wait::waiting(pid, tid, blocked.ok());
            waiting.is_some_and(|waiting| waiting.interruptible)
        }
    }
}

fn is_parent_beside_others(pid: u32, tid: u32) -> bool {
    thread_state::has_children(pid, tid) && identity::read_stat(pid).is_ok_and(|stat| stat.thread_count > 1)
}

/// How an interruption of this thread is undone, if the stop breaks off a call that the thread was
/// just entering.
fn undo_for(pid: u32, tid: u32) -> Undo {
    match thread_state::has_seccomp_filter(pid, tid) {
        true => undo_under_filter,
        false => undo,
    }
}

/// The call failed with EINTR: it starts again.
fn undo(words: &mut [u64]) -> bool {
    let call = native::syscall_being_left(words).and_then(arch::syscall_name);
    call.is_some_and(wait::may_begin_again) && native::undo_interruption(words)
}

/// As [`undo`]; and a call that would continue as restart_syscall(2) starts again itself.
fn undo_under_filter(words: &mut [u64]) -> bool {
    undo(words) || native::restart_anew(words)
}

/// Stops one thread, reads it and releases it, in a session of its own. Errors: see [`HoldError`].
pub fn look_one(target: &Target, tid: u32) -> Result<StackSnapshot, HoldError> {
    ptrace::session(|session| look(session, target, tid)).map_err(HoldError::Refused)?
}

/// Stops all threads that may be stopped, reads these and the sleeping ones, then releases all: one
/// consistent snapshot of the process. Threads that could not be read are left out.
pub fn look_together(target: &Target, tids: &[u32]) -> Vec<StackSnapshot> {
    look_together_and(target, tids, || {})
}

/// As [`look_together`], and calls `and` while the threads are stopped: it must be short.
pub fn look_together_and(target: &Target, tids: &[u32], and: impl FnOnce() + Send) -> Vec<StackSnapshot> {
    let looked = ptrace::session(|session| {
        // All that takes long comes before the first stop.
        let requested: Vec<(u32, Undo)> = tids
            .iter()
            .filter(|tid| may_hold(target.pid, **tid))
            .map(|tid| (*tid, undo_for(target.pid, *tid)))
            .collect();
        let mut held = session.hold_all(&requested, PATIENCE);
        held.sort_unstable_by_key(StoppedThread::tid);
        let asleep = tids.iter().filter(|tid| held.binary_search_by_key(*tid, StoppedThread::tid).is_err());
        let mut moments: Vec<StackSnapshot> =
            asleep.filter_map(|tid| asleep::look(target, *tid).ok()).collect();
        and();
        // All stacks are read before the first thread is released.
        let read: Vec<_> = held.iter().map(|held| registers_and_stack(held, target, held.tid())).collect();
        for (held, read) in held.into_iter().zip(read) {
            let unseen = held.unseen();
            moments.extend(read.map(|read| release(held, read, unseen)));
        }
        moments
    });
    looked.unwrap_or_default()
}

/// Stops a thread, reads it and releases it. Errors: see [`HoldError`].
pub fn look(session: &Session, target: &Target, tid: u32) -> Result<StackSnapshot, HoldError> {
    let queued_ns = thread_state::queued_ns(target.pid, tid);
    let held = session.hold(tid, PATIENCE, undo_for(target.pid, tid))?;
    let unseen = stood_unseen(&held, target.pid, tid, queued_ns);
    let read = registers_and_stack(&held, target, tid).ok_or(HoldError::Gone)?;
    Ok(release(held, read, unseen))
}

/// An upper bound of how long a thread was stopped before rprof noticed it: the time since it was
/// last known to run, minus what the kernel accounts as waiting for a CPU.
fn stood_unseen(held: &StoppedThread<'_>, pid: u32, tid: u32, queued_before_ns: Option<u64>) -> Duration {
    /// Below this, reading the account would take longer than it saves.
    const WORTH_ASKING: Duration = Duration::from_micros(100);
    let unseen = held.unseen();
    let (true, Some(before)) = (unseen > WORTH_ASKING, queued_before_ns) else { return unseen };
    let queued_ns = thread_state::queued_ns(pid, tid).unwrap_or(before).saturating_sub(before);
    unseen.saturating_sub(Duration::from_nanos(queued_ns))
}

fn registers_and_stack(held: &StoppedThread<'_>, target: &Target, tid: u32) -> Option<StackSnapshot> {
    let moment = target.with_registers(tid, held.registers())?;
    Some(StackSnapshot { way: LookMethod::Held, ..moment })
}

/// Releases a thread.
fn release(held: StoppedThread<'_>, moment: StackSnapshot, unseen: Duration) -> StackSnapshot {
    let in_stop = held.cause() == StopCause::GroupStop;
    StackSnapshot { in_stop, stopped: unseen + held.release(), ..moment }
}

/// Waits up to `timeout` until every thread whose stop was requested is released; returns the
/// threads that are left. rprof must not end before: a system call of theirs could fail with EINTR.
pub fn wait_for_release(timeout: Duration) -> Vec<u32> {
    interruptions::wait(timeout)
}

/// Makes a signal end rprof when it arrives after `armed` was set, but not before every thread
/// whose stop was requested is released. Errors: sigaction(2).
pub fn end_at_next(signal: i32, armed: Arc<AtomicBool>) -> std::io::Result<()> {
    interruptions::end_at_next(signal, armed)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn a_stopped_child_is_read_and_continues() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().expect("sleep");
        let pid = child.id();
        std::thread::sleep(Duration::from_millis(100));
        let target = Target::new(pid, 64 << 10);
        assert!(may_hold(pid, pid), "nanosleep may be interrupted");
        let moment = ptrace::session(|session| look(session, &target, pid)).expect("session").expect("held");
        assert!(moment.stack.len() > 256);
        assert!(moment.stopped < Duration::from_millis(50), "{:?}", moment.stopped);
        assert!(moment.registers.get(native::FP).is_some());
        let state = thread_state::read(pid, pid, &thread_state::SchedulerClock::read()).expect("alive").state;
        assert!(matches!(state, 'S' | 'R'), "{state}");
        child.kill().expect("kill");
        child.wait().expect("wait");
        let gone = ptrace::session(|session| look(session, &target, pid)).expect("session");
        assert!(matches!(gone, Err(HoldError::Gone)), "{gone:?}");
    }

    #[test]
    fn a_thread_with_children_is_stopped_only_if_it_is_the_only_one() {
        // The child of this test's thread, in a process with other threads.
        let script = "sleep 30 & read line; kill $!";
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", script]).stdin(std::process::Stdio::piped());
        let mut child = shell.spawn().expect("sh");
        let (own, tid) = (std::process::id(), nix::unistd::gettid().as_raw() as u32);
        assert!(thread_state::has_children(own, tid) && !may_hold(own, tid));
        let alone = child.id();
        let has_child = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            thread_state::has_children(alone, alone)
        });
        assert!(has_child && !is_parent_beside_others(alone, alone));
        drop(child.stdin.take());
        child.wait().expect("own child");
    }

    #[test]
    fn a_session_that_fails_leaves_nothing_stopped() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().expect("sleep");
        let pid = child.id();
        std::thread::sleep(Duration::from_millis(100));
        let reached = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&reached);
        let result = ptrace::session(move |session| {
            let _pending = session.ask(pid, undo);
            flag.store(true, Ordering::SeqCst);
            panic!("on purpose");
        });
        assert!(result.is_err() && reached.load(Ordering::SeqCst));
        let released = (0..500).any(|_| !wait_for_release(Duration::from_millis(10)).contains(&pid));
        assert!(released, "the session still waits for it");
        let state =
            || thread_state::read(pid, pid, &thread_state::SchedulerClock::read()).expect("alive").state;
        // A released thread runs for a moment before it sleeps again.
        let sleeps = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            state() == 'S'
        });
        assert!(sleeps, "it is in state {}", state());
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
}
