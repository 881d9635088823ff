//! Errors of perf events, distinguished by what a caller can do about them, with the facts that
//! advice needs.
//!
//! Not here: the advice.

use std::{fmt, io};

use nix::errno::Errno;

use super::spec::{EventKind, EventSpec, Scope};
use crate::sys::{
    capabilities::{self, CAP_IPC_LOCK},
    limits,
};

/// Why a perf event could not be opened, mapped or controlled.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// EACCES or EPERM of perf_event_open(2).
    #[error("perf events are not permitted: {denial}")]
    NotPermitted {
        /// What denied it.
        denial: Denial,
        /// The error of the kernel.
        #[source]
        source: io::Error,
    },
    /// EMFILE or ENFILE, or predicted: each event is an open file.
    #[error("too many open files: {open} are open, {needed} more are needed, the limit is {soft}")]
    TooManyFiles {
        /// How many more are needed.
        needed: usize,
        /// How many are open.
        open: usize,
        /// RLIMIT_NOFILE, soft.
        soft: u64,
        /// RLIMIT_NOFILE, hard.
        hard: u64,
    },
    /// EPERM of mmap(2) on an event: the ring is locked memory, and this user's limit is reached.
    #[error(
        "no locked memory left for a ring of {wanted_bytes} bytes: RLIMIT_MEMLOCK is {memlock_bytes} bytes, \
         perf_event_mlock_kb is {mlock_kib}"
    )]
    LockedMemory {
        /// The size of the ring.
        wanted_bytes: usize,
        /// RLIMIT_MEMLOCK, soft.
        memlock_bytes: u64,
        /// `kernel.perf_event_mlock_kb`.
        mlock_kib: u64,
    },
    /// ENOENT, ENODEV or EOPNOTSUPP for a hardware event: the machine (or its hypervisor) has no
    /// such counter; EBUSY: another program uses it exclusively.
    #[error("this machine has no hardware cycle counter")]
    NoHardware {
        /// The error of the kernel.
        #[source]
        source: io::Error,
    },
    /// ENOENT or EBADF for a control group: the perf_event controller is not active in it (no
    /// controller is enabled in its parent), or belongs to a hierarchy of version 1.
    #[error("the perf_event controller is not active in the process's control group")]
    NoCgroupController {
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// ENODEV for a software event: the CPU is offline.
    #[error("CPU {cpu} is offline")]
    CpuOffline {
        /// Its number.
        cpu: u32,
    },
    /// ESRCH: the thread has ended.
    #[error("thread {tid} has ended")]
    ThreadGone {
        /// Thread ID.
        tid: u32,
    },
    /// ENOSYS: a kernel without perf events, or a sandbox that returns it.
    #[error("the kernel has no perf events")]
    NoPerf,
    /// EINVAL or E2BIG: the kernel does not know an attribute that was requested.
    #[error("the kernel does not support this perf event")]
    Unsupported {
        /// The error of the kernel.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("{call}: {source}")]
    System {
        /// The system call.
        call: &'static str,
        /// The error of the kernel.
        #[source]
        source: io::Error,
    },
}

/// What denied a perf event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// `kernel.perf_event_paranoid` is too high, and CAP_PERFMON is missing.
    Paranoid {
        /// Its value.
        level: i32,
        /// The highest value that would allow the event.
        needed: i32,
    },
    /// The thread belongs to another user or must not be traced, and CAP_PERFMON is missing.
    OtherUser,
    /// A seccomp filter. Container runtimes install one.
    Seccomp,
    /// CAP_PERFMON is present and paranoid permits it: a security module or lockdown.
    SecurityModule,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Denial::Paranoid { level, needed } => {
                write!(f, "kernel.perf_event_paranoid is {level} (at most {needed} is needed) ")?;
                write!(f, "and CAP_PERFMON is missing")
            }
            Denial::OtherUser => {
                write!(
                    f,
                    "the process belongs to another user or cannot be traced, and CAP_PERFMON is missing"
                )
            }
            Denial::Seccomp => write!(f, "a seccomp filter forbids perf_event_open"),
            Denial::SecurityModule => write!(f, "a security module or kernel lockdown forbids it"),
        }
    }
}

