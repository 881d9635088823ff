//! A report as text, in the layout of the reference's reports.
//!
//! Not here: the content.

use std::{collections::HashMap, fmt::Write};

use super::{Cell, Entry, List, ReportOutput, diff::Compared};
use crate::{profile::unit::percentage, report::paint};

const SEPARATOR: &str = "----------------------------------------------------------+-------------";
const TRACE_SEPARATOR: &str = "-----------+-------------------------------------------------------";

/// Width of the columns of a comparison before the verdict.
const CHANGE_WIDTH: usize = 84;

/// The longest file name after a function name, in characters.
const MAX_FILE_CHARS: usize = 60;

pub(super) fn print(output: &ReportOutput, colored: bool) -> String {
    let mut out = String::new();
    let printer = Printer { output, ambiguous: ambiguous(&output.list) };
    if let Some(compared) = &output.compared {
        printer.compared(compared, &mut out);
        return finish(out, colored.then_some(paint_changes as fn(&str) -> String));
    }
    let is_top = output.list.shape.one == "function" && output.list.shape.groups.is_empty();
    let facts = |out: &mut String| output.facts.lines.iter().for_each(|line| line_of(out, line));
    // The table of `top` is what a reader looks for first.
    if !is_top {
        facts(&mut out);
    }
    match output.list.shape.one {
        "function" if is_top => {
            printer.top(&mut out);
            if !output.facts.lines.is_empty() {
                out.push('\n');
            }
            facts(&mut out);
        }
        "function" if output.report == "list" => printer.sources(&mut out),
        "function" => printer.tree(&mut out),
        "label" => printer.labels(&mut out),
        _ => printer.stacks(&mut out),
    }
    for note in &output.notes {
        line_of(&mut out, note);
    }
    finish(out, colored.then_some(paint::paint as fn(&str) -> String))
}

fn finish(text: String, color: Option<fn(&str) -> String>) -> String {
    let text = paint::harmless(&text);
    color.map_or_else(|| text.to_string(), |color| color(&text))
}

/// Writes a line; line breaks in it become blanks.
fn line_of(out: &mut String, line: &str) {
    // Writing to memory does not fail, here and below.
    let _ = writeln!(out, "{}", one_line(line));
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}

/// Names of several entries, which are shown with their files.
fn ambiguous(list: &List) -> HashMap<String, usize> {
    let mut names: HashMap<String, usize> = HashMap::new();
    for entry in &list.entries {
        if let Cell::Text(name) = list.cell(entry, "name")
            && *list.cell(entry, "line") == Cell::Nothing
        {
            *names.entry(name.clone()).or_default() += 1;
        }
    }
    names
}

struct Printer<'a> {
    output: &'a ReportOutput,
    ambiguous: HashMap<String, usize>,
}

