//! Completion of the last word: commands, options, their values, functions, labels.
//!
//! Not here: keys and the terminal ([`super::editor`]).

use std::collections::{BTreeMap, BTreeSet};

use super::order;
use crate::{
    profile::columns::Columns,
    report::{
        pprof::{COMMANDS, Command, OPTIONS, options::SettingOption},
        stacks::printable,
    },
};

/// The largest number of values that are kept of a label: completing request IDs is not useful.
const MAX_VALUES: usize = 1000;
/// The units that complete `unit=`.
const UNITS: [&str; 13] =
    ["minimum", "auto", "ns", "us", "ms", "s", "hrs", "B", "kB", "MB", "GB", "TB", "count"];

/// A possible completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The text in the list.
    pub shown: String,
    /// The text that replaces the word.
    pub inserted: String,
}

impl Candidate {
    fn plain(text: impl Into<String>) -> Candidate {
        let text = text.into();
        Candidate { shown: text.clone(), inserted: text }
    }
}

/// The completions of a line, and the byte offset where the replaced text begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// One of these words.
    Words(usize, Vec<Candidate>),
    /// A file name.
    File(usize),
}

/// The names in a profile: functions, sample types, labels.
pub(super) struct Vocabulary {
    functions: Vec<String>,
    kinds: Vec<String>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Vocabulary {
    /// Collects the names of a profile.
    pub fn new(columns: &Columns) -> Vocabulary {
        let functions: BTreeSet<&str> =
            columns.functions.iter().map(|function| columns.text(function.name)).collect();
        let functions = functions.into_iter().filter(|name| !name.is_empty()).map(String::from).collect();
        let kinds = columns.header.kinds.iter().map(|kind| columns.text(kind.name).to_string()).collect();
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for sample in 0..columns.sample_count() {
            for label in columns.labels(sample) {
                if !seen.insert((label.key, label.as_text())) || seen.len() > 100 * MAX_VALUES {
                    continue;
                }
                let values = labels.entry(columns.text(label.key).into()).or_default();
                if let Some(text) = label.as_text()
                    && values.len() < MAX_VALUES
                {
                    values.insert(columns.text(text).into());
                }
            }
        }
        Vocabulary { functions, kinds, labels }
    }

    /// The names of functions.
    pub fn functions(&self) -> &[String] {
        &self.functions
    }

    /// The names of sample types.
    pub fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// The completions of `line`, which ends at the cursor.
    pub fn complete(&self, line: &str) -> Completion {
        let word_at = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        if order::split_pipe(line).1.is_some() || line.ends_with(" | ") {
            return Completion::File(word_at);
        }
        if let Some((name, value)) = line.split_once('=')
            && let Some(option) = SettingOption::find(name.trim())
        {
            let value_at = line.len() - value.trim_start().len();
            return self.value(option, value_at, &line[value_at..]);
        }
        let (before, word) = line.split_at(word_at);
        if let Some(file) = word.strip_prefix('>') {
            return Completion::File(line.len() - file.len());
        }
        match before.split_whitespace().collect::<Vec<_>>()[..] {
            [] => Completion::Words(word_at, starting(word, self.first_words())),
            [.., ">"] => Completion::File(word_at),
            ["help", ..] => Completion::Words(word_at, starting(word, names())),
            [command, ..] => self.argument(command, word_at, word),
        }
    }

    /// The words that can begin a line.
    fn first_words(&self) -> Vec<Candidate> {
        let mut all = Vec::new();
        for command in COMMANDS {
            let end = if command.has_argument { " " } else { "" };
            all.push(Candidate { shown: command.name.into(), inserted: format!("{}{end}", command.name) });
        }
        for option in OPTIONS {
            let end = if option.is_bool() { "" } else { "=" };
            all.push(Candidate::plain(format!("{}{end}", option.name)));
            all.extend(option.choices.iter().map(|choice| Candidate::plain(*choice)));
        }
        for kind in &self.kinds {
            all.extend(["", "total_", "mean_"].map(|prefix| Candidate::plain(format!("{prefix}{kind}"))));
        }
        all.extend(["exit", "help", "options", "quit"].map(Candidate::plain));
        all
    }

    fn argument(&self, command: &str, at: usize, word: &str) -> Completion {
        let bare = command.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let Some(command) = Command::find(command).or_else(|| Command::find(bare)) else {
            return Completion::Words(at, Vec::new());
        };
        let sign = usize::from(word.starts_with('-'));
        let (at, bare) = (at + sign, &word[sign..]);
        let mut found = match command.name {
            "tags" => self.label_terms(at, bare),
            _ => self.function_terms(at, bare),
        };
        if let Completion::Words(from, candidates) = &mut found
            && sign == 1
            && *from == at
            && "cum".starts_with(bare)
        {
            // `-cum` is more likely than a name that merely contains the typed text.
            candidates.retain(|candidate| candidate.inserted != bare);
            candidates.insert(0, Candidate::plain("cum"));
        }
        found
    }

    fn value(&self, option: &SettingOption, at: usize, value: &str) -> Completion {
        let words = |all: Vec<Candidate>| Completion::Words(at, starting(value, all));
        let plain = |names: &[&str]| names.iter().map(|name| Candidate::plain(*name)).collect();
        match option.name {
            "sample_index" => words(self.kinds.iter().map(Candidate::plain).collect()),
            "unit" => words(plain(&UNITS)),
            "output" | "source_path" | "trim_path" => Completion::File(at),
            "focus" | "ignore" | "hide" | "show" | "show_from" | "prune_from" => {
                self.function_terms(at, value)
            }
            "tagfocus" | "tagignore" => self.label_terms(at, value),
            "tagshow" | "taghide" => self.keys(at, value, '|'),
            "tagroot" | "tagleaf" => self.keys(at, value, ','),
            _ if option.is_bool() => words(plain(&["true", "false"])),
            _ => words(plain(option.choices)),
        }
    }

    /// Functions that complete the last alternative of an expression.
    fn function_terms(&self, at: usize, typed: &str) -> Completion {
        let (at, typed) = last_part(at, typed, '|');
        Completion::Words(at, matching(typed, self.functions.iter().map(String::as_str)))
    }

    fn keys(&self, at: usize, typed: &str, separator: char) -> Completion {
        let (at, typed) = last_part(at, typed, separator);
        Completion::Words(at, matching(typed, self.labels.keys().map(String::as_str)))
    }

    /// `key=value,value`.
    fn label_terms(&self, at: usize, typed: &str) -> Completion {
        if let Some((key, values)) = typed.split_once('=') {
            let known = self.labels.get(key).into_iter().flatten().map(String::as_str);
            let (at, typed) = last_part(at + key.len() + 1, values, ',');
            return Completion::Words(at, matching(typed, known));
        }
        let keys = self.labels.keys().map(|key| Candidate::plain(format!("{key}=")));
        Completion::Words(at, starting(typed, keys.collect()))
    }
}

/// The names that `help` accepts.
fn names() -> Vec<Candidate> {
    let commands = COMMANDS.iter().map(|command| command.name);
    let options = OPTIONS.iter().flat_map(|option| [option.name].into_iter().chain(option.choices.to_vec()));
    commands.chain(options).map(Candidate::plain).collect()
}

fn last_part(at: usize, typed: &str, separator: char) -> (usize, &str) {
    let start = typed.rfind(separator).map_or(0, |at| at + 1);
    (at + start, &typed[start..])
}

fn starting(typed: &str, mut all: Vec<Candidate>) -> Vec<Candidate> {
    all.retain(|candidate| candidate.inserted.starts_with(typed));
    all.sort_by(|a, b| a.shown.cmp(&b.shown));
    all.dedup();
    all
}

/// The names that begin with the typed text; if there is none, the names that contain it. One of
/// the latter replaces the text only if it is the only one: otherwise the typed text would be lost.
fn matching<'a>(typed: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<Candidate> {
    let candidate = |name: &str| Candidate { shown: printable(name).into(), inserted: as_expression(name) };
    let begins = |name: &&str| name.starts_with(typed) || as_expression(name).starts_with(typed);
    let found: Vec<Candidate> = names.clone().filter(begins).map(candidate).collect();
    if !found.is_empty() {
        return found;
    }
    let lower = typed.to_lowercase();
    let mut found: Vec<Candidate> =
        names.filter(|name| name.to_lowercase().contains(&lower)).map(candidate).collect();
    if found.len() > 1 {
        found.iter_mut().for_each(|candidate| candidate.inserted = typed.into());
    }
    found
}

