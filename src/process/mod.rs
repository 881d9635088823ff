//! The target, as /proc tells of it: identity, mappings, threads, memory, the files behind its
//! mappings, and the choice of processes by name or parentage.
//!
//! Not here: sampling, ELF. Everything read is the target's own and may be crafted or gone by the next
//! line: absence is an ordinary answer.

pub mod cgroup;
pub mod facts;
pub mod files;
pub mod host;
pub mod identity;
pub mod launch;
pub mod maps;
pub mod memory;
pub mod select;
mod tasks;
pub mod thread_state;
pub mod threads;
pub mod wait;

pub use identity::{Identity, identify};
pub use maps::{Mapping, read_executable_mappings, read_mappings};
pub use memory::ProcessMemory;
pub use tasks::TaskLayout;

/// Why something about a process could not be learnt.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("there is no process {0}")]
    NoSuchProcess(u32),
    #[error("process {0} has ended and waits for its parent (a zombie): it runs no more code")]
    Zombie(u32),
    #[error("{0} is a thread of process {1}")]
    IsThread(u32, u32),
    #[error("may not read {what} of process {pid}: {source}")]
    NotPermitted { pid: u32, what: &'static str, source: std::io::Error },
    #[error("cannot read {what} of process {pid}: {source}")]
    Unreadable { pid: u32, what: &'static str, source: std::io::Error },
}

impl ProcessError {
    fn reading(pid: u32, what: &'static str, source: std::io::Error) -> ProcessError {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => ProcessError::NoSuchProcess(pid),
            Some(libc::EACCES | libc::EPERM) => ProcessError::NotPermitted { pid, what, source },
            _ => ProcessError::Unreadable { pid, what, source },
        }
    }
}
