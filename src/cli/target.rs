//! The processes that the command line selects: one type of options, for every verb.
//!
//! A word without an option is a PID or a name, and names one process: if several match, the user
//! chooses on a terminal, and elsewhere they are listed with the commands to run. Options
//! (`--name`, `--container` …) select all processes that match.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::{
    advice::{Ambiguous, NothingMatches},
    args::{ProcessArgs, SelectorArgs},
    picker::{self, Choice},
};
use crate::{
    process::{
        Identity, MIN_ID_DIGITS,
        filter::{self, Filter},
        identify,
        select::{self, MatchOn, WordMatch},
    },
    text::{counted_as, shell::quote},
};

/// How many processes, containers or units a hint lists.
const HINTED: usize = 5;
/// How similar a name must be to be suggested (Jaro-Winkler).
const SIMILAR: f64 = 0.75;

/// How many processes a verb reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// One.
    One,
    /// One or more.
    OneOrMore,
}

impl ProcessArgs {
    /// The selected processes, in ascending order of their PIDs, at least one. Prints what the word
    /// or the conditions match, unless `quiet`. Errors: they match no process, or the word matches
    /// several and none is chosen.
    pub fn choose(&self, quiet: bool) -> Result<Vec<u32>> {
        self.choose_for(Needs::OneOrMore, quiet)
    }

    /// As [`ProcessArgs::choose`], for a verb that reads as many processes as `needs` says; options
    /// may still select more than one.
    pub fn choose_for(&self, needs: Needs, quiet: bool) -> Result<Vec<u32>> {
        match &self.target {
            Some(word) => by_word(word, needs, self.selectors.children, quiet),
            None => self.selectors.choose(quiet),
        }
    }
}

impl SelectorArgs {
    /// The processes that the options select, in ascending order of their PIDs. Errors: none match.
    pub fn choose(&self, quiet: bool) -> Result<Vec<u32>> {
        let mut pids: BTreeSet<u32> = self.pid.iter().copied().collect();
        let filter = self.filter();
        if !filter.is_empty() {
            let found = filter.find();
            if found.is_empty() {
                bail!(nothing_matches(&self.conditions(), &filter));
            }
            if !quiet {
                super::say(&report(&self.conditions(), &found));
            }
            pids.extend(found.iter().map(|identity| identity.pid));
        }
        Ok(pids.into_iter().collect())
    }
}

/// The process of a word: a PID, or a name.
pub fn by_word(word: &str, needs: Needs, children: bool, quiet: bool) -> Result<Vec<u32>> {
    if let Ok(pid) = word.parse() {
        return Ok(vec![pid]);
    }
    let Some((_, found)) = select::by_word(word) else { bail!(no_such_name(word)) };
    let pids: Vec<u32> = found.iter().map(|identity| identity.pid).collect();
    let ancestor = select::common_ancestor(&pids).filter(|_| children);
    let chosen = match (&found[..], ancestor) {
        ([only], _) => vec![only.pid],
        (_, Some(ancestor)) => vec![ancestor],
        _ => return pick(word, found, needs, &commands(word, needs, select::common_ancestor(&pids))),
    };
    if !quiet {
        let chosen: Vec<Identity> =
            found.into_iter().filter(|identity| chosen.contains(&identity.pid)).collect();
        super::say(&report(word, &chosen));
    }
    Ok(chosen)
}

/// A note that a word, which is the name of a file, is a process too.
pub fn also_a_process(word: &str) -> Option<String> {
    let pid = match word.parse() {
        Ok(pid) => identify(pid).ok()?.pid,
        Err(_) => match select::by_word(word)? {
            (WordMatch::Whole, found) => found.first()?.pid,
            _ => return None,
        },
    };
    Some(format!("{word} is read as a file; for the process of this name: rprof top --pid {pid}"))
}

/// One process of several, or all of them if the verb can read them. Errors: there is no terminal
/// to choose on, or none is chosen; `commands` is what to run instead.
fn pick(what: &str, found: Vec<Identity>, needs: Needs, commands: &[String]) -> Result<Vec<u32>> {
    let lines: Vec<String> = found.iter().map(picker::line).collect();
    let head = format!("{what} matches {}", counted_as(found.len(), "process", "processes"));
    let ambiguous = || Ambiguous { head: head.clone(), lines: lines.clone(), commands: commands.to_vec() };
    if !picker::is_possible() {
        bail!(ambiguous());
    }
    match picker::ask(&head, &lines, needs == Needs::OneOrMore) {
        Some(Choice::One(at)) => Ok(found.get(at).map(|one| one.pid).into_iter().collect()),
        Some(Choice::All) => Ok(found.iter().map(|one| one.pid).collect()),
        None => bail!(ambiguous()),
    }
}

