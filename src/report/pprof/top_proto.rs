//! `topproto`: the hottest functions as a profile.
//!
//! Not here: `top` as text.

use rustc_hash::FxHashMap;

use super::prepare::Report;
use crate::{
    profile::{
        columns::{Columns, Function, Line, Location, NONE, SampleKind},
        unit,
    },
    text::go::truncate,
};

pub(super) fn print(report: &mut Report) -> Result<Vec<u8>, String> {
    let trimmed = report.graph();
    let (from, to) = (&report.format.from, &report.format.to);
    let source = &report.columns;
    let mut out = Columns::default();
    let unit_text = out.intern(to);
    out.header.kinds =
        ["cum", "flat"].map(|name| SampleKind { name: out.intern(name), unit: unit_text }).into();
    out.header.time_ns = source.header.time_ns;
    out.header.duration_ns = source.header.duration_ns;
    out.header.period = source.header.period;
    let period = source.header.period_kind;
    out.header.period_kind =
        SampleKind { name: out.intern(source.text(period.name)), unit: out.intern(source.text(period.unit)) };
    let mut functions = FxHashMap::default();
    for (at, (_, node)) in trimmed.graph.shown().enumerate() {
        let info = node.info;
        let function = *functions.entry((info.name, info.file, info.start_line)).or_insert_with(|| {
            let (name, file) = (out.intern(source.text(info.name)), out.intern(source.text(info.file)));
            let row = out.functions.len() as u32;
            let (id, start_line) = (u64::from(row) + 1, info.start_line);
            out.functions.push(Function { id, name, system_name: 0, file, start_line });
            row
        });
        let id = at as u64 + 1;
        let location = Location { id, mapping: NONE, address: info.address, ..Location::default() };
        let location =
            out.push_location(location, &[Line { function, line: info.line, column: info.column }]);
        let weights = [node.weights.cum, node.weights.flat];
        let values = weights.map(|weight| truncate(unit::scale(weight.value(), from, to).0));
        out.push_sample(&values, &[location], &[]);
    }
    let mut bytes = Vec::new();
    out.write_gzip(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}
