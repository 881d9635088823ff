//! The configuration file: lines `key = value`; `#` begins a comment. A key may occur several times
//! where a list is meant.
//!
//! Not here: what the keys mean for a sidecar (`cli::sidecar`), which also gives them as options.

use std::path::{Path, PathBuf};

/// The most bytes of a configuration file.
const MAX_BYTES: u64 = 1 << 20;

/// A line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// The number of the line, from 1.
    pub line: usize,
}

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line is not `key = value`.
    #[error("line {line}: expected `key = value`, found `{text}`")]
    NotASetting {
        /// The number of the line, from 1.
        line: usize,
        /// What it has.
        text: String,
    },
    /// A key is not known.
    #[error("line {line}: there is no key `{key}`; the keys are {known}")]
    UnknownKey {
        /// The number of the line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The known keys.
        known: String,
    },
    /// A value is not one of its key.
    #[error("line {line}: {key} = {value}: {why}")]
    WrongValue {
        /// The number of the line, from 1.
        line: usize,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads a configuration file, whose keys must be among `known`. Errors: it cannot be read, or a
/// line is wrong.
pub fn read(path: &Path, known: &[&str]) -> Result<Vec<Setting>, ConfigError> {
    let text = crate::process::files::read_input(path, MAX_BYTES)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(&String::from_utf8_lossy(&text), known)
}

/// Parses the text of a configuration file. Errors: a line is wrong.
pub fn parse(text: &str, known: &[&str]) -> Result<Vec<Setting>, ConfigError> {
    let mut settings = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let line = at + 1;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let Some((key, value)) = text.split_once('=') else {
            return Err(ConfigError::NotASetting { line, text: text.to_owned() });
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        if !known.contains(&key.as_str()) {
            return Err(ConfigError::UnknownKey { line, key, known: known.join(", ") });
        }
        settings.push(Setting { key, value, line });
    }
    Ok(settings)
}

impl Setting {
    /// The value, as `parse` reads it. Errors: it does not.
    pub fn parsed<T, E: ToString>(&self, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, ConfigError> {
        parse(&self.value).map_err(|error| ConfigError::WrongValue {
            line: self.line,
            key: self.key.clone(),
            value: self.value.clone(),
            why: error.to_string(),
        })
    }
}

/// The lines of the configuration file.
pub struct Config(pub Vec<Setting>);

impl Config {
    /// The value of a key; of several lines the last one has precedence. Errors: it does
    /// not parse.
    pub fn one<T, E: ToString>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, ConfigError> {
        let last = self.0.iter().rev().find(|setting| setting.key == key);
        last.map(|setting| setting.parsed(parse)).transpose()
    }

    /// The values of all lines of a key. Errors: one of them does not parse.
    pub fn all<T, E: ToString>(
        &self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, ConfigError> {
        let lines = self.0.iter().filter(|setting| setting.key == key);
        lines.map(|setting| setting.parsed(&parse)).collect()
    }

    /// Whether a key is `yes`. Errors: it is neither yes nor no.
    pub fn is_on(&self, key: &str) -> Result<bool, ConfigError> {
        let parse = |text: &str| match text {
            "yes" | "true" | "on" | "1" => Ok(true),
            "no" | "false" | "off" | "0" => Ok(false),
            _ => Err("must be yes or no"),
        };
        Ok(self.one(key, parse)?.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_keys_and_values_and_errors_have_their_number() {
        let text = "# comment\n\nname = ^web\nshare=10%\n exclude-name = a = b\n";
        let known = ["name", "share", "exclude-name"];
        let settings = parse(text, &known).expect("it is valid");
        let pairs: Vec<(&str, &str, usize)> =
            settings.iter().map(|one| (one.key.as_str(), one.value.as_str(), one.line)).collect();
        assert_eq!(pairs, [("name", "^web", 3), ("share", "10%", 4), ("exclude-name", "a = b", 5)]);
        let error = |text: &str| parse(text, &known).expect_err("it is wrong").to_string();
        assert_eq!(error("\nname"), "line 2: expected `key = value`, found `name`");
        assert!(error("nmae = x").starts_with("line 1: there is no key `nmae`; the keys are name, share"));
        let wrong = settings[1].parsed(|text| text.parse::<u32>()).expect_err("10% is no number");
        assert!(wrong.to_string().starts_with("line 4: share = 10%: "));
    }
}
