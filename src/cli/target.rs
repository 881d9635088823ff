//! The processes that the command line selects: by PID, or by name.

use std::{ffi::OsString, path::Path};

use anyhow::{Result, bail};
use clap::error::ErrorKind;
use regex::Regex;

use super::advice::NothingMatches;
use crate::{
    process::{
        Identity, identify,
        select::{self, MatchOn},
    },
    text::{counted_as, shell::quote},
};

/// How many processes a hint lists.
const HINTED: usize = 5;

/// How processes are selected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// A PID without an option.
    pub target: Option<u32>,
    /// PIDs of `--pid`.
    pub pids: &'a [u32],
    /// `--name`.
    pub name: Option<&'a Regex>,
    /// `--match-args`.
    pub match_args: bool,
    /// Do not print which processes the name matches.
    pub quiet: bool,
}

/// What `--match-args` makes a name match.
pub fn match_on(match_args: bool) -> MatchOn {
    if match_args { MatchOn::CommandLine } else { MatchOn::Program }
}

impl Selection<'_> {
    /// The selected processes, in ascending order of their PIDs, at least one. Prints those that
    /// the name matches. Errors: the name matches none.
    pub fn choose(&self) -> Result<Vec<u32>> {
        let mut pids: Vec<u32> = self.target.into_iter().chain(self.pids.iter().copied()).collect();
        if let Some(pattern) = self.name {
            let named = select::by_name(pattern, match_on(self.match_args));
            if named.is_empty() {
                let by_arguments = match self.match_args {
                    true => Vec::new(),
                    false => select::by_name(pattern, MatchOn::CommandLine),
                };
                let by_arguments = listed(&identities(&by_arguments));
                bail!(NothingMatches { pattern: pattern.to_string(), by_arguments });
            }
            if !self.quiet {
                super::say(&report(pattern, &identities(&named)));
            }
            pids.extend(named);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }
}

fn identities(pids: &[u32]) -> Vec<Identity> {
    pids.iter().filter_map(|pid| identify(*pid).ok()).collect()
}

/// `--name redis matches 2 processes: …`, all of them.
fn report(pattern: &Regex, matched: &[Identity]) -> String {
    if let [only] = matched {
        return format!("--name {pattern} matches: {}", one(only));
    }
    let count = counted_as(matched.len(), "process", "processes");
    let lines: String = matched.iter().map(|identity| format!("\n  {}", one(identity))).collect();
    format!("--name {pattern} matches {count}:{lines}")
}

fn one(identity: &Identity) -> String {
    format!("{} {}", identity.pid, identity.display_name())
}

/// The first processes on one line; empty if there is none.
fn listed(matched: &[Identity]) -> String {
    let names: Vec<String> = matched.iter().take(HINTED).map(one).collect();
    let more = if matched.len() > HINTED { ", …" } else { "" };
    names.join(", ") + more
}

/// The processes whose name or program matches a word, on one line; empty if there is none.
pub fn named(word: &str) -> String {
    let Ok(pattern) = Regex::new(&regex::escape(word)) else { return String::new() };
    listed(&identities(&select::by_name(&pattern, MatchOn::Program)))
}

/// Why a word is not a PID, and what to do instead.
pub fn no_pid(word: &str) -> String {
    match named(word) {
        found if found.is_empty() => "it is not a process ID, and no process has this name".into(),
        found => format!("it is not a process ID; --name {word} matches: {found}"),
    }
}

/// What to do if the first word is not a verb but a process or a profile.
pub fn hint(error: ErrorKind, word: Option<&OsString>) -> Option<String> {
    let word = word.filter(|_| error == ErrorKind::InvalidSubcommand)?.to_str()?;
    if word.parse::<u32>().is_ok() {
        let verbs =
            format!("`rprof attach {word}` profiles process {word}, `rprof top {word}` shows it live");
        return Some(format!("  try      {verbs}"));
    }
    if Path::new(word).is_file() {
        return Some(format!("  try      `rprof top {}` shows a profile", quote(word)));
    }
    let found = named(word);
    (!found.is_empty())
        .then(|| format!("  try      `rprof attach --name {}`, which matches: {found}", quote(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_that_a_name_matches_is_listed() {
        let me = identify(std::process::id()).expect("me");
        let pattern = Regex::new("x").expect("a pattern");
        let line = one(&me);
        assert_eq!(report(&pattern, std::slice::from_ref(&me)), format!("--name x matches: {line}"));
        let two = [me.clone(), me];
        assert_eq!(report(&pattern, &two), format!("--name x matches 2 processes:\n  {line}\n  {line}"));
    }

    #[test]
    fn a_word_that_is_not_a_pid_is_explained() {
        assert_eq!(no_pid("(no such process)"), "it is not a process ID, and no process has this name");
    }
}
