//! The kinds of profile that are served: one row each, with what makes it.
//!
//! A kind that a process cannot give is refused with the reason, never answered with an empty profile.
//! Not here: how a profile is made (`capture`), HTTP.

use std::time::{Duration, Instant};

use super::route::ProfileAsk;
use crate::{
    capture::{self, Capture, CaptureError, Kind, Request, Stop, dump},
    profile::{
        columns::{merge, parse},
        encode_gzip,
        proto::Profile,
    },
    report::threads::Threads,
};

/// A kind of profile.
#[derive(Debug)]
pub struct KindRow {
    /// The last part of its path.
    pub name: &'static str,
    /// What it shows, for a person.
    pub what: &'static str,
    /// It always takes time; others are of now, unless asked how they change.
    pub is_timed: bool,
    make: fn(&Job<'_>) -> Result<Profile, KindError>,
    text: fn(&Profile, i64) -> Vec<u8>,
}

impl PartialEq for KindRow {
    fn eq(&self, other: &KindRow) -> bool {
        self.name == other.name
    }
}

/// What is to be made, of whom.
pub struct Job<'a> {
    pub pid: u32,
    pub ask: &'a ProfileAsk,
    pub request: &'a Request,
    pub stop: &'a Stop,
}

/// Why there is no profile.
#[derive(Debug)]
pub enum KindError {
    Capture(CaptureError),
    /// This process cannot give it; why, and what else there is.
    NotOffered(String),
    /// What was made cannot be put together.
    Broken(String),
}

impl From<CaptureError> for KindError {
    fn from(error: CaptureError) -> KindError {
        KindError::Capture(error)
    }
}

/// All kinds, in the order of their names.
pub static KINDS: [KindRow; 8] = [
    KindRow {
        name: "allocs",
        what: "Memory that was allocated since the program began, by where (programs whose runtime counts it)",
        is_timed: false,
        make: not_counted,
        text: no_text,
    },
    KindRow {
        name: "block",
        what: "Where threads wait for each other (programs whose runtime counts it)",
        is_timed: false,
        make: not_counted,
        text: no_text,
    },
    KindRow {
        name: "goroutine",
        what: "What every thread (of a Go program: every goroutine) does now; debug=2 one by one",
        is_timed: false,
        make: threads,
        text: threads_text,
    },
    KindRow {
        name: "heap",
        what: "Memory in use, by where it was allocated (programs whose runtime counts it)",
        is_timed: false,
        make: not_counted,
        text: no_text,
    },
    KindRow {
        name: "mutex",
        what: "Who holds locks that others wait for (programs whose runtime counts it)",
        is_timed: false,
        make: not_counted,
        text: no_text,
    },
    KindRow {
        name: "profile",
        what: "Where CPU time goes; seconds=30 unless told",
        is_timed: true,
        make: |job| captured(job, Kind::Cpu),
        text: no_text,
    },
    KindRow {
        name: "threadcreate",
        what: "Which code has made the threads; with seconds=: which makes threads meanwhile",
        is_timed: false,
        make: thread_create,
        text: threads_text,
    },
    KindRow {
        name: "wall",
        what: "Where all time of all threads goes, also of those that sleep; seconds=30 unless told",
        is_timed: true,
        make: |job| captured(job, Kind::Wall),
        text: no_text,
    },
];

pub fn by_name(name: &str) -> Option<&'static KindRow> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The answer's bytes: gzipped protobuf, or text.
pub fn make(job: &Job<'_>) -> Result<Vec<u8>, KindError> {
    if let Some(answer) = super::go::make(job) {
        return answer;
    }
    let kind = job.ask.kind;
    let profile = (kind.make)(job)?;
    match job.ask.debug {
        0 => Ok(encode_gzip(&profile)),
        // As in Go, kinds that take time have no text.
        _ if kind.is_timed => Ok(encode_gzip(&profile)),
        debug => Ok((kind.text)(&profile, debug)),
    }
}

