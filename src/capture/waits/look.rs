//! One look at a thread: what it sleeps in, and how often it has run until then. Two equal looks
//! mean that the thread slept all the time between them.

use crate::process::{
    thread_state,
    wait::{self, Blocked},
};

/// A look at a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Where it left user space; `None`: not permitted to read.
    pub blocked: Option<Blocked>,
    /// How often it has started to run.
    pub turns: Option<u64>,
}

/// A system call that a thread sleeps in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl Look {
    /// Reads a thread. `None`: it is gone.
    pub fn at(pid: u32, tid: u32) -> Option<Look> {
        let turns = thread_state::turns(pid, tid);
        let blocked = thread_state::blocked(pid, tid).ok();
        (turns.is_some() || blocked.is_some()).then_some(Look { pid, tid, blocked, turns })
    }

    /// The system call that it sleeps in.
    pub fn call(&self) -> Option<Call> {
        let Some(Blocked::InCall { number, arguments, .. }) = self.blocked else { return None };
        Some(Call { name: wait::syscall_name(number)?, arguments })
    }

    /// The stack pointer, if the thread sleeps.
    pub fn sp(&self) -> Option<u64> {
        self.blocked.and_then(|blocked| blocked.position()).map(|(sp, _)| sp.0)
    }

    /// Whether it runs, or is ready to.
    pub fn runs(&self) -> bool {
        self.blocked == Some(Blocked::Running)
    }

    /// Whether the thread has slept since this look. `false` also if that is not known.
    pub fn is_unchanged(&self) -> bool {
        let asleep = matches!(self.blocked, Some(Blocked::InCall { .. }));
        asleep && self.turns.is_some() && Look::at(self.pid, self.tid).as_ref() == Some(self)
    }
}
