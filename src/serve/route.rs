//! Parses the path and the parameters of a request, with the rules of Go 1.26's `net/http/pprof`.
//!
//! Differences from Go: `pid` chooses among several processes; `seconds` has an upper limit. Not
//! here: whether the request is allowed (`guard`), the response.

use std::collections::HashMap;

use crate::{
    capture::kinds::{Kind, KindRow, Span},
    text::go::query_unescape,
};

/// The root path of the profiles.
pub const ROOT: &str = "/debug/pprof/";
/// The path of the list of processes.
pub const PIDS: &str = "/pids";
/// The path of the list for Prometheus's HTTP service discovery.
pub const DISCOVERY: &str = "/sd";

/// A resource that the server has.
#[derive(Clone, Debug, PartialEq)]
pub enum Route {
    /// A redirection to another path.
    Redirect(&'static str),
    /// The index page of a process or of all processes.
    Index,
    /// The processes served, as JSON.
    Pids,
    /// The same, for Prometheus's HTTP service discovery.
    Discovery,
    /// The style sheet of the index page.
    Style,
    /// The command line of the process.
    Cmdline,
    /// Names of the addresses in the query or in the body.
    Symbol,
    /// A profile.
    Profile(ProfileRequest),
}

/// A request for a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileRequest {
    /// The kind of profile.
    pub kind: Kind,
    /// The duration in seconds; `None`: the state at the time of the request.
    pub seconds: Option<u64>,
    /// 0: protobuf; greater than 0: text.
    pub debug: i64,
    /// `format=pprof`: pprof protobuf, also where that is not the kind's default format.
    pub as_profile: bool,
    /// `of=native`: the heaps of native allocators, or samples of threads, instead of a runtime's
    /// own records.
    pub native: bool,
}

/// An invalid request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The HTTP status.
    pub status: u16,
    /// The reason, for a person.
    pub why: String,
}

impl RequestError {
    fn new(status: u16, why: impl Into<String>) -> RequestError {
        RequestError { status, why: why.into() }
    }
}

/// The parameters of a query or a form. The first value of a name counts, as in Go.
pub struct Parameters(HashMap<String, String>);

impl Parameters {
    /// Parses `application/x-www-form-urlencoded` text. Malformed parts are ignored, as in Go.
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

    /// The value of a parameter; empty when it is absent.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).map(String::as_str).unwrap_or_default()
    }
}

/// Parses a path and its parameters.
///
/// # Errors
/// [`RequestError`] with status 404 for an unknown path, 400 for a wrong parameter.
pub fn parse(path: &str, parameters: &Parameters, max_seconds: u64) -> Result<Route, RequestError> {
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
    parse_profile(name, parameters, max_seconds).map(Route::Profile)
}

/// Parses a request for the profile `name`.
///
/// # Errors
/// [`RequestError`] with status 404 for an unknown kind, 400 for a wrong parameter.
pub fn parse_profile(
    name: &str,
    parameters: &Parameters,
    max_seconds: u64,
) -> Result<ProfileRequest, RequestError> {
    let Some(kind) = KindRow::served(name) else { return Err(RequestError::new(404, "Unknown profile")) };
    let seconds = match kind.span {
        Span::Lasting(default) => Some(timed(parameters, default)),
        Span::Instant => delta(parameters)?,
    };
    if seconds.is_some_and(|seconds| seconds > max_seconds) {
        return Err(RequestError::new(
            400,
            format!("seconds must be at most {max_seconds} seconds (--max-seconds)"),
        ));
    }
    let debug = parameters.get("debug").parse().unwrap_or(0);
    if kind.span == Span::Instant && seconds.is_some() && debug != 0 {
        return Err(RequestError::new(400, "seconds and debug params are incompatible"));
    }
    let as_profile = parameters.get("format") == "pprof";
    let native = match parameters.get("of") {
        "" => false,
        "native" => true,
        _ => return Err(RequestError::new(400, "invalid value for \"of\": the only one is \"native\"")),
    };
    Ok(ProfileRequest { kind, seconds, debug, as_profile, native })
}

/// The duration of a timed kind: the default unless `seconds` is a positive number.
fn timed(parameters: &Parameters, default: u64) -> u64 {
    parameters
        .get("seconds")
        .parse::<i64>()
        .ok()
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| *n > 0)
        .unwrap_or(default)
}

/// The duration of an instant kind: if given, the profile is the difference over that time.
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

    fn parsed(path: &str, query: &str) -> Result<Route, RequestError> {
        parse(path, &Parameters::parse(query), 300)
    }

    fn profile(path: &str, query: &str) -> ProfileRequest {
        match parsed(path, query) {
            Ok(Route::Profile(request)) => request,
            other => panic!("{path}?{query}: {other:?}"),
        }
    }

    #[test]
    fn a_cpu_profile_takes_thirty_seconds_by_default() {
        let seconds = |query| profile("/debug/pprof/profile", query).seconds;
        assert_eq!(seconds(""), Some(30));
        assert_eq!(seconds("seconds=5"), Some(5));
        assert_eq!(seconds("seconds=0"), Some(30));
        assert_eq!(seconds("seconds=-3"), Some(30));
        assert_eq!(seconds("seconds=abc&seconds=7"), Some(30));
        assert_eq!(parsed("/debug/pprof/profile", "seconds=301").expect_err("too long").status, 400);
        assert_eq!(
            parsed("/debug/pprof/profile", "seconds=99999999999999999999"),
            parsed("/debug/pprof/profile", "")
        );
    }

    #[test]
    fn an_instant_kind_with_seconds_is_a_difference() {
        assert_eq!(profile("/debug/pprof/heap", "").seconds, None);
        assert_eq!(profile("/debug/pprof/heap", "seconds=5").seconds, Some(5));
        assert_eq!(profile("/debug/pprof/goroutine", "debug=2").debug, 2);
        assert!(
            profile("/debug/pprof/block", "of=native").native && !profile("/debug/pprof/block", "").native
        );
        assert_eq!(parsed("/debug/pprof/block", "of=go").expect_err("unknown").status, 400);
        assert_eq!(profile("/debug/pprof/goroutine", "debug=x").debug, 0);
        for query in ["seconds=0", "seconds=x", "seconds=-1", "seconds=1&debug=1"] {
            assert_eq!(parsed("/debug/pprof/heap", query).expect_err(query).status, 400, "{query}");
        }
        assert_eq!(
            parsed("/debug/pprof/nonsense", "").expect_err("unknown"),
            RequestError::new(404, "Unknown profile")
        );
        assert_eq!(parsed("/etc/passwd", "").expect_err("elsewhere").status, 404);
        assert_eq!(parsed("/debug/pprof", ""), Ok(Route::Redirect("/debug/pprof/")));
    }

    #[test]
    fn parameters_are_decoded_and_the_first_value_counts() {
        let parameters = Parameters::parse("pid=1%32&pid=9&a+b=c%20d&bad=%zz&;x=1&flag");
        assert_eq!((parameters.get("pid"), parameters.get("a b"), parameters.get("bad")), ("12", "c d", ""));
        assert_eq!(parameters.get("flag"), "");
    }

    proptest! {
        #[test]
        fn every_request_is_parsed_to_a_valid_duration_or_an_error(path in "/[ -~]{0,60}", query in "[ -~]{0,80}") {
            if let Ok(Route::Profile(request)) = parsed(&path, &query) {
                prop_assert!(request.seconds.is_none_or(|seconds| (1..=300).contains(&seconds)));
            }
        }
    }
}
