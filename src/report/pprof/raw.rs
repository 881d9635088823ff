//! `raw`: the whole profile as text.
//!
//! Not here: computed values.

use std::io::{self, Write};

use crate::{
    profile::columns::{Columns, Location, Mapping, parallel::write_in_blocks},
    text::go,
};

pub(super) fn write(columns: &Columns, out: &mut dyn Write) -> io::Result<()> {
    let mut start = Vec::new();
    header(columns, &mut start);
    out.write_all(&start)?;
    let ids: Vec<u64> = columns.locations.iter().map(|location| location.id).collect();
    write_in_blocks(columns.sample_count(), out, |samples, out| {
        let mut digits = itoa::Buffer::new();
        for sample in samples {
            for value in columns.values(sample) {
                // Writing to memory does not fail, here and below.
                let _ = write!(out, " {value:>10}");
            }
            out.extend_from_slice(b": ");
            for location in columns.stack(sample) {
                out.extend_from_slice(digits.format(ids[*location as usize]).as_bytes());
                out.push(b' ');
            }
            out.push(b'\n');
            labels(columns, sample, out);
        }
    })?;
    out.write_all(b"Locations\n")?;
    write_in_blocks(columns.locations.len(), out, |rows, out| {
        columns.locations[rows].iter().for_each(|at| location(columns, at, out));
    })?;
    let mut end = b"Mappings\n".to_vec();
    for at in &columns.mappings {
        mapping(columns, at, &mut end);
    }
    out.write_all(&end)
}

fn header(columns: &Columns, out: &mut Vec<u8>) {
    let header = &columns.header;
    let text = |id| columns.text(id);
    for comment in &header.comments {
        let _ = writeln!(out, "Comment: {}", text(*comment));
    }
    if header.doc_url != 0 {
        let _ = writeln!(out, "Doc: {}", text(header.doc_url));
    }
    let period = header.period_kind;
    let _ = writeln!(out, "PeriodType: {} {}", text(period.name), text(period.unit));
    let _ = writeln!(out, "Period: {}", header.period);
    if header.time_ns != 0 {
        let _ = writeln!(out, "Time: {}", go::time_in_full(header.time_ns));
    }
    if header.duration_ns != 0 {
        // The reference intends four digits and gets four characters.
        let duration: String = go::duration(header.duration_ns).chars().take(4).collect();
        let _ = writeln!(out, "Duration: {duration}");
    }
    out.extend_from_slice(b"Samples:\n");
    let kinds = header.kinds.iter().map(|kind| {
        let default = if kind.name == header.default_kind { "[dflt]" } else { "" };
        format!("{}/{}{default} ", text(kind.name), text(kind.unit))
    });
    let _ = writeln!(out, "{}", kinds.collect::<String>().trim());
}

fn labels(columns: &Columns, sample: usize, out: &mut Vec<u8>) {
    if columns.labels(sample).is_empty() {
        return;
    }
    let by_key = columns.labels_by_key(sample);
    let texts = by_key.texts.iter().map(|(key, texts)| {
        let texts: Vec<_> = texts.iter().map(|text| columns.text(*text)).collect();
        format!("{}:[{}]", columns.text(*key), texts.join(" "))
    });
    let numbers = by_key.numbers.iter().map(|(key, numbers)| {
        let unit = |at: usize| numbers.units.get(at).map(|unit| format!(" {}", columns.text(*unit)));
        let values = numbers.values.iter().enumerate();
        let values: Vec<_> =
            values.map(|(at, value)| format!("{value}{}", unit(at).unwrap_or_default())).collect();
        format!("{}:[{}]", columns.text(*key), values.join(" "))
    });
    for mut line in [texts.collect::<Vec<_>>(), numbers.collect()] {
        if !line.is_empty() {
            line.sort();
            let _ = writeln!(out, "                {}", line.join(" "));
        }
    }
}

fn location(columns: &Columns, location: &Location, out: &mut Vec<u8>) {
    let _ = write!(out, "{:>6}: {:#x} ", location.id, location.address);
    if let Some(mapping) = columns.mapping_of(location) {
        let _ = write!(out, "M={} ", mapping.id);
    }
    if location.is_folded {
        out.extend_from_slice(b"[F] ");
    }
    let lines = columns.lines_of(location);
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b"             ");
        }
        match columns.functions.get(line.function as usize) {
            Some(function) => {
                let (name, file) = (columns.text(function.name), columns.text(function.file));
                let (number, column, start) = (line.line, line.column, function.start_line);
                let _ = write!(out, "{name} {file}:{number}:{column} s={start}");
                if function.name != function.system_name {
                    let _ = write!(out, "({})", columns.text(function.system_name));
                }
            }
            None => out.extend_from_slice(b"??"),
        }
        out.push(b'\n');
    }
    if lines.is_empty() {
        out.push(b'\n');
    }
}

fn mapping(columns: &Columns, mapping: &Mapping, out: &mut Vec<u8>) {
    let Mapping { id, start, limit, offset, .. } = mapping;
    let (file, build_id) = (columns.text(mapping.file), columns.text(mapping.build_id));
    let _ = write!(out, "{id}: {start:#x}/{limit:#x}/{offset:#x} {file} {build_id} ");
    let flags = [
        (mapping.has_functions, "[FN]"),
        (mapping.has_filenames, "[FL]"),
        (mapping.has_line_numbers, "[LN]"),
        (mapping.has_inline_frames, "[IN]"),
    ];
    for (_, flag) in flags.iter().filter(|(is_set, _)| *is_set) {
        out.extend_from_slice(flag.as_bytes());
    }
    out.push(b'\n');
}
