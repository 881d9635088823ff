//! The threads of a process: /proc/PID/task (proc(5)).

use std::fs;

use super::comm::printable;

/// The thread ids of a process, in ascending order; empty once it is gone.
pub fn list(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut tids: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    tids.sort_unstable();
    tids
}

/// The thread whose /proc folder gives access to the process's memory and files: the process ID
/// itself, unless its first thread has ended and others still run, because /proc/PID then shows
/// neither.
pub fn reader(pid: u32) -> u32 {
    let is_over = |id: u32| super::identity::read_stat(id).is_ok_and(|stat| matches!(stat.state, 'Z' | 'X'));
    if !is_over(pid) {
        return pid;
    }
    list(pid).into_iter().find(|tid| !is_over(*tid)).unwrap_or(pid)
}

/// A thread's name (`comm`), which it may change at any time; `None` once it is gone.
pub fn name(pid: u32, tid: u32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(printable(bytes.strip_suffix(b"\n").unwrap_or(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_its_first_thread() {
        let pid = std::process::id();
        assert!(list(pid).contains(&pid));
        assert!(name(pid, pid).is_some_and(|name| !name.is_empty()));
    }
}
