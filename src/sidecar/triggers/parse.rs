//! Parses the expressions of `--on`: `cpu>80%:30s`, `rss>2GiB`, `rss+10%/min`, `oom`, `exit`.
//!
//! Not here: their meaning (`engine`).

use std::{str::FromStr, time::Duration};

use super::{Condition, Growth, Measure, Trigger};

/// Over which time shares of time are averaged if the expression has none.
const AVERAGED_OVER: Duration = Duration::from_secs(10);
/// The longest time of a condition: histories are kept that long.
const LONGEST: Duration = Duration::from_secs(3600);

/// Why an expression is not a trigger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} in the trigger '{expression}': {why}; for example --on '{example}'")]
pub struct TriggerError {
    expression: String,
    what: String,
    why: String,
    example: &'static str,
}

impl FromStr for Trigger {
    type Err = TriggerError;

    fn from_str(text: &str) -> Result<Trigger, TriggerError> {
        let expression = text.trim();
        let condition = match expression {
            "oom" => Condition::OomKill,
            "exit" => Condition::Exit,
            _ => parse(expression).map_err(|(what, why, example)| TriggerError {
                expression: expression.to_owned(),
                what,
                why,
                example,
            })?,
        };
        Ok(Trigger { text: expression.to_owned(), condition })
    }
}

/// What is wrong, why, and an example of what is right.
type Mistake = (String, String, &'static str);

fn parse(text: &str) -> Result<Condition, Mistake> {
    if let Some((name, rest)) = text.split_once('>') {
        return above(name.trim(), rest.trim());
    }
    if let Some((name, rest)) = text.split_once('+') {
        return growth(name.trim(), rest.trim());
    }
    let name = text.split(['<', '=', ':', ' ']).next().unwrap_or_default();
    Err(match Measure::ALL.iter().any(|(known, _)| *known == name) {
        true => (
            "missing comparison".to_owned(),
            format!("'{name}' needs '>' and a limit; other comparisons are not supported"),
            example_of(name),
        ),
        false => unknown(name),
    })
}

fn unknown(name: &str) -> Mistake {
    let names: Vec<&str> = Measure::ALL.iter().map(|(name, _)| *name).collect();
    (
        format!("unknown measure '{name}'"),
        format!("known are {}, oom and exit", names.join(", ")),
        "cpu>80%:30s",
    )
}

fn example_of(name: &str) -> &'static str {
    match name {
        "rss" => "rss>2GiB",
        "threads" => "threads>1000",
        "fd" => "fd>90%",
        "throttled" => "throttled>20%",
        "psi.cpu" => "psi.cpu>20%",
        "psi.memory" => "psi.memory>20%",
        "psi.io" => "psi.io>20%",
        _ => "cpu>80%:30s",
    }
}

fn above(name: &str, rest: &str) -> Result<Condition, Mistake> {
    let Some((_, measure)) = Measure::ALL.iter().find(|(known, _)| *known == name) else {
        return Err(unknown(name));
    };
    let example = example_of(name);
    let (limit, over) = rest.split_once(':').map_or((rest, None), |(limit, over)| (limit, Some(over)));
    let limit = match measure {
        Measure::Memory => parse_bytes(limit).map(|bytes| bytes as f64),
        Measure::Threads => number(limit, "a number of threads"),
        _ => percent(limit),
    };
    let limit = limit.map_err(|why| (format!("wrong limit of '{name}'"), why, example))?;
    // Several cores may exceed 100 % of one.
    if limit >= 100.0 && !matches!(measure, Measure::Cpu | Measure::Memory | Measure::Threads) {
        let why = "it is a share and never greater than 100 %".to_owned();
        return Err((format!("limit of '{name}' too high"), why, example));
    }
    let default = if measure.is_average() { AVERAGED_OVER } else { Duration::ZERO };
    let over = match over {
        None => default,
        Some(text) => {
            let least = if measure.is_average() { Duration::from_secs(1) } else { Duration::ZERO };
            duration(text, least).map_err(|why| (format!("wrong time of '{name}'"), why, "cpu>80%:30s"))?
        }
    };
    Ok(Condition::Above { measure: *measure, limit, over })
}

