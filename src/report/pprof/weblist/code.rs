//! Reads the machine code around sampled addresses and assigns samples to instructions.
//!
//! Not here: decoding it ([`super::Object`]).

use super::{Collected, Instruction, Objects, Sampled};
use crate::{
    profile::columns::Mapping,
    report::pprof::{
        objects::{ObjectFrame, ObjectInstruction},
        prepare::Report,
    },
};

/// How much code is shown before and after an address, in bytes.
const MARGIN: u64 = 500;
/// Maximum number of shown ranges: those with the most samples.
const MAX_RANGES: usize = 25;
/// An instruction without a line gets the line of an instruction at most this many bytes before it.
const NEIGHBOURHOOD: u64 = 32;

/// A range of code of one file, in run-time addresses.
struct Range {
    begin: u64,
    end: u64,
    object: u32,
    /// The run-time address minus the address in the file.
    bias: u64,
    flat: i64,
}

/// An instruction, and its source line.
type Line = (ObjectInstruction, Option<ObjectFrame>);

/// Reads the code and assigns samples to instructions.
pub(super) fn expand(report: &Report, collected: &mut Collected, objects: &Objects, sampled: &Sampled) {
    let mut with_object: Vec<u64> = Vec::new();
    let mut without: Vec<u64> = Vec::new();
    for (address, place) in &sampled.places {
        if place.object.is_some() { with_object.push(*address) } else { without.push(*address) }
    }
    with_object.sort_unstable();
    without.sort_unstable();
    let mut ranges = ranges(report, objects, sampled, &with_object);
    for address in without {
        add_unread(report, collected, sampled, address);
    }
    ranges.sort_by_key(|range| std::cmp::Reverse(range.flat));
    ranges.truncate(MAX_RANGES);
    let code = read(report, objects, &ranges);
    for (range, code) in ranges.iter().zip(code) {
        add_range(collected, range, code);
    }
    for (address, instruction) in &mut collected.instructions {
        // Samples inside an instruction belong to it.
        for at in *address..address.saturating_add(instruction.length) {
            let of = |sums: &rustc_hash::FxHashMap<u64, i64>| sums.get(&at).copied().unwrap_or(0);
            instruction.flat = instruction.flat.wrapping_add(of(&sampled.flat));
            instruction.cum = instruction.cum.wrapping_add(of(&sampled.cum));
        }
    }
}

/// Ranges around the addresses; overlapping ranges are merged.
fn ranges(report: &Report, objects: &Objects, sampled: &Sampled, addresses: &[u64]) -> Vec<Range> {
    let flat = |address: u64| sampled.flat.get(&address).copied().unwrap_or(0);
    let mut ranges = Vec::new();
    let mut rest = addresses.iter().copied().peekable();
    while let Some(mut begin) = rest.next() {
        let Some(place) = sampled.places.get(&begin) else { continue };
        let location = &report.columns.locations[place.location as usize];
        let Some(object) = place.object else { continue };
        let unknown = Mapping::default();
        let mapping = report.columns.mapping_of(location).unwrap_or(&unknown);
        let (mut end, mut sum) = (begin, flat(begin));
        let near = |next: &u64, end: u64| *next <= end.saturating_add(2 * MARGIN) && *next < mapping.limit;
        while let Some(next) = rest.next_if(|next| near(next, end)) {
            end = next;
            sum = sum.wrapping_add(flat(next));
        }
        // Like the reference: only the first address is limited to the mapping.
        begin = if mapping.start.wrapping_sub(begin) >= MARGIN {
            begin.wrapping_sub(MARGIN)
        } else {
            mapping.start
        };
        end = if mapping.limit.wrapping_sub(end) >= MARGIN {
            end.saturating_add(MARGIN)
        } else {
            mapping.limit
        };
        let bias = begin.wrapping_sub(objects.open[object as usize].address(begin));
        ranges.push(Range { begin, end, object, bias, flat: sum });
    }
    ranges
}

/// The instructions of each range, and their source lines.
fn read(report: &Report, objects: &Objects, ranges: &[Range]) -> Vec<Vec<Line>> {
    let intel = report.settings.intel_syntax;
    let mut all: Vec<Vec<Line>> = Vec::new();
    for range in ranges {
        let object = &*objects.open[range.object as usize];
        // Unreadable code is skipped.
        let code = object.code(object.address(range.begin), object.address(range.end), intel);
        all.push(code.unwrap_or_default().into_iter().map(|instruction| (instruction, None)).collect());
    }
    for (number, object) in objects.open.iter().enumerate() {
        let own = || (0..ranges.len()).filter(|at| ranges[*at].object as usize == number);
        let code = own().flat_map(|at| all[at].iter());
        let addresses: Vec<u64> = code.map(|(instruction, _)| instruction.address).collect();
        let mut frames =
            if addresses.is_empty() { Vec::new() } else { object.frames(&addresses) }.into_iter();
        for at in own() {
            all[at].iter_mut().for_each(|line| line.1 = frames.next().flatten());
        }
    }
    all
}

fn add_range(collected: &mut Collected, range: &Range, code: Vec<Line>) {
    let mut last: Option<(u64, Vec<ObjectFrame>)> = None;
    let mut highest = 0;
    let addresses: Vec<u64> = code.iter().map(|(instruction, _)| instruction.address).collect();
    for (at, (instruction, place)) in code.into_iter().enumerate() {
        let address = instruction.address.wrapping_add(range.bias);
        if address <= highest {
            continue;
        }
        highest = address;
        let next = addresses.get(at + 1).copied().unwrap_or(0);
        // Code between functions has no line; code in a function without a line has the previous
        // line.
        let is_known = place.is_some();
        let place = place.unwrap_or_default();
        collected.instructions.insert(
            address,
            Instruction {
                address: instruction.address,
                length: next.saturating_sub(instruction.address).max(1),
                text: instruction.text,
                file: place.file.clone(),
                line: place.line,
                flat: 0,
                cum: 0,
            },
        );
        let has_line = place.line != 0;
        let mut frames = vec![place];
        if has_line || !is_known {
            last = Some((address, frames.clone()));
        } else if let Some((at, before)) = &last
            && address - at <= NEIGHBOURHOOD
        {
            frames.clone_from(before);
        }
        collected.add(address, &frames);
    }
}

/// Adds an address whose code could not be read.
fn add_unread(report: &Report, collected: &mut Collected, sampled: &Sampled, address: u64) {
    let columns = &report.columns;
    let Some(place) = sampled.places.get(&address) else { return };
    let location = &columns.locations[place.location as usize];
    let lines = columns.lines_of(location).iter();
    let frames: Vec<ObjectFrame> = lines
        .filter_map(|line| {
            let function = columns.functions.get(line.function as usize)?;
            let text = |text| columns.text(text).to_string();
            Some(ObjectFrame { function: text(function.name), file: text(function.file), line: line.line })
        })
        .collect();
    let first = frames.first().cloned().unwrap_or_default();
    let instruction =
        Instruction { address, length: 1, file: first.file, line: first.line, ..Instruction::default() };
    collected.instructions.insert(address, instruction);
    collected.add(address, &frames);
}
