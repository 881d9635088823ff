//! The target as /proc describes it: identity, mappings, threads, memory, the files behind its
//! mappings, and the selection of processes by name, container, control group, unit or parent.
//!
//! Not here: sampling, ELF. The target controls everything that is read, and it may end at any
//! time: missing data is an ordinary result.

pub mod account;
pub mod cgroup;
pub mod cgroup_memory;
pub mod comm;
mod container;
pub mod ends;
pub mod facts;
pub mod files;
pub mod filter;
pub mod gauges;
pub mod group_gauges;
mod guarded_open;
mod handle;
pub mod hindrance;
mod hints;
pub mod host;
pub mod identity;
pub mod launch;
pub mod maps;
pub mod memory;
mod own_memory;
pub mod quota;
mod recent_pages;
pub mod regions;
pub mod select;
pub mod surroundings;
pub mod thread_state;
pub mod threads;
pub mod wait;

pub use container::MIN_ID_DIGITS;
pub use handle::ProcessHandle;
pub use hindrance::Hindrance;
pub use hints::{
    FrameWalker, Hints, LanguageId, OwnedSection, Section, SectionOrigin, SectionReader, Sections,
    TaskLayout, TaskPointer, WalkerProgram,
};
pub use identity::{Identity, identify};
pub use maps::{Mapping, read_executable_mappings, read_mappings};
pub use memory::{MemorySource, ProcessMemory};
pub use own_memory::{
    give_memory_back_early, own_allocated_bytes, own_cpu_ns, own_memory_bytes, release_free_memory,
};
pub use quota::Throttled;

/// Gives any text to every parser of /proc texts of this module, for fuzzing.
pub fn parse_any_text(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (identity::parse_stat(&text), identity::name_state_cpu(&text), wait::parse_blocked(&text));
    for line in text.lines() {
        let _ = cgroup::folder_in(line, std::path::Path::new("/a/b"));
        let _ = guarded_open::may_hang(line);
        let _ = cgroup::path_of(line).map(|path| container::ids_in(path).count());
    }
    maps::parse(bytes);
    let _ = regions::parse(bytes);
}

/// Why data about a process could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// ENOENT or ESRCH.
    #[error("there is no process {0}")]
    NoSuchProcess(u32),
    /// It has ended, and its parent has not collected its status yet.
    #[error("process {0} has ended (a zombie that its parent has not waited for): it runs no code")]
    Zombie(u32),
    /// It has ended, and the kernel has given its PID to another process.
    #[error("process {0} has ended, and another process has its PID now")]
    Replaced(u32),
    /// A thread ID that is not a process ID, and the process of that thread.
    #[error("{0} is a thread of process {1}")]
    IsThread(u32, u32),
    /// EACCES or EPERM.
    #[error("not permitted to read {what} of process {pid}: {source}")]
    NotPermitted {
        /// Process ID.
        pid: u32,
        /// What was to be read.
        what: &'static str,
        /// The error of the kernel.
        source: std::io::Error,
    },
    /// Any other error.
    #[error("cannot read {what} of process {pid}: {source}")]
    Unreadable {
        /// Process ID.
        pid: u32,
        /// What was to be read.
        what: &'static str,
        /// The error of the kernel.
        source: std::io::Error,
    },
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