fn growth(name: &str, rest: &str) -> Result<Condition, Mistake> {
    const EXAMPLE: &str = "rss+10%/min";
    if name != "rss" {
        return Err((format!("growth of '{name}'"), "only the growth of rss is watched".to_owned(), EXAMPLE));
    }
    let wrong = |what: &str, why: String| (format!("wrong {what} of 'rss'"), why, EXAMPLE);
    let Some((amount, time)) = rest.split_once('/') else {
        return Err(wrong("growth", "it needs an amount, '/' and a time".to_owned()));
    };
    let by = match amount.trim().strip_suffix('%') {
        Some(_) => percent(amount).map(Growth::Percent),
        None => parse_bytes(amount).map(|bytes| Growth::Bytes(bytes as f64)),
    };
    let by = by.map_err(|why| wrong("growth", why))?;
    let least = Duration::from_secs(1);
    let within = match time.trim() {
        "s" => Ok(least),
        "min" => Ok(Duration::from_secs(60)),
        "h" => Ok(Duration::from_secs(3600)),
        other => duration(other, least),
    };
    Ok(Condition::Growth { by, within: within.map_err(|why| wrong("time", why))? })
}

fn number(text: &str, what: &str) -> Result<f64, String> {
    let text = text.trim();
    let expected = || format!("expected {what}, not '{text}'");
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value: f64 = text.parse().ok().filter(|_| is_plain).ok_or_else(expected)?;
    if value > 0.0 { Ok(value) } else { Err(format!("it must be greater than 0, not '{text}'")) }
}

fn percent(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let Some(digits) = text.strip_suffix('%') else {
        return Err(format!("expected a share such as 80%, not '{text}'"));
    };
    number(digits, "a share such as 80%")
}

/// Parses a size: `2GiB`, `500MiB`, `1.5GB`, or a number of bytes.
///
/// # Errors
/// What was expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 13] = [
        ("KiB", 1024.0),
        ("MiB", 1048576.0),
        ("GiB", 1073741824.0),
        ("TiB", 1099511627776.0),
        ("kB", 1e3),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("TB", 1e12),
        ("K", 1024.0),
        ("M", 1048576.0),
        ("G", 1073741824.0),
        ("B", 1.0),
    ];
    let text = text.trim();
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
        .unwrap_or((text, 1.0));
    let bytes = number(digits, "a size such as 2GiB or 500MiB")? * unit;
    match bytes {
        _ if bytes < 1.0 => Err(format!("it must be at least 1 byte, not '{text}'")),
        _ if bytes > 9e18 => Err(format!("'{text}' is larger than any memory")),
        _ => Ok(bytes as u64),
    }
}

