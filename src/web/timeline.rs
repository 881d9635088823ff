//! What was measured when, a row a thread: of profiles whose samples carry their times as a label.
//!
//! Not here: drawing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::prepared::Prepared;
use crate::profile::columns::{Columns, Label, TextId};

/// Labels that hold times, as profilers write them.
const TIME_KEYS: [&str; 4] = ["timestamp_ns", "end_timestamp_ns", "timestamp", "time_ns"];
/// Steps of time that are sent.
const STEPS: usize = 400;
/// Most rows that are sent: those with most.
const MOST_ROWS: usize = 64;

/// Makes the answer; without rows, and with a reason, where samples have no times.
pub fn answer(prepared: &Prepared) -> Value {
    let columns = &prepared.columns;
    let keys: Vec<TextId> = TIME_KEYS.iter().filter_map(|key| columns.texts.find(key)).collect();
    let times: Vec<(usize, i64)> = (0..columns.sample_count())
        .filter_map(|sample| Some((sample, time_of(columns.labels(sample), &keys)?)))
        .collect();
    let (Some(start), Some(end)) =
        (times.iter().map(|(_, time)| *time).min(), times.iter().map(|(_, time)| *time).max())
    else {
        return json!({ "rows": [], "why": why(columns) });
    };
    let thread = columns.texts.find("thread");
    let step = (end.saturating_sub(start) / STEPS as i64).max(1).saturating_add(1);
    let mut rows: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (sample, time) in times {
        let value = columns.values(sample).get(prepared.value).copied().unwrap_or(0);
        let row = rows.entry(name_of(columns, sample, thread)).or_insert_with(|| vec![0; STEPS]);
        let at = ((time.saturating_sub(start)) / step).clamp(0, STEPS as i64 - 1) as usize;
        row[at] = row[at].saturating_add(value);
    }
    let sum = |values: &[i64]| values.iter().fold(0i64, |sum, value| sum.saturating_add(*value));
    let mut rows: Vec<_> = rows.into_iter().map(|(name, values)| (name, sum(&values), values)).collect();
    rows.sort_by_key(|(_, sum, _)| std::cmp::Reverse(*sum));
    rows.truncate(MOST_ROWS);
    let rows: Vec<Value> = rows
        .iter()
        .map(|(name, value, values)| json!({ "name": name, "value": value, "values": values }))
        .collect();
    let kind = columns.header.kinds.get(prepared.value).copied().unwrap_or_default();
    json!({ "rows": rows, "start_ns": start, "end_ns": end, "columns": STEPS, "unit": columns.text(kind.unit) })
}

fn time_of(labels: &[Label], keys: &[TextId]) -> Option<i64> {
    labels.iter().find(|label| keys.contains(&label.key)).and_then(Label::as_number).map(|(time, _)| time)
}

fn name_of(columns: &Columns, sample: usize, thread: Option<TextId>) -> &str {
    let label = columns.labels(sample).iter().find(|label| Some(label.key) == thread);
    label.and_then(Label::as_text).map_or("all", |text| columns.text(text))
}

/// Why there is no timeline.
fn why(columns: &Columns) -> String {
    let samples = columns.sample_count();
    format!(
        "The {samples} samples of this profile do not say when they were taken: equal stacks are counted together. \
         A timeline is drawn of profiles whose samples have a label timestamp_ns (or end_timestamp_ns)."
    )
}
