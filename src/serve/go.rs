//! The kinds that a Go runtime keeps or tells, of a process that is one of Go.
//!
//! Not here: all other processes, and kinds that are sampled (`kinds`).

use std::time::Duration;

use super::kinds::{Job, KindError, difference, wait};
use crate::{
    capture::{
        go_profile::{self, GoKind},
        goroutines::{self, GoDumpRequest},
    },
    profile::{encode_gzip, proto::Profile},
};

/// The answer; `None`: the process is none of Go's, or the kind is made as of any other.
pub fn make(job: &Job<'_>) -> Option<Result<Vec<u8>, KindError>> {
    let kind = match job.ask.kind.name {
        "goroutine" => None,
        "heap" => Some(GoKind::Heap),
        "allocs" => Some(GoKind::Allocs),
        "block" => Some(GoKind::Block),
        "mutex" => Some(GoKind::Mutex),
        "threadcreate" if job.ask.seconds.is_none() => Some(GoKind::ThreadCreate),
        _ => return None,
    };
    if !goroutines::is_go(job.pid) {
        return None;
    }
    Some(match kind {
        None => goroutines(job),
        Some(kind) => counted(job, kind),
    })
}

fn goroutines(job: &Job<'_>) -> Result<Vec<u8>, KindError> {
    let request = GoDumpRequest { pid: job.pid, arguments: job.ask.debug >= 2, consistent: false };
    let now = || goroutines::dump(&request).map_err(|error| KindError::NotOffered(error.to_string()));
    match job.ask.debug {
        0 => over_time(job, || Ok(now()?.profile(false))),
        debug => {
            let mut text = Vec::new();
            now()?.write_text(debug >= 2, &mut text).map_err(|error| KindError::Broken(error.to_string()))?;
            Ok(text)
        }
    }
}

fn counted(job: &Job<'_>, kind: GoKind) -> Result<Vec<u8>, KindError> {
    if job.ask.debug > 0 {
        let why = format!("{} has no text here: ask without debug, and read it with pprof", kind.name());
        return Err(KindError::NotOffered(why));
    }
    over_time(job, || {
        let read = go_profile::read(job.pid, kind);
        Ok(read.map_err(|error| KindError::NotOffered(error.to_string()))?.profile)
    })
}

/// What is now, or how it changes in the seconds that were asked for.
fn over_time(job: &Job<'_>, now: impl Fn() -> Result<Profile, KindError>) -> Result<Vec<u8>, KindError> {
    let first = now()?;
    let Some(seconds) = job.ask.seconds else { return Ok(encode_gzip(&first)) };
    wait(Duration::from_secs(seconds), job.stop);
    Ok(encode_gzip(&difference(&first, &now()?)?))
}