fn duration(text: &str, least: Duration) -> Result<Duration, String> {
    let time = humantime::parse_duration(text.trim())
        .map_err(|_| format!("expected a time such as 30s or 5m, not '{text}'"))?;
    match time {
        _ if time < least => Err(format!("it must be at least {} s, not '{text}'", least.as_secs())),
        _ if time > LONGEST => Err(format!("it must be at most 1 hour, not '{text}'")),
        _ => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn condition(text: &str) -> Condition {
        text.parse::<Trigger>().unwrap_or_else(|error| panic!("{error}")).condition
    }

    fn above(measure: Measure, limit: f64, seconds: u64) -> Condition {
        Condition::Above { measure, limit, over: Duration::from_secs(seconds) }
    }

    #[test]
    fn all_expressions_of_the_documentation_are_parsed() {
        assert_eq!(condition("cpu>80%:30s"), above(Measure::Cpu, 80.0, 30));
        assert_eq!(condition("cpu > 250 %"), above(Measure::Cpu, 250.0, 10));
        assert_eq!(condition("rss>2GiB"), above(Measure::Memory, 2147483648.0, 0));
        assert_eq!(condition("rss>1.5GB:1m"), above(Measure::Memory, 1.5e9, 60));
        assert_eq!(condition("psi.cpu>20%"), above(Measure::CpuPressure, 20.0, 0));
        assert_eq!(condition("psi.memory>20%"), above(Measure::MemoryPressure, 20.0, 0));
        assert_eq!(condition("psi.io>0.5%"), above(Measure::IoPressure, 0.5, 0));
        assert_eq!(condition("throttled>20%"), above(Measure::Throttled, 20.0, 10));
        assert_eq!(condition("threads>1000"), above(Measure::Threads, 1000.0, 0));
        assert_eq!(condition("fd>90%"), above(Measure::OpenFiles, 90.0, 0));
        assert_eq!((condition("oom"), condition(" exit ")), (Condition::OomKill, Condition::Exit));
        let minute = Duration::from_secs(60);
        assert_eq!(condition("rss+10%/min"), Condition::Growth { by: Growth::Percent(10.0), within: minute });
        assert_eq!(
            condition("rss+100MiB/60s"),
            Condition::Growth { by: Growth::Bytes(104857600.0), within: minute }
        );
    }

    #[test]
    fn an_error_says_what_is_wrong_and_why_and_gives_an_example() {
        for (text, message) in [
            (
                "cpu<80%",
                "missing comparison in the trigger 'cpu<80%': 'cpu' needs '>' and a limit; \
                 other comparisons are not supported; for example --on 'cpu>80%:30s'",
            ),
            (
                "gpu>80%",
                "unknown measure 'gpu' in the trigger 'gpu>80%': known are cpu, rss, threads, fd, throttled, \
                 psi.cpu, psi.memory, psi.io, oom and exit; for example --on 'cpu>80%:30s'",
            ),
            (
                "cpu>80",
                "wrong limit of 'cpu' in the trigger 'cpu>80': expected a share such as 80%, not '80'; \
                 for example --on 'cpu>80%:30s'",
            ),
            (
                "fd>100%",
                "limit of 'fd' too high in the trigger 'fd>100%': it is a share and never greater than 100 %; \
                 for example --on 'fd>90%'",
            ),
            (
                "rss>2XB",
                "wrong limit of 'rss' in the trigger 'rss>2XB': expected a size such as 2GiB or 500MiB, not '2X'; \
                 for example --on 'rss>2GiB'",
            ),
            (
                "cpu>80%:2h",
                "wrong time of 'cpu' in the trigger 'cpu>80%:2h': it must be at most 1 hour, not '2h'; \
                 for example --on 'cpu>80%:30s'",
            ),
            (
                "threads>0",
                "wrong limit of 'threads' in the trigger 'threads>0': it must be greater than 0, not '0'; \
                 for example --on 'threads>1000'",
            ),
            (
                "threads+5/min",
                "growth of 'threads' in the trigger 'threads+5/min': only the growth of rss is watched; \
                 for example --on 'rss+10%/min'",
            ),
            (
                "rss+10%",
                "wrong growth of 'rss' in the trigger 'rss+10%': it needs an amount, '/' and a time; \
                 for example --on 'rss+10%/min'",
            ),
            (
                "",
                "unknown measure '' in the trigger '': known are cpu, rss, threads, fd, throttled, \
                 psi.cpu, psi.memory, psi.io, oom and exit; for example --on 'cpu>80%:30s'",
            ),
        ] {
            assert_eq!(text.parse::<Trigger>().expect_err(text).to_string(), message);
        }
        for text in
            ["cpu>nan%", "cpu>-1%", "cpu>inf%", "cpu>1e3%", "cpu>80%:", "rss>", "rss+x/min", "cpu>80%:0s"]
        {
            assert!(text.parse::<Trigger>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_trigger_with_valid_limits_or_an_error(text in "(cpu|rss|fd|psi.io|[a-z]{1,4})[>+<:]?[ -~]{0,12}") {
            if let Ok(trigger) = text.parse::<Trigger>()
                && let Condition::Above { limit, over, .. } = trigger.condition
            {
                prop_assert!(limit > 0.0 && limit.is_finite() && over <= LONGEST);
            }
        }
    }
}