/// The commands that read one, or all, of the processes that a word matches.
fn commands(word: &str, needs: Needs, ancestor: Option<u32>) -> Vec<String> {
    let mut arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if arguments.first().is_some_and(|first| first == word) {
        arguments.insert(0, "attach".into());
    }
    let with = |words: &[&str]| command_with(&arguments, word, words);
    let mut commands = vec![format!("{} (one of the PIDs)", with(&["PID"]))];
    if needs == Needs::OneOrMore {
        if let Some(ancestor) = ancestor {
            let pid = ancestor.to_string();
            commands.push(format!("{} (all: the others are children of {pid})", with(&[&pid, "--children"])));
        }
        commands.push(format!("{} (all of them)", with(&["--name", &regex::escape(word)])));
    }
    commands
}

/// The command line with `words` in the place of `word`.
fn command_with(arguments: &[String], word: &str, words: &[&str]) -> String {
    let at = arguments.iter().position(|argument| argument == word).unwrap_or(arguments.len());
    let before = arguments.iter().take(at).map(String::as_str);
    let after = arguments.iter().skip(at + 1).map(String::as_str);
    let all: Vec<&str> = before.chain(words.iter().copied()).chain(after).collect();
    let quoted: Vec<String> = all.into_iter().map(quote).collect();
    format!("rprof {}", quoted.join(" "))
}

/// `--name redis matches 2 processes: …`, all of them.
fn report(what: &str, matched: &[Identity]) -> String {
    if let [only] = matched {
        return format!("{what} matches: {}", one(only));
    }
    let count = counted_as(matched.len(), "process", "processes");
    let lines: String = matched.iter().map(|identity| format!("\n  {}", one(identity))).collect();
    format!("{what} matches {count}:{lines}")
}

fn one(identity: &Identity) -> String {
    format!("{} {}", identity.pid, identity.display_name())
}

/// The first items on one line; empty if there is none.
fn listed(items: &[String]) -> String {
    let first = items.iter().take(HINTED).cloned().collect::<Vec<_>>().join(", ");
    let more = if items.len() > HINTED { ", …" } else { "" };
    first + more
}

fn listed_processes(matched: &[Identity]) -> String {
    listed(&matched.iter().map(one).collect::<Vec<_>>())
}

/// No process has the name `word`.
fn no_such_name(word: &str) -> NothingMatches {
    let pattern = regex::Regex::new(&regex::escape(word)).expect("an escaped pattern");
    let by_arguments = Filter::by_name(pattern, MatchOn::CommandLine).find();
    let similar = similar(word, select::candidates().iter().map(Identity::display_name));
    let advice = match (&similar[..], &by_arguments[..]) {
        ([], []) => "`ps -e -o pid,comm,args` lists processes".to_owned(),
        ([], found) => format!(
            "--name {} --match-args, which matches command-line arguments: {}",
            quote(word),
            listed_processes(found)
        ),
        (similar, _) => format!("a similar name: {}", listed(similar)),
    };
    NothingMatches {
        what: format!("`{word}`"),
        why: "it is not a process ID, and it is not part of a process name or a program path".into(),
        advice,
    }
}

/// The names of processes that are similar to a word, on one line; empty: none.
pub fn similar_names(word: &str) -> String {
    listed(&similar(word, select::candidates().iter().map(Identity::display_name)))
}

/// The names that are similar to a word, the most similar first.
fn similar(word: &str, names: impl Iterator<Item = String>) -> Vec<String> {
    let names: BTreeSet<String> = names.collect();
    let likeness = |name: &String| strsim::jaro_winkler(&name.to_lowercase(), &word.to_lowercase());
    let mut near: Vec<(f64, String)> =
        names.into_iter().map(|name| (likeness(&name), name)).filter(|(near, _)| *near >= SIMILAR).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().map(|(_, name)| name).collect()
}

