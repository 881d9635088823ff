//! `traces`: every sample with its labels and its stack.
//!
//! Not here: sums.

use std::io::Write;

use super::{
    graph::nodes::{Naming, Places},
    header,
    prepare::Report,
};
use crate::profile::unit;

const SEPARATOR: &str = "-----------+-------------------------------------------------------";

pub(super) fn print(report: &mut Report) -> Vec<u8> {
    let naming = Naming::new(&mut report.columns, false, str::to_string);
    let columns = &report.columns;
    let places = Places::new(columns, &naming);
    let names: Vec<String> = places.infos.iter().map(|info| info.printable(columns)).collect();
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = writeln!(out, "{}", header::of_profile(report).join("\n"));
    for sample in 0..columns.sample_count() {
        if columns.stack(sample).is_empty() {
            continue;
        }
        let _ = writeln!(out, "{SEPARATOR}");
        labels(report, sample, &mut out);
        let values = columns.values(sample);
        let mut value = values[report.measure.value];
        if report.measure.mean && values[0] != 0 {
            value = value.wrapping_div(values[0]);
        }
        let mut shown = report.format.value(value);
        for location in columns.stack(sample) {
            let nodes = places.of(*location);
            for (at, node) in nodes.iter().enumerate() {
                let inline = if at + 1 < nodes.len() { " (inline)" } else { "" };
                let _ = writeln!(out, "{shown:>10}   {}{inline}", names[*node as usize]);
                shown.clear();
            }
        }
    }
    let _ = writeln!(out, "{SEPARATOR}");
    out
}

fn labels(report: &Report, sample: usize, out: &mut Vec<u8>) {
    let columns = &report.columns;
    if columns.labels(sample).is_empty() {
        return;
    }
    let by_key = columns.labels_by_key(sample);
    let line = |key: u32, values: Vec<String>| format!("{:>10}:  {}\n", columns.text(key), values.join(" "));
    let texts = by_key
        .texts
        .iter()
        .map(|(key, texts)| line(*key, texts.iter().map(|text| columns.text(*text).to_string()).collect()));
    let numbers = by_key.numbers.iter().map(|(key, numbers)| {
        let unit = report.units.of(*key);
        line(*key, numbers.values.iter().map(|number| unit::label(*number, unit)).collect())
    });
    for mut lines in [texts.collect::<Vec<_>>(), numbers.collect()] {
        lines.sort();
        lines.iter().for_each(|line| out.extend_from_slice(line.as_bytes()));
    }
}
