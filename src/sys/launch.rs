//! Starts a command that waits before its first instruction (fork(2), execvp(3)), so that sampling
//! can start before it runs.
//!
//! Not here: forwarding of signals.

use std::{
    ffi::CString,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    fcntl::OFlag,
    sys::wait::{WaitPidFlag, WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork, pipe2},
};

/// A started command that waits to run. If it is dropped before [`Gate::open`], the command ends
/// without having run.
#[derive(Debug)]
pub struct Gate {
    pid: Pid,
    /// A byte written here lets it run; closing it makes it exit.
    release: Option<std::fs::File>,
    /// exec's errno comes back here; closed by a successful exec.
    failure: std::fs::File,
}

impl Gate {
    /// Forks. Must be called while the process has a single thread (fork(2): otherwise the child
    /// may only use async-signal-safe functions until exec). Errors: pipe2(2), fork(2).
    pub fn start(command: &[CString]) -> io::Result<Gate> {
        let (release_read, release_write) = pipe2(OFlag::O_CLOEXEC)?;
        let (failure_read, failure_write) = pipe2(OFlag::O_CLOEXEC)?;
        let mut arguments: Vec<*const libc::c_char> = command.iter().map(|word| word.as_ptr()).collect();
        arguments.push(std::ptr::null());
        // SAFETY: between fork and exec the child calls only read, execvp, write and _exit on
        // memory prepared before, all async-signal-safe.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(release_write);
                // SAFETY: as above; `arguments` is a null-terminated array of C strings that live
                // on.
                unsafe { wait_and_exec(&release_read, &failure_write, &arguments) }
            }
            ForkResult::Parent { child } => {
                Ok(Gate { pid: child, release: Some(release_write.into()), failure: failure_read.into() })
            }
        }
    }

    /// The command's process ID.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw() as u32
    }

    /// Lets the command run. Errors: those of execvp(3) (no such command, no permission).
    pub fn open(&mut self) -> io::Result<()> {
        let Some(mut release) = self.release.take() else { return Ok(()) };
        release.write_all(&[1])?;
        drop(release);
        let mut errno = [0; 4];
        match self.failure.read_exact(&mut errno) {
            // Closed without data: exec succeeded.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))),
        }
    }

    /// How the command ended: `None` while it runs.
    pub fn status(&self) -> Option<Ending> {
        match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => Some(Ending::Exited(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Ending::Killed(signal as i32)),
            Err(nix::errno::Errno::ECHILD) => Some(Ending::Unknown),
            _ => None,
        }
    }

    /// Whether the command was let run.
    pub fn is_open(&self) -> bool {
        self.release.is_none()
    }

    /// Sends the command a signal, by its number; nothing happens if it has ended.
    pub fn signal(&self, number: i32) {
        if let Ok(signal) = nix::sys::signal::Signal::try_from(number) {
            let _ = nix::sys::signal::kill(self.pid, signal);
        }
    }

    /// Waits for the command to end; `None`: it was waited for elsewhere.
    pub fn wait(&self) -> Option<Ending> {
        loop {
            match waitpid(self.pid, None) {
                Ok(WaitStatus::Exited(_, code)) => return Some(Ending::Exited(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Some(Ending::Killed(signal as i32)),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// Its status was collected elsewhere.
    Unknown,
}

/// Waits for the byte, then executes the command; if either fails, writes errno and exits.
///
/// # Safety
/// Only in a forked child; `arguments` must be a null-terminated array of pointers to C strings.
unsafe fn wait_and_exec(release: &OwnedFd, failure: &OwnedFd, arguments: &[*const libc::c_char]) -> ! {
    // SAFETY: plain system calls on descriptors and buffers that are alive; never returns.
    unsafe {
        let mut byte = 0u8;
        let mut got = libc::read(release.as_raw_fd(), (&raw mut byte).cast(), 1);
        while got < 0 && *libc::__errno_location() == libc::EINTR {
            got = libc::read(release.as_raw_fd(), (&raw mut byte).cast(), 1);
        }
        if got == 1 {
            // Rust programs ignore SIGPIPE and exec inherits that; the command expects the default.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::execvp(arguments[0], arguments.as_ptr());
            let errno = (*libc::__errno_location()).to_ne_bytes();
            libc::write(failure.as_raw_fd(), errno.as_ptr().cast(), errno.len());
        }
        libc::_exit(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<CString> {
        words.iter().map(|word| CString::new(*word).expect("no NUL")).collect()
    }

    #[test]
    fn a_command_runs_only_after_the_gate_is_opened() {
        let mut gate = Gate::start(&words(&["sh", "-c", "exit 7"])).expect("fork");
        assert_eq!(gate.status(), None);
        gate.open().expect("exec");
        assert_eq!(gate.wait(), Some(Ending::Exited(7)));
    }

    #[test]
    fn a_command_has_the_default_action_for_sigpipe() {
        let mut gate = Gate::start(&words(&["sh", "-c", "kill -PIPE $$; exit 7"])).expect("fork");
        gate.open().expect("exec");
        assert_eq!(gate.wait(), Some(Ending::Killed(libc::SIGPIPE)));
    }

    #[test]
    fn a_command_that_does_not_exist_is_an_error() {
        let mut gate = Gate::start(&words(&["/no/such/command"])).expect("fork");
        assert_eq!(gate.open().expect_err("no such file").kind(), io::ErrorKind::NotFound);
        assert_eq!(gate.wait(), Some(Ending::Exited(127)));
    }

    #[test]
    fn a_gate_that_is_dropped_ends_the_command_before_it_runs() {
        let mut gate = Gate::start(&words(&["sh", "-c", "exit 7"])).expect("fork");
        gate.release = None;
        assert_eq!(gate.wait(), Some(Ending::Exited(127)));
    }
}