impl PerfError {
    /// Classifies a failure of perf_event_open(2) for `spec` in `scope`.
    pub(super) fn from_open(source: io::Error, spec: &EventSpec, scope: Scope<'_>) -> PerfError {
        let hardware = spec.kind == EventKind::Cycles;
        match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            Errno::EACCES | Errno::EPERM => {
                PerfError::NotPermitted { denial: denial(&source, spec, scope), source }
            }
            Errno::EMFILE | Errno::ENFILE => PerfError::too_many_files(1),
            Errno::ENOENT | Errno::EOPNOTSUPP | Errno::ENODEV | Errno::EBUSY if hardware => {
                PerfError::NoHardware { source }
            }
            Errno::ENOENT | Errno::EBADF if matches!(scope, Scope::Cgroup { .. }) => {
                PerfError::NoCgroupController { source }
            }
            Errno::ENODEV => match scope.cpu() {
                Some(cpu) => PerfError::CpuOffline { cpu },
                None => PerfError::Unsupported { source },
            },
            Errno::ESRCH => match scope {
                Scope::Thread { tid, .. } => PerfError::ThreadGone { tid },
                _ => PerfError::System { call: "perf_event_open", source },
            },
            Errno::ENOSYS => PerfError::NoPerf,
            Errno::EINVAL | Errno::E2BIG | Errno::EOPNOTSUPP | Errno::ENOENT => {
                PerfError::Unsupported { source }
            }
            _ => PerfError::System { call: "perf_event_open", source },
        }
    }

    /// Classifies a failure of mmap(2) for a ring of `wanted_bytes`.
    pub(super) fn from_map(source: io::Error, wanted_bytes: usize) -> PerfError {
        match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            Errno::EPERM => PerfError::LockedMemory {
                wanted_bytes,
                memlock_bytes: limits::locked_memory().map_or(0, |limit| limit.soft),
                mlock_kib: limits::perf_event_mlock_kib().unwrap_or(0),
            },
            _ => PerfError::System { call: "mmap of a perf ring", source },
        }
    }

    fn too_many_files(needed: usize) -> PerfError {
        let limit = limits::open_files().unwrap_or(limits::Limit { soft: 0, hard: 0 });
        let open = limits::open_file_count();
        PerfError::TooManyFiles { needed, open, soft: limit.soft, hard: limit.hard }
    }

    /// Checks that `needed` more events fit into the limit of open files. Errors:
    /// [`PerfError::TooManyFiles`].
    pub fn check_room_for_events(needed: usize) -> Result<(), PerfError> {
        match PerfError::too_many_files(needed) {
            PerfError::TooManyFiles { open, soft, .. } if (open.saturating_add(needed)) as u64 <= soft => {
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Whether a smaller ring may succeed where this one failed.
    pub fn is_for_lack_of_memory(&self) -> bool {
        match self {
            PerfError::LockedMemory { .. } => !capabilities::effective().has(CAP_IPC_LOCK),
            PerfError::System { source, .. } => source.raw_os_error() == Some(Errno::ENOMEM as i32),
            _ => false,
        }
    }
}

/// Finds what denied an event. Container runtimes' filters return EPERM where perf itself returns
/// EACCES (`perf_event_open` in kernel/events/core.c), so EPERM under a filter comes from the
/// filter.
fn denial(source: &io::Error, spec: &EventSpec, scope: Scope<'_>) -> Denial {
    let level = limits::perf_event_paranoid().unwrap_or(2);
    let needed = spec.paranoid_needed(scope);
    if source.raw_os_error() == Some(Errno::EPERM as i32) && capabilities::seccomp_filtered() {
        Denial::Seccomp
    } else if capabilities::effective().perfmon() {
        Denial::SecurityModule
    } else if level > needed {
        Denial::Paranoid { level, needed }
    } else if matches!(scope, Scope::Thread { .. }) {
        Denial::OtherUser
    } else {
        Denial::SecurityModule
    }
}
