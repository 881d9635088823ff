//! Memory maps at the end of a profile: lines in the format of `/proc/PID/maps` or similar,
//! converted to mappings that locations refer to.
//!
//! Not here: the live `/proc` of a process.

use std::sync::LazyLock;

use regex::Regex;

use super::{Draft, Lines, Refusal};
use crate::profile::columns::{Function, Mapping, NONE};

const RANGE: &str = r"^\s*(?:0x)?([[:xdigit:]]+)[\s-]?\s*(?:0x)?([[:xdigit:]]+):?(?:\s+([-rwxp]+))?";

/// A line of `/proc/PID/maps`: range, permissions, offset, device, inode, path.
static PROC_LINE: LazyLock<Regex> = LazyLock::new(|| {
    let rest = r"(?:\s+([[:xdigit:]]+))?\s+[[:xdigit:]]+:[[:xdigit:]]+\s+[[:digit:]]+(?:\s+(\S+))?";
    Regex::new(&format!("{RANGE}{rest}")).expect("a valid expression")
});

/// The short form: range, permissions, path, `(@offset)`, build ID.
static BRIEF_LINE: LazyLock<Regex> = LazyLock::new(|| {
    let rest = r"(?:\s+(\S+))?(?:\s+\(@([[:xdigit:]]+)\))?(?:\s+([[:xdigit:]]+))?";
    Regex::new(&format!("{RANGE}{rest}")).expect("a valid expression")
});

/// The prefix that a logging library adds to each line.
static LOG_PREFIX: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[^\[\]]+:[0-9]+]\s").expect("a valid expression"));

static LIBRARY: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"([.]so$|[.]so[._][0-9]+)").expect("a valid expression"));

/// Most bytes of a line after substituting variables: values may contain variables, and grow.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Further variables are ignored; writers define one or two.
const MAX_VARIABLES: usize = 100;

/// Most comparisons of an address with a mapping: a few seconds of work.
const MAX_COMPARISONS: usize = 1 << 31;

pub(super) fn is_sentinel(line: &str) -> bool {
    line.contains("--- Memory map: ---") || line.contains("MAPPED_LIBRARIES:")
}

/// Skips to the memory map, if there is one, and applies it.
pub(super) fn skip_to_map(draft: &mut Draft, mut lines: Lines) -> Result<(), Refusal> {
    while !is_sentinel(lines.current) && lines.advance() {}
    let rest = lines.rest.collect::<Vec<_>>().join("\n");
    apply(draft, &rest)
}

/// Adds the mappings of `text` and sets each location's mapping and number.
pub(super) fn apply(draft: &mut Draft, text: &str) -> Result<(), Refusal> {
    read(draft, text)?;
    join_adjacent(draft);
    main_first(draft);
    draft.number_locations();
    number_functions(draft);
    assign(draft)
}

/// Numbers functions in the order of first use by locations, and drops unused ones.
pub(super) fn number_functions(draft: &mut Draft) {
    let columns = &mut draft.columns;
    let mut rows = vec![NONE; columns.functions.len()];
    let mut functions = Vec::new();
    for location in &columns.locations {
        for line in &mut columns.lines[location.lines.start as usize..location.lines.end as usize] {
            let Some(row) = rows.get_mut(line.function as usize) else { continue };
            if *row == NONE {
                *row = functions.len() as u32;
                let function = columns.functions[line.function as usize];
                functions.push(Function { id: u64::from(*row) + 1, ..function });
            }
            line.function = *row;
        }
    }
    columns.functions = functions;
}

fn read(draft: &mut Draft, text: &str) -> Result<(), Refusal> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let line = &line[LOG_PREFIX.find(line).map_or(0, |prefix| prefix.end())..];
        let mut line = line.to_string();
        if line.contains('$') {
            for (name, value) in &variables {
                line = line.replace(name, value);
                if line.len() > MAX_LINE_BYTES {
                    let bytes = MAX_LINE_BYTES;
                    return Err(Refusal::Broken(format!(
                        "memory map: a line becomes longer than {bytes} bytes"
                    )));
                }
            }
        }
        match parse(&line, draft) {
            Some(Some(mapping)) => draft.columns.mappings.push(mapping),
            Some(None) => {}
            None => {
                if let Some((name, value)) = line.split_once('=')
                    && variables.len() < MAX_VARIABLES
                {
                    variables.push((format!("${}", name.trim()), value.trim().into()));
                }
            }
        }
    }
    Ok(())
}

