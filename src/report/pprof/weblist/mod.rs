//! `weblist`: an HTML page with the source lines of matching functions and their samples; a click
//! on a line shows its instructions.
//!
//! The page shows the machine code around sampled addresses, grouped by source line; the line
//! numbers in the profile are not used. Not here: writing the page ([`page`]), finding source files
//! ([`super::source_path`]).

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    disasm::address_of,
    objects::{Object, ObjectFrame, ObjectMapping, ObjectTool},
    prepare::Report,
};
use crate::{
    profile::columns::{Columns, Location, TextId},
    text::path::clean_path,
};

mod code;
mod files;
mod page;

/// A sampled address.
#[derive(Clone, Copy)]
struct Place {
    /// The row of the location.
    location: u32,
    /// The row of the mapping in [`Collected::objects`], if its file could be opened.
    object: Option<u32>,
}

/// An instruction with its weights.
#[derive(Clone, Debug, Default)]
struct Instruction {
    /// The address in the file.
    address: u64,
    length: u64,
    /// Empty if there is no file to read it from.
    text: String,
    file: String,
    line: i64,
    flat: i64,
    cum: i64,
}

/// The content of the page before it is grouped by line.
#[derive(Default)]
struct Collected {
    /// The names of matching functions.
    interest: FxHashSet<String>,
    /// From the linker's names of functions to readable ones.
    readable: FxHashMap<TextId, TextId>,
    /// By run-time address.
    instructions: FxHashMap<u64, Instruction>,
    files: FxHashMap<String, SourceFile>,
}

/// A source file: instructions by line.
#[derive(Default)]
struct SourceFile {
    lines: FxHashMap<i64, Vec<SourceInstruction>>,
    /// The function of each line.
    functions: FxHashMap<i64, String>,
}

/// An instruction of a line, and the inlined calls that lead to it, outermost first.
#[derive(Clone, Debug)]
struct SourceInstruction {
    address: u64,
    calls: Vec<(String, i64)>,
}

/// Weights by address, before they are assigned to instructions.
#[derive(Default)]
struct Sampled {
    flat: FxHashMap<u64, i64>,
    cum: FxHashMap<u64, i64>,
    places: FxHashMap<u64, Place>,
}

pub(super) fn print(report: &Report, tool: &dyn ObjectTool) -> Result<Vec<u8>, String> {
    let Some(argument) = &report.argument else { return Err("weblist needs an argument".into()) };
    let mut collected = Collected::default();
    let mut objects = Objects::new(&report.columns, tool);
    let sampled = collect(report, &mut collected, &mut objects);
    if collected.interest.is_empty() {
        return Err(format!("no matches found for regexp: {}", argument.as_str()));
    }
    code::expand(report, &mut collected, &objects, &sampled);
    let files = files::arrange(report, collected)?;
    Ok(page::write(report, &files).into_bytes())
}

/// The files of mappings, each opened once, by name.
struct Objects<'o> {
    columns: &'o Columns,
    tool: &'o dyn ObjectTool,
    by_file: FxHashMap<TextId, Option<u32>>,
    open: Vec<Box<dyn Object>>,
}

impl<'o> Objects<'o> {
    fn new(columns: &'o Columns, tool: &'o dyn ObjectTool) -> Objects<'o> {
        Objects { columns, tool, by_file: FxHashMap::default(), open: Vec::new() }
    }

    fn of(&mut self, location: &Location) -> Option<u32> {
        let mapping = self.columns.mapping_of(location)?;
        if let Some(known) = self.by_file.get(&mapping.file) {
            return *known;
        }
        let wanted = ObjectMapping {
            file: self.columns.text(mapping.file),
            build_id: self.columns.text(mapping.build_id),
            start: mapping.start,
            limit: mapping.limit,
            offset: mapping.offset,
        };
        let opened = self.tool.open(&wanted).ok().map(|object| {
            self.open.push(object);
            self.open.len() as u32 - 1
        });
        self.by_file.insert(mapping.file, opened);
        opened
    }
}

