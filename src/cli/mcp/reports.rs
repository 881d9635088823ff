//! The tools that read profiles.

use std::fmt::Write;

use anyhow::{Context, Result, anyhow, bail};

use super::{capture::WIDTH, text::cut, tool::Call};
use crate::{
    profile::{columns::Columns, function_starts, go_regexp::GoRegexp},
    report::{
        output::{Budget, ReportOutput, ReportRequest, TextFormat, build_report, diff_runs},
        paths::{
            PathOptions, error_points,
            fold::Expand,
            heaviest, sample_count,
            text::{self as paths_text, TextOptions},
        },
        pprof::{Command, Settings, filtered},
    },
    text::counted,
};

/// Rows of the call paths without `rows`.
const ROWS: u64 = 40;
/// How many functions an error names.
const NAMED: usize = 8;

fn read(call: &Call<'_>, messages: &mut Vec<String>) -> Result<Columns> {
    call.store.read(call.arguments.text("profile"), messages)
}

fn settings(call: &Call<'_>) -> Settings {
    let arguments = call.arguments;
    Settings {
        focus: arguments.text("focus").into(),
        ignore: arguments.text("ignore").into(),
        sample_index: arguments.text("sample_type").into(),
        sort: if arguments.flag("cum") { "cum" } else { "flat" }.into(),
        compact_labels: true,
        ..Settings::default()
    }
}

/// The report within the budget, after the messages.
fn print(call: &Call<'_>, output: &ReportOutput, messages: &[String]) -> String {
    let format = TextFormat::find(call.arguments.text("format")).unwrap_or_default();
    let mut text = match format {
        // Messages would make it invalid.
        TextFormat::Json | TextFormat::Csv => String::new(),
        _ => messages.iter().map(|message| format!("warning: {message}\n")).collect(),
    };
    let room = call.budget().saturating_sub(text.len());
    text += &output.print(format, Some(Budget::Bytes(room)), false);
    match format {
        TextFormat::Json | TextFormat::Csv => text,
        _ => cut(&text, call.budget()),
    }
}

/// The hottest functions.
pub fn top(call: &Call<'_>) -> Result<String> {
    report(call, "top", None)
}

/// The annotated source of functions.
pub fn source(call: &Call<'_>) -> Result<String> {
    let columns = read(call, &mut Vec::new())?;
    let expression = expression(&columns, call.arguments.text("function"))?;
    report(call, "list", Some(&expression))
}

fn report(call: &Call<'_>, name: &'static str, argument: Option<&str>) -> Result<String> {
    let command = Command::find(name).with_context(|| format!("there is no report {name}"))?;
    let mut messages = Vec::new();
    let columns = read(call, &mut messages)?;
    let request = ReportRequest { argument, count: Some(usize::MAX), ..ReportRequest::default() };
    let output = build_report(columns, command, request, &settings(call), &mut messages);
    messages.retain(|message| !message.starts_with("For tag "));
    let output = output.map_err(|error| match &messages[..] {
        [] => anyhow!(error),
        _ => anyhow!("{error} ({})", messages.join("; ")),
    })?;
    Ok(print(call, &output, &messages))
}

/// The expression that matches what the model named: a part of names if there is such a name, else
/// a regular expression. Errors: it matches no function; the functions with the most are named.
fn expression(columns: &Columns, function: &str) -> Result<String> {
    let names = || {
        let names = columns.functions.iter().map(|function| columns.text(function.name));
        names.filter(|name| !name.is_empty())
    };
    if names().any(|name| name.contains(function)) {
        return Ok(regex::escape(function));
    }
    let pattern = GoRegexp::new(function).map_err(|error| {
        anyhow!("`{function}` is neither a part of a name nor a regular expression: {error}")
    })?;
    if names().any(|name| pattern.is_match(name)) {
        return Ok(function.to_owned());
    }
    let lower = function.to_lowercase();
    let mut similar: Vec<&str> =
        names().filter(|name| name.to_lowercase().contains(&lower)).take(NAMED).collect();
    if !similar.is_empty() {
        bail!("no function matches `{function}`; similar names: {}", similar.join(", "));
    }
    let value = columns.value_index("").unwrap_or(0);
    let paths = heaviest(columns, value, PathOptions { rows: 1, expand: Expand::default() });
    similar.extend(paths.hottest.iter().map(|(name, _)| &**name));
    bail!("no function matches `{function}`; the hottest are {}", similar.join(", "))
}

