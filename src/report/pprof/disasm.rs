//! `disasm`: the instructions of functions whose symbols match, with samples.
//!
//! Not here: decoding machine code ([`super::objects`]).

use std::{io::Write, ops::Range, rc::Rc};

use rustc_hash::FxHashSet;

use super::{
    graph::{Info, Weight, Weights},
    objects::{Object, ObjectFrame, ObjectInstruction, ObjectMapping, ObjectSymbol, ObjectTool},
    prepare::{Messages, Report},
};
use crate::{
    profile::{go_regexp::GoRegexp, unit::percentage},
    text::path::base_name,
};

/// Limit of the text in bytes: a hostile file can have any number of symbols at an address.
const MAX_BYTES: usize = 512 << 20;

/// How many routines are read at once.
const CHUNK: usize = 100;

/// A node with its address in the file.
type NodeAt = (u64, Info, Weights);

/// An instruction, and its source line.
type Line = (ObjectInstruction, Option<ObjectFrame>);

/// A matching symbol, its file, and the samples in it.
struct Routine<'o> {
    symbol: ObjectSymbol,
    object: &'o dyn Object,
    /// The index of its file.
    file: usize,
    /// All nodes of the file, by address in the file.
    nodes: Rc<[NodeAt]>,
    own: Range<usize>,
}

/// An instruction with its samples.
#[derive(Default)]
pub struct Row {
    /// The address in the file.
    pub address: u64,
    /// The assembly text.
    pub text: String,
    /// The function; empty: not shown.
    pub function: String,
    /// The file name without folders.
    pub file: String,
    /// The source line; 0: unknown.
    pub line: i64,
    /// Samples with this instruction as leaf.
    pub flat: Weight,
    /// Samples with this instruction anywhere in the stack.
    pub cum: Weight,
}

/// A routine with its instructions and samples.
pub struct Listing {
    /// The symbol.
    pub name: String,
    /// The sum of the rows' flat values.
    pub flat: i64,
    /// The sum of the rows' cumulative values.
    pub cum: i64,
    /// The instructions.
    pub rows: Vec<Row>,
}

pub(super) fn print(
    report: &mut Report,
    tool: &dyn ObjectTool,
    messages: &mut Messages,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    // Writing to memory does not fail, here and below.
    let _ = writeln!(out, "Total: {}", report.format.value(report.total));
    each(report, tool, messages, &mut |report, listing| {
        print_listing(report, &listing, &mut out);
        match out.len() > MAX_BYTES {
            true => Err("the assembly is longer than 512 MiB: name fewer functions".into()),
            false => Ok(()),
        }
    })?;
    Ok(out)
}

/// Passes the routines whose symbols match to `take`, ordered by name. Errors: nothing matches, or
/// `take` fails.
pub fn each(
    report: &mut Report,
    tool: &dyn ObjectTool,
    messages: &mut Messages,
    take: &mut dyn FnMut(&Report, Listing) -> Result<(), String>,
) -> Result<(), String> {
    let nodes = report.nodes();
    let Some(argument) = report.argument.clone() else { return Err("disasm needs an argument".into()) };
    let address = address_of(argument.as_str());
    let objects = open_objects(report, &nodes, &argument, address, tool, messages);
    let mut found_any = false;
    let mut routines = Vec::new();
    for (file, object) in objects.iter().enumerate() {
        let place = address.map(|address| object.address(address));
        let mut placed: Vec<NodeAt> =
            nodes.iter().map(|(info, weights)| (object.address(info.address), *info, *weights)).collect();
        placed.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.compare(&b.1, &report.columns)));
        let placed: Rc<[NodeAt]> = placed.into();
        for symbol in object.symbols().unwrap_or_default() {
            let is_there = place.is_some_and(|address| (symbol.start..=symbol.last).contains(&address));
            found_any |= is_there;
            // Like the reference, the last byte of a symbol is ignored.
            let begin = placed.partition_point(|node| node.0 < symbol.start);
            let end = placed.partition_point(|node| node.0 < symbol.last).max(begin);
            if begin == end || (place.is_some() && !is_there) {
                continue;
            }
            let symbol = if is_there { Some(symbol) } else { matching(&**object, symbol, &argument) };
            if let Some(symbol) = symbol {
                let nodes = placed.clone();
                routines.push(Routine { symbol, object: &**object, file, nodes, own: begin..end });
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
    for chunk in routines.chunks(CHUNK) {
        let code = code_of(chunk, report.settings.intel_syntax)?;
        for (routine, code) in chunk.iter().zip(&code) {
            take(report, listing(report, routine, code))?;
        }
    }
    Ok(())
}

/// The symbol if its name matches, or with that of its demangled names that does.
fn matching(object: &dyn Object, symbol: ObjectSymbol, argument: &GoRegexp) -> Option<ObjectSymbol> {
    if argument.is_match(&symbol.name) {
        return Some(symbol);
    }
    let name = object.demangled(&symbol.name).into_iter().find(|name| argument.is_match(name))?;
    Some(ObjectSymbol { name, ..symbol })
}

/// The argument as an address, if it is a number.
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

/// Opens the files of mappings that match, or that contain the address.
fn open_objects(
    report: &Report,
    nodes: &[(Info, Weights)],
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
        let object = ObjectMapping {
            file: columns.text(mapping.file),
            build_id: columns.text(mapping.build_id),
            start: mapping.start,
            limit: mapping.limit,
            offset: mapping.offset,
        };
        match tool.open(&object) {
            Ok(object) => objects.push(object),
            Err(error) => messages.push(error),
        }
    }
    objects
}

