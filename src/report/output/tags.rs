//! `tags`: the labels, with the sum of each of their values.
//!
//! Not here: filters by label (`pprof`).

use super::{
    super::pprof::{prepare::Report, tags::sums},
    Cell, Entry, List, Shape,
    rows::percent,
};

/// Values shown of each label by default.
const COUNT: usize = 20;

const KEYS: Shape = Shape {
    name: "labels",
    one: "label",
    columns: &["key", "value", "percent"],
    groups: &[&VALUES],
    sums: &[],
};

const VALUES: Shape = Shape {
    name: "values",
    one: "label_value",
    columns: &["text", "value", "percent"],
    groups: &[],
    sums: &["value", "percent"],
};

/// Labels by key; their values ordered by sum.
pub(super) fn tags(report: &Report, count: Option<usize>) -> List {
    let entry = |(key, values): (String, std::collections::BTreeMap<String, i64>)| {
        let total = values.values().fold(0i64, |sum, value| sum.saturating_add(*value));
        let mut values: Vec<(String, i64)> = values.into_iter().collect();
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.unsigned_abs()));
        let cells = |name: String, value: i64| {
            vec![Cell::Text(name), Cell::Value(value), percent(value, report.total)]
        };
        let entries = values.into_iter();
        let entries = entries.map(|(name, value)| Entry { cells: cells(name, value), groups: Vec::new() });
        let mut list = List::new(&VALUES, entries.collect());
        list.truncate(count.unwrap_or(COUNT));
        Entry { cells: cells(key, total), groups: vec![list] }
    };
    List::new(&KEYS, sums(report).into_iter().map(entry).collect())
}
