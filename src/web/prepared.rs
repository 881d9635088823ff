//! A profile as filters leave it, with its frames named: what flame graphs and searches are made from.
//!
//! Not here: the other reports, which filter for themselves.

use std::sync::Arc;

use super::{
    data::DataError,
    frames::Frames,
    timeline::{self, Extent},
};
use crate::{
    profile::columns::{Columns, labels::BASE_KEY},
    report::pprof::{Settings, filtered},
};

/// How many are kept: what is looked at, what was looked at before, and what it is compared with.
const KEPT: usize = 3;

/// A profile to make trees of.
pub struct Prepared {
    pub columns: Columns,
    pub frames: Frames,
    /// Number of the value that is shown.
    pub value: usize,
    /// What 100% is, in that value's unit.
    pub total: i64,
    /// Whether samples of a second profile are subtracted.
    pub is_difference: bool,
    /// From when to when samples are, also those that filters leave out.
    pub extent: Option<Extent>,
    /// What filters had to say.
    pub messages: Vec<String>,
}

/// Filters `loaded`.
pub fn prepare(loaded: &Columns, settings: &Settings) -> Result<Prepared, DataError> {
    let mut settings = settings.clone();
    if settings.granularity.is_empty() {
        settings.granularity = "filefunctions".into();
    }
    let mut messages = Vec::new();
    let made = filtered(loaded.clone(), &settings, &mut messages);
    let (columns, value) = made.map_err(|why| DataError::bad_request(&why))?;
    let of = if settings.relative_percentages { &columns } else { loaded };
    let (total, is_difference) = total(of, value);
    let extent = timeline::extent(loaded, value);
    Ok(Prepared { frames: Frames::new(&columns), columns, value, total, is_difference, extent, messages })
}

/// The sum of all values without signs, of the base's alone where there is one; and whether any is negative.
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

/// The last few, the newest last.
#[derive(Default)]
pub struct Cache(Vec<(String, Arc<Prepared>)>);

impl Cache {
    pub fn find(&mut self, key: &str) -> Option<Arc<Prepared>> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        let found = self.0.remove(at);
        let prepared = Arc::clone(&found.1);
        self.0.push(found);
        Some(prepared)
    }

    pub fn keep(&mut self, key: String, prepared: &Arc<Prepared>) {
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push((key, Arc::clone(prepared)));
    }
}