/// No process fulfils the conditions.
fn nothing_matches(conditions: &str, filter: &Filter) -> NothingMatches {
    let (why, advice) = match filter {
        Filter { name: Some(_), container: None, cgroup: None, unit: None, .. } => no_such_pattern(filter),
        Filter { container: Some(container), .. } => no_such_container(container),
        Filter { unit: Some(unit), .. } => no_such_unit(unit),
        _ => (
            "no process is in this control group or a group in it".to_owned(),
            "`cat /proc/PID/cgroup` shows the control groups of a process".to_owned(),
        ),
    };
    // The text of a single pattern, as it was written.
    let what = match filter {
        Filter { name: Some(name), container: None, cgroup: None, unit: None, .. } => format!("`{name}`"),
        _ => conditions.to_owned(),
    };
    NothingMatches { what, why, advice }
}

fn no_such_pattern(filter: &Filter) -> (String, String) {
    let name = filter.name.as_ref().map(regex::Regex::as_str).unwrap_or_default();
    let by_arguments = match filter.on {
        MatchOn::CommandLine => Vec::new(),
        MatchOn::Program => Filter { on: MatchOn::CommandLine, ..filter.clone() }.find(),
    };
    let similar = similar(name, select::candidates().iter().map(Identity::display_name));
    let advice = match (&by_arguments[..], &similar[..]) {
        ([], []) => "`ps -e -o pid,comm,args` lists processes".to_owned(),
        ([], similar) => format!("a similar name: {}", listed(similar)),
        (found, _) => {
            format!("--match-args, which matches command-line arguments: {}", listed_processes(found))
        }
    };
    ("the regular expression matches no process name and no program path".into(), advice)
}

fn no_such_container(container: &str) -> (String, String) {
    let known = filter::containers();
    let mut why = "no process is in a container with this name or ID".to_owned();
    if container.len() < MIN_ID_DIGITS && container.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        why += &format!(" (of an ID at least {MIN_ID_DIGITS} digits are needed)");
    }
    if known.is_empty() {
        let advice = "run rprof on the host: inside a container the IDs of containers are hidden";
        return (why + "; no process is in a container that is visible here", advice.to_owned());
    }
    let shown = |(id, names): &(String, Vec<String>)| match &names[..] {
        [] => id[..MIN_ID_DIGITS].to_owned(),
        names => format!("{} ({})", &id[..MIN_ID_DIGITS], names.join(", ")),
    };
    (why, format!("one of these containers: {}", listed(&known.iter().map(shown).collect::<Vec<_>>())))
}

fn no_such_unit(unit: &str) -> (String, String) {
    let known = filter::units();
    let why = "no process is in a control group of this unit".to_owned();
    let near = similar(unit, known.iter().cloned());
    let advice = match (&near[..], &known[..]) {
        ([], []) => "--name or --cgroup: no process here is in a control group of systemd".to_owned(),
        ([], _) => "`systemctl list-units` lists units; the unit must run".to_owned(),
        (near, _) => format!("a similar unit: {}", listed(near)),
    };
    (why, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_that_a_name_matches_is_listed() {
        let me = identify(std::process::id()).expect("me");
        let line = one(&me);
        assert_eq!(report("--name x", std::slice::from_ref(&me)), format!("--name x matches: {line}"));
        let two = [me.clone(), me];
        assert_eq!(report("--name x", &two), format!("--name x matches 2 processes:\n  {line}\n  {line}"));
    }

    #[test]
    fn a_number_is_a_pid_even_if_no_process_has_it() {
        assert_eq!(by_word("4194305", Needs::One, false, true).expect("a PID"), [4_194_305]);
    }

    #[test]
    fn the_command_to_run_is_the_command_line_with_the_process_replaced() {
        let arguments = ["attach", "redis", "-d", "5s", "-o", "my file"].map(str::to_owned);
        assert_eq!(command_with(&arguments, "redis", &["12"]), "rprof attach 12 -d 5s -o 'my file'");
        let all = command_with(&arguments, "redis", &["--name", "redis"]);
        assert_eq!(all, "rprof attach --name redis -d 5s -o 'my file'");
    }

    #[test]
    fn similar_names_are_suggested_the_most_similar_first() {
        let names = ["redis-server", "postgres", "redis", "sh"].map(str::to_owned);
        assert_eq!(similar("Redsi", names.into_iter()), ["redis", "redis-server"]);
        assert!(similar("xyz", std::iter::empty()).is_empty());
    }
}