impl Printer<'_> {
    fn value(&self, list: &List, entry: &Entry, column: &str) -> i64 {
        match list.cell(entry, column) {
            Cell::Value(value) | Cell::Number(value) => *value,
            _ => 0,
        }
    }

    /// The label of an entry after `before` characters of its line: address, name, and file where
    /// it is needed.
    fn label(&self, list: &List, entry: &Entry, before: usize) -> String {
        let text = |column: &str| match list.cell(entry, column) {
            Cell::Text(text) => one_line(text),
            _ => String::new(),
        };
        let (name, file, address) = (text("name"), text("file"), text("address"));
        let shown = self.output.names.shown(&name, before + self.marker(list, entry).len());
        let mut label = if address.is_empty() { shown.into_owned() } else { format!("{address} {shown}") };
        match list.cell(entry, "line") {
            Cell::Number(line) => label += &format!(" {file}:{line}"),
            _ if self.ambiguous.get(&name).is_some_and(|count| *count > 1) && !file.is_empty() => {
                let skipped = file.chars().count().saturating_sub(MAX_FILE_CHARS);
                let shown: String = file.chars().skip(skipped).collect();
                label += &format!(" ({}{shown})", if skipped > 0 { "…" } else { "" });
            }
            _ => {}
        }
        label
    }

    fn marker(&self, list: &List, entry: &Entry) -> &'static str {
        match list.cell(entry, "inlined") {
            Cell::Word("yes") => " (inline)",
            Cell::Word("partly") => " (partial-inline)",
            _ => "",
        }
    }

    /// The columns `flat flat% sum% cum cum%`.
    fn weights(&self, entry: &Entry, sum: &mut i64) -> String {
        let (output, total) = (self.output, self.output.facts.total);
        let (flat, cum) = (self.value(&output.list, entry, "flat"), self.value(&output.list, entry, "cum"));
        *sum = sum.saturating_add(flat);
        output.format.weights([flat, *sum, cum], total)
    }

    fn showing(&self, out: &mut String) {
        let (output, list) = (self.output, &self.output.list);
        let flats = list.entries.iter().map(|entry| self.value(list, entry, "flat"));
        let flat = flats.fold(0i64, i64::saturating_add);
        let total = output.facts.total;
        let share = percentage(flat, total);
        let (flat, total) = (output.value(flat), output.value(total));
        let _ = writeln!(out, "Showing nodes accounting for {flat}, {} of {total} total", share.trim());
        if list.more > 0 {
            let (shown, all) = (list.entries.len(), list.entries.len() + list.more);
            let _ = writeln!(out, "Showing top {shown} nodes out of {all}");
        }
    }

    fn more(&self, list: &List, indent: &str, what: &str, out: &mut String) {
        if list.more == 0 {
            return;
        }
        let sum = list.shape.sums.first().map_or(&Cell::Nothing, |column| list.more_sum(column));
        let sum = match sum {
            Cell::Value(value) => {
                let share = percentage(*value, self.output.facts.total);
                format!(", {} ({})", self.output.value(*value), share.trim())
            }
            _ => String::new(),
        };
        let _ = writeln!(out, "{indent}… {} more{what}{sum}", list.more);
    }

    fn top(&self, out: &mut String) {
        let list = &self.output.list;
        self.showing(out);
        let _ = writeln!(out, "{:>10} {:>5}% {:>5}% {:>10} {:>5}%", "flat", "flat", "sum", "cum", "cum");
        let mut sum = 0;
        for entry in &list.entries {
            let weights = self.weights(entry, &mut sum);
            let label = self.label(list, entry, weights.len() + 2);
            let _ = writeln!(out, "{weights}  {label}{}", self.marker(list, entry));
        }
        self.more(list, "", "", out);
    }

    fn tree(&self, out: &mut String) {
        let list = &self.output.list;
        self.showing(out);
        let legend = "      flat  flat%   sum%        cum   cum%   calls calls% + context";
        let _ = writeln!(out, "{SEPARATOR}\n{legend}");
        let mut sum = 0;
        for entry in &list.entries {
            let cum = self.value(list, entry, "cum");
            let _ = writeln!(out, "{SEPARATOR}");
            let [callers, callees] = &entry.groups[..] else { continue };
            self.calls(callers, cum, out);
            let weights = self.weights(entry, &mut sum);
            let label = self.label(list, entry, weights.len() + 18);
            let _ = writeln!(out, "{weights}                | {label}{}", self.marker(list, entry));
            self.calls(callees, cum, out);
        }
        let _ = writeln!(out, "{SEPARATOR}");
        self.more(list, "", "", out);
    }

    fn calls(&self, list: &List, cum: i64, out: &mut String) {
        for entry in &list.entries {
            let value = self.value(list, entry, "value");
            let (shown, share) = (self.output.value(value), percentage(value, cum));
            let label = self.label(list, entry, 50 + share.len() + 6);
            let _ = writeln!(out, "{shown:>50} {share} |   {label}{}", self.marker(list, entry));
        }
        self.more(list, &" ".repeat(61), &format!(" {}", list.shape.name), out);
    }

    fn sources(&self, out: &mut String) {
        let (output, list) = (self.output, &self.output.list);
        let _ = writeln!(out, "Total: {}", output.value(output.facts.total));
        for entry in &list.entries {
            let text = |column: &str| match list.cell(entry, column) {
                Cell::Text(text) => Some(one_line(text)),
                _ => None,
            };
            let name = text("name").unwrap_or_default();
            let file = text("file").map_or(String::new(), |file| format!(" in {file}"));
            let (flat, cum) = (self.value(list, entry, "flat"), self.value(list, entry, "cum"));
            let share = percentage(cum, output.facts.total);
            let _ = writeln!(out, "ROUTINE ======================== {name}{file}");
            let (flat, cum) = (output.value(flat), output.value(cum));
            let _ = writeln!(out, "{flat:>10} {cum:>10} (flat, cum) {share} of Total");
            if let Some(missing) = text("missing") {
                let _ = writeln!(out, " no source: {missing}");
            }
            entry.groups.iter().for_each(|lines| self.lines(lines, out));
        }
        self.more(list, "", " functions", out);
    }

    fn lines(&self, list: &List, out: &mut String) {
        let mut next = None;
        for entry in &list.entries {
            let number = self.value(list, entry, "line");
            if next.is_some_and(|next| next != number) {
                let _ = writeln!(out, "{:>28}", "...");
            }
            next = Some(number + 1);
            let shown = |column| match self.value(list, entry, column) {
                0 => ".".to_string(),
                value => self.output.value(value),
            };
            let source = match list.cell(entry, "source") {
                Cell::Text(source) => source.replace('\n', " "),
                _ => String::new(),
            };
            let _ = writeln!(out, "{:>10} {:>10} {number:>6}:{source}", shown("flat"), shown("cum"));
        }
        self.more(list, "                       ", " lines", out);
    }

    fn labels(&self, out: &mut String) {
        let (output, list) = (self.output, &self.output.list);
        let row = |list: &List, entry: &Entry, column: &str| {
            let value = self.value(list, entry, "value");
            let name = match list.cell(entry, column) {
                Cell::Text(name) => one_line(name),
                _ => String::new(),
            };
            (output.value(value), percentage(value, output.facts.total), name)
        };
        if list.entries.is_empty() {
            let _ = writeln!(out, "the samples have no labels");
        }
        for entry in &list.entries {
            let (value, share, name) = row(list, entry, "key");
            let total = output.value(output.facts.total);
            let _ = writeln!(out, "{name}: {value} of {total} ({})", share.trim());
            for values in &entry.groups {
                for entry in &values.entries {
                    let (value, share, name) = row(values, entry, "text");
                    let _ = writeln!(out, "{value:>14} {share:>8}  {name}");
                }
                self.more(values, &" ".repeat(25), " values", out);
            }
            out.push('\n');
        }
        self.more(list, "", " labels", out);
    }

    fn stacks(&self, out: &mut String) {
        let (output, list) = (self.output, &self.output.list);
        for entry in &list.entries {
            let _ = writeln!(out, "{TRACE_SEPARATOR}");
            if let Cell::Text(labels) = list.cell(entry, "labels") {
                let _ = writeln!(out, "{:>13}{}", "", one_line(labels));
            }
            let value = self.value(list, entry, "value");
            let mut shown = output.value(value);
            for frames in &entry.groups {
                for frame in &frames.entries {
                    let (label, marker) = (self.label(frames, frame, 13), self.marker(frames, frame));
                    let _ = writeln!(out, "{shown:>10}   {label}{marker}");
                    shown.clear();
                }
                self.more(frames, "             ", " frames", out);
            }
        }
        let _ = writeln!(out, "{TRACE_SEPARATOR}");
        self.more(list, "", " stacks", out);
    }

    fn compared(&self, compared: &Compared, out: &mut String) {
        let (output, list) = (self.output, &self.output.list);
        let side = |facts: &super::Facts, hits: f64| {
            let duration = match facts.duration_ns {
                0 => String::new(),
                duration => format!(" in {}", crate::profile::unit::label(duration, "nanoseconds")),
            };
            format!("{} of {} ({hits:.0} samples){duration}", output.value(facts.total), facts.measured)
        };
        let [base, new] = &compared.names;
        let _ = writeln!(out, "base: {}: {}", one_line(base), side(&compared.base, compared.hits[0]));
        let _ = writeln!(out, "new:  {}: {}", one_line(new), side(&output.facts, compared.hits[1]));
        for note in &output.notes {
            let _ = writeln!(out, "      {}", one_line(note));
        }
        if list.entries.is_empty() {
            let _ = writeln!(out, "no significant changes ({})", compared.by);
            return;
        }
        let by = compared.by;
        let _ = writeln!(
            out,
            "{:>10} {:>7} {:>10} {:>7} {:>8} {:>17} {:>8}",
            format!("base {by}"),
            "base%",
            format!("new {by}"),
            "new%",
            "change",
            "95% interval",
            "p"
        );
        for entry in &list.entries {
            self.change(list, entry, out);
        }
        if list.more > 0 {
            let _ = writeln!(out, "… {} more", list.more);
        }
    }

    fn change(&self, list: &List, entry: &Entry, out: &mut String) {
        let number = |column: &str| match list.cell(entry, column) {
            Cell::Percent(number) | Cell::Probability(number) => *number,
            _ => 0.0,
        };
        let value = |column: &str| self.output.value(self.value(list, entry, column));
        let verdict = match list.cell(entry, "verdict") {
            Cell::Word(word) => *word,
            _ => "",
        };
        let p = match number("p") {
            p if p < 0.0001 => "<0.0001".to_string(),
            p => format!("{p:.4}"),
        };
        let _ = writeln!(
            out,
            "{:>10} {:>6.2}% {:>10} {:>6.2}% {:>+8.2} {:>+7.2} .. {:>+6.2} {p:>8}  {verdict}: {}",
            value("base"),
            number("base_percent"),
            value("new"),
            number("new_percent"),
            number("change"),
            number("low"),
            number("high"),
            self.label(list, entry, CHANGE_WIDTH + verdict.len())
        );
    }
}

/// Colours the lines of a comparison by verdict.
fn paint_changes(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches('\n');
        let style = [
            ("  grew: ", "\x1b[31m"),
            ("  appeared: ", "\x1b[31m"),
            ("  shrank: ", "\x1b[32m"),
            ("  vanished: ", "\x1b[32m"),
            ("  not significant: ", "\x1b[2m"),
        ];
        let style = style.iter().find(|(words, _)| body.contains(words)).map(|(_, style)| *style);
        match style {
            Some(style) => out += &format!("{style}{body}\x1b[0m\n"),
            None => out += line,
        }
    }
    out
}
