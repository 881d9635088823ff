//! Where functions without a name begin. Unwinding tables know the ranges of functions that no
//! symbol names; a capture writes those that it met into comments of the profile, one per file:
//!
//! ```text
//! # function starts 1f2e…: 4616d3+1f2 4a0010+88
//! ```
//!
//! After the colon are pairs of a function's offset in the file and its size, hexadecimal and
//! ascending. The file is given by its build ID, or by its path if it has none. `go tool pprof`
//! does not print comments that begin with `#`. Reports show such a function as
//! `postgres+0x4616d3`.
//!
//! Not here: how a capture finds the starts.

use std::{collections::HashMap, fmt::Write};

use super::{
    columns::{Columns, Function, Line},
    proto::Profile,
};
use crate::text::path::base_name;

const PREFIX: &str = "# function starts ";

/// Most functions of one file that are read or written.
const MAX_FUNCTIONS: usize = 1 << 20;

/// A comment with the functions of one file: offset in the file and size in bytes.
pub fn comment(build_id: &str, path: &str, functions: &[(u64, u64)]) -> String {
    let mut sorted = functions.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut text = format!("{PREFIX}{}:", if build_id.is_empty() { path } else { build_id });
    for (start, size) in sorted.into_iter().take(MAX_FUNCTIONS) {
        // Writing to memory does not fail.
        let _ = write!(text, " {start:x}+{size:x}");
    }
    text
}

/// Whether a comment is one of these: it is for programs, not for readers.
pub fn is_comment(comment: &str) -> bool {
    comment.starts_with(PREFIX)
}

/// The functions of a profile's comments.
#[derive(Debug, Default)]
pub struct FunctionStarts {
    /// Offsets and sizes, ascending, by build ID or path.
    by_file: HashMap<String, Vec<(u64, u64)>>,
}

impl FunctionStarts {
    /// Reads the comments; other comments and damaged ones are ignored.
    pub fn new<'c>(comments: impl Iterator<Item = &'c str>) -> FunctionStarts {
        let mut by_file: HashMap<String, Vec<(u64, u64)>> = HashMap::new();
        for comment in comments {
            let Some((file, list)) = comment.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once(':'))
            else {
                continue;
            };
            let pair = |text: &str| {
                let (start, size) = text.split_once('+')?;
                Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(size, 16).ok()?))
            };
            let functions = by_file.entry(file.to_owned()).or_default();
            functions.extend(list.split_whitespace().filter_map(pair).take(MAX_FUNCTIONS));
            functions.sort_unstable();
        }
        FunctionStarts { by_file }
    }

    /// The functions that the comments of `profile` list.
    pub fn of_profile(profile: &Profile) -> FunctionStarts {
        FunctionStarts::new(profile.comment.iter().map(|index| profile.string(*index)))
    }

    /// The offset of the function that contains the offset `at` of a file.
    pub fn of(&self, build_id: &str, path: &str, at: u64) -> Option<u64> {
        let functions = self.by_file.get(if build_id.is_empty() { path } else { build_id })?;
        let before = functions.partition_point(|(start, _)| *start <= at).checked_sub(1)?;
        let (start, size) = functions[before];
        (at - start < size).then_some(start)
    }
}

/// Gives each location without a name that lies in a file a function called after the file and the
/// function's start: `postgres+0x4616d3`. Where the start is not known, the location itself is the
/// function: different functions are never merged into one. For display; not for files.
pub fn name_unnamed(columns: &mut Columns) {
    let comments = columns.header.comments.iter().map(|comment| columns.text(*comment));
    let starts = FunctionStarts::new(comments);
    let mut next_id = columns.functions.iter().map(|function| function.id).max().unwrap_or(0);
    let mut known: HashMap<String, u32> = HashMap::new();
    for row in 0..columns.locations.len() {
        let Some(name) = name_of(columns, row, &starts) else { continue };
        let function = match known.get(&name) {
            Some(function) => *function,
            None => {
                let text = columns.intern(&name);
                next_id = next_id.saturating_add(1);
                let function = Function { id: next_id, name: text, system_name: text, ..Function::default() };
                columns.functions.push(function);
                let function = columns.functions.len() as u32 - 1;
                known.insert(name, function);
                function
            }
        };
        let start = columns.lines.len() as u32;
        columns.lines.push(Line { function, line: 0, column: 0 });
        columns.locations[row].lines = start..start + 1;
    }
}

