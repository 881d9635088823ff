//! The kinds of profile that are served: one row each, with what makes it.
//!
//! A kind that a process cannot give is refused with the reason, never answered with an empty profile.
//! Not here: how a profile is made (`capture`), HTTP.

use std::time::{Duration, Instant};

use super::route::ProfileRequest;
use crate::{
    capture::{
        self, Capture, CaptureError, ProfileKind, Request, Stop, dump,
        go_profile::{self, GoKind},
        goroutines::{self, BucketError, GoDumpRequest, is_go},
        trace::{self, MAX_EVENTS, MAX_PROFILE_EVENTS, TraceRequest},
    },
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
    /// What else can be asked for by parameters; may be empty.
    pub how: &'static str,
    /// Whether what is answered is a profile, which pprof's tools show.
    pub is_profile: bool,
    /// How long it takes unless told, in seconds. Others are of now, unless asked how they change.
    pub default_seconds: Option<u64>,
    make: fn(&Job<'_>) -> ProfileBytes,
}

impl KindRow {
    /// What it shows, and what can be asked for.
    pub fn in_full(&self) -> String {
        if self.how.is_empty() { self.what.into() } else { format!("{}; {}", self.what, self.how) }
    }

    /// The page on which it is shown first.
    pub fn view(&self) -> &'static str {
        if self.is_profile { "flamegraph" } else { "timeline" }
    }
}

/// The answer's bytes: gzipped protobuf, or text where `debug` asks for it.
type ProfileBytes = Result<Vec<u8>, KindError>;

impl PartialEq for KindRow {
    fn eq(&self, other: &KindRow) -> bool {
        self.name == other.name
    }
}

/// What is to be made, of whom.
pub struct Job<'a> {
    pub pid: u32,
    pub ask: &'a ProfileRequest,
    pub request: &'a Request,
    pub stop: &'a Stop,
}

/// Why there is no profile.
#[derive(Debug)]
pub enum KindError {
    Failed(Failed),
    /// This process cannot give it; why, and what else there is.
    NotOffered(String),
    /// What was made cannot be put together.
    Broken(String),
}

/// What the failure of a capture comes from, for [`super::Options::explain`].
#[derive(Debug)]
pub enum Failed {
    Capture(CaptureError),
    Go(BucketError),
}

impl From<CaptureError> for KindError {
    fn from(error: CaptureError) -> KindError {
        KindError::Failed(Failed::Capture(error))
    }
}

impl From<BucketError> for KindError {
    fn from(error: BucketError) -> KindError {
        KindError::Failed(Failed::Go(error))
    }
}

/// All kinds, in the order of their names.
pub static KINDS: [KindRow; 11] = [
    KindRow {
        name: "allocs",
        what: "Memory that was allocated since the program began, by where (programs whose runtime counts it)",
        how: "",
        is_profile: true,
        default_seconds: None,
        make: |job| kept(job, GoKind::Allocs),
    },
    KindRow {
        name: "block",
        what: "Where threads wait for each other (programs whose runtime counts it)",
        how: "",
        is_profile: true,
        default_seconds: None,
        make: |job| kept(job, GoKind::Block),
    },
    KindRow {
        name: "faults",
        what: "Where memory grows, by the code that touches it for the first time",
        how: "seconds=30 unless told",
        is_profile: true,
        default_seconds: Some(30),
        make: |job| Ok(encode_gzip(&captured(job, ProfileKind::Faults)?)),
    },
    KindRow {
        name: "goroutine",
        what: "What every thread (of a Go program: every goroutine) does now",
        how: "debug=2 one by one",
        is_profile: true,
        default_seconds: None,
        make: |job| if is_go(job.pid) { goroutines(job) } else { threads(job) },
    },
    KindRow {
        name: "heap",
        what: "Memory in use, by where it was allocated (programs whose runtime counts it)",
        how: "",
        is_profile: true,
        default_seconds: None,
        make: |job| kept(job, GoKind::Heap),
    },
    KindRow {
        name: "mutex",
        what: "Who holds locks that others wait for (programs whose runtime counts it)",
        how: "",
        is_profile: true,
        default_seconds: None,
        make: |job| kept(job, GoKind::Mutex),
    },
    KindRow {
        name: "offcpu",
        what: "Where threads wait, and for how long",
        how: "seconds=30 unless told",
        is_profile: true,
        default_seconds: Some(30),
        make: |job| Ok(encode_gzip(&captured(job, ProfileKind::OffCpu)?)),
    },
    KindRow {
        name: "profile",
        what: "Where CPU time goes",
        how: "seconds=30 unless told",
        is_profile: true,
        default_seconds: Some(30),
        make: |job| Ok(encode_gzip(&captured(job, ProfileKind::Cpu)?)),
    },
    KindRow {
        name: "threadcreate",
        what: "Which code has made the threads",
        how: "with seconds=: which makes threads meanwhile",
        is_profile: true,
        default_seconds: None,
        make: thread_create,
    },
    KindRow {
        name: "trace",
        what: "What each thread did when: it ran, was ready to, waited",
        how: "for ui.perfetto.dev, with format=pprof as a profile; seconds=1 unless told",
        is_profile: false,
        default_seconds: Some(1),
        make: traced,
    },
    KindRow {
        name: "wall",
        what: "Where all time of all threads goes, also of those that sleep",
        how: "seconds=30 unless told",
        is_profile: true,
        default_seconds: Some(30),
        make: |job| Ok(encode_gzip(&captured(job, ProfileKind::Wall)?)),
    },
];