/// The heaviest call paths.
pub fn paths(call: &Call<'_>) -> Result<String> {
    let mut messages = Vec::new();
    let columns = read(call, &mut messages)?;
    let function = call.arguments.text("function");
    let focus = if function.is_empty() { String::new() } else { expression(&columns, function)? };
    let all = columns.clone();
    let settings = Settings { focus, ..settings(call) };
    let (columns, value) = filtered(columns, &settings, &mut messages).map_err(|error| anyhow!(error))?;
    let expand = call.arguments.text("expand");
    let expand =
        Expand { kernel: ["kernel", "all"].contains(&expand), runtime: ["runtime", "all"].contains(&expand) };
    let rows = call.arguments.integer("rows").unwrap_or(ROWS) as usize;
    let paths = heaviest(&columns, value, PathOptions { rows, expand });
    let options = TextOptions { width: WIDTH, full_names: false };
    let mut text = String::new();
    if !function.is_empty() {
        let sum = |columns: &Columns| -> i64 {
            let values = (0..columns.sample_count()).filter_map(|at| columns.values(at).get(value));
            values.fold(0, |sum: i64, value| sum.saturating_add(*value))
        };
        let share = sum(&columns) as f64 / (sum(&all) as f64).max(1.0) * 100.0;
        let _ = writeln!(
            text,
            "{share:.1}% of the profile has `{function}` on its stack; below, 100% is this part"
        );
    }
    text += &paths_text::tree(&paths, options);
    text.extend(paths_text::hottest(&paths, options).map(|line| line + "\n"));
    let _ = writeln!(
        text,
        "{} of {}; a share of one half may be off by {:.1} points",
        counted(paths.samples, "sample"),
        paths.kind.0,
        paths.error_points
    );
    Ok(cut(&text, call.budget()))
}

/// Compares profiles.
pub fn diff(call: &Call<'_>) -> Result<String> {
    let names = [call.arguments.texts("base"), call.arguments.texts("new")];
    let mut messages = Vec::new();
    let mut read_all = |names: &[&str]| {
        names.iter().map(|name| call.store.read(name, &mut messages)).collect::<Result<Vec<Columns>>>()
    };
    let runs = [read_all(&names[0])?, read_all(&names[1])?];
    let request = ReportRequest { count: Some(usize::MAX), ..ReportRequest::default() };
    let names = names.map(|names| names.join(", "));
    let all = call.arguments.flag("all");
    let output = diff_runs(runs, names, &settings(call), request, all, &mut messages);
    messages.retain(|message| !message.starts_with("For tag "));
    messages.dedup();
    Ok(print(call, &output.map_err(|error| anyhow!(error))?, &messages))
}

