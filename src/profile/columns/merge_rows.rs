//! The rows of one source and the rows they became in the merged profile.
//!
//! Profiles of one program mostly have the same tables, or tables with the same beginning. A row
//! that equals the row with the same number in the previous source maps to the same merged row.
//! Such rows are found by comparing both tables side by side once, which is ten times as fast as
//! looking up each.
//!
//! Not here: looking up the other rows ([`super::merge`]).

use super::{Columns, NONE, TextId};

/// A source and the merged rows of its rows; [`NONE`] where not yet known.
pub(super) struct Rows {
    pub source: Columns,
    pub texts: Vec<TextId>,
    /// With the number to add to addresses in it.
    pub mappings: Vec<(u32, u64)>,
    pub functions: Vec<u32>,
    pub locations: Vec<u32>,
}

impl Rows {
    /// The merged rows for `source`, where its rows equal those of the previous source.
    pub(super) fn new(source: Columns, before: Option<Rows>) -> Rows {
        let mut rows = Rows {
            texts: vec![NONE; source.texts.len()],
            mappings: vec![(NONE, 0); source.mappings.len()],
            functions: vec![NONE; source.functions.len()],
            locations: vec![NONE; source.locations.len()],
            source,
        };
        if let Some(before) = before.filter(|before| rows.resembles(before)) {
            rows.remember(&before);
        }
        rows
    }

    /// Whether comparing the tables is likely to find equal rows.
    fn resembles(&self, before: &Rows) -> bool {
        let (own, other) = (&self.source, &before.source);
        let ends =
            |columns: &Columns| (columns.functions.first().copied(), columns.locations.first().cloned());
        ends(own) == ends(other)
    }

    fn remember(&mut self, before: &Rows) {
        let (own, other) = (&self.source, &before.source);
        let same_texts = own.texts.common_start(&other.texts);
        let is_text = |a: TextId, b: TextId| a == b && (a as usize) < same_texts;
        self.texts[..same_texts].copy_from_slice(&before.texts[..same_texts]);
        let mut same_function = vec![false; own.functions.len()];
        for (row, (a, b)) in own.functions.iter().zip(&other.functions).enumerate() {
            same_function[row] = a.start_line == b.start_line
                && is_text(a.name, b.name)
                && is_text(a.system_name, b.system_name)
                && is_text(a.file, b.file);
            if same_function[row] {
                self.functions[row] = before.functions[row];
            }
        }
        let mut same_mapping = vec![false; own.mappings.len()];
        for (row, (a, b)) in own.mappings.iter().zip(&other.mappings).enumerate() {
            same_mapping[row] = a == b && is_text(a.file, b.file) && is_text(a.build_id, b.build_id);
            if same_mapping[row] {
                self.mappings[row] = before.mappings[row];
            }
        }
        for (row, (a, b)) in own.locations.iter().zip(&other.locations).enumerate() {
            let (lines, other_lines) = (own.lines_of(a), other.lines_of(b));
            let is_same = |row: u32, same: &[bool]| same.get(row as usize).copied().unwrap_or(row == NONE);
            let is_same_location = (a.address, a.mapping, a.is_folded) == (b.address, b.mapping, b.is_folded)
                && is_same(a.mapping, &same_mapping)
                && lines == other_lines
                && lines.iter().all(|line| is_same(line.function, &same_function));
            if is_same_location {
                self.locations[row] = before.locations[row];
            }
        }
    }
}
