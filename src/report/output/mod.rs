//! Reports as data: `rprof top`, `list`, `tree`, `peek`, `tags`, `traces` and `diff`, printed as
//! text, JSON, Markdown or CSV.
//!
//! A [`ReportOutput`] is a list of entries. An entry has one cell for each column that its
//! [`Shape`] declares, and may have inner lists (callers, lines, frames). All formats are printed
//! from this data, so they have the same content.
//!
//! Not here: the reference's reports with their faults ([`super::pprof`]). These reports count a
//! recursive function once, and recognize inlined functions independently of filters.

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
pub mod runs;
pub mod statistics;
mod tags;
mod text;
mod traces;
mod whole;

use std::borrow::Cow;

use super::{
    names,
    pprof::{
        Command, Messages, Settings,
        commands::{Delivery, ReportKind},
        format::Format,
        objects::{NoObjects, ObjectTool},
        prepare::{Report, prepare},
    },
};
use crate::profile::columns::Columns;

pub use budget::Budget;
pub use diff::{diff, diff_runs};
pub use facts::Facts;

/// How a report is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextFormat {
    /// Aligned columns, values with units.
    #[default]
    Text,
    /// One object, one line per entry, values as in the profile.
    Json,
    /// Tables, values with units.
    Markdown,
    /// One table, values as in the profile.
    Csv,
}

/// The formats by name.
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

/// The value of an entry in one column.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell {
    /// No value.
    #[default]
    Nothing,
    /// A text that the target chooses: a name, a file, a source line.
    Text(String),
    /// A fixed word of rprof.
    Word(&'static str),
    /// A value in the unit of the profile.
    Value(i64),
    /// A count, a line number.
    Number(i64),
    /// Percent of the report's total, or percentage points.
    Percent(f64),
    /// A probability.
    Probability(f64),
    /// Any other number.
    Ratio(f64),
}

/// The columns and inner lists of the entries of a list.
#[derive(Debug, PartialEq)]
pub struct Shape {
    /// The name of the list: `functions`.
    pub name: &'static str,
    /// The name of one entry: `function`.
    pub one: &'static str,
    /// The names of the columns.
    pub columns: &'static [&'static str],
    /// The inner lists of each entry.
    pub groups: &'static [&'static Shape],
    /// Columns that can be summed over the entries that are left out.
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
    /// One cell per column of the shape.
    pub cells: Vec<Cell>,
    /// One list per group of the shape.
    pub groups: Vec<List>,
}

/// Entries, and how many are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// The columns.
    pub shape: &'static Shape,
    /// The shown entries.
    pub entries: Vec<Entry>,
    /// How many entries are left out.
    pub more: usize,
    /// The sums of the entries that are left out, one per column in the shape's `sums`.
    pub more_sums: Vec<Cell>,
}

impl List {
    fn new(shape: &'static Shape, entries: Vec<Entry>) -> List {
        List { shape, entries, more: 0, more_sums: vec![Cell::Nothing; shape.sums.len()] }
    }

    /// Keeps the first `count` entries and sums the others.
    fn truncate(&mut self, count: usize) {
        if count < self.entries.len() {
            let rest = self.entries.split_off(count);
            rest.iter().for_each(|entry| self.leave_out(entry));
        }
    }

    /// Adds an entry to those that are left out.
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

    /// The cell in a column.
    fn cell<'a>(&self, entry: &'a Entry, column: &str) -> &'a Cell {
        self.shape.column(column).and_then(|at| entry.cells.get(at)).unwrap_or(&Cell::Nothing)
    }

    /// The sum of a column over the entries that are left out.
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
    /// The profile it is of.
    pub facts: Facts,
    /// Its content.
    pub list: List,
    /// Notes, one sentence each.
    pub notes: Vec<String>,
    /// How values are written with units.
    format: Format,
    /// How names are written in text.
    pub names: NameStyle,
    /// For a comparison: the facts about both profiles.
    compared: Option<diff::Compared>,
}

