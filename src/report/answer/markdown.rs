//! An answer as Markdown (GitHub's, for its tables).
//!
//! Not here: what is in it. Names are the target's to choose: they stand in code spans, in which
//! nothing but a bar (which ends a cell) means anything.

use std::fmt::Write;

use super::{super::paint, Cell, Entry, List, ReportOutput};

pub(super) fn print(answer: &ReportOutput) -> String {
    let facts = &answer.facts;
    let mut out = String::new();
    // Writing to memory does not fail, here and below.
    let _ = writeln!(out, "# {}{}\n", answer.report, of(&facts.file));
    let _ = write!(
        out,
        "- {} in {}, {} in all",
        code(&facts.measured),
        code(&facts.unit),
        answer.value(facts.total)
    );
    let _ = writeln!(out, ", {} samples", facts.samples);
    let known = facts.lines.iter().filter(|line| !line.starts_with("Type: ") && !line.starts_with("File: "));
    for line in known.filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(out, "- {}", code(line.trim()));
    }
    for note in &answer.notes {
        let _ = writeln!(out, "- {}", plain(note));
    }
    out.push('\n');
    if answer.list.shape.groups.is_empty() {
        table(answer, &answer.list, &mut out);
        return out;
    }
    for entry in &answer.list.entries {
        section(answer, &answer.list, entry, &mut out);
    }
    if answer.list.more > 0 {
        let _ = writeln!(out, "{}", more(answer, &answer.list).join(" · "));
    }
    out
}

fn of(file: &str) -> String {
    if file.is_empty() { String::new() } else { format!(" of {}", code(file)) }
}

fn section(answer: &ReportOutput, list: &List, entry: &Entry, out: &mut String) {
    let title = ["name", "key"].iter().find_map(|column| match list.cell(entry, column) {
        // A heading is no table: a bar is a bar.
        Cell::Text(name) => Some(code(name).replace("\\|", "|")),
        _ => None,
    });
    let title = title.unwrap_or_else(|| format!("{} of {}", list.shape.one, shown(answer, &entry.cells[0])));
    let _ = writeln!(out, "## {title}\n");
    let facts: Vec<String> = (list.shape.columns.iter().zip(&entry.cells))
        .filter(|(column, cell)| !["name", "key"].contains(column) && **cell != Cell::Nothing)
        .map(|(column, cell)| format!("{} {}", heading(column), shown(answer, cell)))
        .collect();
    let _ = writeln!(out, "{}\n", facts.join(" · "));
    for group in entry.groups.iter().filter(|group| !group.entries.is_empty() || group.more > 0) {
        if entry.groups.len() > 1 {
            let _ = writeln!(out, "{}:\n", group.shape.name);
        }
        table(answer, group, out);
        out.push('\n');
    }
}

/// A table, without columns in which nothing is known.
fn table(answer: &ReportOutput, list: &List, out: &mut String) {
    let used = |column: &&&str| list.entries.iter().any(|entry| *list.cell(entry, column) != Cell::Nothing);
    let columns: Vec<&str> = list.shape.columns.iter().filter(used).copied().collect();
    if columns.is_empty() {
        if list.more > 0 {
            let _ = writeln!(out, "{}", more(answer, list).join(" · "));
        }
        return;
    }
    let headings: Vec<String> = columns.iter().map(|column| heading(column)).collect();
    let rule = |column: &&str| {
        let is_number = list
            .entries
            .iter()
            .all(|entry| !matches!(list.cell(entry, column), Cell::Text(_) | Cell::Word(_)));
        if is_number { "---:" } else { "---" }
    };
    let rules: Vec<&str> = columns.iter().map(rule).collect();
    let _ = writeln!(out, "| {} |\n|{}|", headings.join(" | "), rules.join("|"));
    for entry in &list.entries {
        let cells: Vec<String> =
            columns.iter().map(|column| shown(answer, list.cell(entry, column))).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    if list.more > 0 {
        let names = ["name", "text", "source"];
        let place = columns.iter().position(|column| names.contains(column)).unwrap_or(0);
        let cells = columns.iter().enumerate().map(|(at, column)| match at == place {
            true => format!("… {} more", list.more),
            false => shown(answer, list.more_sum(column)),
        });
        let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

fn more(answer: &ReportOutput, list: &List) -> Vec<String> {
    let sums = list.shape.sums.iter().zip(&list.more_sums).filter(|(_, sum)| **sum != Cell::Nothing);
    let sums = sums.map(|(column, sum)| format!("{} {}", heading(column), shown(answer, sum)));
    [format!("… {} more", list.more)].into_iter().chain(sums).collect()
}

fn heading(column: &str) -> String {
    column.replace("_percent", " %").replace('_', " ")
}

fn shown(answer: &ReportOutput, cell: &Cell) -> String {
    match cell {
        Cell::Nothing => String::new(),
        Cell::Text(text) => code(text),
        Cell::Word(word) => (*word).into(),
        Cell::Value(value) => plain(&answer.value(*value)),
        Cell::Number(number) => number.to_string(),
        Cell::Percent(number) => format!("{number:.2}%"),
        Cell::Ratio(number) => format!("{number:.2}"),
        Cell::Probability(number) => super::json::probability(*number),
    }
}

/// A code span that stays in its cell.
fn code(text: &str) -> String {
    let text = paint::harmless(text).replace(['\n', '\t'], " ");
    if text.is_empty() {
        return text;
    }
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) { " " } else { "" };
    format!("{fence}{pad}{}{pad}{fence}", text.replace('|', "\\|"))
}

/// Our own words, with what they may quote.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for letter in paint::harmless(text).chars() {
        match letter {
            '\n' => out.push(' '),
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '|' | '\\' | '`' | '*' | '_' | '[' | ']' | '#' => out.extend(['\\', letter]),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_cells() {
        assert_eq!(code("a|b"), "`a\\|b`");
        assert_eq!(code("x`<script>`"), "`` x`<script>` ``");
        assert_eq!(code("a\nb\u{1b}[2J"), "`a b\u{fffd}[2J`");
        assert_eq!(code("[a](javascript:b)"), "`[a](javascript:b)`");
        assert_eq!(plain("<b> a|b_c*"), "&lt;b> a\\|b\\_c\\*");
    }
}