/// The instructions of routines, with their source lines where these are shown.
fn code_of(routines: &[Routine<'_>], intel: bool) -> Result<Vec<Vec<Line>>, String> {
    let mut all = Vec::new();
    for routine in routines {
        let code = routine.object.code(routine.symbol.start, routine.symbol.last, intel)?;
        all.push(code.into_iter().map(|instruction| (instruction, None)).collect::<Vec<Line>>());
    }
    let mut files: Vec<usize> = routines.iter().map(|routine| routine.file).collect();
    files.sort_unstable();
    files.dedup();
    for file in files {
        let own = || routines.iter().enumerate().filter(|(_, routine)| routine.file == file);
        let Some((_, first)) = own().next().filter(|(_, routine)| routine.object.shows_lines()) else {
            continue;
        };
        let code = own().flat_map(|(at, _)| all[at].iter());
        let addresses: Vec<u64> = code.map(|(instruction, _)| instruction.address).collect();
        let mut frames = first.object.frames(&addresses).into_iter();
        for (at, _) in own() {
            all[at].iter_mut().for_each(|line| line.1 = frames.next().flatten());
        }
    }
    Ok(all)
}

fn listing(report: &Report, routine: &Routine<'_>, code: &[Line]) -> Listing {
    let sum = |part: fn(&Weights) -> i64| {
        routine.nodes[routine.own.clone()]
            .iter()
            .fold(0i64, |sum, (_, _, weights)| sum.wrapping_add(part(weights)))
    };
    Listing {
        name: routine.symbol.name.clone(),
        flat: sum(|weights| weights.flat.sum),
        cum: sum(|weights| weights.cum.sum),
        rows: rows(report, routine, code),
    }
}

fn print_listing(report: &Report, listing: &Listing, out: &mut Vec<u8>) {
    let Listing { name, flat, cum, rows } = listing;
    let (flat, cum) = (*flat, *cum);
    let _ = writeln!(out, "ROUTINE ======================== {name}");
    let _ = writeln!(
        out,
        "{:>10} {:>10} (flat, cum) {} of Total",
        report.format.value(flat),
        report.format.value(cum),
        percentage(cum, report.total)
    );
    let mut before = ("", "", 0);
    for row in rows {
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

/// The instructions, each with the samples up to the next one.
fn rows(report: &Report, routine: &Routine<'_>, code: &[Line]) -> Vec<Row> {
    let columns = &report.columns;
    let mut nodes = routine.nodes[routine.own.clone()].iter().peekable();
    let mut rows = Vec::new();
    for (at, (instruction, frame)) in code.iter().enumerate() {
        let next = code.get(at + 1).map_or(u64::MAX, |(next, _)| next.address);
        let mut row = Row {
            address: instruction.address,
            text: instruction.text.clone(),
            line: frame.as_ref().map_or(0, |frame| frame.line),
            file: frame.as_ref().map_or(String::new(), |frame| base_or_empty(&frame.file)),
            ..Row::default()
        };
        while let Some((_, info, weights)) = nodes.next_if(|node| node.0 < next) {
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
    rows
}

fn base_or_empty(file: &str) -> String {
    if file.is_empty() { String::new() } else { base_name(file).into() }
}
