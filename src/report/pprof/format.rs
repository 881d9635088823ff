//! How a report's values are written: divided, and in the unit the report has chosen.
//!
//! Not here: units themselves (`profile::unit`).

use crate::{profile::unit, text::go::truncate};

/// From a sample's value to text.
#[derive(Clone, Debug)]
pub(in crate::report) struct Format {
    /// What values are multiplied by.
    pub ratio: f64,
    /// Unit of the profile's values.
    pub from: String,
    /// Unit asked for, or chosen.
    pub to: String,
}

impl Format {
    pub fn value(&self, value: i64) -> String {
        unit::scaled_label(self.divided(value), &self.from, &self.to)
    }

    /// A dot for nothing.
    pub fn value_or_dot(&self, value: i64) -> String {
        if value == 0 { ".".into() } else { self.value(value) }
    }

    /// `flat flat% sum% cum cum%`, in the columns that tables of functions have.
    pub fn weights(&self, [flat, sum, cum]: [i64; 3], total: i64) -> String {
        let [flat_share, sum_share, cum_share] = [flat, sum, cum].map(|value| unit::percentage(value, total));
        let (flat, cum) = (self.value(flat), self.value(cum));
        format!("{flat:>10} {flat_share} {sum_share} {cum:>10} {cum_share}")
    }

    fn divided(&self, value: i64) -> i64 {
        if self.divides() { truncate(value as f64 * self.ratio) } else { value }
    }

    pub fn divides(&self) -> bool {
        self.ratio > 0.0 && self.ratio != 1.0
    }

    /// Chooses one unit for all values where none was asked for: one in which the smallest can still
    /// be told from zero. `smallest` is 0 where there is none.
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