/// What the comments of a profile mean: their keys, as in docs/COMPATIBILITY.md.
const MEANINGS: &[(&str, &str)] = &[
    ("target", "the profiled process"),
    ("sampler", "how samples were taken; bpf and perf do not stop threads, ptrace does"),
    ("how", "the sampler's settings"),
    ("stacks", "stacks that reach the root of the thread; callers of the others are missing"),
    ("no user stack", "samples with kernel frames alone, as of threads that are exiting"),
    ("unnamed", "frames without a function name; debug files or symbols would name them"),
    ("samples", "how many samples were taken"),
    ("lost", "samples that the kernel dropped; many lost samples bias the profile"),
    ("rate", "requested and achieved sampling rate"),
    ("cpu", "sampled CPU time against the CPU time that the kernel accounts"),
    ("wall", "sampled wall-clock time"),
    ("offcpu", "time that threads waited"),
    ("throttled", "for how much of the time a CPU quota kept the process from running"),
    ("delta", "the time that the profile covers, where a runtime's own covers all since its start"),
    ("other", "how to get the same profile from another source"),
    ("faults", "page faults"),
    ("kernel frames", "whether stacks include the kernel, and why not"),
    ("scanned", "frames that were found by searching the stack, which are less certain"),
    ("different stacks", "how many stacks differ; above the limit, new ones are counted together"),
    ("ended", "why sampling ended early"),
    ("rprof", "the version of rprof that wrote the profile"),
    ("kind", "what was read"),
    ("threads", "how many threads there were"),
    ("methods", "how the threads were read"),
    ("stopped", "how many threads were stopped, and for how long"),
    ("runtime", "the language runtime and its version"),
    ("goroutines", "how many goroutines there were"),
    ("running", "goroutines that ran while they were read: their stacks are less certain"),
    ("changed while read", "records that changed while they were read and are left out"),
    ("layout", "how the runtime's structures are known"),
    ("trace", "the timeline that the profile was made from"),
    ("frames", "which frames stacks have where a language keeps frames of its own"),
    ("language frames", "whether frames of an interpreted language were read"),
    ("category", "which frames belong to an interpreter, a runtime or a library"),
];

/// Says how far to trust a profile.
pub fn quality(call: &Call<'_>) -> Result<String> {
    let mut messages = Vec::new();
    let columns = read(call, &mut messages)?;
    let name = call.arguments.text("profile");
    let kept = call.store.find(name)?;
    let title = kept.as_ref().map_or_else(String::new, |kept| format!(": {}", kept.title));
    let mut text = format!("profile {name}{title}\n{}\n", certainty(&columns));
    let warnings = kept.iter().flat_map(|kept| &kept.warnings).chain(&messages);
    warnings.for_each(|warning| {
        let _ = writeln!(text, "warning: {warning}");
    });
    let comments = columns.header.comments.iter().map(|comment| columns.text(*comment));
    for comment in comments.filter(|comment| !function_starts::is_comment(comment)) {
        let key = comment.split_once(": ").map_or("", |(key, _)| key);
        let meaning = MEANINGS.iter().find(|(known, _)| *known == key);
        let meaning = meaning.map_or_else(String::new, |(_, meaning)| format!("  [{meaning}]"));
        let _ = writeln!(text, "{comment}{meaning}");
    }
    Ok(cut(&text, call.budget()))
}

/// How uncertain the shares of a profile are, and what to do about it.
fn certainty(columns: &Columns) -> String {
    let samples = sample_count(columns);
    if samples == 0 {
        return "it has no samples: nothing ran while it was taken, or the kind is the wrong one".into();
    }
    let points = error_points(columns, columns.value_index("").unwrap_or(0));
    let advice = match points {
        points if points <= 3.0 => "small functions are comparable too",
        points if points <= 10.0 => "trust the order of the hottest functions only",
        _ => "too few samples: attach for longer, or with a higher frequency_hz",
    };
    format!(
        "{}: a share of one half may be off by {points:.1} points (95 % interval); {advice}",
        counted(samples, "sample")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of comments in `docs/COMPATIBILITY.md`.
    #[test]
    fn every_documented_comment_is_explained() {
        let document = include_str!(concat!("../../../docs/", "COMPATIBILITY.md"));
        let (_, keys) = document.split_once("### Keys of comments").expect("the section");
        let keys = keys.split_once("Comments that begin").expect("the end of the list").0;
        // A key may be broken over two lines.
        let keys = keys.replace('\n', " ");
        let keys: Vec<&str> = keys.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() > 20, "{keys:?}");
        for key in keys {
            assert!(MEANINGS.iter().any(|(known, _)| *known == key), "{key}");
        }
    }
}
