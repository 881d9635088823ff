//! Words in the place of a verb, and what to do after a wrong command line. The messages themselves
//! are clap's.

use std::{ffi::OsString, path::Path};

use clap::{
    Command, CommandFactory,
    error::{ContextKind, ContextValue, Error, ErrorKind},
};

use super::{args::Cli, target};
use crate::{
    process::select::{self, WordMatch},
    text::shell::quote,
};

/// How similar to a verb a word is that is taken for a mistyped verb (Jaro-Winkler).
const LIKE_A_VERB: f64 = 0.8;

/// The command line with the verb that it lacks: `rprof 1234` and `rprof redis` profile a process.
pub fn with_verb(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let word = arguments.get(1).and_then(|word| word.to_str());
    if word.is_some_and(|word| !is_verb(word) && is_process(word)) {
        arguments.insert(1, "attach".into());
    }
    arguments
}

/// Whether the first word is a verb or an option.
fn is_verb(word: &str) -> bool {
    word.starts_with('-') || word.is_empty() || Cli::command().find_subcommand(word).is_some()
}

/// Whether a word that is no verb is a process. A word like a verb is one only if it is the whole
/// name of a process.
fn is_process(word: &str) -> bool {
    if word.parse::<u32>().is_ok() {
        return true;
    }
    match select::by_word(word) {
        Some((WordMatch::Whole, _)) => true,
        Some((WordMatch::PartOfName, _)) => !is_like_a_verb(word) && !Path::new(word).is_file(),
        Some((WordMatch::PartOfPath, _)) | None => false,
    }
}

fn is_like_a_verb(word: &str) -> bool {
    let rprof = Cli::command();
    let verbs = rprof.get_subcommands().map(Command::get_name);
    // The beginning of a verb is an abbreviation of it.
    let is_like = |verb: &str| verb.starts_with(word) || strsim::jaro_winkler(verb, word) >= LIKE_A_VERB;
    word.len() < 3 || verbs.into_iter().any(is_like)
}

/// What to do about a wrong command line, if clap's message does not say it.
pub fn hint(error: &Error, arguments: &[OsString]) -> Option<String> {
    let word = arguments.get(1)?.to_str()?;
    let hint = match error.kind() {
        ErrorKind::InvalidSubcommand => instead_of_verb(word),
        ErrorKind::UnknownArgument => instead_of_option(word, error)?,
        ErrorKind::MissingRequiredArgument => missing(word)?,
        _ => return None,
    };
    Some(format!("  try      {hint}"))
}

/// A word that is neither a verb nor a process.
fn instead_of_verb(word: &str) -> String {
    if Path::new(word).is_file() {
        return format!("`rprof top {}` shows a profile", quote(word));
    }
    let similar = target::similar_names(word);
    if is_like_a_verb(word) || similar.is_empty() {
        return "`rprof help` lists the verbs; `rprof attach NAME` profiles a process".to_owned();
    }
    format!("no process matches it either; a similar name: {similar}")
}

/// An option of other verbs: `rprof dump -d 5s`.
fn instead_of_option(verb: &str, error: &Error) -> Option<String> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = option.split('=').next()?;
    let rprof = Cli::command();
    if !name.starts_with('-') {
        let takes_processes =
            rprof.find_subcommand(verb)?.get_arguments().any(|option| option.get_id() == "cgroup");
        let hint = || {
            format!(
                "one process without an option, or several: rprof {verb} --pid A --pid B, or --name REGEX"
            )
        };
        return takes_processes.then(hint);
    }
    let verbs: Vec<&str> = (rprof.get_subcommands())
        .filter(|command| command.get_name() != verb && has_option(command, name))
        .map(Command::get_name)
        .collect();
    if verbs.is_empty() {
        return None;
    }
    let verbs = verbs.join(", ");
    Some(match rprof.find_subcommand(verb) {
        Some(_) => format!("{name} is an option of {verbs}; `rprof help {verb}` lists those of {verb}"),
        None => format!("{name} is an option of {verbs}, and the verb is the first word"),
    })
}

fn has_option(command: &Command, name: &str) -> bool {
    command.get_arguments().any(|option| {
        let long = option.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long));
        let short = option.get_short().is_some_and(|short| name == format!("-{short}"));
        long || short
    })
}

/// No process, file or command is given.
fn missing(verb: &str) -> Option<String> {
    let rprof = Cli::command();
    let command = rprof.find_subcommand(verb)?;
    let first = command.get_positionals().next().map(clap::Arg::get_id)?;
    Some(match first.as_str() {
        "target" => format!("`rprof {verb} 1234`, or `rprof {verb} NAME`; `ps -e` lists processes"),
        "files" if verb == "top" => "`rprof top FILE`, or `rprof top NAME` for a running process".to_owned(),
        "files" => format!("`rprof {verb} FILE`; `rprof attach NAME -o FILE` writes a profile"),
        "command" => format!("`rprof {verb} -- COMMAND`, for example `rprof {verb} -- ls`"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn hinted(line: &[&str]) -> String {
        let line = words(line);
        let error = Cli::try_parse_from(&line).expect_err("a wrong command line");
        hint(&error, &line).unwrap_or_default()
    }

    #[test]
    fn a_number_in_place_of_the_verb_is_profiled() {
        assert_eq!(
            with_verb(words(&["rprof", "12", "-d", "5s"])),
            words(&["rprof", "attach", "12", "-d", "5s"])
        );
        for line in [&["rprof"][..], &["rprof", "top", "12"], &["rprof", "--help"], &["rprof", "help"]] {
            assert_eq!(with_verb(words(line)), words(line));
        }
    }

    #[test]
    fn a_mistyped_verb_is_not_the_name_of_a_process() {
        assert!(["atach", "att", "recrod", "to"].iter().all(|word| is_like_a_verb(word)));
        assert!(["redis", "postgres", "nginx"].iter().all(|word| !is_like_a_verb(word)));
    }

    #[test]
    fn an_option_of_another_verb_is_named_with_its_verbs() {
        let hint = hinted(&["rprof", "info", "1", "--duration", "5s"]);
        assert!(hint.contains("--duration is an option of attach, heap, record, snapshot"), "{hint}");
    }

    #[test]
    fn a_missing_process_file_or_command_is_shown_in_an_example() {
        assert!(hinted(&["rprof", "dump"]).contains("`rprof dump NAME`"));
        assert!(hinted(&["rprof", "tree"]).contains("`rprof tree FILE`"));
        assert!(hinted(&["rprof", "top"]).contains("`rprof top NAME`"));
        assert!(hinted(&["rprof", "record"]).contains("`rprof record -- COMMAND`"));
    }
}