pub fn by_name(name: &str) -> Option<&'static KindRow> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The answer's bytes.
pub fn make(job: &Job<'_>) -> Result<Vec<u8>, KindError> {
    (job.ask.kind.make)(job)
}

fn captured(job: &Job<'_>, kind: ProfileKind) -> Result<Profile, KindError> {
    let duration = Duration::from_secs(job.ask.seconds.unwrap_or_default());
    let request = Request { pids: vec![job.pid], kind, duration: Some(duration), ..job.request.clone() };
    let Capture { profile, .. } = capture::run(&request, job.stop, || Ok(()), &mut |_| {})?;
    Ok(profile)
}

fn traced(job: &Job<'_>) -> ProfileBytes {
    let request = TraceRequest {
        pids: vec![job.pid],
        children: false,
        duration: Duration::from_secs(job.ask.seconds.unwrap_or_default()),
        max_events: if job.ask.as_profile { MAX_PROFILE_EVENTS } else { MAX_EVENTS },
    };
    let trace = trace::run(&request, job.stop, &mut |_| {})?;
    if job.ask.as_profile {
        return Ok(encode_gzip(&trace.profile()));
    }
    let mut bytes = Vec::new();
    // Writing into memory does not fail.
    let _ = trace.write(&mut bytes);
    Ok(bytes)
}

fn thread_create(job: &Job<'_>) -> ProfileBytes {
    if job.ask.seconds.is_none() && is_go(job.pid) {
        return kept(job, GoKind::ThreadCreate);
    }
    let mut profile = captured(job, ProfileKind::ThreadCreate)?;
    match job.ask.seconds {
        Some(_) => capture::keep_created_during(&mut profile),
        None => profile.duration_nanos = 0,
    }
    Ok(in_form(&profile, job.ask.debug))
}

fn threads(job: &Job<'_>) -> ProfileBytes {
    let profile = now_or_change(job, || {
        let request = dump::DumpRequest {
            pids: vec![job.pid],
            max_stack_bytes: job.request.max_stack_bytes,
            symbolize: job.request.symbolize.clone(),
            ..dump::DumpRequest::default()
        };
        let mut profile = dump::dump(&request)?.profile;
        if job.ask.seconds.is_some() {
            leave_out_what_passes(&mut profile);
        }
        Ok(profile)
    })?;
    Ok(in_form(&profile, job.ask.debug))
}

/// A profile of threads as protobuf, or in the layouts of Go's `debug=1` and `debug=2`.
fn in_form(profile: &Profile, debug: i64) -> Vec<u8> {
    let (threads, mut text) = (Threads::new(profile), Vec::new());
    // Writing into memory does not fail.
    let _ = match debug {
        0 => return encode_gzip(profile),
        1 => threads.write_aggregated(&mut text),
        _ => threads.write_text(true, &mut text),
    };
    text
}

fn goroutines(job: &Job<'_>) -> ProfileBytes {
    let dumped = |arguments| {
        let request = GoDumpRequest { pid: job.pid, arguments, ..GoDumpRequest::default() };
        goroutines::dump(&request).map_err(BucketError::from)
    };
    let mut text = Vec::new();
    let _ = match job.ask.debug {
        0 => return Ok(encode_gzip(&now_or_change(job, || Ok(dumped(false)?.profile(false)))?)),
        debug => dumped(debug >= 2)?.write_text(debug >= 2, &mut text),
    };
    Ok(text)
}