/// Sums samples by address and collects the matching functions.
fn collect(report: &Report, collected: &mut Collected, objects: &mut Objects) -> Sampled {
    let columns = &report.columns;
    let mut sampled = Sampled::default();
    let mut invented = Invented::new(columns);
    let mut seen = vec![false; columns.locations.len()];
    for sample in 0..columns.sample_count() {
        let values = columns.values(sample);
        let mut value = values[report.measure.value];
        if report.measure.mean && values[0] != 0 {
            value = value.wrapping_div(values[0]);
        }
        let stack = columns.stack(sample);
        for (at, row) in stack.iter().enumerate().rev() {
            let location = &columns.locations[*row as usize];
            let address = if location.address == 0 { invented.of(*row) } else { location.address };
            let add = |sum: &mut i64| *sum = sum.wrapping_add(value);
            add(sampled.cum.entry(address).or_default());
            if at == 0 {
                add(sampled.flat.entry(address).or_default());
            }
            if !std::mem::replace(&mut seen[*row as usize], true) {
                let is_of_interest = note_interest(report, location, address, collected);
                if is_of_interest && !sampled.places.contains_key(&address) {
                    let object = objects.of(location);
                    sampled.places.insert(address, Place { location: *row, object });
                }
            }
        }
    }
    sampled
}

/// Invented addresses for locations without one, after all mappings.
struct Invented {
    next: u64,
    known: FxHashMap<u32, u64>,
}

impl Invented {
    fn new(columns: &Columns) -> Invented {
        let behind = columns.mappings.iter().map(|mapping| mapping.limit).max().unwrap_or(0);
        Invented { next: behind.max(1), known: FxHashMap::default() }
    }

    fn of(&mut self, location: u32) -> u64 {
        let next = &mut self.next;
        *self.known.entry(location).or_insert_with(|| {
            let address = *next;
            *next = next.wrapping_add(1);
            address
        })
    }
}

/// Collects the matching functions of a location. Returns whether any matches.
fn note_interest(report: &Report, location: &Location, address: u64, collected: &mut Collected) -> bool {
    let columns = &report.columns;
    let Some(argument) = &report.argument else { return false };
    let lines = columns.lines_of(location);
    let function = |at: usize| columns.functions.get(lines.get(at)?.function as usize);
    for function in (0..lines.len()).filter_map(function) {
        collected.readable.insert(function.system_name, function.name);
    }
    let is_asked_address = address_of(argument.as_str()) == Some(address);
    let is_asked_file = !is_asked_address
        && columns.mapping_of(location).is_some_and(|mapping| argument.is_match(columns.text(mapping.file)));
    let mut any = false;
    for at in 0..lines.len() {
        let Some(function) = function(at) else { continue };
        let matches = || {
            let texts = [function.name, function.system_name, function.file];
            texts.iter().any(|text| argument.is_match(columns.text(*text)))
        };
        let wanted =
            if is_asked_address { at + 1 == lines.len() } else { (at == 0 && is_asked_file) || matches() };
        if wanted {
            any = true;
            for name in [function.name, function.system_name] {
                collected.interest.insert(columns.text(name).into());
            }
        }
    }
    any
}

impl Collected {
    /// Adds an instruction to the lines of those of its frames (innermost first) that match.
    fn add(&mut self, address: u64, frames: &[ObjectFrame]) {
        for (at, frame) in frames.iter().enumerate() {
            if !self.interest.contains(&frame.function) {
                continue;
            }
            let file = self.files.entry(canonical(&frame.file)).or_default();
            let calls = frames[..at].iter().rev().map(|callee| (callee.file.clone(), callee.line)).collect();
            file.lines.entry(frame.line).or_default().push(SourceInstruction { address, calls });
            file.functions.entry(frame.line).or_insert_with(|| frame.function.clone());
        }
    }
}

fn canonical(file: &str) -> String {
    let file = file.strip_prefix("/proc/self/cwd/").unwrap_or(file);
    clean_path(file.strip_prefix("./").unwrap_or(file))
}
