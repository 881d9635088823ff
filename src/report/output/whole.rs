//! `raw` and `comments`: the content of the profile, sample by sample, without sums.
//!
//! Not here: summed stacks ([`super::traces`]).

use super::{
    super::pprof::prepare::Report,
    Cell, Entry, List, Shape,
    rows::Named,
    traces::{FRAMES, labels_cell},
};
use crate::profile::columns::{Columns, Line, Location, NONE};

const COMMENTS: Shape =
    Shape { name: "comments", one: "comment", columns: &["text"], groups: &[], sums: &[] };

const SAMPLES: Shape = Shape {
    name: "samples",
    one: "sample",
    columns: &["sample", "labels"],
    groups: &[&VALUES, &FRAMES],
    sums: &[],
};

const VALUES: Shape =
    Shape { name: "values", one: "value", columns: &["type", "unit", "number"], groups: &[], sums: &[] };

/// The comments of the profile.
pub(super) fn comments(report: &Report) -> List {
    let columns = &report.columns;
    let comment = |text: &u32| entry(vec![Cell::Text(columns.text(*text).into())]);
    List::new(&COMMENTS, columns.header.comments.iter().map(comment).collect())
}

/// The samples in the order of the file, numbered from 1, with all values; all of them by default.
pub(super) fn samples(report: &Report, count: Option<usize>) -> List {
    let columns = &report.columns;
    let shown = columns.sample_count().min(count.unwrap_or(usize::MAX));
    let samples = (0..shown).map(|sample| {
        let kinds = columns.header.kinds.iter().zip(columns.values(sample));
        let values = kinds.map(|(kind, value)| {
            let [name, unit] = [kind.name, kind.unit].map(|text| Cell::Text(columns.text(text).into()));
            entry(vec![name, unit, Cell::Number(*value)])
        });
        let locations = columns.stack(sample).iter().map(|row| &columns.locations[*row as usize]);
        let frames = locations.flat_map(|location| frames(columns, location));
        let cells = vec![Cell::Number(sample as i64 + 1), labels_cell(report, columns.labels(sample))];
        let groups = vec![List::new(&VALUES, values.collect()), List::new(&FRAMES, frames.collect())];
        Entry { cells, groups }
    });
    let mut list = List::new(&SAMPLES, samples.collect());
    list.more = columns.sample_count() - shown;
    list
}

/// The frames of a location, innermost first; one unnamed frame if it has no lines.
fn frames<'a>(columns: &'a Columns, location: &'a Location) -> impl Iterator<Item = Entry> + 'a {
    const UNKNOWN: &[Line] = &[Line { function: NONE, line: 0, column: 0 }];
    let lines = columns.lines_of(location);
    let lines = if lines.is_empty() { UNKNOWN } else { lines };
    lines.iter().enumerate().map(move |(at, line)| {
        let function = columns.functions.get(line.function as usize).copied().unwrap_or_default();
        let named = Named {
            name: columns.text(function.name).into(),
            file: columns.text(function.file).into(),
            line: line.line,
            address: location.address,
        };
        let mut cells = named.cells().to_vec();
        cells.push(Cell::Word(if at + 1 < lines.len() { "yes" } else { "no" }));
        entry(cells)
    })
}

fn entry(cells: Vec<Cell>) -> Entry {
    Entry { cells, groups: Vec::new() }
}
