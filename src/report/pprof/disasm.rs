//! `disasm`: the assembly of functions whose symbols match, with samples.
//!
//! Not here: decoding machine code ([`super::objects`]).

use std::io::Write;

use rustc_hash::FxHashSet;

use super::{
    graph::{Info, Weight, Weights},
    objects::{Object, ObjectMapping, ObjectSymbol, ObjectTool},
    prepare::{Messages, Report},
};
use crate::profile::{go_regexp::GoRegexp, go_text::base_name, unit::percentage};

type NodeAt = (Info, Weights);

/// A symbol that matches, the file it is from, and the samples in it.
struct Routine<'o> {
    symbol: ObjectSymbol,
    object: &'o dyn Object,
    nodes: Vec<NodeAt>,
}

/// An instruction with what was sampled at it.
#[derive(Default)]
struct Row {
    address: u64,
    text: String,
    function: String,
    file: String,
    line: i64,
    flat: Weight,
    cum: Weight,
}

pub(super) fn print(
    report: &mut Report,
    tool: &dyn ObjectTool,
    messages: &mut Messages,
) -> Result<Vec<u8>, String> {
    let nodes = report.nodes();
    let Some(argument) = report.argument.clone() else { return Err("disasm needs an argument".into()) };
    let address = address_of(argument.as_str());
    let objects = open_objects(report, &nodes, &argument, address, tool, messages);
    let mut found_any = false;
    let mut routines = Vec::new();
    for object in &objects {
        let wanted = |symbol: &ObjectSymbol| match address.map(|address| object.address(address)) {
            Some(address) => (symbol.start..=symbol.last).contains(&address),
            None => argument.is_match(&symbol.name),
        };
        for symbol in object.symbols().unwrap_or_default().into_iter().filter(wanted) {
            found_any = true;
            // The last byte of a symbol is not looked at.
            let inside =
                |node: &&NodeAt| (symbol.start..symbol.last).contains(&object.address(node.0.address));
            let nodes: Vec<NodeAt> = nodes.iter().filter(inside).copied().collect();
            if !nodes.is_empty() {
                routines.push(Routine { symbol, object: &**object, nodes });
            }
        }
    }
    match address {
        _ if !routines.is_empty() => {}
        None => return Err(format!("no matches found for regexp {}", argument.as_str())),
        Some(address) if !found_any => return Err(format!("no matches found for address {address:#x}")),
        Some(address) => {
            return Err(format!(
                "address {address:#x} found in binary, but the corresponding symbols do not have samples in \
                 the profile"
            ));
        }
    }
    routines.sort_by(|a, b| (&a.symbol.name, a.symbol.start).cmp(&(&b.symbol.name, b.symbol.start)));
    let mut out = Vec::new();
    // Writing to memory does not fail, here and below.
    let _ = writeln!(out, "Total: {}", report.format.value(report.total));
    for routine in &mut routines {
        print_routine(report, routine, &mut out)?;
    }
    Ok(out)
}

/// The number that an argument is, if it is one: then an address is meant.
pub(super) fn address_of(argument: &str) -> Option<u64> {
    let lower = argument.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// The files of mappings with samples that match, or that the address is in.
fn open_objects(
    report: &Report,
    nodes: &[NodeAt],
    argument: &GoRegexp,
    address: Option<u64>,
    tool: &dyn ObjectTool,
    messages: &mut Messages,
) -> Vec<Box<dyn Object>> {
    let columns = &report.columns;
    let matches = |info: &Info| info.object != 0 && argument.is_match(&info.printable(columns));
    let files: FxHashSet<_> =
        nodes.iter().filter(|(info, _)| matches(info)).map(|(info, _)| info.object).collect();
    let mut objects = Vec::new();
    for mapping in &columns.mappings {
        let holds = |address: u64| (mapping.start..=mapping.limit).contains(&address);
        if !files.contains(&mapping.file) && !address.is_some_and(holds) {
            continue;
        }
        let asked = ObjectMapping {
            file: columns.text(mapping.file),
            build_id: columns.text(mapping.build_id),
            start: mapping.start,
            limit: mapping.limit,
            offset: mapping.offset,
        };
        match tool.open(&asked) {
            Ok(object) => objects.push(object),
            Err(error) => messages.push(error),
        }
    }
    objects
}

fn print_routine(report: &Report, routine: &mut Routine<'_>, out: &mut Vec<u8>) -> Result<(), String> {
    let ObjectSymbol { name, start, last } = routine.symbol.clone();
    let sum = |part: fn(&Weights) -> i64| {
        routine.nodes.iter().fold(0i64, |sum, (_, weights)| sum.wrapping_add(part(weights)))
    };
    let (flat, cum) = (sum(|weights| weights.flat.sum), sum(|weights| weights.cum.sum));
    let rows = rows(report, routine, start, last)?;
    let _ = writeln!(out, "ROUTINE ======================== {name}");
    let _ = writeln!(
        out,
        "{:>10} {:>10} (flat, cum) {} of Total",
        report.format.value(flat),
        report.format.value(cum),
        percentage(cum, report.total)
    );
    let mut before = ("", "", 0);
    for row in &rows {
        let mut place = String::new();
        let here = (row.function.as_str(), row.file.as_str(), row.line);
        if here != before {
            before = here;
            place = place_text(row);
        }
        let (flat, cum) = (row.flat.value(), row.cum.value());
        let (flat, cum) = (report.format.value_or_dot(flat), report.format.value_or_dot(cum));
        let start = format!("{flat:>10} {cum:>10} {:>10x}: ", row.address);
        let _ = match (place.is_empty(), row.text.len() < 40) {
            (true, _) => writeln!(out, "{start}{}", row.text),
            (false, true) => writeln!(out, "{start}{:<40};{place}", row.text),
            (false, false) => writeln!(out, "{:74};{place}\n{start}{}", "", row.text),
        };
    }
    Ok(())
}

fn place_text(row: &Row) -> String {
    let mut text = String::new();
    if !row.function.is_empty() {
        text += &format!("{} ", row.function);
    }
    if !row.file.is_empty() {
        text += &row.file;
        if row.line != 0 {
            text += &format!(":{}", row.line);
        }
    }
    text
}

/// The instructions with the samples from each up to the next.
fn rows(report: &Report, routine: &mut Routine<'_>, start: u64, end: u64) -> Result<Vec<Row>, String> {
    let columns = &report.columns;
    let object = routine.object;
    routine.nodes.sort_by(|a, b| a.0.address.cmp(&b.0.address).then_with(|| a.0.compare(&b.0, columns)));
    let instructions = object.code(start, end, report.settings.intel_syntax)?;
    let mut nodes = routine.nodes.iter().peekable();
    let mut rows = Vec::new();
    for (at, instruction) in instructions.iter().enumerate() {
        let next = instructions.get(at + 1).map_or(u64::MAX, |next| next.address);
        let mut row = Row {
            address: instruction.address,
            text: instruction.text.clone(),
            line: instruction.line,
            file: base_or_empty(&instruction.file),
            ..Row::default()
        };
        while let Some((info, weights)) = nodes.next_if(|(info, _)| object.address(info.address) < next) {
            row.flat.add(weights.flat);
            row.cum.add(weights.cum);
            if row.file.is_empty() {
                row.file = base_or_empty(columns.text(info.file));
            }
            if row.line == 0 {
                row.line = info.line;
            }
            if row.function.is_empty() {
                row.function = columns.text(info.name).into();
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

fn base_or_empty(file: &str) -> String {
    if file.is_empty() { String::new() } else { base_name(file).into() }
}
