//! Selects processes by name, and finds their descendants.

use std::fs;

use regex::Regex;

use super::{Identity, identity};

/// What a pattern is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatchOn {
    /// The process's name (`comm`) and the path of its program.
    #[default]
    Program,
    /// These, and the command line with its arguments.
    CommandLine,
}

/// All processes that can be selected, by PID. Kernel threads, rprof itself and its ancestors are
/// excluded: the command line of a `sudo rprof …` contains the pattern too.
pub fn candidates() -> Vec<Identity> {
    let own = own_ancestors();
    let others = all().into_iter().filter(|pid| !own.contains(pid));
    let mut found: Vec<Identity> = others.filter_map(|pid| identity::identify(pid).ok()).collect();
    found.retain(|identity| !identity.is_kernel_thread);
    found.sort_unstable_by_key(|identity| identity.pid);
    found
}

/// All processes that match, in ascending order; of those that can be selected.
pub fn by_name(pattern: &Regex, on: MatchOn) -> Vec<u32> {
    let found = candidates().into_iter().filter(|found| matches(found, pattern, on));
    found.map(|found| found.pid).collect()
}

/// Whether the pattern matches the process.
pub(super) fn matches(found: &Identity, pattern: &Regex, on: MatchOn) -> bool {
    let path = || found.executable.as_deref().map(|path| path.to_string_lossy());
    pattern.is_match(&found.name)
        || pattern.is_match(&found.display_name())
        || path().is_some_and(|path| pattern.is_match(&path))
        || (on == MatchOn::CommandLine && pattern.is_match(&command_line(found.pid)))
}

/// How a word matches a process, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WordMatch {
    /// It is the name of the process, or the program's file name or path.
    Whole,
    /// It is part of the name, or of the program's file name.
    PartOfName,
    /// It is part of the program's path.
    PartOfPath,
}

/// The processes that a word matches best, by PID, and how it matches them; of those that can be
/// selected. `redis` matches `redis-server`, but not if there is a process `redis`.
pub fn by_word(word: &str) -> Option<(WordMatch, Vec<Identity>)> {
    let matched = |found: Identity| Some((match_word(&found, word)?, found));
    let all: Vec<(WordMatch, Identity)> = candidates().into_iter().filter_map(matched).collect();
    let best = all.iter().map(|(how, _)| *how).min()?;
    let best_ones = all.into_iter().filter(|(how, _)| *how == best);
    Some((best, best_ones.map(|(_, found)| found).collect()))
}

fn match_word(found: &Identity, word: &str) -> Option<WordMatch> {
    let path = found.executable.as_deref().map(|path| path.to_string_lossy()).unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let display_name = found.display_name();
    let names = [&*found.name, &*display_name, file];
    match () {
        () if word.is_empty() => None,
        () if names.contains(&word) || path == word => Some(WordMatch::Whole),
        () if names.iter().any(|name| name.contains(word)) => Some(WordMatch::PartOfName),
        () if path.contains(word) => Some(WordMatch::PartOfPath),
        () => None,
    }
}

/// The process of which all the others are descendants, if there is one.
pub fn common_ancestor(pids: &[u32]) -> Option<u32> {
    let others = |pid: u32| pids.iter().copied().filter(move |other| *other != pid);
    pids.iter().copied().find(|pid| {
        let family = descendants(*pid);
        others(*pid).all(|other| family.contains(&other))
    })
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

/// rprof's own PID, its parent, its parent's parent …
pub fn own_ancestors() -> Vec<u32> {
    with_ancestors(std::process::id())
}

/// The PIDs of all processes that are visible here, kernel threads among them.
pub fn all() -> Vec<u32> {
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
    fn a_word_matches_a_whole_name_before_a_part_of_it_before_a_path() {
        let found = Identity {
            pid: 1,
            name: "redis-server".into(),
            executable: Some("/opt/cache/bin/redis-check-rdb".into()),
            start_ticks: 0,
            uid: 0,
            is_kernel_thread: false,
        };
        let matched = |word| match_word(&found, word);
        for word in ["redis-server", "redis-check-rdb", "/opt/cache/bin/redis-check-rdb"] {
            assert_eq!(matched(word), Some(WordMatch::Whole), "{word}");
        }
        assert_eq!(matched("redis"), Some(WordMatch::PartOfName));
        assert_eq!(matched("cache/bin"), Some(WordMatch::PartOfPath));
        // A word is not a regular expression.
        assert_eq!((matched("redis.server"), matched("")), (None, None));
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
        let (parent, other) = (std::process::id(), child.id());
        assert_eq!(common_ancestor(&[other, parent]), Some(parent));
        assert_eq!((common_ancestor(&[other, 1_u32 << 30]), common_ancestor(&[])), (None, None));
        let path = Regex::new("^/.*/(sleep|coreutils|busybox)$").expect("pattern");
        let by_path = by_name(&path, MatchOn::Program);
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!((by_program, by_path.contains(&child.id())), (vec![], true));
        assert!(found.contains(&child.id()));
        assert_eq!(named, Some(vec![child.id()]));
    }
}
