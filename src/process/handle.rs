//! A handle of one process. The kernel reuses PIDs: a handle distinguishes its process from a later
//! one with the same PID by start time, and by a pidfd where the kernel has one (Linux 5.3).
//!
//! Not here: reading the process.

use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Identity, ProcessError, identify};
use crate::sys::pidfd;

/// A process that is never confused with a later one.
#[derive(Debug)]
pub struct ProcessHandle {
    identity: Identity,
    /// `None` where the kernel or a sandbox has no pidfd_open(2).
    pidfd: Option<OwnedFd>,
}

impl ProcessHandle {
    /// A handle of the process that has this PID now.
    ///
    /// # Errors
    /// As of [`identify`].
    pub fn open(pid: u32) -> Result<ProcessHandle, ProcessError> {
        ProcessHandle::of(identify(pid)?)
    }

    /// A handle of the process with this identity.
    ///
    /// # Errors [`ProcessError::NoSuchProcess`], [`ProcessError::Zombie`] or
    /// [`ProcessError::Replaced`] when it does not run any more.
    pub fn of(identity: Identity) -> Result<ProcessHandle, ProcessError> {
        let pidfd = pidfd::open(identity.pid).ok();
        let handle = ProcessHandle { identity, pidfd };
        // After opening: only if the process still runs, the descriptor refers to it.
        handle.check()?;
        Ok(handle)
    }

    /// The identity when the handle was opened.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The identity now: name and program change with execve(2), PID and start time do not.
    ///
    /// # Errors
    /// As of [`ProcessHandle::check`].
    pub fn current(&self) -> Result<Identity, ProcessError> {
        self.check()?;
        let now = identify(self.identity.pid)?;
        if now.start_ticks == self.identity.start_ticks {
            Ok(now)
        } else {
            Err(ProcessError::Replaced(self.identity.pid))
        }
    }

    /// Checks that the process still runs.
    ///
    /// # Errors
    /// [`ProcessError::NoSuchProcess`], [`ProcessError::Zombie`] or [`ProcessError::Replaced`].
    pub fn check(&self) -> Result<(), ProcessError> {
        self.identity.check()?;
        if !self.has_ended() {
            return Ok(());
        }
        // It has ended since, or a process that started in the same clock tick has its PID.
        self.identity.check()?;
        Err(ProcessError::Replaced(self.identity.pid))
    }

    /// Runs `work`, which reads the process by its PID. The result is discarded when another
    /// process has got the PID meanwhile. A process that merely ended during `work` is not an
    /// error.
    ///
    /// # Errors
    /// As of [`ProcessHandle::check`] before `work`; [`ProcessError::Replaced`] after it.
    pub fn guard<T>(&self, work: impl FnOnce() -> T) -> Result<T, ProcessError> {
        self.check()?;
        let result = work();
        self.check_pid()?;
        Ok(result)
    }

    /// Checks that no other process has the PID.
    ///
    /// # Errors
    /// [`ProcessError::Replaced`].
    pub fn check_pid(&self) -> Result<(), ProcessError> {
        match self.check() {
            Err(error @ ProcessError::Replaced(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the descriptor reports the end of the process.
    fn has_ended(&self) -> bool {
        let Some(pidfd) = &self.pidfd else { return false };
        let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        ready && polled[0].revents().is_some_and(|events| events.contains(PollFlags::POLLIN))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn child() -> Child {
        Command::new("sleep").arg("60").spawn().expect("sleep")
    }

    #[test]
    fn a_handle_reports_the_end_of_its_process() {
        let mut child = child();
        let handle = ProcessHandle::open(child.id()).expect("it runs");
        assert!(handle.check().is_ok() && handle.current().is_ok());
        assert_eq!(handle.guard(|| 7).expect("it runs"), 7);
        child.kill().expect("own child");
        child.wait().expect("own child");
        assert!(handle.check().is_err() && handle.current().is_err());
        assert!(handle.check_pid().is_ok(), "nobody else has the PID");
    }

    #[test]
    fn a_later_process_with_the_same_pid_is_another_process() {
        let mut child = child();
        let now = identify(child.id()).expect("it runs");
        let earlier = Identity { start_ticks: now.start_ticks - 1, ..now };
        assert!(matches!(ProcessHandle::of(earlier.clone()), Err(ProcessError::Replaced(_))));
        let handle = ProcessHandle { identity: earlier, pidfd: None };
        assert!(matches!(
            handle.guard(|| panic!("it must not run")),
            Err::<(), _>(ProcessError::Replaced(_))
        ));
        assert!(matches!(handle.check_pid(), Err(ProcessError::Replaced(_))));
        child.kill().expect("own child");
        child.wait().expect("own child");
    }
}
