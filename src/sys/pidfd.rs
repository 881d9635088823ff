//! File descriptors that refer to a process (pidfd_open(2)).
//!
//! Not here: what the process is.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

/// Opens a file descriptor of the process with this PID. It becomes readable when the process ends,
/// and never refers to a later process with the same PID. It is closed on exec.
///
/// # Errors
/// ESRCH if there is no such process, ENOSYS before Linux 5.3.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: pidfd_open takes two integers and accesses no memory of this process.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just returned this descriptor; nothing else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_descriptor_and_a_pid_without_a_process_has_none() {
        assert!(open(std::process::id()).is_ok());
        assert_eq!(open(0x7fff_fff0).expect_err("no process").raw_os_error(), Some(libc::ESRCH));
    }
}
