//! A filtered profile with named frames: the input of flame graphs, searches, threads and
//! timelines.
//!
//! Not here: the other reports, which filter on their own.

use std::sync::Arc;

use super::{
    DataError,
    frames::Frames,
    times::{Extent, extent},
};
use crate::{
    profile::columns::{Columns, labels::BASE_KEY},
    report::pprof::{Settings, filtered},
};

/// The number of cached profiles: the current one, the previous one and the base of a comparison.
const KEPT: usize = 3;

/// A filtered profile.
pub struct Prepared {
    /// The samples that pass the filters.
    pub columns: Columns,
    /// Their frames.
    pub frames: Frames,
    /// The index of the value that is shown.
    pub value: usize,
    /// The value that is 100%, in the unit of that value.
    pub total: i64,
    /// Whether samples of a second profile are subtracted.
    pub is_difference: bool,
    /// The sums of the base and of the new profile, before filters.
    pub sides: [i64; 2],
    /// The time range of all samples, including those that the filters remove.
    pub extent: Option<Extent>,
    /// Messages of the filters.
    pub messages: Vec<String>,
}

/// Filters `loaded`.
///
/// # Errors
/// [`DataError`] when a filter is invalid.
pub fn prepare(loaded: &Columns, settings: &Settings) -> Result<Prepared, DataError> {
    let mut settings = settings.clone();
    if settings.granularity.is_empty() {
        settings.granularity = "filefunctions".into();
    }
    let mut messages = Vec::new();
    let result = filtered(loaded.clone(), &settings, &mut messages);
    let (columns, value) = result.map_err(|why| DataError::bad_request(&why))?;
    let of = if settings.relative_percentages { &columns } else { loaded };
    let (total, is_difference) = total(of, value);
    let sides = sides(of, value);
    let extent = extent(loaded, value);
    Ok(Prepared {
        frames: Frames::new(&columns),
        columns,
        value,
        total,
        is_difference,
        sides,
        extent,
        messages,
    })
}

/// The sum of all absolute values (of the base's only, if there is a base), and whether a value is
/// negative.
fn total(columns: &Columns, value: usize) -> (i64, bool) {
    let base = columns.texts.find(BASE_KEY).filter(|_| columns.has_labels());
    let (mut all, mut of_base, mut is_difference) = (0i64, 0i64, false);
    for sample in 0..columns.sample_count() {
        let own = columns.values(sample).get(value).copied().unwrap_or(0);
        is_difference |= own < 0;
        all = all.saturating_add(own.saturating_abs());
        if base.is_some_and(|key| columns.labels(sample).iter().any(|label| label.key == key)) {
            of_base = of_base.saturating_add(own.saturating_abs());
        }
    }
    (if of_base > 0 { of_base } else { all }, is_difference)
}

/// The sums of the negative and of the positive values: of the base and of the new profile.
fn sides(columns: &Columns, value: usize) -> [i64; 2] {
    let mut sides = [0i64; 2];
    for sample in 0..columns.sample_count() {
        let own = columns.values(sample).get(value).copied().unwrap_or(0);
        let side = &mut sides[usize::from(own > 0)];
        *side = side.saturating_add(own.saturating_abs());
    }
    sides
}

/// The most recently used profiles, the newest last.
#[derive(Default)]
pub struct Cache(Vec<(String, Arc<Prepared>)>);

impl Cache {
    /// The profile of this key.
    pub fn find(&mut self, key: &str) -> Option<Arc<Prepared>> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        let found = self.0.remove(at);
        let prepared = Arc::clone(&found.1);
        self.0.push(found);
        Some(prepared)
    }

    /// Adds a profile; the least recently used one makes room.
    pub fn keep(&mut self, key: String, prepared: &Arc<Prepared>) {
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push((key, Arc::clone(prepared)));
    }
}