impl ReportOutput {
    /// Prints the report within `budget`. `colored`: with colours for a terminal (text only).
    pub fn print(&self, format: TextFormat, budget: Option<Budget>, colored: bool) -> String {
        let print = |output: &ReportOutput| match format {
            TextFormat::Text => text::print(output, colored),
            TextFormat::Json => json::print(output),
            TextFormat::Markdown => markdown::print(output),
            TextFormat::Csv => csv::print(output),
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

/// How names are written in text. The other formats have whole names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameStyle {
    /// Names as they are in the profile; otherwise template arguments are folded.
    pub full: bool,
    /// The longest line of text, in characters; `None`: any.
    pub width: Option<usize>,
}

impl NameStyle {
    /// Names are never cut shorter than this: a terminal may be narrower than the other columns.
    const MIN_NAME: usize = 24;

    /// A name as it is shown after `before` characters of its line.
    fn shown<'n>(&self, name: &'n str, before: usize) -> Cow<'n, str> {
        if self.full {
            return Cow::Borrowed(name);
        }
        let short = names::short(name);
        let Some(width) = self.width else { return short };
        let room = width.saturating_sub(before).max(NameStyle::MIN_NAME);
        match short {
            Cow::Borrowed(short) => names::fit(short, room),
            Cow::Owned(short) => Cow::Owned(names::fit(&short, room).into_owned()),
        }
    }
}

/// Options of a report besides the settings.
#[derive(Clone, Copy, Default)]
pub struct ReportRequest<'a> {
    /// A regular expression of function names (`list`, `peek`, `disasm`).
    pub argument: Option<&'a str>,
    /// Opens programs for `disasm`.
    pub tool: Option<&'a dyn ObjectTool>,
    /// Limit of the entries of the outer list; `None`: the report's default.
    pub count: Option<usize>,
}

/// Whether the command has a report as data; the others write files in formats of their own.
pub fn is_supported(command: &Command) -> bool {
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

/// Whether the text form of the command is the reference's own report.
pub fn has_reference_text(command: &Command) -> bool {
    matches!(command.kind, ReportKind::Dot | ReportKind::Raw | ReportKind::Comments)
}

/// Builds the report of `command`. Messages for the user are added to `messages`, also when there
/// is an error. Errors: the settings or the argument are invalid or match nothing.
pub fn build_report(
    columns: Columns,
    command: &'static Command,
    request: ReportRequest,
    settings: &Settings,
    messages: &mut Messages,
) -> Result<ReportOutput, String> {
    let marks = rows::Inlined::new(&columns);
    let settings = Settings { granularity: granularity(command, settings), ..settings.clone() };
    let mut report = prepare(columns, command, request.argument, &settings, messages)?;
    let list = match command.kind {
        ReportKind::Text => functions::top(&mut report, &marks, request.count),
        ReportKind::Tree | ReportKind::Dot => functions::tree(&mut report, &marks, request.count)?,
        ReportKind::List | ReportKind::WebList => list::list(&mut report, request.count)?,
        ReportKind::Disassembly => {
            disasm::disasm(&mut report, request.tool.unwrap_or(&NoObjects), request.count, messages)?
        }
        ReportKind::Tags => tags::tags(&report, request.count),
        ReportKind::Traces => traces::traces(&mut report, request.count),
        ReportKind::Raw => whole::samples(&report, request.count),
        ReportKind::Comments => whole::comments(&report),
        _ => return Err(format!("{} has no other formats", command.name)),
    };
    let facts = Facts::new(&report);
    let Report { format, .. } = report;
    let names = NameStyle::default();
    Ok(ReportOutput { report: command.name, facts, list, notes: Vec::new(), format, names, compared: None })
}

/// By default, functions of the same name in different files are different here.
fn granularity(command: &Command, settings: &Settings) -> String {
    match (command.kind, settings.granularity.as_str()) {
        (ReportKind::List | ReportKind::WebList, _) => "lines".into(),
        (ReportKind::Disassembly, _) => "addresses".into(),
        (_, "") => "filefunctions".into(),
        (_, granularity) => granularity.into(),
    }
}

#[cfg(test)]
mod tests;