/// The mapping of a line; `None` if it is not a mapping, `Some(None)` if it is not executable.
fn parse(line: &str, draft: &mut Draft) -> Option<Option<Mapping>> {
    let proc_line = PROC_LINE.captures(line);
    let brief = proc_line.is_none();
    let found = proc_line.or_else(|| BRIEF_LINE.captures(line))?;
    let part = |at: usize| found.get(at).map_or("", |part| part.as_str());
    let (file, offset, build_id) = if brief { (part(4), part(5), part(6)) } else { (part(5), part(4), "") };
    if !part(3).is_empty() && !part(3).contains('x') {
        return Some(None);
    }
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let (start, limit) = (hex(part(1))?, hex(part(2))?);
    let offset = if offset.is_empty() { 0 } else { hex(offset)? };
    let (file, build_id) = (draft.columns.intern(file), draft.columns.intern(build_id));
    Some(Some(Mapping { start, limit, offset, file, build_id, ..Mapping::default() }))
}

/// Joins adjacent lines that describe one mapping.
fn join_adjacent(draft: &mut Draft) {
    let mut joined: Vec<Mapping> = Vec::new();
    let mut rows = Vec::new();
    for mapping in &draft.columns.mappings {
        match joined.last_mut() {
            Some(last) if are_adjacent(last, mapping) => {
                last.limit = mapping.limit;
                last.file = if mapping.file == 0 { last.file } else { mapping.file };
                last.build_id = if mapping.build_id == 0 { last.build_id } else { mapping.build_id };
            }
            _ => joined.push(*mapping),
        }
        rows.push(joined.len() as u32 - 1);
    }
    for location in &mut draft.columns.locations {
        location.mapping = rows.get(location.mapping as usize).copied().unwrap_or(NONE);
    }
    draft.columns.mappings = joined;
}

fn are_adjacent(one: &Mapping, next: &Mapping) -> bool {
    let agree = |a: u32, b: u32| a == 0 || b == 0 || a == b;
    let end = one.offset.wrapping_add(one.limit.wrapping_sub(one.start));
    agree(one.file, next.file)
        && agree(one.build_id, next.build_id)
        && one.limit == next.start
        && (one.offset == 0 || next.offset == 0 || end == next.offset)
}

/// Guesses which mapping is the main binary, and puts it first.
fn main_first(draft: &mut Draft) {
    let columns = &draft.columns;
    let is_program = |mapping: &Mapping| {
        let file = columns.text(mapping.file).replace("(deleted)", "");
        let file = file.trim();
        !file.is_empty() && !LIBRARY.is_match(file) && !file.starts_with('[')
    };
    if let Some(main) = columns.mappings.iter().position(is_program) {
        draft.columns.mappings.swap(0, main);
    }
}

/// Sets each location's mapping from its address.
pub(super) fn assign(draft: &mut Draft) -> Result<(), Refusal> {
    let columns = &mut draft.columns;
    let (locations, mappings) = (columns.locations.len(), columns.mappings.len());
    if locations.saturating_mul(mappings) > MAX_COMPARISONS {
        let why = format!("memory map: {mappings} mappings are too many for {locations} addresses");
        return Err(Refusal::Broken(why));
    }
    if let [first, second, ..] = columns.mappings[..]
        && columns.texts.get(first.file).starts_with("/anon_hugepage")
        && first.limit == second.start
    {
        columns.mappings.remove(0);
    }
    const USUAL_START: u64 = 0x400000;
    if let Some(main) = columns.mappings.first_mut()
        && main.start.wrapping_sub(main.offset) == USUAL_START
    {
        (main.start, main.offset) = (USUAL_START, 0);
    }
    let mut fake = NONE;
    for location in &mut columns.locations {
        let address = location.address;
        if location.mapping != NONE || address == 0 {
            continue;
        }
        let holds = |mapping: &Mapping| mapping.start <= address && address < mapping.limit;
        if let Some(row) = columns.mappings.iter().position(holds) {
            location.mapping = row as u32;
            continue;
        }
        let begins_later = |mapping: &Mapping| {
            let start = mapping.start.wrapping_sub(mapping.offset);
            mapping.offset != 0 && start <= address && address < mapping.start
        };
        if let Some(row) = columns.mappings.iter().position(begins_later) {
            let mapping = &mut columns.mappings[row];
            mapping.start = mapping.start.wrapping_sub(mapping.offset);
            mapping.offset = 0;
            location.mapping = row as u32;
            continue;
        }
        if fake == NONE {
            fake = columns.mappings.len() as u32;
            columns.mappings.push(Mapping { limit: u64::MAX, ..Mapping::default() });
        }
        location.mapping = fake;
    }
    for (row, mapping) in columns.mappings.iter_mut().enumerate() {
        mapping.id = row as u64 + 1;
    }
    Ok(())
}
