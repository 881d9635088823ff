//! A report as JSON: one object, one line per outer entry. docs/REPORTS.md describes the schema.
//!
//! Not here: the content.

use std::fmt::Write;

use super::{Cell, Entry, List, ReportOutput};

/// Name and version of the schema; the version changes when the meaning of a field changes.
const SCHEMA: &str = "rprof.report/2";

pub(super) fn print(output: &ReportOutput) -> String {
    let mut out = String::new();
    // Writing to memory does not fail, here and below.
    let _ = write!(out, "{{\n\"schema\": {},\n\"report\": {},\n", text(SCHEMA), text(output.report));
    profile(output, &mut out);
    if let Some(compared) = &output.compared {
        compared.json(&mut out, &text);
    }
    list(&output.list, true, &mut out);
    if !output.notes.is_empty() {
        let notes: Vec<String> = output.notes.iter().map(|note| text(note)).collect();
        let _ = write!(out, ",\n\"notes\": [{}]", notes.join(", "));
    }
    out + "\n}\n"
}

fn profile(output: &ReportOutput, out: &mut String) {
    let facts = &output.facts;
    let _ = write!(
        out,
        "\"profile\": {{\"file\": {}, \"build_id\": {}, \"type\": {}, \"unit\": {}, \"total\": {}, \"samples\": {}, \
         \"time_ns\": {}, \"duration_ns\": {}",
        text(&facts.file),
        text(&facts.build_id),
        text(&facts.measured),
        text(&facts.unit),
        facts.total,
        facts.samples,
        facts.time_ns,
        facts.duration_ns
    );
    for (name, texts) in [("comments", &facts.comments), ("filters", &facts.filters)] {
        if !texts.is_empty() {
            let texts: Vec<String> = texts.iter().map(|own| text(own)).collect();
            let _ = write!(out, ", \"{name}\": [{}]", texts.join(", "));
        }
    }
    out.push_str("},\n");
}

/// Writes `"functions": [...]`, and `"more_functions": {...}` if some are left out.
fn list(list: &List, is_outer: bool, out: &mut String) {
    let name = list.shape.name;
    let (open, separator, close) = if is_outer { ("\n", ",\n", "\n") } else { ("", ", ", "") };
    let _ = write!(out, "\"{name}\": [");
    for (at, own) in list.entries.iter().enumerate() {
        out.push_str(if at == 0 { open } else { separator });
        entry(list, own, out);
    }
    out.push_str(if list.entries.is_empty() { "]" } else { close });
    if !list.entries.is_empty() {
        out.push(']');
    }
    if list.more > 0 {
        let _ =
            write!(out, ",{}\"more_{name}\": {{\"count\": {}", if is_outer { "\n" } else { " " }, list.more);
        for (column, sum) in list.shape.sums.iter().zip(&list.more_sums) {
            field(column, sum, out);
        }
        out.push('}');
    }
}

fn entry(of: &List, entry: &Entry, out: &mut String) {
    let mut fields = String::new();
    for (column, cell) in of.shape.columns.iter().zip(&entry.cells) {
        field(column, cell, &mut fields);
    }
    out.push('{');
    out.push_str(fields.strip_prefix(", ").unwrap_or(&fields));
    for group in &entry.groups {
        out.push_str(", ");
        list(group, false, out);
    }
    out.push('}');
}

/// Writes `, "name": value`; nothing for an empty cell.
fn field(name: &str, cell: &Cell, out: &mut String) {
    let value = match cell {
        Cell::Nothing => return,
        Cell::Text(own) => text(own),
        Cell::Word(word) => text(word),
        Cell::Value(number) | Cell::Number(number) => number.to_string(),
        Cell::Percent(number) | Cell::Ratio(number) => decimal(*number),
        Cell::Probability(number) => probability(*number),
    };
    let _ = write!(out, ", \"{name}\": {value}");
}

/// A number with at most four decimals. JSON has no infinity.
pub(super) fn decimal(number: f64) -> String {
    if !number.is_finite() {
        return "null".into();
    }
    let digits = format!("{number:.4}");
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    if digits == "-0" { "0".into() } else { digits.into() }
}

pub(super) fn probability(number: f64) -> String {
    if number == 0.0 || number >= 0.0001 { decimal(number) } else { format!("{number:.2e}") }
}

/// A JSON string. All control characters are escaped, also those that JSON allows.
fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            letter if super::super::paint::is_harmful(letter) => {
                let _ = write!(out, "\\u{:04x}", letter as u32);
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_and_have_no_control_characters() {
        for hostile in ["a\"b\\c\n\t\r", "\u{1b}[2J\u{9b}31m", "\u{202e}gnp.exe", "ünï", "\u{0}\u{7f}"] {
            let written = text(hostile);
            assert!(!written.chars().any(char::is_control), "{written:?}");
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), hostile);
        }
    }

    #[test]
    fn numbers_are_valid_json() {
        assert_eq!([12.5, 0.0, -0.00001, 33.333333].map(decimal), ["12.5", "0", "0", "33.3333"]);
        assert_eq!([0.05, 1e-9, 0.0].map(probability), ["0.05", "1.00e-9", "0"]);
        assert_eq!(decimal(f64::INFINITY), "null");
    }
}
