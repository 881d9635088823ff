//! The labels of samples by key, as reports use them: texts and numbers separate, several values of
//! a key together.
//!
//! Not here: selecting samples by labels ([`super::filter`]).

use hashbrown::{HashMap, HashSet};

use super::{Columns, Label, TextId};

/// The key that marks the samples of the base profile (`-diff_base`); its value is `true`.
pub const BASE_KEY: &str = "pprof::base";

/// The labels of a sample by key, sorted by key.
#[derive(Clone, Debug, Default)]
pub struct ByKey {
    /// Text values by key.
    pub texts: Vec<(TextId, Vec<TextId>)>,
    /// Numeric values by key.
    pub numbers: Vec<(TextId, Numbers)>,
}

/// The numeric values of a key.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// The numbers, in the order of the file.
    pub values: Vec<i64>,
    /// One unit for each value, or empty if no value has a unit.
    pub units: Vec<TextId>,
}

/// The unit of the numbers of each key, over all samples.
#[derive(Clone, Debug, Default)]
pub struct Units {
    units: HashMap<TextId, String>,
    /// Keys whose numbers have several units, with the units that are not used.
    pub ignored: Vec<(TextId, Vec<String>)>,
}

impl Units {
    /// The unit of the numbers of `key`; empty if it has none.
    pub fn of(&self, key: TextId) -> &str {
        self.units.get(&key).map_or("", |unit| unit)
    }
}

impl Columns {
    /// The labels of a sample by key.
    pub fn labels_by_key(&self, sample: usize) -> ByKey {
        let mut by_key = ByKey::default();
        let labels = self.labels(sample);
        // A sample has few labels or none; very many must not take quadratic time.
        let mut rows: HashMap<(TextId, bool), usize> = HashMap::new();
        for label in labels {
            let (texts, numbers) = (&mut by_key.texts, &mut by_key.numbers);
            let is_text = label.as_text().is_some();
            let next = if is_text { texts.len() } else { numbers.len() };
            let row = if labels.len() > 16 {
                *rows.entry((label.key, is_text)).or_insert(next)
            } else if is_text {
                texts.iter().position(|(key, _)| *key == label.key).unwrap_or(next)
            } else {
                numbers.iter().position(|(key, _)| *key == label.key).unwrap_or(next)
            };
            if let Some(text) = label.as_text() {
                if row == next {
                    texts.push((label.key, Vec::new()));
                }
                texts[row].1.push(text);
            } else if let Some((number, unit)) = label.as_number() {
                if row == next {
                    numbers.push((label.key, Numbers::default()));
                }
                numbers[row].1.values.push(number);
                numbers[row].1.units.push(unit);
            }
        }
        for (_, numbers) in &mut by_key.numbers {
            if numbers.units.iter().all(|unit| *unit == 0) {
                numbers.units.clear();
            }
        }
        by_key.texts.sort_by(|a, b| self.text(a.0).cmp(self.text(b.0)));
        by_key.numbers.sort_by(|a, b| self.text(a.0).cmp(self.text(b.0)));
        by_key
    }

    /// The units of all numeric keys: the first unit found, or one guessed from the key.
    pub fn label_units(&self) -> Units {
        let mut seen: HashMap<TextId, Vec<TextId>> = HashMap::new();
        let mut pairs: HashSet<(TextId, TextId)> = HashSet::new();
        for label in self.labels.iter() {
            if let Some((_, unit)) = label.as_number()
                && pairs.insert((label.key, unit))
            {
                let units = seen.entry(label.key).or_default();
                if unit != 0 {
                    units.push(unit);
                }
            }
        }
        let mut units = Units::default();
        for (key, seen) in seen {
            let unit = match (seen.first(), self.text(key)) {
                (Some(unit), _) => self.text(*unit),
                (None, "alignment" | "request") => "bytes",
                (None, key) => key,
            };
            units.units.insert(key, unit.to_string());
            if seen.len() > 1 {
                let mut others: Vec<_> = seen[1..].iter().map(|unit| self.text(*unit).to_string()).collect();
                others.sort();
                units.ignored.push((key, others));
            }
        }
        units.ignored.sort_by(|a, b| self.text(a.0).cmp(self.text(b.0)));
        units
    }

    /// Marks all samples as part of the base profile.
    pub fn mark_as_base(&mut self) {
        let (key, value) = (self.intern(BASE_KEY), self.intern("true"));
        self.relabel(|labels, out| {
            out.extend(labels.iter().filter(|label| label.key != key || label.as_text().is_none()));
            out.push(Label::text(key, value));
        });
    }

    /// Whether a sample is part of the base profile.
    pub fn is_base(&self, sample: usize, key: TextId, value: TextId) -> bool {
        self.labels(sample).contains(&Label::text(key, value))
    }
}
