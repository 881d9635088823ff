//! Reports as data: what `rprof top`, `list`, `tree`, `peek`, `tags`, `traces` and `diff` say, to be
//! printed as text, JSON, Markdown or CSV.
//!
//! An [`ReportOutput`] is a list of entries; an entry has cells, one for each column its [`Shape`] declares,
//! and may hold lists of its own (callers, lines, frames). What is printed is made from that alone, so
//! all formats say the same.
//!
//! Not here: the reference's reports, mistakes included ([`super::pprof`]). These count a function that
//! recurs once, and know what was inlined whatever the filters took away.

mod budget;
mod csv;
pub mod diff;
mod disasm;
mod facts;
mod functions;
mod json;
mod list;
mod markdown;
mod rows;
pub mod statistics;
mod tags;
mod text;
mod traces;
mod whole;

use super::pprof::{
    Command, Messages, Settings,
    commands::{Delivery, ReportKind},
    format::Format,
    objects::{NoObjects, ObjectTool},
    prepare::{Report, prepare},
};
use crate::profile::columns::Columns;

pub use budget::Budget;
pub use diff::diff;
pub use facts::Facts;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextFormat {
    /// For people: laid out in columns, values with units.
    #[default]
    Text,
    /// One object, an entry a line, values as in the profile.
    Json,
    /// Tables, values with units.
    Markdown,
    /// One table, values as in the profile.
    Csv,
}

/// Names of formats.
pub const FORMATS: [(&str, TextFormat); 4] = [
    ("text", TextFormat::Text),
    ("json", TextFormat::Json),
    ("markdown", TextFormat::Markdown),
    ("csv", TextFormat::Csv),
];

impl TextFormat {
    /// The format called `name`.
    pub fn find(name: &str) -> Option<TextFormat> {
        FORMATS.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }
}

/// What an entry says in one column.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    /// Nothing is known or to be said.
    #[default]
    Nothing,
    /// A name, a file, a line of source: the target's to choose.
    Text(String),
    /// One of our own words.
    Word(&'static str),
    /// In the unit of the profile's values.
    Value(i64),
    /// A count, a line number.
    Number(i64),
    /// Per cent of the report's total, or percentage points.
    Percent(f64),
    /// A probability.
    Probability(f64),
    /// Any other number.
    Ratio(f64),
}

/// What the entries of a list are, and what is said of each.
#[derive(Debug, PartialEq)]
pub struct Shape {
    /// Of the list: `functions`.
    pub name: &'static str,
    /// Of one: `function`.
    pub one: &'static str,
    pub columns: &'static [&'static str],
    /// Lists that each entry holds.
    pub groups: &'static [&'static Shape],
    /// Columns that can be added up: what entries that are left out have together.
    pub sums: &'static [&'static str],
}

impl Shape {
    fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| *column == name)
    }
}

/// One entry of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// As many as the shape has columns.
    pub cells: Vec<Cell>,
    /// As many as the shape has groups.
    pub groups: Vec<List>,
}

/// Entries, and what is left out behind them.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    pub shape: &'static Shape,
    pub entries: Vec<Entry>,
    /// How many entries there are besides, and their sums, by the shape's `sums`.
    pub more: usize,
    pub more_sums: Vec<Cell>,
}

impl List {
    fn new(shape: &'static Shape, entries: Vec<Entry>) -> List {
        List { shape, entries, more: 0, more_sums: vec![Cell::Nothing; shape.sums.len()] }
    }

    /// Leaves only the first `count` entries, and adds the others up.
    fn truncate(&mut self, count: usize) {
        if count < self.entries.len() {
            let rest = self.entries.split_off(count);
            rest.iter().for_each(|entry| self.leave_out(entry));
        }
    }

    /// Counts an entry among those that are left out.
    fn leave_out(&mut self, entry: &Entry) {
        self.more += 1;
        for (sum, column) in self.more_sums.iter_mut().zip(self.shape.sums) {
            let cell = self.shape.column(column).map_or(&Cell::Nothing, |at| &entry.cells[at]);
            *sum = match (&*sum, cell) {
                (Cell::Value(one), Cell::Value(other)) => Cell::Value(one.saturating_add(*other)),
                (Cell::Percent(one), Cell::Percent(other)) => Cell::Percent(one + other),
                (Cell::Nothing, cell) => cell.clone(),
                (sum, _) => sum.clone(),
            };
        }
    }

