//! Which functions the time goes to: a table with flat (the function itself) and cumulative (with
//! all it calls) values.
//!
//! Not here: colours and terminal widths.

use std::{borrow::Cow, collections::HashMap, fmt::Write};

use super::{
    stacks::{Frame, FrameId, Stacks, bracketed, value_of},
    units::{Display, format_percent},
};
use crate::profile::Profile;

/// A function's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name; addresses without a name are summed up as `[libfoo.so]`.
    pub name: String,
    /// Value of the samples in which it is the leaf.
    pub flat: i64,
    /// Value of the samples in which it occurs; once a sample, however often it recurs.
    pub cum: i64,
    /// Whether it was always, sometimes or never inlined.
    pub inlined: Inlined,
}

/// How a function's frames came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inlined {
    Never,
    Sometimes,
    Always,
}

/// The table. Made by [`top`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Largest flat value first, then largest cumulative value, then by name.
    pub rows: Vec<Row>,
    /// Sum over all samples.
    pub total: i64,
    /// As the profile states it: `nanoseconds`, `count` …
    pub unit: String,
}

/// Sums value number `value_index` of each sample by function.
pub fn top(profile: &Profile, value_index: usize) -> Top {
    let stacks = Stacks::new(profile);
    let mut table = Table::new(&stacks);
    let mut total = 0i64;
    for sample in &profile.sample {
        let value = value_of(sample, value_index);
        total = total.saturating_add(value);
        table.add(&stacks, sample, value);
    }
    let mut rows = table.rows;
    rows.retain(|row| row.flat != 0 || row.cum != 0);
    rows.sort_by(|a, b| {
        (b.flat.unsigned_abs(), b.cum.unsigned_abs(), &a.name).cmp(&(
            a.flat.unsigned_abs(),
            a.cum.unsigned_abs(),
            &b.name,
        ))
    });
    let unit = profile.sample_type.get(value_index).map_or("", |kind| profile.string(kind.unit));
    Top { rows, total, unit: unit.to_string() }
}

/// The rows while they are being summed.
struct Table {
    rows: Vec<Row>,
    /// The row of each frame.
    row_of: Vec<usize>,
    /// For each row, the number of the last sample counted in `cum`.
    counted_in: Vec<usize>,
    sample: usize,
    /// For each row: whether it was seen inlined, and otherwise.
    seen: Vec<(bool, bool)>,
}

impl Table {
    fn new(stacks: &Stacks<'_>) -> Table {
        let mut by_name: HashMap<Cow<'_, str>, usize> = HashMap::new();
        let mut rows: Vec<Row> = Vec::new();
        let row_of = stacks.frames().iter().map(|frame| {
            let name = row_name(frame);
            *by_name.entry(name).or_insert_with_key(|name| {
                rows.push(Row { name: name.to_string(), flat: 0, cum: 0, inlined: Inlined::Never });
                rows.len() - 1
            })
        });
        let row_of: Vec<usize> = row_of.collect();
        let count = rows.len();
        Table { rows, row_of, counted_in: vec![0; count], sample: 0, seen: vec![(false, false); count] }
    }

    fn add(&mut self, stacks: &Stacks<'_>, sample: &crate::profile::proto::Sample, value: i64) {
        self.sample += 1;
        let mut leaf = None;
        for used in stacks.of(sample) {
            let row = self.row(used.frame);
            let seen = &mut self.seen[row];
            *seen = (seen.0 | used.inlined, seen.1 | !used.inlined);
            self.rows[row].inlined = match *seen {
                (true, true) => Inlined::Sometimes,
                (true, false) => Inlined::Always,
                _ => Inlined::Never,
            };
            if self.counted_in[row] != self.sample {
                self.counted_in[row] = self.sample;
                self.rows[row].cum = self.rows[row].cum.saturating_add(value);
            }
            leaf = Some(row);
        }
        if let Some(row) = leaf {
            self.rows[row].flat = self.rows[row].flat.saturating_add(value);
        }
    }

    fn row(&self, frame: FrameId) -> usize {
        self.row_of[frame.0 as usize]
    }
}

fn row_name<'f>(frame: &'f Frame<'_>) -> Cow<'f, str> {
    if frame.named || frame.module.is_empty() {
        Cow::Borrowed(&frame.name)
    } else {
        Cow::Owned(bracketed(frame.module_name()))
    }
}

