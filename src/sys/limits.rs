//! Limits of open files and locked memory (getrlimit(2)), and the kernel's limits for perf
//! (/proc/sys/kernel/perf_event_*).
//!
//! Not here: what to do about them.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The limit in force.
    pub soft: u64,
    /// The value up to which `soft` may be raised.
    pub hard: u64,
}

/// RLIMIT_NOFILE: number of open files. Errors: getrlimit(2).
pub fn open_files() -> io::Result<Limit> {
    read(Resource::RLIMIT_NOFILE)
}

/// RLIMIT_MEMLOCK, in bytes. Errors: getrlimit(2).
pub fn locked_memory() -> io::Result<Limit> {
    read(Resource::RLIMIT_MEMLOCK)
}

/// Raises the soft limit of open files to the hard one and returns the new limit. Errors:
/// setrlimit(2).
pub fn raise_open_files() -> io::Result<Limit> {
    let limit = open_files()?;
    if limit.soft < limit.hard {
        setrlimit(Resource::RLIMIT_NOFILE, limit.hard, limit.hard)?;
    }
    open_files()
}

/// How many files this process has open; the limit if they cannot be counted.
pub fn open_file_count() -> usize {
    match fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries.count(),
        Err(_) => open_files().map_or(0, |limit| limit.soft as usize),
    }
}

/// `kernel.perf_event_paranoid`. Without CAP_PERFMON: above 2 nothing is allowed (some
/// distributions), above 1 no kernel, above 0 no whole CPUs. `None` if the kernel has no perf.
pub fn perf_event_paranoid() -> Option<i32> {
    read_sysctl("perf_event_paranoid")
}

/// `kernel.perf_event_mlock_kb`: ring memory each user may have for each CPU without CAP_IPC_LOCK,
/// in KiB, before RLIMIT_MEMLOCK is charged.
pub fn perf_event_mlock_kib() -> Option<u64> {
    read_sysctl("perf_event_mlock_kb")
}

/// `kernel.perf_event_max_sample_rate`, in samples a second: a higher frequency is refused with
/// EINVAL.
pub fn perf_event_max_sample_rate_hz() -> Option<u64> {
    read_sysctl("perf_event_max_sample_rate")
}

fn read(resource: Resource) -> io::Result<Limit> {
    let (soft, hard) = getrlimit(resource)?;
    Ok(Limit { soft, hard })
}

fn read_sysctl<T: std::str::FromStr>(name: &str) -> Option<T> {
    fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_open_file_limit_can_be_raised_to_the_hard_limit() {
        let limit = raise_open_files().expect("limit");
        assert_eq!(limit.soft, limit.hard);
        assert!(open_file_count() > 0);
    }
}
