//! A report as Markdown (GitHub's, because of its tables).
//!
//! The target chooses the names, so they are written as code spans, in which only a bar is special
//! (it ends a cell). Not here: the content.

use std::fmt::Write;

use super::{super::paint, Cell, Entry, List, ReportOutput};

pub(super) fn print(output: &ReportOutput) -> String {
    let facts = &output.facts;
    let mut out = String::new();
    // Writing to memory does not fail, here and below.
    let _ = writeln!(out, "# {}{}\n", output.report, of(&facts.file));
    let _ = write!(
        out,
        "- {} in {}, {} in total",
        code(&facts.measured),
        code(&facts.unit),
        output.value(facts.total)
    );
    let _ = writeln!(out, ", {} samples", facts.samples);
    let known = facts.lines.iter().filter(|line| !line.starts_with("Type: ") && !line.starts_with("File: "));
    for line in known.filter(|line| !line.trim().is_empty()) {
        let _ = writeln!(out, "- {}", code(line.trim()));
    }
    for note in &output.notes {
        let _ = writeln!(out, "- {}", plain(note));
    }
    out.push('\n');
    if output.list.shape.groups.is_empty() {
        table(output, &output.list, &mut out);
        return out;
    }
    for entry in &output.list.entries {
        section(output, &output.list, entry, &mut out);
    }
    if output.list.more > 0 {
        let _ = writeln!(out, "{}", more(output, &output.list).join(" · "));
    }
    out
}

fn of(file: &str) -> String {
    if file.is_empty() { String::new() } else { format!(" of {}", code(file)) }
}

fn section(output: &ReportOutput, list: &List, entry: &Entry, out: &mut String) {
    let title = ["name", "key"].iter().find_map(|column| match list.cell(entry, column) {
        // In a heading a bar is not special.
        Cell::Text(name) => Some(code(name).replace("\\|", "|")),
        _ => None,
    });
    let title = title.unwrap_or_else(|| format!("{} of {}", list.shape.one, shown(output, &entry.cells[0])));
    let _ = writeln!(out, "## {title}\n");
    let facts: Vec<String> = (list.shape.columns.iter().zip(&entry.cells))
        .filter(|(column, cell)| !["name", "key"].contains(column) && **cell != Cell::Nothing)
        .map(|(column, cell)| format!("{} {}", heading(column), shown(output, cell)))
        .collect();
    let _ = writeln!(out, "{}\n", facts.join(" · "));
    for group in entry.groups.iter().filter(|group| !group.entries.is_empty() || group.more > 0) {
        if entry.groups.len() > 1 {
            let _ = writeln!(out, "{}:\n", group.shape.name);
        }
        table(output, group, out);
        out.push('\n');
    }
}

/// Writes a table without empty columns.
fn table(output: &ReportOutput, list: &List, out: &mut String) {
    let used = |column: &&&str| list.entries.iter().any(|entry| *list.cell(entry, column) != Cell::Nothing);
    let columns: Vec<&str> = list.shape.columns.iter().filter(used).copied().collect();
    if columns.is_empty() {
        if list.more > 0 {
            let _ = writeln!(out, "{}", more(output, list).join(" · "));
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
            columns.iter().map(|column| shown(output, list.cell(entry, column))).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    if list.more > 0 {
        let names = ["name", "text", "source"];
        let place = columns.iter().position(|column| names.contains(column)).unwrap_or(0);
        let cells = columns.iter().enumerate().map(|(at, column)| match at == place {
            true => format!("… {} more", list.more),
            false => shown(output, list.more_sum(column)),
        });
        let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}

fn more(output: &ReportOutput, list: &List) -> Vec<String> {
    let sums = list.shape.sums.iter().zip(&list.more_sums).filter(|(_, sum)| **sum != Cell::Nothing);
    let sums = sums.map(|(column, sum)| format!("{} {}", heading(column), shown(output, sum)));
    [format!("… {} more", list.more)].into_iter().chain(sums).collect()
}

fn heading(column: &str) -> String {
    column.replace("_percent", " %").replace('_', " ")
}

fn shown(output: &ReportOutput, cell: &Cell) -> String {
    match cell {
        Cell::Nothing => String::new(),
        Cell::Text(text) => code(text),
        Cell::Word(word) => (*word).into(),
        Cell::Value(value) => plain(&output.value(*value)),
        Cell::Number(number) => number.to_string(),
        Cell::Percent(number) => format!("{number:.2}%"),
        Cell::Ratio(number) => format!("{number:.2}"),
        Cell::Probability(number) => super::json::probability(*number),
    }
}

/// A code span that cannot leave its cell.
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

/// A text of rprof, which may quote names.
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
