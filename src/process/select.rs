//! Selects processes by name, and finds their descendants.

use std::fs;

use regex::Regex;

use super::{Identity, identity};

/// What a pattern is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOn {
    /// The process's name (`comm`) and the path of its program.
    Program,
    /// These, and the command line with its arguments.
    CommandLine,
}

/// All processes that match, in ascending order. Kernel threads, rprof itself and its ancestors are
/// excluded: the command line of a `sudo rprof …` contains the pattern too.
pub fn by_name(pattern: &Regex, on: MatchOn) -> Vec<u32> {
    let own = with_ancestors(std::process::id());
    let mut pids: Vec<u32> = all()
        .into_iter()
        .filter(|pid| !own.contains(pid))
        .filter(|pid| identity::identify(*pid).is_ok_and(|found| matches(&found, pattern, on)))
        .collect();
    pids.sort_unstable();
    pids
}

fn matches(found: &Identity, pattern: &Regex, on: MatchOn) -> bool {
    let path = || found.executable.as_deref().map(|path| path.to_string_lossy());
    !found.is_kernel_thread
        && (pattern.is_match(&found.name)
            || pattern.is_match(&found.display_name())
            || path().is_some_and(|path| pattern.is_match(&path))
            || (on == MatchOn::CommandLine && pattern.is_match(&command_line(found.pid))))
}

/// The living descendants of a process, without itself. Processes that end meanwhile are skipped.
pub fn descendants(pid: u32) -> Vec<u32> {
    let own = std::process::id();
    let family: Vec<(u32, u32)> =
        all().into_iter().filter_map(|pid| Some((pid, identity::read_stat(pid).ok()?.parent_pid))).collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = family.iter().filter(|(child, of)| *of == parent && *child != own);
        let new: Vec<u32> =
            children.map(|(child, _)| *child).filter(|child| !found.contains(child)).collect();
        found.extend(new);
        next += 1;
    }
    found.split_off(1)
}

/// The command line with blanks between the arguments; empty if it cannot be read.
pub fn command_line(pid: u32) -> String {
    arguments(pid).join(" ").trim_end().to_owned()
}

/// The arguments of the command line, the program first; empty if it cannot be read.
pub fn arguments(pid: u32) -> Vec<String> {
    let words = remoteprocess::Process::new(pid as i32).and_then(|process| process.cmdline());
    // That fails for arguments that are not UTF-8.
    words.unwrap_or_else(|_| identity::command_line(pid))
}

/// The arguments of a process, the program first; empty if they cannot be read, or if the process
/// has ended: another process may have its PID.
pub fn arguments_of(identity: &Identity) -> Vec<String> {
    let arguments = arguments(identity.pid);
    // Checked after reading, so that they cannot be those of a later process.
    if identity.is_alive() { arguments } else { Vec::new() }
}

/// The program of a process without its arguments: the path of its file, or the first word of the
/// command line. (Programs that rename themselves put more than the program there.)
pub fn program(identity: &Identity) -> String {
    if let Some(path) = &identity.executable {
        return path.display().to_string();
    }
    let first = arguments_of(identity).into_iter().next().unwrap_or_default();
    first.split_whitespace().next().unwrap_or_default().to_owned()
}

/// A process, its parent, its parent's parent …
fn with_ancestors(pid: u32) -> Vec<u32> {
    let parent =
        |pid: &u32| identity::read_stat(*pid).ok().map(|stat| stat.parent_pid).filter(|pid| *pid != 0);
    // PIDs may be reused meanwhile, so the chain could be circular.
    std::iter::successors(Some(pid), parent).take(1000).collect()
}

fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ancestors_of_this_process_are_not_selected() {
        let everybody = by_name(&Regex::new("").expect("pattern"), MatchOn::CommandLine);
        let own = with_ancestors(std::process::id());
        assert!(own.len() > 1);
        assert!(everybody.iter().all(|pid| !own.contains(pid)));
    }

    #[test]
    fn a_child_is_found_among_the_descendants_and_by_its_arguments_only_if_they_are_matched() {
        // Other runs of this test may be going on.
        let seconds = format!("31.{}", std::process::id());
        let mut child = Command::new("sleep").arg(&seconds).spawn().expect("sleep");
        let found = descendants(std::process::id());
        // `spawn` returns while the kernel is still inside exec: for a moment the command line is
        // empty.
        let pattern = Regex::new(&format!("sleep {}$", regex::escape(&seconds))).expect("pattern");
        let named = (0..500).map(|_| by_name(&pattern, MatchOn::CommandLine)).find(|named| {
            std::thread::sleep(Duration::from_millis(if named.is_empty() { 10 } else { 0 }));
            !named.is_empty()
        });
        let by_program = by_name(&pattern, MatchOn::Program);
        let path = Regex::new("^/.*/(sleep|coreutils|busybox)$").expect("pattern");
        let by_path = by_name(&path, MatchOn::Program);
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!((by_program, by_path.contains(&child.id())), (vec![], true));
        assert!(found.contains(&child.id()));
        assert_eq!(named, Some(vec![child.id()]));
    }
}
