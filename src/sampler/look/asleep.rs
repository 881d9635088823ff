//! Reads a sleeping thread without disturbing it: its position comes from /proc, its stack from its
//! memory. The kernel counts how often a thread has run, which shows that all parts belong to the
//! same time.
//!
//! /proc gives only the stack pointer and the program counter. That is enough for code whose
//! call-frame information is relative to the stack pointer; code relative to the frame pointer
//! needs another method. Not here: deciding whether it was enough.

use super::{LookMethod, StackSnapshot, Target};
use crate::{
    arch::{Registers, native},
    process::{ProcessError, thread_state},
    sampler::bpf::threads::Sleeper,
};

/// How often the reading is repeated if the thread woke up meanwhile.
const TRIES: u32 = 4;

/// Why a thread could not be read.
#[derive(Debug, thiserror::Error)]
pub enum NotAsleep {
    /// It runs, or does not sleep long enough to be read.
    #[error("it runs")]
    Runs,
    /// Its /proc files could not be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its stack could not be read.
    #[error("its memory cannot be read")]
    NoMemory,
}

/// Reads a sleeping thread. Errors: it runs, is gone, or rights do not allow reading it.
pub fn look(target: &Target, tid: u32) -> Result<StackSnapshot, NotAsleep> {
    for _ in 0..TRIES {
        let turns = thread_state::turns(target.pid, tid);
        let before = thread_state::blocked(target.pid, tid)?;
        let Some((sp, pc)) = before.position() else { return Err(NotAsleep::Runs) };
        let mut registers = Registers::default();
        registers.set(native::SP, sp.0);
        registers.set(native::PC, pc.0);
        let moment = target.moment(tid, registers, LookMethod::Asleep).ok_or(NotAsleep::NoMemory)?;
        let unmoved = thread_state::blocked(target.pid, tid)? == before
            && thread_state::turns(target.pid, tid) == turns;
        match moment.stack.is_empty() {
            false if unmoved => return Ok(moment),
            true if unmoved => return Err(NotAsleep::NoMemory),
            _ => {}
        }
    }
    Err(NotAsleep::Runs)
}

/// Reads the stack of a thread whose registers the BPF iterator has read. `None`: it has run since,
/// or is gone.
pub fn look_at(target: &Target, sleeper: &Sleeper) -> Option<StackSnapshot> {
    let snapshot = read_unchecked(target, sleeper)?;
    let unmoved = thread_state::turns(target.pid, sleeper.tid) == Some(sleeper.turns);
    unmoved.then_some(snapshot)
}

/// As [`look_at`]; the caller checks whether the thread has run since.
pub fn read_unchecked(target: &Target, sleeper: &Sleeper) -> Option<StackSnapshot> {
    let snapshot = target.moment(sleeper.tid, sleeper.registers, LookMethod::Bpf)?;
    let task = target.task(&sleeper.registers, Some(sleeper.thread_pointer));
    let (kernel, comm) = (sleeper.kernel.clone(), sleeper.comm);
    (!snapshot.stack.is_empty()).then_some(StackSnapshot { kernel, task, comm, ..snapshot })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_thread_is_read_and_an_ended_thread_is_gone() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw() as u32).expect("heard");
            let _ = receiver.recv();
        });
        let tid = told.recv().expect("told");
        let target = Target::new(std::process::id(), 64 << 10);
        let moment = (0..200).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            look(&target, tid).ok()
        });
        let moment = moment.expect("it sleeps");
        assert!(moment.stack.len() > 256 && moment.stopped.is_zero());
        assert_eq!(moment.registers.get(native::SP), Some(moment.stack_start.0));
        let mut busy =
            std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh");
        std::thread::sleep(std::time::Duration::from_millis(100));
        let found = look(&Target::new(busy.id(), 64 << 10), busy.id());
        busy.kill().expect("own child");
        busy.wait().expect("own child");
        assert!(matches!(found, Err(NotAsleep::Runs)), "{found:?}");
        drop(sender);
        sleeper.join().expect("ended");
        // `join` returns when the thread says it ends; its entry in /proc goes a moment later.
        let gone = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            matches!(look(&target, tid), Err(NotAsleep::Process(_)))
        });
        assert!(gone, "its entry stays");
    }

    #[test]
    fn a_running_or_runnable_thread_is_reported_as_running() {
        let over = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tell.send(nix::unistd::gettid().as_raw() as u32).expect("heard");
                while !over.load(relaxed) {
                    std::hint::spin_loop();
                }
            });
            let tid = told.recv().expect("told");
            let looked = look(&Target::new(std::process::id(), 64 << 10), tid);
            over.store(true, relaxed);
            assert!(matches!(looked, Err(NotAsleep::Runs)), "{:?}", looked.err());
        });
    }
}
