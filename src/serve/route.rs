//! What a request asks for: its path and parameters, as `net/http/pprof` of Go 1.26 takes them.
//!
//! Differences from Go: `pid` chooses among several processes; `seconds` has an upper limit. Not here:
//! whether it may ask (`guard`), the answer.

use std::collections::HashMap;

use super::kinds::{self, KindRow};
use crate::text::go::query_unescape;

/// The path under which everything stands.
pub const ROOT: &str = "/debug/pprof/";
/// Where the processes are listed.
pub const PIDS: &str = "/pids";
/// Where scrapers find them.
pub const DISCOVERY: &str = "/sd";

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// Another place to look at.
    Redirect(&'static str),
    /// What there is.
    Index,
    /// The processes served, as JSON.
    Pids,
    /// The same, for Prometheus's HTTP service discovery.
    Discovery,
    Style,
    Cmdline,
    /// Names of the addresses that stand in the query, or in the body.
    Symbol,
    Profile(ProfileRequest),
}

/// A question for a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileRequest {
    pub kind: &'static KindRow,
    /// How long; `None`: what there is now.
    pub seconds: Option<u64>,
    /// 0: protobuf; 1 and more: text.
    pub debug: i64,
    /// As pprof protobuf, also where that is not the kind's own format (`format=pprof`).
    pub as_profile: bool,
}

/// A question that cannot be answered: status and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    pub status: u16,
    pub why: String,
}

impl RequestError {
    fn new(status: u16, why: impl Into<String>) -> RequestError {
        RequestError { status, why: why.into() }
    }
}

/// The parameters of a query or a form; of several equal ones the first counts, as in Go.
pub struct Parameters(HashMap<String, String>);

impl Parameters {
    /// Parses `application/x-www-form-urlencoded` text. What is malformed is left out, as in Go.
    pub fn parse(query: &str) -> Parameters {
        let mut found = HashMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(key), Some(value)) = (query_unescape(key), query_unescape(value)) {
                found.entry(key).or_insert(value);
            }
        }
        Parameters(found)
    }

    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map(String::as_str).unwrap_or_default()
    }
}

/// Reads a path and its parameters.
pub fn parse(path: &str, parameters: &Parameters, most_seconds: u64) -> Result<Route, RequestError> {
    match path {
        "/" | "/debug/pprof" => return Ok(Route::Redirect(ROOT)),
        ROOT => return Ok(Route::Index),
        PIDS => return Ok(Route::Pids),
        DISCOVERY => return Ok(Route::Discovery),
        "/style.css" => return Ok(Route::Style),
        _ => {}
    }
    let Some(name) = path.strip_prefix(ROOT) else {
        return Err(RequestError::new(404, "404 page not found"));
    };
    match name {
        "cmdline" => return Ok(Route::Cmdline),
        "symbol" => return Ok(Route::Symbol),
        _ => {}
    }
    parse_profile(name, parameters, most_seconds).map(Route::Profile)
}

/// Reads what is asked for of one kind.
pub fn parse_profile(
    name: &str,
    parameters: &Parameters,
    most_seconds: u64,
) -> Result<ProfileRequest, RequestError> {
    let Some(kind) = kinds::by_name(name) else { return Err(RequestError::new(404, "Unknown profile")) };
    let seconds = match kind.default_seconds {
        Some(default) => Some(timed(parameters, default)),
        None => delta(parameters)?,
    };
    if seconds.is_some_and(|seconds| seconds > most_seconds) {
        return Err(RequestError::new(
            400,
            format!("at most {most_seconds} seconds (--max-seconds) are served"),
        ));
    }
    let debug = parameters.get("debug").parse().unwrap_or(0);
    if kind.default_seconds.is_none() && seconds.is_some() && debug != 0 {
        return Err(RequestError::new(400, "seconds and debug params are incompatible"));
    }
    Ok(ProfileRequest { kind, seconds, debug, as_profile: parameters.get("format") == "pprof" })
}

/// Of `profile` and its like: the default unless it is a positive number.
fn timed(parameters: &Parameters, default: u64) -> u64 {
    parameters
        .get("seconds")
        .parse::<i64>()
        .ok()
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| *n > 0)
        .unwrap_or(default)
}

/// Of the others: what changes meanwhile, if given.
fn delta(parameters: &Parameters) -> Result<Option<u64>, RequestError> {
    match parameters.get("seconds") {
        "" => Ok(None),
        text => match text.parse::<i64>() {
            Ok(seconds) if seconds > 0 => Ok(Some(seconds as u64)),
            _ => Err(RequestError::new(400, "invalid value for \"seconds\" - must be a positive integer")),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(path: &str, query: &str) -> Result<Route, RequestError> {
        parse(path, &Parameters::parse(query), 300)
    }

    fn profile(path: &str, query: &str) -> ProfileRequest {
        match ask(path, query) {
            Ok(Route::Profile(ask)) => ask,
            other => panic!("{path}?{query}: {other:?}"),
        }
    }

    #[test]
    fn a_profile_takes_thirty_seconds_unless_told() {
        let seconds = |query| profile("/debug/pprof/profile", query).seconds;
        assert_eq!(seconds(""), Some(30));
        assert_eq!(seconds("seconds=5"), Some(5));
        assert_eq!(seconds("seconds=0"), Some(30));
        assert_eq!(seconds("seconds=-3"), Some(30));
        assert_eq!(seconds("seconds=abc&seconds=7"), Some(30));
        assert_eq!(ask("/debug/pprof/profile", "seconds=301").expect_err("too long").status, 400);
        assert_eq!(
            ask("/debug/pprof/profile", "seconds=99999999999999999999"),
            ask("/debug/pprof/profile", "")
        );
    }

    #[test]
    fn other_kinds_are_of_now_or_what_changes_meanwhile() {
        assert_eq!(profile("/debug/pprof/heap", "").seconds, None);
        assert_eq!(profile("/debug/pprof/heap", "seconds=5").seconds, Some(5));
        assert_eq!(profile("/debug/pprof/goroutine", "debug=2").debug, 2);
        assert_eq!(profile("/debug/pprof/goroutine", "debug=x").debug, 0);
        for query in ["seconds=0", "seconds=x", "seconds=-1", "seconds=1&debug=1"] {
            assert_eq!(ask("/debug/pprof/heap", query).expect_err(query).status, 400, "{query}");
        }
        assert_eq!(
            ask("/debug/pprof/nonsense", "").expect_err("unknown"),
            RequestError::new(404, "Unknown profile")
        );
        assert_eq!(ask("/etc/passwd", "").expect_err("elsewhere").status, 404);
        assert_eq!(ask("/debug/pprof", ""), Ok(Route::Redirect("/debug/pprof/")));
    }

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        let parameters = Parameters::parse("pid=1%32&pid=9&a+b=c%20d&bad=%zz&;x=1&flag");
        assert_eq!((parameters.get("pid"), parameters.get("a b"), parameters.get("bad")), ("12", "c d", ""));
        assert_eq!(parameters.get("flag"), "");
    }

    proptest! {
        #[test]
        fn whatever_is_asked_there_is_an_answer(path in "/[ -~]{0,60}", query in "[ -~]{0,80}") {
            if let Ok(Route::Profile(ask)) = ask(&path, &query) {
                prop_assert!(ask.seconds.is_none_or(|seconds| (1..=300).contains(&seconds)));
            }
        }
    }
}
