//! An answer as one table of comma-separated values (RFC 4180, lines ended by a line feed).
//!
//! Not here: what is known of the whole profile, for which a table has no place.
//!
//! Where entries hold lists of their own, the first two columns say what a row is (`function`,
//! `caller` …) and of which outer entry. A text that a spreadsheet would take for a formula gets an
//! apostrophe before it (OWASP, "CSV Injection").

#[cfg(test)]
use super::Entry;
use super::{Cell, List, ReportOutput, Shape, json};

pub(super) fn print(answer: &ReportOutput) -> String {
    let shape = answer.list.shape;
    let is_nested = !shape.groups.is_empty();
    let mut columns: Vec<&str> = if is_nested { vec!["row", "of"] } else { Vec::new() };
    for own in [shape].iter().chain(shape.groups) {
        let new: Vec<&str> = own.columns.iter().filter(|name| !columns.contains(name)).copied().collect();
        columns.extend(new);
    }
    let mut table = Table { out: columns.join(",") + "\n", columns, is_nested };
    table.list(&answer.list, "");
    table.out
}

struct Table {
    columns: Vec<&'static str>,
    is_nested: bool,
    out: String,
}

impl Table {
    fn list(&mut self, list: &List, of: &str) {
        for entry in &list.entries {
            self.row(list.shape, of, |column| shown(list.cell(entry, column)));
            let id = entry.cells.first().map_or_else(String::new, raw);
            entry.groups.iter().for_each(|group| self.list(group, &id));
        }
        if list.more > 0 {
            self.more(list, of);
        }
    }

    /// `… 12 more`, where names stand, and their sums.
    fn more(&mut self, list: &List, of: &str) {
        let names = ["name", "text", "source", "labels", "key"];
        let place = names.into_iter().find(|name| list.shape.column(name).is_some());
        let more = format!("… {} more", list.more);
        self.row(list.shape, of, |column| {
            if Some(column) == place { more.clone() } else { shown(list.more_sum(column)) }
        });
    }

    fn row(&mut self, shape: &Shape, of: &str, cell: impl Fn(&str) -> String) {
        let fields: Vec<String> = self
            .columns
            .iter()
            .map(|column| match *column {
                "row" if self.is_nested => shape.one.to_string(),
                "of" if self.is_nested => text(of),
                column => cell(column),
            })
            .collect();
        self.out += &fields.join(",");
        self.out.push('\n');
    }
}

fn raw(cell: &Cell) -> String {
    match cell {
        Cell::Nothing => String::new(),
        Cell::Text(text) => text.clone(),
        Cell::Word(word) => (*word).into(),
        Cell::Value(number) | Cell::Number(number) => number.to_string(),
        Cell::Percent(number) | Cell::Ratio(number) if !number.is_finite() => String::new(),
        Cell::Percent(number) | Cell::Ratio(number) => json::decimal(*number),
        Cell::Probability(number) => json::probability(*number),
    }
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(own) => text(own),
        cell => raw(cell),
    }
}

fn text(text: &str) -> String {
    let text = super::super::paint::harmless(text);
    let apostrophe = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r', '\'']) || !apostrophe.is_empty() {
        return format!("\"{apostrophe}{}\"", text.replace('"', "\"\""));
    }
    text.into_owned()
}

/// An entry's fields, for tests of other formats.
#[cfg(test)]
pub(super) fn fields(list: &List, entry: &Entry) -> Vec<String> {
    list.shape.columns.iter().map(|column| raw(list.cell(entry, column))).collect()
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn what_means_something_in_a_table_is_quoted() {
        assert_eq!(text("std::map<int, char>::at"), "\"std::map<int, char>::at\"");
        assert_eq!(text("operator\"\"_s\nx"), "\"operator\"\"\"\"_s\nx\"");
        assert_eq!(text("=HYPERLINK(1)"), "\"'=HYPERLINK(1)\"");
        assert_eq!(text("-[NSView draw]"), "\"'-[NSView draw]\"");
        assert_eq!(text("main.work"), "main.work");
        assert_eq!(text("\u{1b}[2J"), "\u{fffd}[2J");
    }
}
