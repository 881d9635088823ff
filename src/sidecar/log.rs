//! The sidecar's log: one event a line, as text or JSON.
//!
//! Names of processes and paths are hostile text: control characters are escaped, so that an event
//! is one line and a terminal gets no commands. Not here: where the lines go (a function of the
//! command line), which events there are.

use std::{
    fmt::Write,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

/// The form of the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogForm {
    /// `2026-11-30T01:20:00.000Z info window_written service=app kind=cpu`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How important an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Normal operation.
    Info,
    /// Something is missing or was reduced; the sidecar goes on.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// Writes a line.
type WriteLine = Box<dyn FnMut(&str) + Send>;

/// Writes events.
pub struct Log {
    form: LogForm,
    write: Mutex<WriteLine>,
}

impl Log {
    /// A log whose lines, without the line end, are passed to `write`.
    pub fn new(form: LogForm, write: impl FnMut(&str) + Send + 'static) -> Log {
        Log { form, write: Mutex::new(Box::new(write)) }
    }

    /// Writes an event with its fields. `event` is a fixed name such as `trigger_fired`.
    pub fn event(&self, level: Level, event: &'static str, fields: &[(&'static str, Value)]) {
        let line = line(self.form, SystemTime::now(), level, event, fields);
        let mut write = self.write.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        write(&line);
    }

    /// An event of normal operation.
    pub fn info(&self, event: &'static str, fields: &[(&'static str, Value)]) {
        self.event(Level::Info, event, fields);
    }

    /// An event after which something is missing.
    pub fn warn(&self, event: &'static str, fields: &[(&'static str, Value)]) {
        self.event(Level::Warn, event, fields);
    }
}

fn line(
    form: LogForm,
    at: SystemTime,
    level: Level,
    event: &str,
    fields: &[(&'static str, Value)],
) -> String {
    let millis = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let time = jiff::Timestamp::from_millisecond(i64::try_from(millis).unwrap_or(0)).unwrap_or_default();
    let time = format!("{time:.3}");
    match form {
        LogForm::Json => {
            let mut object = Map::new();
            object.insert("time".into(), time.into());
            object.insert("level".into(), level.name().into());
            object.insert("event".into(), event.into());
            object.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
            // JSON escapes C0; the other control characters are escaped here.
            escape(&Value::Object(object).to_string(), false)
        }
        LogForm::Text => {
            let mut text = format!("{time} {} {event}", level.name());
            for (key, value) in fields {
                let _ = write!(text, " {key}=");
                match value {
                    Value::String(word) if is_plain(word) => text.push_str(word),
                    Value::String(words) => {
                        let quoted = words.replace('\\', "\\\\").replace('"', "\\\"");
                        let _ = write!(text, "\"{}\"", escape(&quoted, true));
                    }
                    other => text.push_str(&escape(&other.to_string(), true)),
                }
            }
            text
        }
    }
}

fn is_plain(word: &str) -> bool {
    let is_plain = |character: char| character.is_alphanumeric() || "-_./:@%+,>".contains(character);
    !word.is_empty() && word.chars().all(is_plain)
}

/// Escapes control characters, and those that change the direction of text or are line ends for
/// some readers (U+2028, U+202E …).
fn escape(text: &str, with_c0: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        let is_hidden =
            matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match character {
            '\n' if with_c0 => escaped.push_str("\\n"),
            _ if character.is_control() || is_hidden => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, PoisonError},
        time::Duration,
    };

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn text(form: LogForm, fields: &[(&'static str, Value)]) -> String {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_999_200_123);
        line(form, at, Level::Warn, "trigger_fired", fields)
    }

    #[test]
    fn an_event_is_one_line() {
        let fields = [("service", json!("app")), ("pid", json!(7)), ("value", json!("93.1 %"))];
        assert_eq!(
            text(LogForm::Text, &fields),
            "2026-11-30T00:40:00.123Z warn trigger_fired service=app pid=7 value=\"93.1 %\""
        );
        let parsed: Value = serde_json::from_str(&text(LogForm::Json, &fields)).expect("JSON");
        assert_eq!(parsed["event"], "trigger_fired");
        assert_eq!((&parsed["pid"], &parsed["level"]), (&json!(7), &json!("warn")));
    }

    #[test]
    fn control_characters_are_escaped() {
        let hostile = [("name", json!("a\"\n\u{1b}[2J\u{9b}\u{202e}\\"))];
        assert_eq!(
            text(LogForm::Text, &hostile).split_once("name=").expect("a name").1,
            "\"a\\\"\\n\\u001b[2J\\u009b\\u202e\\\\\""
        );
        let line = text(LogForm::Json, &hostile);
        let parsed: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed["name"], hostile[0].1);
    }

    #[test]
    fn lines_are_passed_on() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let log = Log::new(LogForm::Text, move |line: &str| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        });
        log.info("started", &[]);
        log.warn("stopped", &[("why", json!("SIGTERM"))]);
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(lines[0].ends_with(" info started") && lines[1].ends_with(" warn stopped why=SIGTERM"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_line(name in any::<String>()) {
            for form in [LogForm::Text, LogForm::Json] {
                let line = text(form, &[("name", json!(name))]);
                prop_assert!(!line.contains(char::is_control), "{line:?}");
                if form == LogForm::Json {
                    let parsed: Value = serde_json::from_str(&line).expect("JSON");
                    prop_assert_eq!(parsed["name"].as_str(), Some(&name[..]));
                }
            }
        }
    }
}