/// An expression that matches a name and is one word: a dot replaces blanks and control characters.
fn as_expression(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter.is_whitespace() || letter.is_control() {
            out.push('.');
            continue;
        }
        if r"\*+?()[]{}|^$".contains(letter) {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::columns::{Function, Label, SampleKind};

    fn vocabulary() -> Vocabulary {
        let mut columns = Columns::default();
        let (name, unit) = (columns.intern("cpu"), columns.intern("nanoseconds"));
        columns.header.kinds.push(SampleKind { name, unit });
        for name in ["main.work", "main.(*T).run", "runtime.mallocgc", "runtime.mallocinit", "operator new"] {
            let name = columns.intern(name);
            columns.functions.push(Function { name, ..Function::default() });
        }
        let [thread, one, two, bytes] = ["thread", "worker 1", "other", "bytes"].map(|t| columns.intern(t));
        for label in [Label::text(thread, one), Label::text(thread, two), Label::number(bytes, 5, 0)] {
            columns.push_sample(&[1], &[], &[label]);
        }
        Vocabulary::new(&columns)
    }

    fn words(line: &str) -> (usize, Vec<String>) {
        match vocabulary().complete(line) {
            Completion::Words(at, words) => (at, words.into_iter().map(|word| word.inserted).collect()),
            Completion::File(at) => (at, vec!["(file)".into()]),
        }
    }

    #[track_caller]
    fn check(line: &str, at: usize, expected: &[&str]) {
        assert_eq!(words(line), (at, expected.iter().map(|word| (*word).to_string()).collect()), "{line:?}");
    }

    #[test]
    fn a_line_begins_with_a_command_an_option_or_a_sample_type() {
        check("pe", 0, &["peek "]);
        check("gran", 0, &["granularity="]);
        check("mea", 0, &["mean", "mean_cpu"]);
        check("nodec", 0, &["nodecount="]);
        check("addr", 0, &["addresses"]);
        check("help sho", 5, &["show", "show_from", "showcolumns"]);
        check("nonsense ma", 9, &[]);
    }

    #[test]
    fn functions_are_completed_as_expressions_that_match_them() {
        check("peek main.w", 5, &["main.work"]);
        check("list main.(", 5, &[r"main.\(\*T\).run"]);
        check("top5 op", 5, &["operator.new"]);
        check("top -main.w", 5, &["main.work"]);
        check("top -c", 5, &["cum"]);
        check("focus=main.work|runt", 16, &["runtime.mallocgc", "runtime.mallocinit"]);
        check("hide = Init", 7, &["runtime.mallocinit"]);
        check("top malloc", 4, &["malloc", "malloc"]);
    }

    #[test]
    fn values_of_options_are_completed() {
        check("sort=", 5, &["cum", "flat"]);
        check("sample_index=c", 13, &["cpu"]);
        check("trim=f", 5, &["false"]);
        check("unit=mi", 5, &["minimum"]);
        check("tagfocus=th", 9, &["thread="]);
        check("tagignore=thread=oth", 17, &["other"]);
        check("tags thread=other,w", 18, &["worker.1"]);
        check("tagroot=thread,by", 15, &["bytes"]);
    }

    #[test]
    fn files_are_completed_after_a_redirection_and_a_pipe() {
        check("top >/tm", 5, &["(file)"]);
        check("top > /tm", 6, &["(file)"]);
        check("top | sort -o /t", 14, &["(file)"]);
        check("output=/tm", 7, &["(file)"]);
    }
}
