//! Filters by label: an optional `key=`, and a range of numbers or regular expressions.
//!
//! Not here: filters by function ([`super::prepare`]).

use crate::profile::{
    columns::{Columns, Label, labels::Units},
    go_regexp::GoRegexp,
    unit,
};

/// A parsed filter.
pub(super) enum TagFilter {
    Range { key: Option<String>, range: Range },
    Texts { key: Option<String>, regexps: Vec<GoRegexp> },
}

impl TagFilter {
    /// Parses `value`, the value of the option `name`. Adds a message if it is a range. Errors: the
    /// texts of the reference.
    pub fn new(name: &str, value: &str, messages: &mut Vec<String>) -> Result<TagFilter, String> {
        let (key, value) = match value.split_once('=') {
            Some((key, value)) => (Some(key.to_string()).filter(|key| !key.is_empty()), value),
            None => (None, value),
        };
        if let Some(range) = Range::parse(value) {
            messages.push(format!("{name}:Interpreted '{value}' as range, not regexp"));
            return Ok(TagFilter::Range { key, range });
        }
        let compile =
            |part: &str| GoRegexp::new(part).map_err(|error| format!("parsing {name} regexp: {error}"));
        Ok(TagFilter::Texts { key, regexps: value.split(',').map(compile).collect::<Result<_, _>>()? })
    }

    /// Whether a sample's labels match. Without a key all expressions must match, with a key one.
    pub fn matches(&self, columns: &Columns, sample: usize, units: &Units) -> bool {
        let labels = columns.labels(sample);
        let has_key = |wanted: &str, label: &Label| columns.text(label.key) == wanted;
        match self {
            TagFilter::Range { key, range } => labels.iter().any(|label| {
                let number = label.as_number().filter(|_| key.as_ref().is_none_or(|key| has_key(key, label)));
                number.is_some_and(|(number, _)| range.holds(number, units.of(label.key)))
            }),
            TagFilter::Texts { key: None, regexps } => regexps.iter().all(|regexp| {
                labels.iter().any(|label| {
                    label.as_text().is_some_and(|text| {
                        regexp.is_match(&format!("{}:{}", columns.text(label.key), columns.text(text)))
                    })
                })
            }),
            TagFilter::Texts { key: Some(key), regexps } => {
                labels.iter().filter(|label| has_key(key, label)).any(|label| {
                    label
                        .as_text()
                        .is_some_and(|text| regexps.iter().any(|regexp| regexp.is_match(columns.text(text))))
                })
            }
        }
    }
}

/// `32kb`, `:64kb`, `4mb:`, `12kb:64mb`.
pub(super) struct Range {
    low: Option<f64>,
    high: Option<f64>,
    unit: String,
}

impl Range {
    fn parse(text: &str) -> Option<Range> {
        let (low, high) = match text.split_once(':') {
            None => {
                let only = number(text)?;
                (Some(only), Some(only))
            }
            Some(("", high)) => (None, Some(number(high)?)),
            Some((low, "")) => (Some(number(low)?), None),
            Some((low, high)) => (Some(number(low)?), Some(number(high)?)),
        };
        let (first, unit) = low.or(high)?;
        let (first, unit) = unit::scale(first, unit, unit);
        let scaled = |(number, own): (i64, &str)| {
            let (number, own) = unit::scale(number, own, unit);
            (own == unit).then_some(number)
        };
        Some(Range {
            low: if low.is_some() { Some(first) } else { None },
            high: match (low, high) {
                (None, Some(_)) => Some(first),
                (_, Some(high)) => Some(scaled(high)?),
                (_, None) => None,
            },
            unit: unit.into(),
        })
    }

    fn holds(&self, number: i64, unit: &str) -> bool {
        let (number, unit) = unit::scale(number, unit, &self.unit);
        unit == self.unit
            && self.low.is_none_or(|low| number >= low)
            && self.high.is_none_or(|high| number <= high)
    }
}

/// Number and unit: `32kb`, `-5`.
fn number(text: &str) -> Option<(i64, &str)> {
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(sign + digits);
    if digits == 0 || !unit.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return None;
    }
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_contains_values_in_any_unit() {
        let holds = |range: &str, number, unit| Range::parse(range).unwrap().holds(number, unit);
        assert!(holds("4mb:", 5 << 20, "bytes"));
        assert!(!holds("4mb:", 3 << 20, "bytes"));
        assert!(holds("12kb:1mb", 13, "kb"));
        assert!(holds("1kb", 1024, "byte"));
        assert!(!holds("1", 1, "bytes"));
        assert!(holds("7", 7, ""));
        assert!(Range::parse("1kb:2s").is_none());
        assert!(Range::parse("a1").is_none());
        assert!(Range::parse("key:1").is_none());
    }
}
