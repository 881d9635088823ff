//! A report as one table of comma-separated values (RFC 4180, with line feeds as line ends).
//!
//! Not here: facts about the whole profile, which have no place in a table.
//!
//! Where entries have inner lists, the first two columns are the kind of row (`function`, `caller`
//! …) and the outer entry. A text that a spreadsheet would read as a formula gets a leading
//! apostrophe (OWASP, "CSV Injection").

#[cfg(test)]
use super::Entry;
use super::{Cell, List, ReportOutput, Shape, json};

pub(super) fn print(output: &ReportOutput) -> String {
    let shape = output.list.shape;
    let is_nested = !shape.groups.is_empty();
    let mut columns: Vec<&str> = if is_nested { vec!["row", "of"] } else { Vec::new() };
    for own in [shape].iter().chain(shape.groups) {
        let new: Vec<&str> = own.columns.iter().filter(|name| !columns.contains(name)).copied().collect();
        columns.extend(new);
    }
    let mut table = Table { out: columns.join(",") + "\n", columns, is_nested };
    table.list(&output.list, "");
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

    /// `… 12 more` in the name column, and the sums of these entries.
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

/// The fields of an entry, for tests of other formats.
#[cfg(test)]
pub(super) fn fields(list: &List, entry: &Entry) -> Vec<String> {
    list.shape.columns.iter().map(|column| raw(list.cell(entry, column))).collect()
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn special_characters_are_quoted() {
        assert_eq!(text("std::map<int, char>::at"), "\"std::map<int, char>::at\"");
        assert_eq!(text("operator\"\"_s\nx"), "\"operator\"\"\"\"_s\nx\"");
        assert_eq!(text("=HYPERLINK(1)"), "\"'=HYPERLINK(1)\"");
        assert_eq!(text("-[NSView draw]"), "\"'-[NSView draw]\"");
        assert_eq!(text("main.work"), "main.work");
        assert_eq!(text("\u{1b}[2J"), "\u{fffd}[2J");
    }
}
