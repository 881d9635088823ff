//! Error messages in plain words, with suggestions, for people at a terminal. Programs that feed
//! the prompt get the messages of the reference.
//!
//! Not here: detecting errors.

use super::complete::Vocabulary;
use crate::report::pprof::{COMMANDS, OPTIONS, options::SettingOption};

/// The largest number of suggestions.
const MAX_SUGGESTIONS: usize = 3;

/// Rewrites `error`, a message of the reference about `line`, in plain words.
pub(super) fn explain(error: &str, line: &str, vocabulary: &Vocabulary) -> String {
    if let Some(name) = quoted_after(error, "unrecognized command: ") {
        return format!("there is no command `{name}`{}", suggestion(near(&name, command_words(vocabulary))));
    }
    if let Some(name) = error.strip_prefix("Unknown command: ") {
        let known = command_words(vocabulary);
        return format!("there is no command or option `{name}`{}", suggestion(near(name, known)));
    }
    if let Some(expression) = error.strip_prefix("no matches found for regexp: ") {
        let suggested = suggestion(near_functions(expression, vocabulary));
        return format!("no function matches `{expression}`{suggested}");
    }
    if error.starts_with("command ") && error.ends_with(" requires an argument") {
        let command = line.split_whitespace().next().unwrap_or_default();
        return format!("{command} needs the functions to show: {command} REGEXP");
    }
    if let Some((name, value)) = line.split_once('=') {
        let (name, value) = (name.trim(), value.trim());
        if let Some(message) = wrong_value(error, name, value, vocabulary) {
            return message;
        }
    }
    if error.contains("error parsing regexp") {
        let advice = "escape ( ) [ ] * + ? | . in names with a \\; the tab key does it for you";
        return format!("{error}\n  {advice}");
    }
    error.into()
}

/// The message with suggestions, if it reports that an expression of the settings matched nothing.
pub(super) fn nothing_matched(message: &str, expression: &str, vocabulary: &Vocabulary) -> Option<String> {
    let of_names = ["Focus ", "Ignore ", "Hide ", "Show ", "ShowFrom "];
    if !message.ends_with("expression matched no samples")
        || !of_names.iter().any(|start| message.starts_with(start))
    {
        return None;
    }
    let names = near_functions(expression, vocabulary);
    (!names.is_empty()).then(|| format!("{message} (`{expression}`){}", suggestion(names)))
}

fn wrong_value(error: &str, name: &str, value: &str, vocabulary: &Vocabulary) -> Option<String> {
    if error.starts_with("unknown config field") {
        return Some(format!("{name} takes no value; enter only: {name}"));
    }
    let option = SettingOption::find(name)?;
    if error.contains("strconv.Atoi") {
        return Some(format!("{name} must be an integer, not `{value}`"));
    }
    if error.contains("strconv.ParseFloat") {
        return Some(format!("{name} must be a number, not `{value}`"));
    }
    if error.starts_with("illegal value") {
        return Some(format!("{name} must be true or false, not `{value}`"));
    }
    let choices = |known: Vec<&str>| {
        let list = known.join(", ");
        format!("{name} must be one of {list}, not `{value}`{}", suggestion(near(value, known.into_iter())))
    };
    if error.starts_with("invalid ") && !option.choices.is_empty() {
        return Some(choices(option.choices.to_vec()));
    }
    if name == "sample_index" {
        return Some(choices(vocabulary.kinds().iter().map(String::as_str).collect()));
    }
    None
}

fn quoted_after(error: &str, start: &str) -> Option<String> {
    Some(error.strip_prefix(start)?.trim_matches('"').to_string())
}

fn command_words(vocabulary: &Vocabulary) -> impl Iterator<Item = &str> {
    let options =
        OPTIONS.iter().flat_map(|option| [option.name].into_iter().chain(option.choices.iter().copied()));
    let own = ["help", "options", "quit", "exit"];
    let kinds = vocabulary.kinds().iter().map(String::as_str);
    COMMANDS.iter().map(|command| command.name).chain(options).chain(own).chain(kinds)
}

/// The known words that `word` may be a typing error of, the most similar first.
pub(super) fn near<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let max_distance = (word.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = known
        .filter(|known| *known != word)
        .map(|known| (strsim::damerau_levenshtein(word, known), known))
        .filter(|(distance, known)| *distance <= max_distance && *distance < known.chars().count())
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(MAX_SUGGESTIONS);
    let best = near.first().map_or(0, |first| first.0);
    near.into_iter().take_while(|(distance, _)| *distance == best).map(|(_, name)| name.into()).collect()
}

/// The functions whose name, or its last part, is similar to the expression.
fn near_functions(expression: &str, vocabulary: &Vocabulary) -> Vec<String> {
    let wanted = expression.to_lowercase();
    let score = |name: &str| {
        let lower = name.to_lowercase();
        if lower.contains(&wanted) {
            return 2.0;
        }
        let last = lower.rsplit(['.', ':', '/']).next().unwrap_or(&lower);
        strsim::jaro_winkler(&wanted, last).max(strsim::jaro_winkler(&wanted, &lower))
    };
    let names = vocabulary.functions().iter().take(200_000);
    let mut near: Vec<(f64, &String)> = names.map(|name| (score(name), name)).collect();
    near.retain(|(score, _)| *score >= 0.85);
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name.clone()).collect()
}

/// `; did you mean …?`, or nothing.
fn suggestion(names: Vec<String>) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match &quoted[..] {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        [first @ .., last] => format!("; did you mean {} or {last}?", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::columns::{Columns, Function, SampleKind};

    fn explained(error: &str, line: &str) -> String {
        let mut columns = Columns::default();
        let (name, unit) = (columns.intern("cpu"), columns.intern("nanoseconds"));
        columns.header.kinds.push(SampleKind { name, unit });
        for name in ["runtime.mallocgc", "main.work", "main.walk"] {
            let name = columns.intern(name);
            columns.functions.push(Function { name, ..Function::default() });
        }
        explain(error, line, &Vocabulary::new(&columns))
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        for (error, line, expected) in [
            ("unrecognized command: \"tpo\"", "tpo", "there is no command `tpo`; did you mean `top`?"),
            ("unrecognized command: \"zzzzzz\"", "zzzzzz", "there is no command `zzzzzz`"),
            (
                "Unknown command: granularty",
                "help granularty",
                "there is no command or option `granularty`; did you mean `granularity`?",
            ),
            (
                "no matches found for regexp: mallogc",
                "peek mallogc",
                "no function matches `mallogc`; did you mean `runtime.mallocgc`?",
            ),
            (
                "no matches found for regexp: WORK",
                "peek WORK",
                "no function matches `WORK`; did you mean `main.work`?",
            ),
            ("command list requires an argument", "list", "list needs the functions to show: list REGEXP"),
            (
                "strconv.Atoi: parsing \"x\": invalid syntax",
                "nodecount=x",
                "nodecount must be an integer, not `x`",
            ),
            (
                "illegal value \"maybe\" for bool variable",
                "trim = maybe",
                "trim must be true or false, not `maybe`",
            ),
            (
                "invalid \"sort\" value \"cun\"",
                "sort=cun",
                "sort must be one of cum, flat, not `cun`; did you mean `cum`?",
            ),
            (
                "sample_index \"cpi\" must be one of: [cpu]",
                "sample_index=cpi",
                "sample_index must be one of cpu, not `cpi`; did you mean `cpu`?",
            ),
        ] {
            assert_eq!(explained(error, line), expected);
        }
    }
}
