//! The identity of a process: /proc/PID/{stat,status,comm,cmdline,exe} (proc(5)).

use std::{fs, path::PathBuf};

use super::{
    ProcessError,
    comm::{has_full_length, printable},
};
use crate::sys::proc::read_text;

/// A process. Its start time distinguishes it from a later one with the same PID.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Process ID.
    pub pid: u32,
    /// The name of its first thread (`comm`): at most 15 bytes; the process can set it.
    pub name: String,
    /// The path of its program in its own mount namespace, " (deleted)" removed; `None` for a
    /// kernel thread or if it cannot be read.
    pub executable: Option<PathBuf>,
    /// Clock ticks from boot to its start (field 22 of stat).
    pub start_ticks: u64,
    /// Real user ID.
    pub uid: u32,
    /// Whether it is a kernel thread, which has no user memory.
    pub is_kernel_thread: bool,
}

/// The fields of /proc/PID/task/PID/stat that rprof uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name (`comm`).
    pub name: String,
    /// One of `R S D Z T t X I`.
    pub state: char,
    /// The PID of its parent.
    pub parent_pid: u32,
    /// `PF_*` flags of the kernel's include/linux/sched.h.
    pub flags: u64,
    /// The number of threads.
    pub thread_count: u64,
    /// Clock ticks from boot to its start.
    pub start_ticks: u64,
}

/// `PF_KTHREAD` of the kernel's include/linux/sched.h.
const PF_KTHREAD: u64 = 0x0020_0000;

/// Reads the identity of `pid`. Errors: no such process; a zombie, which cannot be profiled; the ID
/// of a thread that is not a process; not readable.
pub fn identify(pid: u32) -> Result<Identity, ProcessError> {
    let stat = read_stat(pid)?;
    if stat.is_over() {
        return Err(ProcessError::Zombie(pid));
    }
    let status = read_text(format!("/proc/{pid}/status"))
        .map_err(|error| ProcessError::reading(pid, "status", error))?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().next())
    };
    if let Some(group) = field("Tgid:").and_then(|text| text.parse().ok())
        && group != pid
    {
        return Err(ProcessError::IsThread(pid, group));
    }
    Ok(Identity {
        pid,
        executable: executable(pid),
        start_ticks: stat.start_ticks,
        uid: field("Uid:").and_then(|text| text.parse().ok()).unwrap_or(u32::MAX),
        is_kernel_thread: stat.flags & PF_KTHREAD != 0,
        name: stat.name,
    })
}

impl Identity {
    /// Whether the process still runs: not gone, not a zombie, not replaced by a later one with the
    /// same PID.
    pub fn is_alive(&self) -> bool {
        self.check().is_ok()
    }

    /// Whether another process has its PID now.
    pub fn is_replaced(&self) -> bool {
        matches!(self.check(), Err(ProcessError::Replaced(_)))
    }

    /// Checks that the process still runs. Errors: it is gone, a zombie, or another process has its
    /// PID now.
    pub fn check(&self) -> Result<(), ProcessError> {
        let stat = read_stat(self.pid)?;
        match () {
            () if stat.start_ticks != self.start_ticks => Err(ProcessError::Replaced(self.pid)),
            () if stat.is_over() => Err(ProcessError::Zombie(self.pid)),
            () => Ok(()),
        }
    }

    /// The name to show: `comm`, as `ps` shows it, or the program's file name if `comm` is the
    /// beginning of it.
    pub fn display_name(&self) -> String {
        let file = self.executable.as_deref().and_then(|path| path.file_name());
        let file = file.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let cut = has_full_length(&self.name) && file.starts_with(self.name.trim_end_matches('\u{fffd}'));
        let name = if cut || self.name.is_empty() { &file } else { &self.name };
        printable(name.as_bytes())
    }
}

impl Stat {
    /// Whether it is a zombie without other threads (the first thread of a process may end before
    /// the rest).
    pub fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.thread_count <= 1
    }
}

fn executable(pid: u32) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let text = path.to_str().map(str::to_owned);
    Some(text.and_then(|text| text.strip_suffix(" (deleted)").map(PathBuf::from)).unwrap_or(path))
}

/// The arguments that the process was started with (or has set since); empty if they cannot be
/// read.
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Reads /proc/PID/task/PID/stat. /proc/PID/stat would take some milliseconds for 5,000 threads,
/// because the kernel adds up their times and faults. Errors: gone, or not readable.
pub fn read_stat(pid: u32) -> Result<Stat, ProcessError> {
    let bytes = fs::read(format!("/proc/{pid}/task/{pid}/stat"))
        .map_err(|error| ProcessError::reading(pid, "stat", error))?;
    parse_stat(&String::from_utf8_lossy(&bytes)).ok_or_else(|| ProcessError::Unreadable {
        pid,
        what: "stat",
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, "unexpected format"),
    })
}

/// The CPU time that the kernel has charged to all threads of the process, ended ones included, in
/// nanoseconds (/proc/PID/stat; its resolution is usually 10 ms). `None` once it is gone.
pub fn cpu_time_ns(pid: u32) -> Option<u64> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, fields) = split_stat(&text)?;
    Some(ticks_to_ns(stat_number(&fields, 14)? + stat_number(&fields, 15)?))
}

/// Clock ticks, as stat counts CPU time, in nanoseconds.
fn ticks_to_ns(ticks: u64) -> u64 {
    let rate = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    ticks.saturating_mul(1_000_000_000 / rate.max(1) as u64)
}

/// Name, state and CPU time (nanoseconds) in the stat of a thread or process.
pub(super) fn name_state_cpu(text: &str) -> Option<(&str, char, u64)> {
    let (name, fields) = split_stat(text)?;
    let ticks = stat_number(&fields, 14)? + stat_number(&fields, 15)?;
    Some((name, fields.first()?.chars().next()?, ticks_to_ns(ticks)))
}

