//! Formats a report's values: scales them and converts them to the chosen unit.
//!
//! Not here: units themselves (`profile::unit`).

use crate::{profile::unit, text::go::truncate};

/// How values are converted to text.
#[derive(Clone, Debug)]
pub(in crate::report) struct Format {
    /// The factor applied to values.
    pub ratio: f64,
    /// The unit of the profile's values.
    pub from: String,
    /// The requested or chosen unit.
    pub to: String,
}

impl Format {
    /// A value as text.
    pub fn value(&self, value: i64) -> String {
        unit::scaled_label(self.divided(value), &self.from, &self.to)
    }

    /// A value as text; a dot for 0.
    pub fn value_or_dot(&self, value: i64) -> String {
        if value == 0 { ".".into() } else { self.value(value) }
    }

    /// The columns `flat flat% sum% cum cum%` of tables of functions.
    pub fn weights(&self, [flat, sum, cum]: [i64; 3], total: i64) -> String {
        let [flat_share, sum_share, cum_share] = [flat, sum, cum].map(|value| unit::percentage(value, total));
        let (flat, cum) = (self.value(flat), self.value(cum));
        format!("{flat:>10} {flat_share} {sum_share} {cum:>10} {cum_share}")
    }

    fn divided(&self, value: i64) -> i64 {
        if self.divides() { truncate(value as f64 * self.ratio) } else { value }
    }

    /// Whether the factor changes values.
    pub fn divides(&self) -> bool {
        self.ratio > 0.0 && self.ratio != 1.0
    }

    /// Chooses one unit for all values if none was requested: one in which the smallest value is
    /// not shown as 0. `smallest` is 0 if there is none.
    pub fn choose_unit(&mut self, smallest: i64, total: i64, whole_numbers: bool) {
        let smallest = if smallest == 0 { total } else { smallest };
        let (smallest, largest) = (self.divided(smallest), self.divided(total));
        let best = |value: i64| unit::scale(value, &self.from, "minimum").1.to_string();
        let mut chosen = best(smallest);
        if chosen != best(largest) && smallest.wrapping_mul(100) < largest && !whole_numbers {
            chosen = best(smallest.wrapping_mul(100));
        }
        self.to = if chosen.is_empty() { self.from.clone() } else { chosen };
    }
}
