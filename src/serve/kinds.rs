//! The kinds of profile that are served: one row each, with the function that captures it.
//!
//! A kind that is not available for a process is refused with the reason; the response is never an
//! empty profile. Not here: how a profile is captured (`capture`), HTTP.

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
    /// Which parameters it takes, for a person; may be empty.
    pub how: &'static str,
    /// Whether the default format is pprof protobuf.
    pub is_profile: bool,
    /// Whether only the Go runtime records it.
    pub needs_go: bool,
    /// The default duration in seconds; `None` for instant kinds.
    pub default_seconds: Option<u64>,
    make: fn(&Job<'_>) -> ProfileBytes,
}

impl KindRow {
    /// What it shows and which parameters it takes.
    pub fn in_full(&self) -> String {
        if self.how.is_empty() { self.what.into() } else { format!("{}; {}", self.what, self.how) }
    }

    /// The view that shows it first.
    pub fn view(&self) -> &'static str {
        match self.name {
            _ if !self.is_profile => "timeline",
            "goroutine" => "threads",
            _ => "flamegraph",
        }
    }
}

/// The bytes of a response: gzipped protobuf, or text if `debug` requests it.
type ProfileBytes = Result<Vec<u8>, KindError>;

impl PartialEq for KindRow {
    fn eq(&self, other: &KindRow) -> bool {
        self.name == other.name
    }
}

/// A profile to capture.
pub struct Job<'a> {
    /// The process.
    pub pid: u32,
    /// The kind, the duration and the format.
    pub request: &'a ProfileRequest,
    /// How to capture. Process, kind and duration come from the other fields.
    pub template: &'a Request,
    /// Set when the capture must end early.
    pub stop: &'a Stop,
}

/// Why a capture has no result.
#[derive(Debug)]
pub enum KindError {
    /// The capture failed.
    Failed(Failed),
    /// The kind is not available for this process: the reason, and the kinds that are.
    NotOffered(String),
    /// The captured profiles cannot be combined.
    Broken(String),
}

/// The cause of a failed capture, for [`super::Options::explain`].
#[derive(Debug)]
pub enum Failed {
    /// Sampling failed.
    Capture(CaptureError),
    /// Reading the Go runtime's records failed.
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
        what: "All memory allocated since the program started, by allocation site (Go programs)",
        how: "",
        is_profile: true,
        needs_go: true,
        default_seconds: None,
        make: |job| recorded(job, GoKind::Allocs),
    },
    KindRow {
        name: "block",
        what: "Where goroutines wait for each other (Go programs)",
        how: "",
        is_profile: true,
        needs_go: true,
        default_seconds: None,
        make: |job| recorded(job, GoKind::Block),
    },
    KindRow {
        name: "faults",
        what: "Page faults: which code touches new memory",
        how: "seconds=N (default 30)",
        is_profile: true,
        needs_go: false,
        default_seconds: Some(30),
        make: |job| Ok(encode_gzip(&captured(job, ProfileKind::Faults)?)),
    },
    KindRow {
        name: "goroutine",
        what: "The current stacks of all threads (Go programs: of all goroutines)",
        how: "debug=2 prints each stack",
        is_profile: true,
        needs_go: false,
        default_seconds: None,
        make: |job| if is_go(job.pid) { goroutines(job) } else { threads(job) },
    },
    KindRow {
        name: "heap",
        what: "Memory in use, by allocation site (Go programs)",
        how: "",
        is_profile: true,
        needs_go: true,
        default_seconds: None,
        make: |job| recorded(job, GoKind::Heap),
    },
    KindRow {
        name: "mutex",
        what: "Which code holds contended locks (Go programs)",
        how: "",
        is_profile: true,
        needs_go: true,
        default_seconds: None,
        make: |job| recorded(job, GoKind::Mutex),
    },
    KindRow {
        name: "offcpu",
        what: "Off-CPU time: where threads wait, and how long",
        how: "seconds=N (default 30)",
        is_profile: true,
        needs_go: false,
        default_seconds: Some(30),
        make: |job| Ok(encode_gzip(&captured(job, ProfileKind::OffCpu)?)),
    },
    KindRow {
        name: "profile",
        what: "CPU time: which code runs",
        how: "seconds=N (default 30)",
        is_profile: true,
        needs_go: false,
        default_seconds: Some(30),
        make: |job| Ok(encode_gzip(&captured(job, ProfileKind::Cpu)?)),
    },
    KindRow {
        name: "threadcreate",
        what: "Which code created the threads",
        how: "seconds=N: threads created during N seconds",
        is_profile: true,
        needs_go: false,
        default_seconds: None,
        make: thread_create,
    },
    KindRow {
        name: "trace",
        what: "A timeline of each thread: running, runnable, waiting",
        how: "for ui.perfetto.dev, or a profile with format=pprof; seconds=N (default 1)",
        is_profile: false,
        needs_go: false,
        default_seconds: Some(1),
        make: traced,
    },
    KindRow {
        name: "wall",
        what: "Wall-clock time of all threads, including sleeping ones",
        how: "seconds=N (default 30)",
        is_profile: true,
        needs_go: false,
        default_seconds: Some(30),
        make: |job| Ok(encode_gzip(&captured(job, ProfileKind::Wall)?)),
    },
];

/// The kinds that are available for a process. This reads its program.
pub fn available(pid: u32) -> Vec<&'static KindRow> {
    let is_go = is_go(pid);
    KINDS.iter().filter(|kind| is_go || !kind.needs_go).collect()
}