/// The name for a location without one; `None` if it has one, or lies in no file.
fn name_of(columns: &Columns, row: usize, starts: &FunctionStarts) -> Option<String> {
    let location = &columns.locations[row];
    let is_named = |line: &Line| {
        columns.functions.get(line.function as usize).is_some_and(|function| function.name != 0)
    };
    if columns.lines_of(location).iter().any(is_named) {
        return None;
    }
    let mapping = columns.mapping_of(location)?;
    let path = columns.text(mapping.file);
    if !path.starts_with('/') || path.starts_with("//") {
        return None;
    }
    let (from, to) = (mapping.start, mapping.limit);
    let inside = (from..to).contains(&location.address);
    let at = (location.address.wrapping_sub(from)).checked_add(mapping.offset).filter(|_| inside)?;
    let start = starts.of(columns.text(mapping.build_id), path, at).unwrap_or(at);
    Some(unnamed(base_name(path), start))
}

/// The name of a function that begins at the offset `start` of a file: `postgres+0x4616d3`.
pub fn unnamed(file: &str, start: u64) -> String {
    format!("{file}+{start:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, MappingSpec, columns::parse};

    #[test]
    fn an_offset_belongs_to_the_function_that_contains_it() {
        let text = comment("abc", "/bin/x", &[(0x300, 0x10), (0x100, 0x80), (0x100, 0x80)]);
        assert_eq!(text, "# function starts abc: 100+80 300+10");
        let starts =
            FunctionStarts::new([text.as_str(), "# function starts bad: x+y 5", "other"].into_iter());
        let of = |at| starts.of("abc", "/bin/x", at);
        assert_eq!(
            (of(0x100), of(0x17f), of(0x180), of(0x300), of(0xff)),
            (Some(0x100), Some(0x100), None, Some(0x300), None)
        );
        assert_eq!(starts.of("", "/bin/x", 0x100), None);
        assert_eq!(starts.of("bad", "", 5), None);
    }

    #[test]
    fn unnamed_locations_are_called_by_their_function_and_never_merged() {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        let spec = MappingSpec {
            start: 0x1000,
            limit: 0x9000,
            file_offset: 0x100,
            filename: "/bin/postgres",
            build_id: "ab",
            symbolized: true,
        };
        let program = builder.mapping(&spec);
        let jit = builder.mapping(&MappingSpec { filename: "//anon", build_id: "", ..spec });
        let places = [
            (Some(program), 0x2010),
            (Some(program), 0x2018),
            (Some(program), 0x5000),
            (Some(jit), 0x2010),
            (None, 5),
        ];
        let locations = places.map(|(mapping, address)| builder.location(mapping, address, &[]));
        builder.sample(&locations, &[1], &[]);
        builder.comment(&comment("ab", "/bin/postgres", &[(0x1100, 0x40)]));
        let mut columns = parse::of_profile(&builder.finish()).unwrap();
        name_unnamed(&mut columns);
        let names: Vec<&str> = (columns.locations.iter())
            .map(|location| {
                let line = columns.lines_of(location).first();
                line.map_or("", |line| columns.text(columns.functions[line.function as usize].name))
            })
            .collect();
        assert_eq!(names, ["postgres+0x1100", "postgres+0x1100", "postgres+0x4100", "", ""]);
        assert_eq!(columns.functions.len(), 2);
    }
}
