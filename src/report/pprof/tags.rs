//! `tags`: the labels of the profile, with the sum of each of their values.
//!
//! Not here: labels in drawings ([`super::graph::tags`]).

use std::{collections::BTreeMap, fmt::Write};

use rustc_hash::FxHashMap;

use super::{prepare::Report, tables};
use crate::profile::unit::{percentage, scaled_label};

pub(super) fn print(report: &Report) -> Vec<u8> {
    let mut text = String::new();
    for (key, values) in sums(report) {
        let total = report.total;
        let share = |value: i64| match total > 0 {
            true => format!(" ({})", percentage(value, total)),
            false => String::new(),
        };
        let format = &report.format;
        let key_total = values.values().fold(0, |sum: i64, value| sum.wrapping_add(*value));
        let (own, all) = (format.value(key_total), format.value(total));
        // Writing to memory does not fail.
        let _ = writeln!(text, "{key}:\t Total {own} of {all}{}", share(key_total));
        let mut values: Vec<(String, i64)> = values.into_iter().collect();
        values.sort_by_key(|(_, value)| std::cmp::Reverse(value.wrapping_abs()));
        for (name, value) in values {
            let _ = writeln!(text, " \t{}{}:\t {name}", format.value(value), share(value));
        }
        text.push('\n');
    }
    tables::align_right(&text).into_bytes()
}

/// Sums by key and value.
pub(in crate::report) fn sums(report: &Report) -> BTreeMap<String, BTreeMap<String, i64>> {
    let columns = &report.columns;
    // Summed by label number first: there are many samples and few labels.
    let mut counted: FxHashMap<(u32, Option<u32>, i64), i64> = FxHashMap::default();
    for sample in 0..columns.sample_count() {
        let value = columns.values(sample)[report.measure.value];
        for label in columns.labels(sample) {
            let (text, number) = (label.as_text(), label.as_number().map_or(0, |(number, _)| number));
            let sum = counted.entry((label.key, text, number)).or_default();
            *sum = sum.wrapping_add(value);
        }
    }
    let mut sums: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for ((key, text, number), value) in counted {
        let name = match text {
            Some(text) => columns.text(text).to_string(),
            None => scaled_label(number, report.units.of(key), &report.format.to),
        };
        let sum = sums.entry(columns.text(key).into()).or_default().entry(name).or_default();
        *sum = sum.wrapping_add(value);
    }
    sums
}