/// The kind of this name.
pub fn by_name(name: &str) -> Option<&'static KindRow> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Captures a profile and returns the bytes of the response.
///
/// # Errors
/// [`KindError`] when the capture fails or the kind is not available for the process.
pub fn make(job: &Job<'_>) -> Result<Vec<u8>, KindError> {
    (job.request.kind.make)(job)
}

fn captured(job: &Job<'_>, kind: ProfileKind) -> Result<Profile, KindError> {
    let duration = Duration::from_secs(job.request.seconds.unwrap_or_default());
    let request = Request { pids: vec![job.pid], kind, duration: Some(duration), ..job.template.clone() };
    let Capture { profile, .. } = capture::run(&request, job.stop, || Ok(()), &mut |_| {})?;
    Ok(profile)
}

fn traced(job: &Job<'_>) -> ProfileBytes {
    let request = TraceRequest {
        pids: vec![job.pid],
        children: false,
        duration: Duration::from_secs(job.request.seconds.unwrap_or_default()),
        max_events: if job.request.as_profile { MAX_PROFILE_EVENTS } else { MAX_EVENTS },
    };
    let trace = trace::run(&request, job.stop, &mut |_| {})?;
    if job.request.as_profile {
        return Ok(encode_gzip(&trace.profile()));
    }
    let mut bytes = Vec::new();
    // Writing into memory does not fail.
    let _ = trace.write(&mut bytes);
    Ok(bytes)
}

fn thread_create(job: &Job<'_>) -> ProfileBytes {
    if job.request.seconds.is_none() && is_go(job.pid) {
        return recorded(job, GoKind::ThreadCreate);
    }
    let mut profile = captured(job, ProfileKind::ThreadCreate)?;
    match job.request.seconds {
        Some(_) => capture::keep_created_during(&mut profile),
        None => profile.duration_nanos = 0,
    }
    Ok(in_form(&profile, job.request.debug))
}

fn threads(job: &Job<'_>) -> ProfileBytes {
    let profile = instant_or_difference(job, || {
        let request = dump::DumpRequest {
            pids: vec![job.pid],
            max_stack_bytes: job.template.max_stack_bytes,
            symbolize: job.template.symbolize.clone(),
            ..dump::DumpRequest::default()
        };
        let mut profile = dump::dump(&request)?.profile;
        if job.request.seconds.is_some() {
            remove_volatile_labels(&mut profile);
        }
        Ok(profile)
    })?;
    Ok(in_form(&profile, job.request.debug))
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
    let _ = match job.request.debug {
        0 => return Ok(encode_gzip(&instant_or_difference(job, || Ok(dumped(false)?.profile(false)))?)),
        debug => dumped(debug >= 2)?.write_text(debug >= 2, &mut text),
    };
    Ok(text)
}

/// A profile that the language runtime records itself.
fn recorded(job: &Job<'_>, kind: GoKind) -> ProfileBytes {
    if !is_go(job.pid) {
        return Err(KindError::NotOffered(format!(
            "{} profiles need a Go program, and process {} is not one: its runtime does not record them. \
             Available: profile, wall, offcpu, faults, trace, goroutine, threadcreate",
            job.request.kind.name, job.pid
        )));
    }
    if job.request.debug != 0
        && let Some(text) = go_profile::text(job.pid, kind)?
    {
        return Ok(text);
    }
    let profile = instant_or_difference(job, || Ok(go_profile::read(job.pid, kind)?.profile))?;
    Ok(in_form(&profile, job.request.debug))
}

/// An instant profile; if seconds were requested, the difference over that time.
///
/// An instant profile has no duration, as in Go: Parca sums up profiles that have one.
fn instant_or_difference(
    job: &Job<'_>,
    now: impl Fn() -> Result<Profile, KindError>,
) -> Result<Profile, KindError> {
    let first = now()?;
    let Some(seconds) = job.request.seconds else { return Ok(Profile { duration_nanos: 0, ..first }) };
    wait(Duration::from_secs(seconds), job.stop);
    difference(first, now()?)
}

/// Waits for `duration`, or until the capture is cancelled.
fn wait(duration: Duration, stop: &Stop) {
    let began = Instant::now();
    while !stop.is_set() && began.elapsed() < duration {
        std::thread::sleep(Duration::from_millis(20).min(duration - began.elapsed().min(duration)));
    }
}

/// `last` minus `first`. Its time is that of `last`, its duration the time between them, as in
/// net/http/pprof.
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

/// Removes labels of threads that change with every dump: they would make all samples differ.
fn remove_volatile_labels(profile: &mut Profile) {
    let is_volatile: Vec<bool> =
        profile.string_table.iter().map(|text| ["cpu", "waited", "look"].contains(&text.as_str())).collect();
    let is_kept = |key: i64| usize::try_from(key).ok().and_then(|key| is_volatile.get(key)) != Some(&true);
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
            // The CPU time of a thread grows from dump to dump.
            let labels =
                [("tid", LabelValue::Number(7, "")), ("cpu", LabelValue::Number(time, "nanoseconds"))];
            builder.sample(&[location], &[*count], &labels);
        }
        builder.set_time(time, 3);
        builder.finish()
    }

    #[test]
    fn a_difference_contains_only_added_and_removed_samples() {
        let last = profile(&[("stays", 2), ("came", 3)], 5_000);
        let first = profile(&[("went", 1), ("stays", 2)], 4_000);
        let [first, last] = [first, last].map(|mut profile| {
            remove_volatile_labels(&mut profile);
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
    fn kinds_are_sorted_by_name() {
        assert!(KINDS.is_sorted_by_key(|kind| kind.name));
        assert!(by_name("heap").is_some() && by_name("").is_none() && by_name("Heap").is_none());
    }
}
