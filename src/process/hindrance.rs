//! What keeps a process from running, although it may have work to do: a stop signal, a tracer, a
//! frozen control group or a used-up CPU quota (proc(5), cgroups(7)).
//!
//! Not here: sleep, which is the process's own.

use std::{fmt, fs, path::PathBuf};

use super::{
    cgroup::{self, number_in},
    identity, threads,
};
use crate::sys::proc::read_text;

/// What keeps a process from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// SIGSTOP, or Ctrl-Z in its terminal.
    Stopped {
        /// The process.
        pid: u32,
    },
    /// A debugger holds its threads.
    Traced {
        /// The process.
        pid: u32,
        /// The debugger; `None`: not visible.
        by: Option<u32>,
    },
    /// Its control group is frozen.
    Frozen {
        /// The process.
        pid: u32,
    },
    /// Its control group has used up its CPU time.
    Throttled,
}

impl Hindrance {
    /// What keeps `pid` from running now; `None`: nothing known.
    pub fn of(pid: u32) -> Option<Hindrance> {
        if is_frozen(pid) {
            return Some(Hindrance::Frozen { pid });
        }
        let states: Vec<char> = threads::list(pid)
            .into_iter()
            .filter_map(|tid| identity::thread_state(pid, tid))
            .filter(|state| !matches!(state, 'Z' | 'X'))
            .collect();
        let all = |letter: char| !states.is_empty() && states.iter().all(|state| *state == letter);
        if all('T') {
            return Some(Hindrance::Stopped { pid });
        }
        all('t').then(|| Hindrance::Traced { pid, by: identity::tracer(threads::reader(pid)) })
    }

    /// What to do about it.
    pub fn advice(&self) -> String {
        match self {
            Hindrance::Stopped { pid } => format!("`kill -CONT {pid}` lets it run"),
            Hindrance::Traced { .. } => "let it run in the debugger".to_owned(),
            Hindrance::Frozen { .. } => "thaw the control group (unpause the container)".to_owned(),
            Hindrance::Throttled => "raise the quota (cpu.max), or sample for longer".to_owned(),
        }
    }
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hindrance::Stopped { pid } => write!(f, "process {pid} is stopped (SIGSTOP or Ctrl-Z)"),
            Hindrance::Traced { pid, by: Some(by) } => {
                write!(f, "process {pid} is held by its debugger, process {by}")
            }
            Hindrance::Traced { pid, by: None } => write!(f, "process {pid} is held by a debugger"),
            Hindrance::Frozen { pid } => write!(f, "the control group of process {pid} is frozen"),
            Hindrance::Throttled => f.write_str("the control group has used up its CPU quota"),
        }
    }
}

/// A file of the process's control group: of version 2, or of the controller of version 1.
fn group_file(pid: u32, controller: &str, name: &str) -> Option<String> {
    let folder: PathBuf =
        cgroup::own_folder(&[pid]).filter(|folder| folder.join(name).exists()).or_else(|| {
            let groups = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
            cgroup::controller_folder(&String::from_utf8_lossy(&groups), controller)
        })?;
    read_text(folder.join(name)).ok()
}

fn is_frozen(pid: u32) -> bool {
    let second = group_file(pid, "freezer", "cgroup.events");
    second.is_some_and(|text| text.lines().any(|line| line == "frozen 1"))
        || group_file(pid, "freezer", "freezer.state").is_some_and(|text| text.trim() == "FROZEN")
}

/// How often the kernel has throttled the process's control group; `None`: it has no CPU quota.
pub fn throttle_count(pid: u32) -> Option<u64> {
    number_in(&group_file(pid, "cpu", "cpu.stat")?, "nr_throttled")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_key_is_read() {
        let text = "nr_periods 7\nnr_throttled 3\nthrottled_usec 9\n";
        assert_eq!(number_in(text, "nr_throttled"), Some(3));
        assert_eq!((number_in(text, "nr"), number_in("", "nr_throttled")), (None, None));
    }

    #[test]
    fn a_running_process_has_no_hindrance_and_a_stopped_one_has() {
        assert_eq!(Hindrance::of(std::process::id()), None);
        let mut child = std::process::Command::new("sleep").arg("30").spawn().expect("started");
        let pid = child.id();
        let signal = |signal| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal);
        signal(nix::sys::signal::Signal::SIGSTOP).expect("own child");
        let is_stopped = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            Hindrance::of(pid) == Some(Hindrance::Stopped { pid })
        });
        child.kill().expect("own child");
        child.wait().expect("own child");
        assert!(is_stopped);
        assert_eq!(Hindrance::of(pid), None);
    }
}