/// The state letter of a thread (proc(5)); `None` once it is gone.
pub(super) fn thread_state(pid: u32, tid: u32) -> Option<char> {
    let stat = read_text(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    name_state_cpu(&stat).map(|(_, state, _)| state)
}

/// The process that traces a thread (a debugger), if one does.
pub fn tracer(tid: u32) -> Option<u32> {
    let status = read_text(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    line.trim().parse().ok().filter(|pid| *pid != 0)
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of all samples.
pub fn monotonic_ns() -> u64 {
    crate::sys::clock::monotonic_ns()
}

/// CLOCK_MONOTONIC in the process's time namespace (time_namespaces(7)), in nanoseconds.
pub fn monotonic_ns_in(pid: u32) -> u64 {
    let theirs = monotonic_offset_ns(&pid.to_string()).unwrap_or(0);
    let ours = monotonic_offset_ns("self").unwrap_or(0);
    monotonic_ns().saturating_add_signed(theirs.saturating_sub(ours))
}

fn monotonic_offset_ns(pid: &str) -> Option<i64> {
    let text = read_text(format!("/proc/{pid}/timens_offsets")).ok()?;
    let mut words = text.lines().find_map(|line| line.strip_prefix("monotonic"))?.split_whitespace();
    let (seconds, nanos): (i64, i64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

/// The process's PID in its own (innermost) PID namespace, and its effective user ID in rprof's
/// user namespace. Errors: gone, or not readable.
pub fn namespace_pid_and_uid(pid: u32) -> Result<(u32, u32), ProcessError> {
    let status = read_text(format!("/proc/{pid}/status"))
        .map_err(|error| ProcessError::reading(pid, "status", error))?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let inner = line("NSpid:").split_whitespace().next_back().and_then(|text| text.parse().ok());
    let effective = line("Uid:").split_whitespace().nth(1).and_then(|text| text.parse().ok());
    Ok((inner.unwrap_or(pid), effective.unwrap_or(u32::MAX)))
}

/// The process that a thread belongs to; `None` once it is gone.
pub fn group_of(tid: u32) -> Option<u32> {
    let status = read_text(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The name, and the fields after it. The name is in parentheses and may contain blanks and
/// parentheses, so it ends at the last one.
fn split_stat(text: &str) -> Option<(&str, Vec<&str>)> {
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let name = text.get(open + 1..close)?;
    Some((name, text.get(close + 1..)?.split_ascii_whitespace().collect()))
}

/// A field by its number in proc(5), which counts from 1; the state, the first behind the name, is
/// 3.
fn stat_number(fields: &[&str], field: usize) -> Option<u64> {
    fields.get(field - 3)?.parse().ok()
}

pub(super) fn parse_stat(text: &str) -> Option<Stat> {
    let (name, fields) = split_stat(text)?;
    Some(Stat {
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent_pid: u32::try_from(stat_number(&fields, 4)?).ok()?,
        flags: stat_number(&fields, 9)?,
        thread_count: stat_number(&fields, 20)?,
        start_ticks: stat_number(&fields, 22)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) (b) c) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 0 0 20 0 9 0 1234 1 1";
        let stat = parse_stat(text).expect("parses");
        assert_eq!(stat.name, "a) (b) c");
        assert_eq!((stat.parent_pid, stat.flags, stat.thread_count), (1, 4_194_560, 9));
        assert_eq!(stat.start_ticks, 1234);
        assert_eq!(parse_stat("7 (x"), None);
        assert_eq!(parse_stat(") ("), None);
    }

    /// Of "ö", the last that fits, the kernel keeps one byte.
    #[test]
    fn a_process_whose_name_is_cut_inside_a_character_is_identified() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("process-name-töööö");
        fs::copy("/bin/sleep", &program).expect("copied");
        let seconds = format!("32.{}", std::process::id());
        let mut child = std::process::Command::new(&program).arg(&seconds).spawn().expect("runs");
        let pid = child.id();
        let began = std::time::Instant::now();
        while fs::read(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm != b"process-name-t\xc3\n")
            && began.elapsed().as_secs() < 10
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let found = identify(pid);
        let inner = namespace_pid_and_uid(pid);
        let pattern = regex::Regex::new("name-töööö").expect("pattern");
        let by_name = super::super::select::by_name(&pattern, super::super::select::MatchOn::Program);
        child.kill().and_then(|()| child.wait()).expect("ends");
        let found = found.expect("identified");
        assert_eq!(found.name, "process-name-t\u{fffd}");
        assert_eq!(found.display_name(), "process-name-töööö");
        assert!(inner.is_ok());
        assert_eq!(by_name, [pid]);
    }

    #[test]
    fn this_process_is_alive_and_has_its_program() {
        let me = identify(std::process::id()).expect("identify");
        assert!(me.is_alive());
        assert!(!me.is_kernel_thread);
        assert_eq!(me.executable, std::env::current_exe().ok());
    }

    #[test]
    fn cpu_time_is_that_of_all_threads() {
        let me = std::process::id();
        let before = cpu_time_ns(me).expect("this process");
        let busy = move || while before + 30_000_000 > cpu_time_ns(me).unwrap_or(u64::MAX) {};
        std::thread::spawn(busy).join().expect("the thread ends");
        assert!(cpu_time_ns(me).expect("this process") >= before + 30_000_000);
        assert_eq!(cpu_time_ns(0x7fff_fff0), None);
    }

    #[test]
    fn an_unused_pid_is_no_such_process() {
        assert!(matches!(identify(0x7fff_fff0), Err(ProcessError::NoSuchProcess(_))));
    }
}
