//! Profiles written by Java agents: values first, then a table of addresses with names.
//!
//! Not here: the header of a Java CPU profile ([`super::cpu`]).

use std::sync::LazyLock;

use regex::Regex;
use rustc_hash::FxHashMap;

use super::{Draft, Refusal, heap::unsample, hex_addresses};
use crate::{
    profile::columns::{Function, Line, aggregate::Detail},
    text::{
        go::{IntegerError, integer},
        path::base_name,
    },
};

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

static ATTRIBUTE: LazyLock<Regex> = LazyLock::new(|| regex(r"([0-9A-Za-z_ ]+)=([0-9A-Za-z_ ]+)"));
static SAMPLE: LazyLock<Regex> = LazyLock::new(|| regex(r" *([0-9]+) +([0-9]+) +@ +([ x0-9a-f]*)"));
static LOCATION: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^[\t\n\f\r ]*0x([[:xdigit:]]+)[\t\n\f\r ]+(.*)[\t\n\f\r ]*$"));
static FILE_LINE: LazyLock<Regex> = LazyLock::new(|| regex(r"^(.*)[\t\n\f\r ]+\((.+):(-?[[:digit:]]+)\)$"));
static FILE: LazyLock<Regex> = LazyLock::new(|| regex(r"^(.*)[\t\n\f\r ]+\((.*)\)$"));

/// Bytes allocated per allocation sample.
const HEAP_RATE_BYTES: i64 = 524_288;

pub(super) fn read(bytes: &[u8]) -> Result<Draft, Refusal> {
    let text = String::from_utf8_lossy(bytes);
    let (header, rest) = text.split_once('\n').ok_or(Refusal::Unrecognized)?;
    let is_heap = match header.trim() {
        "--- heapz 1 ---" => true,
        "--- contentionz 1 ---" => false,
        _ => return Err(Refusal::Unrecognized),
    };
    let mut draft = Draft::default();
    let rest = attributes(&mut draft, is_heap, rest)?;
    let rest = samples(&mut draft, is_heap, rest)?;
    locations(&mut draft, rest)?;
    Ok(draft)
}

/// Parses a number; the error is worded like Go's.
fn parse_int(text: &str) -> Result<i64, String> {
    integer(text).map_err(|error| {
        let why = match error {
            IntegerError::Syntax => "invalid syntax",
            IntegerError::OutOfRange => "value out of range",
        };
        format!("strconv.ParseInt: parsing \"{text}\": {why}")
    })
}

/// Calls `each` with every complete line until it returns false; returns the text from that line
/// on.
fn each_line<'a>(
    mut text: &'a str,
    mut each: impl FnMut(&'a str) -> Result<bool, Refusal>,
) -> Result<&'a str, Refusal> {
    while let Some((line, rest)) = text.split_once('\n') {
        let line = line.trim();
        if !line.is_empty() && !each(line)? {
            break;
        }
        text = rest;
    }
    Ok(text)
}

fn attributes<'a>(draft: &mut Draft, is_heap: bool, text: &'a str) -> Result<&'a str, Refusal> {
    each_line(text, |line| {
        let Some(found) = ATTRIBUTE.captures(line) else { return Ok(false) };
        let (name, value) = (found[1].trim(), found[2].trim());
        let number = || {
            parse_int(value)
                .map_err(|why| Refusal::Broken(format!("failed to parse attribute {line}: {why}")))
        };
        match (is_heap, name) {
            (_, "format") if value == "java" => {}
            (true, "resolution") => draft.set_kinds(&[("inuse_objects", "count"), ("inuse_space", value)]),
            (false, "resolution") => draft.set_kinds(&[("contentions", "count"), ("delay", value)]),
            (false, "sampling period") => {
                draft.columns.header.period_kind = draft.kind(("contentions", "count"));
                draft.columns.header.period = number()?;
            }
            (false, "ms since reset") => {
                draft.columns.header.duration_ns = number()?.wrapping_mul(1_000_000);
            }
            _ => return Err(Refusal::Unrecognized),
        }
        Ok(true)
    })
}

fn samples<'a>(draft: &mut Draft, is_heap: bool, text: &'a str) -> Result<&'a str, Refusal> {
    let period = draft.columns.header.period;
    each_line(text, |line| {
        let Some(found) = SAMPLE.captures(line) else { return Ok(false) };
        let broken = |why: String| Refusal::Broken(format!("parsing sample {line}: {why}"));
        let number = |digits: &str| parse_int(digits).map_err(broken);
        let addresses = hex_addresses(&found[3])
            .map_err(|why| Refusal::Broken(format!("malformed sample: {line}: {why}")))?;
        let (mut count, mut size) = (number(&found[2])?, number(&found[1])?);
        let mut block_bytes = None;
        if is_heap {
            if count == 0 {
                return Err(broken("second value must be non-zero".into()));
            }
            block_bytes = Some(size / count);
            (count, size) = unsample(count, size, HEAP_RATE_BYTES);
        } else if period != 0 {
            (count, size) = (count.wrapping_mul(period), size.wrapping_mul(period));
        }
        draft.push(vec![count, size], &addresses, block_bytes, |_| false);
        Ok(true)
    })
}

/// Reads the table of names, then numbers the entries that are used.
pub(super) fn locations(draft: &mut Draft, text: &str) -> Result<(), Refusal> {
    let mut functions: FxHashMap<String, u32> = FxHashMap::default();
    for line in text.lines() {
        let line = line.trim();
        let Some(found) = LOCATION.captures(line) else { continue };
        let address = u64::from_str_radix(&found[1], 16).map_err(|_| {
            let why = format!("strconv.ParseUint: parsing \"{}\": value out of range", &found[1]);
            Refusal::Broken(format!("parsing sample {line}: {why}"))
        })?;
        let Some(place) = draft.places.get(&address).copied() else { continue };
        let (name, file, number) = place_name(&found[2]);
        let row = match functions.get(&name) {
            Some(row) => *row,
            None => {
                let (text, file) = (draft.columns.intern(&name), draft.columns.intern(&file));
                let row = draft.columns.functions.len() as u32;
                let function = Function { name: text, system_name: text, file, ..Function::default() };
                draft.columns.functions.push(function);
                functions.insert(name, row);
                row
            }
        };
        let start = draft.columns.lines.len() as u32;
        draft.columns.lines.push(Line { function: row, line: number, column: 0 });
        let location = &mut draft.columns.locations[place as usize];
        location.lines = start..start + 1;
        location.address = 0;
    }
    draft.number_locations();
    super::maps::number_functions(draft);
    super::maps::assign(draft)?;
    // Addresses of compiled code have no meaning in another run.
    let all =
        Detail { inlines: true, functions: true, files: true, lines: true, columns: false, addresses: false };
    draft.columns.aggregate(all);
    Ok(())
}

/// Function, file and line of an entry.
fn place_name(text: &str) -> (String, String, i64) {
    if let Some(found) = FILE_LINE.captures(text) {
        let line = found[3].parse::<i64>().ok().filter(|line| *line > 0).unwrap_or(0);
        (found[1].into(), found[2].into(), line)
    } else if let Some(found) = FILE.captures(text) {
        (found[1].into(), base_name(&found[2]).into(), 0)
    } else if text.contains("generated stub/JIT") {
        ("STUB".into(), String::new(), 0)
    } else {
        (text.into(), String::new(), 0)
    }
}
