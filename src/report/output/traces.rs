//! `traces`: whole stacks, equal ones summed, the hottest first.
//!
//! Not here: sums by function ([`super::functions`]).

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::{
    super::pprof::{
        graph::nodes::{Naming, Places},
        prepare::Report,
    },
    Cell, Entry, List, Shape,
    rows::{Named, percent, value_of},
};
use crate::profile::{columns::Label, unit};

/// Stacks shown by default.
const COUNT: usize = 20;

const STACKS: Shape = Shape {
    name: "stacks",
    one: "stack",
    columns: &["value", "percent", "samples", "labels"],
    groups: &[&FRAMES],
    sums: &["value", "percent"],
};

pub(super) const FRAMES: Shape = Shape {
    name: "frames",
    one: "frame",
    columns: &["id", "name", "file", "line", "address", "inlined"],
    groups: &[],
    sums: &[],
};

/// Nodes leaf first, and whether each is inlined.
type Frames = Vec<(u32, bool)>;

/// Stacks with their labels, equal ones summed. Leaf first.
pub(super) fn traces(report: &mut Report, count: Option<usize>) -> List {
    let naming = Naming::new(&mut report.columns, false, str::to_string);
    let columns = &report.columns;
    let places = Places::new(columns, &naming);
    let mut sums: HashMap<(Frames, &[Label]), (i64, i64)> = HashMap::default();
    for sample in 0..columns.sample_count() {
        let stack = columns.stack(sample);
        let value = value_of(columns, sample, report.measure);
        if stack.is_empty() || value == 0 {
            continue;
        }
        let frames = |location: &u32| {
            let nodes = places.of(*location);
            nodes.iter().enumerate().map(move |(at, node)| (*node, at + 1 < nodes.len()))
        };
        let frames: Frames = stack.iter().flat_map(frames).collect();
        let sum = sums.entry((frames, columns.labels(sample))).or_default();
        *sum = (sum.0.saturating_add(value), sum.1 + 1);
    }
    let mut stacks: Vec<_> = sums.into_iter().collect();
    stacks.sort_by(|((frames, labels), (value, _)), ((other_frames, other_labels), (other, _))| {
        let by_value = Reverse(value.unsigned_abs()).cmp(&Reverse(other.unsigned_abs()));
        let key = |labels: &[Label]| -> Vec<_> {
            labels.iter().map(|label| (label.key, label.as_text(), label.as_number())).collect()
        };
        by_value.then_with(|| frames.cmp(other_frames)).then_with(|| key(labels).cmp(&key(other_labels)))
    });
    let entry = |((frames, labels), (value, samples)): ((Frames, &[Label]), (i64, i64))| {
        let cells = vec![
            Cell::Value(value),
            percent(value, report.total),
            Cell::Number(samples),
            labels_cell(report, labels),
        ];
        let frame = |(node, inlined): &(u32, bool)| {
            let mut cells = Named::new(&places.infos[*node as usize], columns).cells().to_vec();
            cells.push(Cell::Word(if *inlined { "yes" } else { "no" }));
            Entry { cells, groups: Vec::new() }
        };
        let frames = frames.iter().map(frame).collect();
        Entry { cells, groups: vec![List::new(&FRAMES, frames)] }
    };
    // Entries are built only for shown stacks: there may be a million.
    let count = count.unwrap_or(COUNT).min(stacks.len());
    let rest = stacks.split_off(count);
    let rest_value = rest.iter().fold(0i64, |sum, (_, (value, _))| sum.saturating_add(*value));
    let mut list = List::new(&STACKS, stacks.into_iter().map(entry).collect());
    if !rest.is_empty() {
        list.more = rest.len();
        list.more_sums = vec![Cell::Value(rest_value), percent(rest_value, report.total)];
    }
    list
}

/// `key=text, key=5MB`.
pub(super) fn labels_cell(report: &Report, labels: &[Label]) -> Cell {
    let text = |label: &Label| {
        let key = report.columns.text(label.key);
        match (label.as_text(), label.as_number()) {
            (Some(text), _) => format!("{key}={}", report.columns.text(text)),
            (None, number) => {
                let number = number.map_or(0, |(number, _)| number);
                format!("{key}={}", unit::label(number, report.units.of(label.key)))
            }
        }
    };
    let texts: Vec<String> = labels.iter().map(text).collect();
    if texts.is_empty() { Cell::Nothing } else { Cell::Text(texts.join(", ")) }
}