    /// A cell by the name of its column.
    fn cell<'a>(&self, entry: &'a Entry, column: &str) -> &'a Cell {
        self.shape.column(column).and_then(|at| entry.cells.get(at)).unwrap_or(&Cell::Nothing)
    }

    /// A sum of what is left out, by the name of its column.
    fn more_sum(&self, column: &str) -> &Cell {
        let at = self.shape.sums.iter().position(|sum| *sum == column);
        at.and_then(|at| self.more_sums.get(at)).unwrap_or(&Cell::Nothing)
    }
}

/// A report.
#[derive(Clone, Debug)]
pub struct ReportOutput {
    /// Its name: `top`.
    pub report: &'static str,
    /// Which profile it is of.
    pub facts: Facts,
    pub list: List,
    /// What else there is to say, a sentence each.
    pub notes: Vec<String>,
    /// How values are written for people.
    format: Format,
    /// Of a comparison: the profile compared with, and what both have together.
    compared: Option<diff::Compared>,
}

impl ReportOutput {
    /// Prints it, in no more than `budget`. `colored`: text only, and to a terminal.
    pub fn print(&self, format: TextFormat, budget: Option<Budget>, colored: bool) -> String {
        let print = |answer: &ReportOutput| match format {
            TextFormat::Text => text::print(answer, colored),
            TextFormat::Json => json::print(answer),
            TextFormat::Markdown => markdown::print(answer),
            TextFormat::Csv => csv::print(answer),
        };
        match budget {
            None => print(self),
            Some(budget) => budget::fit(self, budget, print),
        }
    }

    fn value(&self, value: i64) -> String {
        self.format.value(value)
    }
}

/// What a short form asks for, beside the settings.
#[derive(Clone, Copy, Default)]
pub struct ReportRequest<'a> {
    /// Names: which functions (`list`, `peek`, `disasm`).
    pub argument: Option<&'a str>,
    /// Opens programs, for `disasm`.
    pub tool: Option<&'a dyn ObjectTool>,
    /// Most entries of the outer list; `None`: as many as suit the report.
    pub count: Option<usize>,
}

/// Whether there is an answer of this kind: the other commands make files of their own format.
pub fn is_answered(command: &Command) -> bool {
    match command.kind {
        ReportKind::Text
        | ReportKind::Tree
        | ReportKind::List
        | ReportKind::Tags
        | ReportKind::Traces
        | ReportKind::Disassembly
        | ReportKind::WebList => true,
        ReportKind::Dot | ReportKind::Raw | ReportKind::Comments => {
            matches!(command.delivery, Delivery::Print)
        }
        _ => false,
    }
}

/// Whether text for people is the reference's own report, not the answer in another layout.
pub fn is_text_already(command: &Command) -> bool {
    matches!(command.kind, ReportKind::Dot | ReportKind::Raw | ReportKind::Comments)
}

/// Answers `command`. What is to be said beside it goes to `messages`, also when there is an error.
pub fn answer(
    columns: Columns,
    command: &'static Command,
    asked: ReportRequest,
    settings: &Settings,
    messages: &mut Messages,
) -> Result<ReportOutput, String> {
    let marks = rows::Inlined::new(&columns);
    let settings = Settings { granularity: granularity(command, settings), ..settings.clone() };
    let mut report = prepare(columns, command, asked.argument, &settings, messages)?;
    let list = match command.kind {
        ReportKind::Text => functions::top(&mut report, &marks, asked.count),
        ReportKind::Tree | ReportKind::Dot => functions::tree(&mut report, &marks, asked.count)?,
        ReportKind::List | ReportKind::WebList => list::list(&mut report, asked.count)?,
        ReportKind::Disassembly => {
            disasm::disasm(&mut report, asked.tool.unwrap_or(&NoObjects), asked.count, messages)?
        }
        ReportKind::Tags => tags::tags(&report, asked.count),
        ReportKind::Traces => traces::traces(&mut report, asked.count),
        ReportKind::Raw => whole::samples(&report, asked.count),
        ReportKind::Comments => whole::comments(&report),
        _ => return Err(format!("{} has no other formats", command.name)),
    };
    let facts = Facts::new(&report);
    let Report { format, .. } = report;
    Ok(ReportOutput { report: command.name, facts, list, notes: Vec::new(), format, compared: None })
}

/// Functions of one name in different files are different here, unless asked for otherwise.
fn granularity(command: &Command, settings: &Settings) -> String {
    match (command.kind, settings.granularity.as_str()) {
        (ReportKind::List | ReportKind::WebList, _) => "lines".into(),
        (ReportKind::Disassembly, _) => "addresses".into(),
        (_, "") => "filefunctions".into(),
        (_, asked) => asked.into(),
    }
}

#[cfg(test)]
mod tests;
