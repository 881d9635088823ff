//! The times of samples, for profiles whose samples have their time as a label.

use crate::profile::columns::{Columns, Label, TextId};

/// The label that profilers use for the end time of a sample.
const END_LABELS: [&str; 1] = ["end_timestamp_ns"];
/// The labels that profilers use for the time of a sample without duration.
const POINT_LABELS: [&str; 3] = ["timestamp_ns", "timestamp", "time_ns"];

/// A sample with its time range, in nanoseconds since the first sample, and its value.
pub struct Timed {
    /// The sample.
    pub sample: usize,
    /// Its start.
    pub from: i64,
    /// Its end.
    pub until: i64,
    /// Its value.
    pub value: i64,
}

/// The time range of all samples of a profile, in nanoseconds of the profile's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The start of the first one.
    pub first: i64,
    /// The end of the last one.
    pub last: i64,
}

/// The labels of a profile that have the times of samples.
pub struct Times {
    ends: Vec<TextId>,
    points: Vec<TextId>,
    value: usize,
    /// Whether values are nanoseconds.
    is_time: bool,
}

impl Times {
    /// Finds the labels of a profile. `value`: the index of the measured value.
    pub fn of(columns: &Columns, value: usize) -> Times {
        let find = |names: &[&str]| names.iter().filter_map(|name| columns.texts.find(name)).collect();
        let kind = columns.header.kinds.get(value).copied().unwrap_or_default();
        let is_time = columns.text(kind.unit) == "nanoseconds";
        Times { ends: find(&END_LABELS), points: find(&POINT_LABELS), value, is_time }
    }

    /// A sample that has a time, relative to `first`.
    pub fn timed(&self, columns: &Columns, sample: usize, first: i64) -> Option<Timed> {
        let labels = columns.labels(sample);
        let value = columns.values(sample).get(self.value).copied().unwrap_or(0);
        let end = time_of(labels, &self.ends);
        let until = end.or_else(|| time_of(labels, &self.points))?;
        let took = if self.is_time && end.is_some() { value.max(0) } else { 0 };
        let from = until.saturating_sub(took);
        Some(Timed { sample, from: from.saturating_sub(first), until: until.saturating_sub(first), value })
    }
}

/// Whether a profile may have the times of samples: it uses such a label.
pub fn has_times(columns: &Columns) -> bool {
    END_LABELS.iter().chain(&POINT_LABELS).any(|name| columns.texts.find(name).is_some())
}

/// The time range of a profile's samples; `None` if they have no times.
pub fn extent(columns: &Columns, value: usize) -> Option<Extent> {
    let times = Times::of(columns, value);
    if times.ends.is_empty() && times.points.is_empty() {
        return None;
    }
    let mut found: Option<Extent> = None;
    for one in (0..columns.sample_count()).filter_map(|sample| times.timed(columns, sample, 0)) {
        let known = found.unwrap_or(Extent { first: one.from, last: one.until });
        found = Some(Extent { first: known.first.min(one.from), last: known.last.max(one.until) });
    }
    found
}

impl Timed {
    /// The part of its value between two times. The value of a sample with a duration is that
    /// duration.
    pub fn part(&self, from: i64, until: i64) -> i64 {
        match self.until - self.from {
            0 => self.value,
            _ => self.until.min(until).saturating_sub(self.from.max(from)).max(0),
        }
    }
}

fn time_of(labels: &[Label], keys: &[TextId]) -> Option<i64> {
    labels.iter().find(|label| keys.contains(&label.key)).and_then(Label::as_number).map(|(time, _)| time)
}