impl Top {
    /// The first `limit` rows as text, with a head and aligned columns as pprof's `-top` has them.
    pub fn text(&self, limit: usize) -> String {
        let shown = &self.rows[..limit.min(self.rows.len())];
        let display = self.display(shown);
        let accounted = shown.iter().fold(0i64, |sum, row| sum.saturating_add(row.flat));
        let mut text = format!(
            "Showing nodes accounting for {}, {} of {} total\n",
            display.text(accounted),
            format_percent(accounted, self.total),
            display.text(self.total),
        );
        if shown.len() < self.rows.len() {
            let _ = writeln!(text, "Showing top {} nodes out of {}", shown.len(), self.rows.len());
        }
        text.push_str("      flat  flat%   sum%        cum   cum%\n");
        let mut sum = 0i64;
        for row in shown {
            sum = sum.saturating_add(row.flat);
            let _ = writeln!(
                text,
                "{:>10} {:>6} {:>6} {:>10} {:>6}  {}{}",
                display.text(row.flat),
                format_percent(row.flat, self.total),
                format_percent(sum, self.total),
                display.text(row.cum),
                format_percent(row.cum, self.total),
                row.name,
                row.inlined.note(),
            );
        }
        text
    }

    /// One unit for all values shown.
    fn display(&self, shown: &[Row]) -> Display {
        let sizes = shown.iter().map(|row| if row.flat != 0 { row.flat } else { row.cum });
        let smallest = sizes.map(i64::saturating_abs).min().unwrap_or(self.total);
        Display::for_range(smallest, self.total, &self.unit)
    }
}

impl Inlined {
    fn note(self) -> &'static str {
        match self {
            Inlined::Never => "",
            Inlined::Sometimes => " (partial-inline)",
            Inlined::Always => " (inline)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LineSpec, MappingSpec};

    const MS: i64 = 1_000_000;

    fn profile() -> Profile {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        let library =
            builder.mapping(&MappingSpec { limit: 0x1000, filename: "/lib/x.so", ..Default::default() });
        let [main, recur, leaf] =
            ["main", "recur", "leaf"].map(|name| builder.function(name, name, "a.c", 1));
        let line = |function| LineSpec { function, line: 1, column: 0 };
        let inlined = builder.location(None, 3, &[line(leaf), line(recur)]);
        let main = builder.location(None, 1, &[line(main)]);
        let recur = builder.location(None, 2, &[line(recur)]);
        let unnamed = [4, 5].map(|address| builder.location(Some(library), address, &[]));
        builder.sample(&[recur, recur, recur, main], &[3, 30 * MS], &[]);
        builder.sample(&[inlined, main], &[5, 50 * MS], &[]);
        builder.sample(&[unnamed[0], main], &[1, 10 * MS], &[]);
        builder.sample(&[unnamed[1], main], &[1, 10 * MS], &[]);
        builder.finish()
    }

    #[test]
    fn recursion_counts_once_and_nameless_addresses_are_summed_by_binary() {
        let top = top(&profile(), 1);
        let rows: Vec<_> =
            top.rows.iter().map(|row| (row.name.as_str(), row.flat / MS, row.cum / MS)).collect();
        assert_eq!(rows, [("leaf", 50, 50), ("recur", 30, 80), ("[x.so]", 20, 20), ("main", 0, 100)]);
        assert_eq!(top.total, 100 * MS);
    }

    #[test]
    fn the_table_is_laid_out_like_pprofs() {
        let expected = "\
Showing nodes accounting for 80ms, 80.00% of 100ms total
Showing top 2 nodes out of 4
      flat  flat%   sum%        cum   cum%
      50ms 50.00% 50.00%       50ms 50.00%  leaf (inline)
      30ms 30.00% 80.00%       80ms 80.00%  recur
";
        assert_eq!(top(&profile(), 1).text(2), expected);
    }

    #[test]
    fn an_empty_profile_has_an_empty_table() {
        let top = top(&Profile::default(), 0);
        assert_eq!(top.rows, []);
        assert!(top.text(10).starts_with("Showing nodes accounting for 0, 0% of 0 total\n"));
    }
}
