//! Numbers, strings and times in the formats of the Go standard library, where Rust's differ.
//!
//! Units of measurement are in `profile::unit`.

use std::fmt::Write as _;

use jiff::{Timestamp, tz::TimeZone};

/// Formats a string like `%q`: quoted, with unprintable characters escaped.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            control if (control as u32) < 0x20 || control as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Decodes part of a query like `url.QueryUnescape`; `None` if it is malformed. Invalid UTF-8 is
/// replaced.
pub fn query_unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// Encodes part of a query like `url.QueryEscape`.
pub fn query_escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

/// Formats a non-negative number like `%.2g`.
pub fn two_digits(number: f64) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let scientific = format!("{number:.1e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = mantissa.strip_suffix(".0").unwrap_or(mantissa);
    if !(-4..2).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let digits = mantissa.replace('.', "");
    match exponent {
        1 if digits.len() == 1 => format!("{digits}0"),
        1 => digits,
        0 => mantissa.into(),
        _ => format!("0.{}{digits}", "0".repeat(-exponent as usize - 1)),
    }
}

/// Converts a float to an integer like Go on amd64: truncated; values out of range become the least
/// integer.
pub fn truncate(number: f64) -> i64 {
    // 2^63 and -2^63 are exact floats.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) {
        number as i64
    } else {
        i64::MIN
    }
}

/// Why a text is not a valid integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerError {
    /// Not a number.
    Syntax,
    /// A number that does not fit into 64 bits.
    OutOfRange,
}

/// Parses an integer like `strconv.ParseInt` with base 0: `0x10`, `0o20`, `020` and `0b1_0000` are
/// 16.
pub fn integer(text: &str) -> Result<i64, IntegerError> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // One underscore is allowed between digits and after the base prefix.
    let begins_well = radix != 10 || !digits.starts_with('_');
    let well_placed = begins_well && !digits.contains("__") && !digits.ends_with('_');
    let digits = digits.replace('_', "");
    if digits.is_empty() || !well_placed || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(IntegerError::Syntax);
    }
    let number = i128::from_str_radix(&digits, radix).map_err(|_| IntegerError::OutOfRange)?;
    i64::try_from(sign * number).map_err(|_| IntegerError::OutOfRange)
}

/// Formats nanoseconds like the `String` method of `time.Duration`.
pub fn duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let fraction = |value: u64, digits: usize| {
        let text = format!(".{value:0digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    match ns {
        0 => "0s".into(),
        1..1_000 => format!("{sign}{ns}ns"),
        1_000..1_000_000 => format!("{sign}{}{}µs", ns / 1_000, fraction(ns % 1_000, 3)),
        1_000_000..1_000_000_000 => {
            format!("{sign}{}{}ms", ns / 1_000_000, fraction(ns % 1_000_000, 6))
        }
        _ => {
            let seconds = ns / 1_000_000_000;
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let seconds = format!("{seconds}{}s", fraction(ns % 1_000_000_000, 9));
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}"),
                (0, _) => format!("{sign}{minutes}m{seconds}"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

/// Formats a time in the local zone as `2006-01-02 15:04:05 MST`.
pub fn time(ns: i64) -> String {
    local(ns, "%Y-%m-%d %H:%M:%S %Z")
}

/// Formats a time in the local zone like the `String` method of `time.Time`.
pub fn time_in_full(ns: i64) -> String {
    local(ns, "%Y-%m-%d %H:%M:%S%.f %z %Z")
}

fn local(ns: i64, layout: &str) -> String {
    let Ok(timestamp) = Timestamp::from_nanosecond(ns.into()) else { return String::new() };
    // An empty TZ is UTC; without the variable, the system's zone.
    let zone = match std::env::var("TZ") {
        Ok(name) if name.is_empty() => TimeZone::UTC,
        _ => TimeZone::system(),
    };
    timestamp.to_zoned(zone).strftime(layout).to_string()
}

/// Formats the time of day in the local zone as `15:04:05`.
pub fn clock(ns: i64) -> String {
    local(ns, "%H:%M:%S")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_parsed_like_go() {
        for (text, number) in [
            ("7", Ok(7)),
            ("-0x1F", Ok(-31)),
            ("010", Ok(8)),
            ("0b1_0", Ok(2)),
            ("0o_17", Ok(15)),
            ("0", Ok(0)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(IntegerError::OutOfRange)),
            ("1_000", Ok(1000)),
            ("0_7", Ok(7)),
            ("_7", Err(IntegerError::Syntax)),
            ("0x1__0", Err(IntegerError::Syntax)),
            ("0x", Err(IntegerError::Syntax)),
            ("08", Err(IntegerError::Syntax)),
            ("--1", Err(IntegerError::Syntax)),
            ("", Err(IntegerError::Syntax)),
        ] {
            assert_eq!(integer(text), number, "{text}");
        }
    }

    #[test]
    fn strings_are_quoted_like_go() {
        assert_eq!(quote("\u{1}é\"\n"), "\"\\x01é\\\"\\n\"");
    }

    #[test]
    fn query_parts_are_decoded_and_encoded_like_go() {
        assert_eq!(query_unescape("a+b%2fc%C3%a9").as_deref(), Some("a b/cé"));
        assert_eq!([query_unescape("%"), query_unescape("%4"), query_unescape("%zz")], [None, None, None]);
        assert_eq!(query_escape("a b/cé~"), "a+b%2Fc%C3%A9~");
    }

    #[test]
    fn two_digits_are_formatted_like_go() {
        let written: Vec<_> =
            [0.5, 0.34, 0.999, 0.00001, 0.0001, 0.012345, 12.3, 10.0, 0.1].map(two_digits).into();
        assert_eq!(written, ["0.5", "0.34", "1", "1e-05", "0.0001", "0.012", "12", "10", "0.1"]);
    }

    #[test]
    fn durations_are_formatted_like_go() {
        let written: Vec<_> =
            [0, 7, 1500, 2_000_001, 3_003_000_000, 90_000_000_000, 3_600_000_000_000].map(duration).into();
        assert_eq!(written, ["0s", "7ns", "1.5µs", "2.000001ms", "3.003s", "1m30s", "1h0m0s"]);
    }
}
