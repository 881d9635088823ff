//! Formats numbers with units: `1.23s`, `30ms`, `4.50kB`, `1,234`.
//!
//! Not here: pprof's own formatting (`profile::unit`).

/// A family of units: names in profiles, the shown name, and the factor to the smallest unit.
type Scale = &'static [(&'static [&'static str], &'static str, f64)];

const TIME: Scale = &[
    (&["nanoseconds", "nanosecond", "ns"], "ns", 1.0),
    (&["microseconds", "microsecond", "us", "µs"], "us", 1e3),
    (&["milliseconds", "millisecond", "ms"], "ms", 1e6),
    (&["seconds", "second", "sec", "s"], "s", 1e9),
    (&["hours", "hour", "hrs"], "hrs", 3600e9),
];
const MEMORY: Scale = &[
    (&["bytes", "byte", "b"], "B", 1.0),
    (&["kilobytes", "kilobyte", "kb", "kib"], "kB", 1024.0),
    (&["megabytes", "megabyte", "mb", "mib"], "MB", 1048576.0),
    (&["gigabytes", "gigabyte", "gb", "gib"], "GB", 1073741824.0),
    (&["terabytes", "terabyte", "tb", "tib"], "TB", 1099511627776.0),
];

/// How values of one kind are shown: a factor and a unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Display {
    divisor: f64,
    suffix: &'static str,
    counted: bool,
}

impl Display {
    /// Shows values in `unit` in the largest unit in which `smallest` is at least 1. Values in
    /// other units (`count`, `objects`) are shown as plain numbers.
    pub fn for_value(smallest: i64, unit: &str) -> Display {
        let Some((scale, stated)) = family(unit) else {
            return Display { divisor: 1.0, suffix: "", counted: true };
        };
        let size = smallest.unsigned_abs() as f64 * stated;
        let fitting = scale.iter().rev().find(|(_, _, unit_size)| size >= *unit_size).unwrap_or(&scale[0]);
        Display { divisor: fitting.2 / stated, suffix: fitting.1, counted: false }
    }

    /// `value` as text with up to two decimals.
    pub fn text(&self, value: i64) -> String {
        if self.counted || value == 0 {
            return value.to_string();
        }
        let mut digits = format!("{:.2}", value as f64 / self.divisor);
        if let Some(whole) = digits.strip_suffix(".00") {
            digits.truncate(whole.len());
        }
        digits + self.suffix
    }
}

fn family(unit: &str) -> Option<(Scale, f64)> {
    [TIME, MEMORY].into_iter().find_map(|scale| {
        let known =
            scale.iter().find(|(names, _, _)| names.iter().any(|name| name.eq_ignore_ascii_case(unit)))?;
        Some((scale, known.2))
    })
}

/// `value` in `unit`, shown in a suitable unit.
pub fn format_value(value: i64, unit: &str) -> String {
    Display::for_value(value, unit).text(value)
}

/// A duration given in nanoseconds.
pub fn format_duration_ns(value_ns: i64) -> String {
    format_value(value_ns, "nanoseconds")
}

/// A number with thousands separators: `1,234,567`.
pub fn format_count(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if value < 0 {
        text.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part` of `whole` as in pprof's tables: `12.34%`, `100%`, `0.5%` (below 1, two significant
/// digits), `0%`.
pub fn format_percent(part: i64, whole: i64) -> String {
    if whole == 0 || part == 0 {
        return "0%".to_string();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    match percent.abs() {
        99.95..=100.05 => "100%".to_string(),
        1.0.. => format!("{percent:.2}%"),
        ..0.00001 => "0%".to_string(),
        small => {
            let leading_zeros = (-small.log10()).floor() as usize;
            let digits = format!("{percent:.*}", leading_zeros + 2);
            format!("{}%", digits.trim_end_matches('0').trim_end_matches('.'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_in_a_suitable_unit() {
        let shown = [0, 7, 1_500, 30_000_000, 1_230_000_000, 90_000_000_000, i64::MAX, -30_000_000]
            .map(|value| format_value(value, "nanoseconds"));
        assert_eq!(shown, ["0", "7ns", "1.50us", "30ms", "1.23s", "90s", "2562047.79hrs", "-30ms"]);
        assert_eq!(format_value(4_608, "bytes"), "4.50kB");
        assert_eq!(format_value(3, "milliseconds"), "3ms");
        assert_eq!(format_value(12_345, "count"), "12345");
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1_000, -1_234_567].map(format_count), ["0", "999", "1,000", "-1,234,567"]);
    }

    #[test]
    fn percentages_are_written_as_in_pprof() {
        let shares = [(1, 0), (0, 5), (1, 3), (3, 3), (6, 1000), (59, 10_000), (12, 100_000), (1, i64::MAX)];
        let expected = ["0%", "0%", "33.33%", "100%", "0.6%", "0.59%", "0.012%", "0%"];
        assert_eq!(shares.map(|(part, whole)| format_percent(part, whole)), expected);
    }
}
