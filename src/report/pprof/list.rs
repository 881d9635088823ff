//! `list`: the source lines of matching functions, with samples.
//!
//! Not here: finding the files ([`super::source_path`]).

use std::io::Write;

use rustc_hash::FxHashMap;

use super::{
    graph::{Info, Weights},
    prepare::Report,
    source_path::Sources,
};
use crate::profile::unit::percentage;

/// Lines shown before and after those with samples.
const MARGIN: i64 = 5;

/// A line with samples.
#[derive(Clone, Copy)]
struct Entry {
    info: Info,
    weights: Weights,
}

pub(super) fn print(report: &mut Report) -> Result<Vec<u8>, String> {
    let nodes = report.nodes();
    let Some(argument) = report.argument.clone() else { return Err("list needs an argument".into()) };
    let columns = &report.columns;
    let mut functions: FxHashMap<&str, Vec<Entry>> = FxHashMap::default();
    for (info, weights) in nodes {
        if argument.is_match(columns.text(info.name)) {
            functions.entry(columns.text(info.name)).or_default().push(Entry { info, weights });
        }
    }
    if functions.is_empty() {
        return Err(format!("no matches found for regexp: {}", argument.as_str()));
    }
    let mut out = Vec::new();
    // Writing to memory does not fail, here and below.
    let _ = writeln!(out, "Total: {}", report.format.value(report.total));
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(name, _)| *name);
    let mut sources = Sources::new(&report.settings)?;
    for (name, entries) in functions {
        function(report, name, &entries, &mut sources, &mut out);
    }
    Ok(out)
}

fn function(report: &Report, name: &str, entries: &[Entry], sources: &mut Sources, out: &mut Vec<u8>) {
    let mut files: FxHashMap<&str, Vec<Entry>> = FxHashMap::default();
    for entry in entries.iter().filter(|entry| entry.info.file != 0) {
        files.entry(report.columns.text(entry.info.file)).or_default().push(*entry);
    }
    if files.is_empty() {
        let _ = writeln!(out, "No source information for {name}");
    }
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort_by_key(|(file, _)| *file);
    for (file, entries) in files {
        let sum = |part: fn(&Weights) -> i64| {
            entries.iter().fold(0i64, |sum, entry| sum.wrapping_add(part(&entry.weights)))
        };
        let (flat, cum) = (sum(|weights| weights.flat.sum), sum(|weights| weights.cum.sum));
        let _ = writeln!(out, "ROUTINE ======================== {name} in {file}");
        let _ = writeln!(
            out,
            "{:>10} {:>10} (flat, cum) {} of Total",
            report.format.value(flat),
            report.format.value(cum),
            percentage(cum, report.total)
        );
        let (start, end) = range(&entries);
        if start > end && !sources.is_known(file) {
            // The reference does not check whether the file exists.
            continue;
        }
        match sources.lines(file) {
            Ok(lines) => source(report, &entries, (start, end), lines, out),
            Err(error) => {
                let _ = writeln!(out, " Error: {error}");
            }
        }
    }
}

fn source(report: &Report, entries: &[Entry], range: (i64, i64), lines: &[String], out: &mut Vec<u8>) {
    for number in range.0..=range.1 {
        let Some(line) = usize::try_from(number - 1).ok().and_then(|at| lines.get(at)) else { break };
        let (mut flat, mut cum) = (0i64, 0i64);
        for entry in entries.iter().filter(|entry| entry.info.line == number) {
            flat = flat.wrapping_add(entry.weights.flat.sum);
            cum = cum.wrapping_add(entry.weights.cum.sum);
        }
        let (flat, cum) = (report.format.value_or_dot(flat), report.format.value_or_dot(cum));
        let _ = writeln!(out, "{flat:>10} {cum:>10} {number:>6}:{line}");
    }
}

/// The first and last line to show.
fn range(entries: &[Entry]) -> (i64, i64) {
    let start_of = |info: &Info| match info.start_line {
        0 => info.line.saturating_sub(MARGIN),
        start => start,
    };
    let start = entries.iter().map(|entry| start_of(&entry.info)).min().unwrap_or(1);
    let end = entries.iter().map(|entry| entry.info.line.saturating_add(MARGIN)).max().unwrap_or(0);
    (start.max(1), end)
}
