//! What grew between two censuses of a process.

use std::{collections::BTreeMap, time::Duration};

use super::{format::size_class, report::HeapReport};
use crate::heap::Amount;

/// What grew or shrank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    /// The type, and the size class where nothing names the type.
    pub what: String,
    /// The change in the number of chunks.
    pub count: i64,
    /// The change in bytes.
    pub bytes: i64,
}

impl Growth {
    /// The changes from `before` to `after`, the largest growth first, and the time between them.
    pub fn between(before: &HeapReport, after: &HeapReport) -> (Vec<Growth>, Duration) {
        let mut changes = BTreeMap::<String, (i64, i64)>::new();
        for (report, sign) in [(before, -1), (after, 1)] {
            for (what, amount) in amounts(report) {
                let change = changes.entry(what).or_default();
                change.0 = change.0.saturating_add(sign * signed(amount.count));
                change.1 = change.1.saturating_add(sign * signed(amount.bytes));
            }
        }
        let mut list: Vec<Growth> = (changes.into_iter())
            .filter(|(_, change)| *change != (0, 0))
            .map(|(what, (count, bytes))| Growth { what, count, bytes })
            .collect();
        list.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.what.cmp(&other.what)));
        (list, after.taken_at.duration_since(before.taken_at).unwrap_or_default())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What is in use, by the names that growth is reported with.
fn amounts(report: &HeapReport) -> BTreeMap<String, Amount> {
    let mut sums = BTreeMap::<String, Amount>::new();
    for heap in &report.heaps {
        for (row, amount) in heap.rows.iter().filter(|(row, _)| row.state.is_in_use()) {
            let name = &heap.type_of(row).text;
            let what = format!("{name}, {}", size_class(row.size));
            sums.entry(what).or_default().add(*amount);
        }
    }
    sums
}