fn captured(job: &Job<'_>, kind: Kind) -> Result<Profile, KindError> {
    let duration = Duration::from_secs(job.ask.seconds.unwrap_or_default());
    let request = Request { pids: vec![job.pid], kind, duration: Some(duration), ..job.request.clone() };
    let Capture { profile, .. } = capture::run(&request, job.stop, || Ok(()), &mut |_| {})?;
    Ok(profile)
}

fn thread_create(job: &Job<'_>) -> Result<Profile, KindError> {
    let mut profile = captured(job, Kind::ThreadCreate)?;
    if job.ask.seconds.is_some() {
        capture::keep_created_meanwhile(&mut profile);
    }
    Ok(profile)
}

fn threads(job: &Job<'_>) -> Result<Profile, KindError> {
    let now = || -> Result<Profile, KindError> {
        let request = dump::DumpRequest {
            pids: vec![job.pid],
            max_stack_bytes: job.request.max_stack_bytes,
            symbolize: job.request.symbolize.clone(),
            ..dump::DumpRequest::default()
        };
        Ok(dump::dump(&request)?.profile)
    };
    let first = now()?;
    let Some(seconds) = job.ask.seconds else { return Ok(first) };
    wait(Duration::from_secs(seconds), job.stop);
    difference(&first, &now()?)
}

/// Lets time pass, unless the asker goes.
pub(super) fn wait(duration: Duration, stop: &Stop) {
    let began = Instant::now();
    while !stop.is_set() && began.elapsed() < duration {
        std::thread::sleep(Duration::from_millis(20).min(duration - began.elapsed().min(duration)));
    }
}

/// What `last` has more (or less) than `first`.
pub(super) fn difference(first: &Profile, last: &Profile) -> Result<Profile, KindError> {
    let broken = |why: String| KindError::Broken(why);
    let columns =
        |profile: &Profile| parse::of_profile(profile).map_err(|error| broken(format!("{error:?}")));
    let mut before = columns(first)?;
    before.scale(-1.0);
    let merged = merge::merge(vec![before, columns(last)?]).map_err(broken)?;
    crate::profile::decode(&merged.encode()).map_err(|error| broken(error.to_string()))
}

fn not_counted(job: &Job<'_>) -> Result<Profile, KindError> {
    Err(KindError::NotOffered(format!(
        "{} cannot be had of process {}: its runtime keeps no such account (Go's does), and nothing is put into a \
         process to make it. What it can give: profile, wall, goroutine, threadcreate",
        job.ask.kind.name, job.pid
    )))
}

fn threads_text(profile: &Profile, debug: i64) -> Vec<u8> {
    let mut text = Vec::new();
    let threads = Threads::new(profile);
    // Writing into memory does not fail.
    let _ =
        if debug >= 2 { threads.write_text(true, &mut text) } else { threads.write_aggregated(&mut text) };
    text
}

/// Never asked for: kinds with this are timed, or refuse.
fn no_text(_: &Profile, _: i64) -> Vec<u8> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::{Builder, LineSpec};

    fn profile(counts: &[(&str, i64)]) -> Profile {
        let mut builder = Builder::new(&[("threads", "count")]);
        for (name, count) in counts {
            let function = builder.function(name, name, "", 0);
            let location = builder.location(None, 0, &[LineSpec { function, line: 0, column: 0 }]);
            builder.sample(&[location], &[*count], &[]);
        }
        builder.finish()
    }

    #[test]
    fn a_difference_has_what_came_and_what_went_and_nothing_else() {
        let last = profile(&[("stays", 2), ("came", 3)]);
        let found = difference(&profile(&[("went", 1), ("stays", 2)]), &last).expect("a profile");
        let mut values: Vec<i64> =
            found.sample.iter().map(|sample| sample.value[0]).filter(|n| *n != 0).collect();
        values.sort_unstable();
        assert_eq!(values, [-1, 3]);
    }

    #[test]
    fn kinds_stand_in_the_order_of_their_names() {
        assert!(KINDS.is_sorted_by_key(|kind| kind.name));
        assert!(by_name("heap").is_some() && by_name("").is_none() && by_name("Heap").is_none());
    }
}
