//! The line program of a unit, run once over all requested addresses, keeping only their rows.

use std::path::Path;

use gimli::{ColumnType, LineProgramHeader, UnitRef};

use super::{ranges::covered, sections::Slice};
use crate::symbolize::{Deadline, debug_files::path_of};

/// No real path is longer (`PATH_MAX` is 4096; some are stated relative to a directory).
const MAX_PATH_BYTES: usize = 16 << 10;

/// The row of the line table that contains an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct LineRow {
    pub file: u64,
    pub line: u32,
    pub column: u32,
}

/// The rows for some sorted addresses of a unit. If the program is damaged: those found before the
/// damage.
pub(super) fn rows(
    unit: UnitRef<'_, Slice<'_>>,
    addresses: &[u64],
    deadline: &Deadline,
) -> Vec<Option<LineRow>> {
    let mut found = vec![None; addresses.len()];
    let Some(program) = unit.line_program.clone() else { return found };
    let mut rows = program.rows();
    // Address and content of the previous row; none at the start of a sequence.
    let mut previous: Option<(u64, LineRow)> = None;
    while let Ok(Some((_, row))) = rows.next_row() {
        if deadline.passed() {
            break;
        }
        if let Some((begin, says)) = previous {
            // A sequence that begins at 0 belongs to a discarded function.
            if begin != 0 && begin < row.address() {
                for index in covered(addresses, gimli::Range { begin, end: row.address() }) {
                    found[index].get_or_insert(says);
                }
            }
        }
        previous = (!row.end_sequence()).then(|| (row.address(), row_of(row)));
    }
    found
}

fn row_of(row: &gimli::LineRow) -> LineRow {
    let column = match row.column() {
        ColumnType::LeftEdge => 0,
        ColumnType::Column(column) => u32::try_from(column.get()).unwrap_or(0),
    };
    let line = row.line().and_then(|line| u32::try_from(line.get()).ok()).unwrap_or(0);
    LineRow { file: row.file_index(), line, column }
}

/// The path of a file, by its number in the unit's line program.
pub(super) fn path(unit: UnitRef<'_, Slice<'_>>, file: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let entry = header.file(file)?;
    let name = unit.attr_string(entry.path_name()).ok()?;
    let directory = directory(unit, header, entry.directory_index());
    let parts = [
        unit.comp_dir.map_or(0, |dir| dir.len()),
        name.len(),
        directory.map_or(0, |dir| dir.as_os_str().len()),
    ];
    if parts.iter().any(|bytes| *bytes > MAX_PATH_BYTES) {
        return None;
    }
    let compilation_dir = unit.comp_dir.map(|dir| path_of(dir.slice()).to_owned());
    let whole = compilation_dir
        .unwrap_or_default()
        .join(directory.unwrap_or(Path::new("")))
        .join(path_of(name.slice()));
    let text = whole.to_string_lossy();
    (!text.is_empty() && text.len() <= MAX_PATH_BYTES).then(|| text.into_owned())
}

fn directory<'a>(
    unit: UnitRef<'_, Slice<'a>>,
    header: &LineProgramHeader<Slice<'a>>,
    index: u64,
) -> Option<&'a Path> {
    // Up to version 4, directory 0 is the compilation directory, which is joined anyway.
    if index == 0 && header.version() <= 4 {
        return None;
    }
    let directory = unit.attr_string(header.directory(index)?).ok()?;
    Some(path_of(directory.slice()))
}
