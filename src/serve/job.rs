//! Captures a profile and returns the bytes of the response.
//!
//! Not here: which kinds there are (`capture::kinds`), HTTP.

use std::time::Duration;

use super::route::ProfileRequest;
use crate::{
    capture::{
        self, CaptureError, HeapOptions, Reading, Request, Response, SamplerChoice, Stop,
        kinds::{Span, TextForm},
    },
    profile::{encode_gzip, proto::Profile},
    report::threads::Threads,
};

/// How often the heap of a process is read at most: a large one takes seconds.
const HEAP_MAX_AGE: Duration = Duration::from_secs(60);

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

/// Captures a profile: gzipped protobuf or a timeline, or text if `debug` requests it.
///
/// # Errors
/// The capture fails, or the kind is not available for the process.
pub fn run(job: &Job<'_>) -> Result<Vec<u8>, CaptureError> {
    let wanted = job.request;
    let request = Request {
        pids: vec![job.pid],
        kinds: vec![wanted.kind],
        duration: Some(Duration::from_secs(wanted.seconds.unwrap_or_default())),
        only_changes: true,
        text: text_form(wanted),
        as_profile: wanted.as_profile,
        heap: HeapOptions { native: wanted.native, max_age: HEAP_MAX_AGE, ..HeapOptions::default() },
        stop: job.stop.clone(),
        sampler: sampler(wanted, job.template),
        ..job.template.clone()
    };
    let mut bytes = Vec::new();
    // Writing into memory does not fail.
    let _ = match capture::once(&request, &mut |_| {})? {
        Response::Text(text) => return Ok(text.text),
        Response::Timeline(trace) if wanted.as_profile => return Ok(encode_gzip(&trace.profile())),
        Response::Timeline(trace) => trace.write(&mut bytes),
        Response::Sampled(capture) => return Ok(in_form(capture.profile, wanted)),
        Response::Read(reading) => return Ok(read(&reading, wanted)),
    };
    Ok(bytes)
}

/// The request with the default duration of its kind, if this process has no such state but can be
/// sampled; at most `max_seconds`.
pub fn with_default_seconds(
    wanted: &ProfileRequest,
    pid: u32,
    template: &Request,
    max_seconds: u64,
) -> ProfileRequest {
    let request = Request { sampler: sampler(wanted, template), ..template.clone() };
    let default = || wanted.kind.default_seconds(&Request { pids: vec![pid], ..request });
    let seconds = wanted.seconds.or_else(|| default().map(|seconds| seconds.min(max_seconds)));
    ProfileRequest { seconds, ..wanted.clone() }
}

fn sampler(wanted: &ProfileRequest, template: &Request) -> SamplerChoice {
    if wanted.native && wanted.kind.samplers.is_some() { SamplerChoice::Bpf } else { template.sampler }
}

/// The text form that `debug` requests; kinds that last have none.
fn text_form(wanted: &ProfileRequest) -> Option<TextForm> {
    match (wanted.kind.span, wanted.debug) {
        (Span::Lasting(_), _) | (_, 0) => None,
        (Span::Instant, 2..) => Some(TextForm::Each),
        (Span::Instant, _) => Some(TextForm::Counted),
    }
}

fn read(reading: &Reading, wanted: &ProfileRequest) -> Vec<u8> {
    let mut text = Vec::new();
    let own = text_form(wanted).and_then(|form| reading.content.write_text(form, &mut text));
    if own.is_some() {
        return text;
    }
    let mut text = Vec::new();
    if let (Some(TextForm::Each), Some(waits)) = (text_form(wanted), reading.content.waits()) {
        // Writing into memory does not fail.
        let _ = waits.write_verdicts(&mut text);
    }
    text.extend(in_form(reading.content.profile().into_owned(), wanted));
    if let Some(form) = text_form(wanted) {
        // A service may have 100,000 equal tasks.
        let form = if form == TextForm::Each { TextForm::Grouped } else { form };
        // Writing into memory does not fail.
        let _ = reading.content.write_more(form, &mut text);
    }
    text
}

/// A profile as protobuf, or in the layouts of Go's `debug=1` and `debug=2`.
///
/// An instant profile has no duration, as in Go: Parca sums up profiles that have one.
fn in_form(profile: Profile, wanted: &ProfileRequest) -> Vec<u8> {
    let Some(form) = text_form(wanted) else {
        let duration_nanos = if wanted.seconds.is_some() { profile.duration_nanos } else { 0 };
        return encode_gzip(&Profile { duration_nanos, ..profile });
    };
    let (threads, mut text) = (Threads::new(&profile), Vec::new());
    // Writing into memory does not fail.
    let _ = match form {
        TextForm::Counted => threads.write_aggregated(&mut text),
        _ => threads.write_text(true, &mut text),
    };
    text
}
