//! What a process uses now: CPU time, resident memory, threads, open files
//! (/proc/PID/{stat,statm,limits,fd}, proc(5)).
//!
//! Not here: its control group (`group_gauges`), and when a value is too high.

use std::{fs, os::unix::fs::MetadataExt};

use super::{
    ProcessError,
    identity::{self, read_stat},
};
use crate::sys::proc::read_text;

/// The gauges that a reader needs: each costs system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GaugeSet {
    /// CPU time.
    pub cpu: bool,
    /// Resident memory.
    pub memory: bool,
    /// Open files and their limit.
    pub open_files: bool,
}

/// What a process uses. `None`: not requested, or not readable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// CPU time of all threads since its start, in nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Resident memory in bytes: anonymous, shared and of files.
    pub resident_bytes: Option<u64>,
    /// The number of threads.
    pub threads: u64,
    /// The number of open files.
    pub open_files: Option<u64>,
    /// The soft limit on open files; `u64::MAX`: none.
    pub open_file_limit: Option<u64>,
}

/// Reads the gauges of a process. Errors: it is gone or a zombie, its PID belongs to a process that
/// began at another time than `start_ticks`, or it is not readable.
pub fn read(pid: u32, start_ticks: u64, set: GaugeSet) -> Result<Gauges, ProcessError> {
    let stat = read_stat(pid)?;
    match () {
        () if stat.start_ticks != start_ticks => return Err(ProcessError::Replaced(pid)),
        () if stat.is_over() => return Err(ProcessError::Zombie(pid)),
        () => {}
    }
    let files = set.open_files.then(|| (open_files(pid), open_file_limit(pid)));
    Ok(Gauges {
        cpu_ns: set.cpu.then(|| identity::cpu_time_ns(pid)).flatten(),
        resident_bytes: set.memory.then(|| resident_bytes(pid)).flatten(),
        threads: stat.thread_count,
        open_files: files.and_then(|(open, _)| open),
        open_file_limit: files.and_then(|(_, limit)| limit),
    })
}

/// Field 2 of statm, in pages.
fn resident_bytes(pid: u32) -> Option<u64> {
    let text = read_text(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(page_bytes())
}

fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

/// Since Linux 6.2 the size of the directory is the number of its entries; before, it is 0.
fn open_files(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    match fs::metadata(&folder).ok()?.size() {
        0 => Some(fs::read_dir(folder).ok()?.count() as u64),
        count => Some(count),
    }
}

fn open_file_limit(pid: u32) -> Option<u64> {
    parse_limit(&read_text(format!("/proc/{pid}/limits")).ok()?)
}

fn parse_limit(limits: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: GaugeSet = GaugeSet { cpu: true, memory: true, open_files: true };

    #[test]
    fn the_gauges_of_this_process_are_read() {
        let pid = std::process::id();
        let start_ticks = identity::identify(pid).expect("this process").start_ticks;
        let held = std::hint::black_box(vec![1u8; 32 << 20]);
        let before = read(pid, start_ticks, ALL).expect("this process runs");
        assert!(before.resident_bytes.expect("statm") >= held.len() as u64 / 2);
        assert!(before.threads >= 1 && before.cpu_ns.is_some());
        let files: Vec<fs::File> =
            (0..20).map(|_| fs::File::open("/proc/self/stat").expect("opened")).collect();
        let after = read(pid, start_ticks, ALL).expect("this process runs");
        assert!(after.open_files.expect("fd") >= files.len() as u64, "{after:?}");
        assert!(after.open_file_limit.expect("limits") >= after.open_files.expect("fd"));
        let few = read(pid, start_ticks, GaugeSet::default()).expect("this process runs");
        assert_eq!((few.cpu_ns, few.resident_bytes, few.open_files), (None, None, None));
    }

    #[test]
    fn another_process_with_the_same_pid_has_no_gauges() {
        let replaced = read(std::process::id(), 1, ALL);
        assert!(matches!(replaced, Err(ProcessError::Replaced(_))), "{replaced:?}");
    }

    #[test]
    fn the_limit_on_open_files_is_the_soft_one() {
        let text = "Limit  Soft Limit  Hard Limit  Units\n\
                    Max processes             7 8 processes\n\
                    Max open files            1024                 524288               files\n";
        assert_eq!(parse_limit(text), Some(1024));
        assert_eq!(parse_limit(&text.replace("1024 ", "unlimited ")), Some(u64::MAX));
        assert_eq!(parse_limit("Max open files"), None);
        assert_eq!(parse_limit(""), None);
    }
}
