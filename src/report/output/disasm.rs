//! `disasm`: the instructions of functions whose symbols match, with their values. (`weblist` as
//! data is the source lines with their values: `list`.)
//!
//! Not here: reading programs (`pprof::objects`).

use std::cmp::Reverse;

use super::{
    super::pprof::{
        Messages,
        disasm::{self, Listing, Row},
        objects::ObjectTool,
        prepare::Report,
    },
    Cell, Entry, List, Shape,
    rows::{id, percent},
};

/// Routines shown by default.
const COUNT: usize = 20;

const ROUTINES: Shape = Shape {
    name: "functions",
    one: "function",
    columns: &["id", "name", "flat", "flat_percent", "cum", "cum_percent"],
    groups: &[&INSTRUCTIONS],
    sums: &["flat", "flat_percent"],
};

const INSTRUCTIONS: Shape = Shape {
    name: "instructions",
    one: "instruction",
    columns: &["address", "flat", "flat_percent", "cum", "cum_percent", "function", "file", "line", "text"],
    groups: &[],
    sums: &["flat", "flat_percent"],
};

/// Routines whose symbols match, the hottest first. Errors: none matches, or the code cannot be
/// read.
pub(super) fn disasm(
    report: &mut Report,
    tool: &dyn ObjectTool,
    count: Option<usize>,
    messages: &mut Messages,
) -> Result<List, String> {
    let mut found = Vec::new();
    disasm::each(report, tool, messages, &mut |_, listing| {
        found.push(listing);
        Ok(())
    })?;
    found.sort_by_key(|listing| (Reverse(listing.flat.unsigned_abs()), Reverse(listing.cum.unsigned_abs())));
    let entries = found.iter().map(|listing| entry(listing, report.total)).collect();
    let mut list = List::new(&ROUTINES, entries);
    list.truncate(count.unwrap_or(COUNT));
    Ok(list)
}

fn entry(listing: &Listing, total: i64) -> Entry {
    let mut cells = vec![Cell::Text(id(&listing.name, "", None)), Cell::Text(listing.name.clone())];
    cells.extend(weights(listing.flat, listing.cum, total));
    let instructions = listing.rows.iter().map(|row| instruction(row, total)).collect();
    Entry { cells, groups: vec![List::new(&INSTRUCTIONS, instructions)] }
}

fn instruction(row: &Row, total: i64) -> Entry {
    let text = |text: &str| if text.is_empty() { Cell::Nothing } else { Cell::Text(text.into()) };
    let mut cells = vec![Cell::Text(format!("{:#x}", row.address))];
    cells.extend(weights(row.flat.value(), row.cum.value(), total));
    cells.extend([text(&row.function), text(&row.file)]);
    cells.push(if row.line == 0 { Cell::Nothing } else { Cell::Number(row.line) });
    cells.push(text(&row.text));
    Entry { cells, groups: Vec::new() }
}

fn weights(flat: i64, cum: i64, total: i64) -> [Cell; 4] {
    [Cell::Value(flat), percent(flat, total), Cell::Value(cum), percent(cum, total)]
}
