//! The parameters of a URL, and the settings that they select.
//!
//! Not here: the reports.

use super::response::DataError;
use crate::{
    report::pprof::{OPTIONS, Settings},
    text::go::query_unescape,
};

/// The parameters of a URL. The first value of a name counts.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=d`; parts that cannot be decoded are ignored.
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((query_unescape(key)?, query_unescape(value)?))
        });
        Query(pairs.collect())
    }

    /// A query of these names and values.
    pub fn of(pairs: Vec<(String, String)>) -> Query {
        Query(pairs)
    }

    /// The value of a parameter; empty when it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    /// `settings` with the changes that the parameters request.
    ///
    /// # Errors
    /// [`DataError`] when a value is invalid.
    pub fn settings(&self, settings: &Settings) -> Result<Settings, DataError> {
        let mut settings = settings.clone();
        for option in OPTIONS.iter().filter(|option| !option.url_name.is_empty()) {
            let Some((_, value)) = self.0.iter().find(|(key, _)| key == option.url_name) else { continue };
            // An empty choice changes nothing; an empty expression removes that of the command line.
            if value.is_empty() && !is_text(option.get(&settings).as_str(), option.choices, option.is_bool())
            {
                continue;
            }
            option
                .set(&mut settings, value)
                .map_err(|why| DataError::bad_request(&format!("{}=: {why}", option.url_name)))?;
        }
        Ok(settings)
    }
}

/// Whether a setting accepts any text, including the empty one.
fn is_text(value: &str, choices: &[&str], is_bool: bool) -> bool {
    choices.is_empty() && !is_bool && value.parse::<f64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(query: &str) -> Result<Settings, String> {
        let given = Settings { focus: "before".into(), ..Settings::default() };
        Query::parse(query).settings(&given).map_err(|why| why.why)
    }

    #[test]
    fn parameters_are_those_of_the_reference() {
        let parsed =
            settings("f=a%2Bb&i=c+d&g=lines&n=7&nf=0.5&trim=f&sort=&si=cpu&calltree=true&p=x").unwrap();
        assert_eq!((&*parsed.focus, &*parsed.ignore, &*parsed.granularity), ("a+b", "c d", "lines"));
        assert_eq!(
            (parsed.nodecount, parsed.nodefraction, parsed.trim, parsed.call_tree),
            (7, 0.5, false, true)
        );
        assert_eq!((&*parsed.sort, &*parsed.sample_index), ("flat", "cpu"));
        assert_eq!(settings("").unwrap().focus, "before");
        assert_eq!(settings("f=").unwrap().focus, "");
    }

    #[test]
    fn no_parameter_names_a_file() {
        for name in ["output", "source_path", "trim_path"] {
            let option = OPTIONS.iter().find(|option| option.name == name).expect(name);
            assert_eq!(option.url_name, "", "{name}");
        }
        let parsed = settings("source_path=/&trim_path=/a&output=/b&source_roots=/").unwrap();
        assert_eq!(parsed, settings("").unwrap());
    }

    #[test]
    fn an_invalid_value_is_refused_with_the_parameter_name() {
        assert_eq!(settings("g=atoms").unwrap_err(), "g=: invalid \"granularity\" value \"atoms\"");
        assert!(settings("n=x").unwrap_err().starts_with("n=: "));
    }
}