/// What the runtime itself keeps account of.
fn kept(job: &Job<'_>, kind: GoKind) -> ProfileBytes {
    if !is_go(job.pid) {
        return Err(KindError::NotOffered(format!(
            "{} cannot be had of process {}: its runtime keeps no such account (Go's does), and nothing is put into \
             a process to make it. What it can give: profile, wall, offcpu, faults, trace, goroutine, threadcreate",
            job.ask.kind.name, job.pid
        )));
    }
    if job.ask.debug != 0
        && let Some(text) = go_profile::text(job.pid, kind)?
    {
        return Ok(text);
    }
    let profile = now_or_change(job, || Ok(go_profile::read(job.pid, kind)?.profile))?;
    Ok(in_form(&profile, job.ask.debug))
}

/// What there is now; if seconds were asked for, how that changes meanwhile.
///
/// What is of a moment has no duration, as in Go: Parca adds up over time whatever has one.
fn now_or_change(job: &Job<'_>, now: impl Fn() -> Result<Profile, KindError>) -> Result<Profile, KindError> {
    let first = now()?;
    let Some(seconds) = job.ask.seconds else { return Ok(Profile { duration_nanos: 0, ..first }) };
    wait(Duration::from_secs(seconds), job.stop);
    difference(first, now()?)
}

/// Lets time pass, unless the asker goes.
fn wait(duration: Duration, stop: &Stop) {
    let began = Instant::now();
    while !stop.is_set() && began.elapsed() < duration {
        std::thread::sleep(Duration::from_millis(20).min(duration - began.elapsed().min(duration)));
    }
}

/// What `last` has more (or less) than `first`; of the time of `last`, as long as lies between them, as
/// in net/http/pprof.
fn difference(first: Profile, last: Profile) -> Result<Profile, KindError> {
    let (began, ended) = (first.time_nanos, last.time_nanos);
    let broken = |why: String| KindError::Broken(why);
    let columns =
        |profile: &Profile| parse::of_profile(profile).map_err(|error| broken(format!("{error:?}")));
    let mut before = columns(&first)?;
    before.scale(-1.0);
    let merged = merge::merge(vec![before, columns(&last)?]).map_err(broken)?;
    let changed = crate::profile::decode(&merged.encode()).map_err(|error| broken(error.to_string()))?;
    Ok(Profile { time_nanos: ended, duration_nanos: ended.saturating_sub(began), ..changed })
}

/// Labels of threads that differ each time one looks: with them nothing would ever be the same.
fn leave_out_what_passes(profile: &mut Profile) {
    let passes: Vec<bool> =
        profile.string_table.iter().map(|text| ["cpu", "waited", "look"].contains(&text.as_str())).collect();
    let is_kept = |key: i64| usize::try_from(key).ok().and_then(|key| passes.get(key)) != Some(&true);
    profile.sample.iter_mut().for_each(|sample| sample.label.retain(|label| is_kept(label.key)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::builder::{Builder, LabelValue, LineSpec};

    fn profile(counts: &[(&str, i64)], time: i64) -> Profile {
        let mut builder = Builder::new(&[("threads", "count")]);
        for (name, count) in counts {
            let function = builder.function(name, name, "", 0);
            let location = builder.location(None, 0, &[LineSpec { function, line: 0, column: 0 }]);
            // A thread that sleeps has used no less CPU time than a moment ago.
            let labels =
                [("tid", LabelValue::Number(7, "")), ("cpu", LabelValue::Number(time, "nanoseconds"))];
            builder.sample(&[location], &[*count], &labels);
        }
        builder.set_time(time, 3);
        builder.finish()
    }

    #[test]
    fn a_difference_has_what_came_and_what_went_and_nothing_else() {
        let last = profile(&[("stays", 2), ("came", 3)], 5_000);
        let first = profile(&[("went", 1), ("stays", 2)], 4_000);
        let [first, last] = [first, last].map(|mut profile| {
            leave_out_what_passes(&mut profile);
            profile
        });
        let found = difference(first, last).expect("a profile");
        let mut values: Vec<i64> =
            found.sample.iter().map(|sample| sample.value[0]).filter(|n| *n != 0).collect();
        values.sort_unstable();
        assert_eq!(values, [-1, 3]);
        assert!(found.sample.iter().all(|sample| sample.label.len() == 1), "tid stays");
        assert_eq!((found.time_nanos, found.duration_nanos), (5_000, 1_000), "as Go's net/http/pprof");
    }

    #[test]
    fn kinds_stand_in_the_order_of_their_names() {
        assert!(KINDS.is_sorted_by_key(|kind| kind.name));
        assert!(by_name("heap").is_some() && by_name("").is_none() && by_name("Heap").is_none());
    }
}
