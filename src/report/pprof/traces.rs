//! `traces`: every sample with its labels and its stack.
//!
//! Not here: sums.

use std::io::{self, Write};

use super::{
    graph::nodes::{Naming, Places},
    header,
    prepare::Report,
};
use crate::profile::{columns::parallel::write_in_blocks, unit};

const SEPARATOR: &str = "-----------+-------------------------------------------------------";

pub(super) fn write(report: &mut Report, out: &mut dyn Write) -> io::Result<()> {
    let naming = Naming::new(&mut report.columns, false, str::to_string);
    let report = &*report;
    let columns = &report.columns;
    let places = Places::new(columns, &naming);
    let names: Vec<String> = places.infos.iter().map(|info| info.printable(columns) + "\n").collect();
    writeln!(out, "{}", header::of_profile(report).join("\n"))?;
    write_in_blocks(columns.sample_count(), out, |samples, out| {
        for sample in samples.filter(|sample| !columns.stack(*sample).is_empty()) {
            out.extend_from_slice(SEPARATOR.as_bytes());
            out.push(b'\n');
            labels(report, sample, out);
            let values = columns.values(sample);
            let mut value = values[report.measure.value];
            if report.measure.mean && values[0] != 0 {
                value = value.wrapping_div(values[0]);
            }
            // Writing to memory does not fail.
            let _ = write!(out, "{:>10}   ", report.format.value(value));
            let mut is_first = true;
            for location in columns.stack(sample) {
                let nodes = places.of(*location);
                for (at, node) in nodes.iter().enumerate() {
                    if !std::mem::take(&mut is_first) {
                        out.extend_from_slice(b"             ");
                    }
                    let name = names[*node as usize].as_bytes();
                    if at + 1 < nodes.len() {
                        out.extend_from_slice(&name[..name.len() - 1]);
                        out.extend_from_slice(b" (inline)\n");
                    } else {
                        out.extend_from_slice(name);
                    }
                }
            }
        }
    })?;
    writeln!(out, "{SEPARATOR}")
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
