//! Units of measurement: known units, conversion and formatting.
//!
//! Not here: choosing a report's unit. Units and names are those of google/pprof's
//! `internal/measurement`.

use crate::text::go;

struct Unit {
    name: &'static str,
    aliases: &'static [&'static str],
    factor: f64,
}

/// Units of one dimension. A request for a unit of another dimension gives the default unit.
struct Dimension {
    default: (&'static str, f64),
    units: &'static [Unit],
}

const fn unit(name: &'static str, aliases: &'static [&'static str], factor: f64) -> Unit {
    Unit { name, aliases, factor }
}

const DIMENSIONS: [Dimension; 3] = [
    Dimension {
        default: ("B", 1.0),
        units: &[
            unit("B", &["b", "byte"], 1.0),
            unit("kB", &["kb", "kbyte", "kilobyte"], (1u64 << 10) as f64),
            unit("MB", &["mb", "mbyte", "megabyte"], (1u64 << 20) as f64),
            unit("GB", &["gb", "gbyte", "gigabyte"], (1u64 << 30) as f64),
            unit("TB", &["tb", "tbyte", "terabyte"], (1u64 << 40) as f64),
            unit("PB", &["pb", "pbyte", "petabyte"], (1u64 << 50) as f64),
        ],
    },
    Dimension {
        default: ("s", 1e9),
        units: &[
            unit("ns", &["ns", "nanosecond"], 1.0),
            unit("us", &["μs", "us", "microsecond"], 1e3),
            unit("ms", &["ms", "millisecond"], 1e6),
            unit("s", &["s", "sec", "second"], 1e9),
            unit("hrs", &["hour", "hr"], 3600e9),
        ],
    },
    Dimension {
        default: ("GCU", 1.0),
        units: &[
            unit("n*GCU", &["nanogcu"], 1e-9),
            unit("u*GCU", &["microgcu"], 1e-6),
            unit("m*GCU", &["milligcu"], 1e-3),
            unit("GCU", &["gcu"], 1.0),
            unit("k*GCU", &["kilogcu"], 1e3),
            unit("M*GCU", &["megagcu"], 1e6),
            unit("G*GCU", &["gigagcu"], 1e9),
            unit("T*GCU", &["teragcu"], 1e12),
            unit("P*GCU", &["petagcu"], 1e15),
        ],
    },
];

impl Dimension {
    fn find(&self, name: &str) -> Option<&'static Unit> {
        let lower = name.to_lowercase();
        let singular = if lower.len() > 2 { lower.strip_suffix('s').unwrap_or(&lower) } else { &lower };
        self.units.iter().find(|unit| unit.aliases.contains(&singular))
    }

    fn convert(&self, value: i64, from: &str, to: &str) -> Option<(f64, &'static str)> {
        let value = value as f64 * self.find(from)?.factor;
        if to == "minimum" || to == "auto" {
            let fitting = self.units.iter().rev().find(|unit| value / unit.factor >= 1.0);
            return Some(match fitting {
                Some(unit) => (value / unit.factor, unit.name),
                None => (value / self.default.1, self.default.0),
            });
        }
        Some(match self.find(to) {
            Some(unit) => (value / unit.factor, unit.name),
            None => (value / self.default.1, self.default.0),
        })
    }
}

/// `value` converted to another unit, and that unit's name; the name is empty if it is not shown.
/// `minimum` and `auto` select the largest unit in which the value is at least 1.
pub fn scale<'a>(value: i64, from: &str, to: &'a str) -> (f64, &'a str) {
    if value < 0 && value != i64::MIN {
        let (scaled, unit) = scale(-value, from, to);
        return (-scaled, unit);
    }
    if let Some(scaled) = DIMENSIONS.iter().find_map(|dimension| dimension.convert(value, from, to)) {
        return scaled;
    }
    match to {
        "count" | "sample" | "unit" | "minimum" | "auto" => (value as f64, ""),
        _ => (value as f64, to),
    }
}

/// Formats `value` in the unit `to`: `5.86s`, `67.86MB`, `105`, `0`.
pub fn scaled_label(value: i64, from: &str, to: &str) -> String {
    let (scaled, unit) = scale(value, from, to);
    let mut text = format!("{scaled:.2}");
    if text.ends_with(".00") {
        text.truncate(text.len() - 3);
    }
    if text == "0" || text == "-0" {
        return "0".into();
    }
    text.push_str(unit);
    text
}

/// Formats `value` in the most suitable unit.
pub fn label(value: i64, unit: &str) -> String {
    scaled_label(value, unit, "auto")
}

/// Formats the share of `value` in `total`: at least six characters wide, without sign.
pub fn percentage(value: i64, total: i64) -> String {
    let ratio = if total == 0 { 0.0 } else { (value as f64 / total as f64).abs() * 100.0 };
    if (99.95..=100.05).contains(&ratio) {
        "  100%".into()
    } else if ratio >= 1.0 {
        format!("{ratio:5.2}%")
    } else {
        format!("{:>5}%", go::two_digits(ratio))
    }
}

/// Whether values in one unit can be converted to the other.
pub fn comparable(one: &str, other: &str) -> bool {
    let knows = |dimension: &Dimension, name| dimension.find(name).is_some();
    one == other || DIMENSIONS.iter().any(|dimension| knows(dimension, one) && knows(dimension, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_formatted_in_the_requested_unit() {
        assert_eq!(scaled_label(5_860_000_000, "nanoseconds", "s"), "5.86s");
        assert_eq!(scaled_label(71_155_752, "bytes", "auto"), "67.86MB");
        assert_eq!(scaled_label(-105, "count", "minimum"), "-105");
        assert_eq!(scaled_label(120, "seconds", "minutes"), "120s");
        assert_eq!(scaled_label(5, "widgets", "widgets"), "5widgets");
        assert_eq!(scaled_label(1, "nanoseconds", "hours"), "0");
        assert_eq!(label(0, "bytes"), "0");
    }

    #[test]
    fn percentages_keep_two_digits() {
        let shares: Vec<_> =
            [(1, 1), (1, 3), (1, 300), (0, 5), (7, 0), (-1, 2)].map(|(v, t)| percentage(v, t)).into();
        assert_eq!(shares, ["  100%", "33.33%", " 0.33%", "    0%", "    0%", "50.00%"]);
    }
}
