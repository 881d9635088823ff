//! Captures for requests, and the responses that report why there is none.
//!
//! Not here: routes (`listen`, `ui`), the capture itself (`job`).

use hyper::StatusCode;

use super::{
    Server,
    captures::{Busy, Length},
    job::{self, Job},
    pages::{self, HttpResponse},
    route::{ProfileRequest, RequestError},
    symbol,
    targets::NoTarget,
};
use crate::{
    capture::{
        self, CaptureError, Obstacle, Request, Stop,
        kinds::{self, Kind},
    },
    process::{Identity, ProcessError, ProcessHandle},
};

/// The kinds that are available for a process. Its program is read on another thread.
pub(super) async fn available_kinds(chosen: Option<&Identity>) -> Vec<Kind> {
    let Some(pid) = chosen.map(|identity| identity.pid) else { return Vec::new() };
    let available = move || served(kinds::available(&Request::now(pid)));
    tokio::task::spawn_blocking(available).await.unwrap_or_default()
}

fn served(kinds: Vec<Kind>) -> Vec<Kind> {
    kinds.into_iter().filter(|kind| kind.served_as.is_some()).collect()
}

/// Names addresses of a process, as `/debug/pprof/symbol`; the error is a response too.
pub(super) async fn names(
    server: &Server,
    identity: &Identity,
    query: &str,
) -> Result<HttpResponse, Box<HttpResponse>> {
    let addresses = symbol::addresses(query);
    if addresses.is_empty() {
        return Ok(pages::text(StatusCode::OK, symbol::response(&[], &[])));
    }
    let (pid, options) = (identity.pid, server.options.request.symbolize.clone());
    let identity = identity.clone();
    let work = move |_: &Stop| {
        let names = ProcessHandle::of(identity)?.guard(|| capture::names(pid, &addresses, &options))?;
        Ok(symbol::response(&addresses, &names))
    };
    let result = server.captures.run((pid, "symbol"), Length::Instant, work).await;
    let text: Result<String, ProcessError> = result.map_err(|why| Box::new(busy(why)))?;
    let text = text.map_err(|error| Box::new(capture_failure(server, CaptureError::Process(error))))?;
    Ok(pages::text(StatusCode::OK, text))
}

/// Captures the requested profile; the error is the response that reports the failure.
pub(super) async fn captured(
    server: &Server,
    identity: &Identity,
    request: &ProfileRequest,
) -> Result<Vec<u8>, Box<HttpResponse>> {
    let (pid, template) = (identity.pid, server.options.request.clone());
    let own = job::with_default_seconds(request, pid, &template, server.options.limits.max_seconds);
    let length = if own.seconds.is_some() { Length::Timed } else { Length::Instant };
    let identity = identity.clone();
    // A capture finds the process by PID, perhaps after waiting for a slot.
    let work = move |stop: &Stop| {
        let process = ProcessHandle::of(identity).map_err(CaptureError::Process)?;
        let job = Job { pid, request: &own, template: &template, stop };
        process.guard(|| job::run(&job)).map_err(CaptureError::Process)?
    };
    let result = server.captures.run((pid, request.kind.path()), length, work).await;
    let profile = result.map_err(|why| Box::new(busy(why)))?;
    let bytes = profile.map_err(|error| Box::new(capture_failure(server, error)))?;
    let max_bytes = server.options.limits.max_response_bytes;
    if bytes.len() > max_bytes {
        let why =
            format!("the profile has {} bytes; at most {max_bytes} are served (--max-bytes)", bytes.len());
        return Err(Box::new(pages::failure(StatusCode::INTERNAL_SERVER_ERROR, &why)));
    }
    Ok(bytes)
}

/// The response to an invalid request.
pub(super) fn bad_request(bad: &RequestError) -> HttpResponse {
    pages::failure(status_of(bad.status), &bad.why)
}

fn status_of(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The response to a request without exactly one process.
pub(super) fn no_target(why: &NoTarget) -> HttpResponse {
    match why {
        NoTarget::NoneRunning => {
            pages::failure(StatusCode::NOT_FOUND, "none of the served processes is running")
        }
        NoTarget::NotServed(pid) => {
            let shown: String = pid.chars().filter(char::is_ascii_graphic).take(20).collect();
            pages::failure(
                StatusCode::NOT_FOUND,
                &format!("process {shown} is not served; /pids lists the served processes"),
            )
        }
        NoTarget::Ambiguous(count) => pages::failure(
            StatusCode::BAD_REQUEST,
            &format!("{count} processes are served: choose one with ?pid=; /pids lists them"),
        ),
    }
}

fn busy(why: Busy) -> HttpResponse {
    match why {
        Busy::Same => pages::failure(
            StatusCode::CONFLICT,
            "another client is capturing the same kind of profile of this process: retry when that capture has ended",
        ),
        Busy::TooMany => pages::failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many captures are running (--max-captures): retry later",
        ),
        Busy::Bug => {
            pages::failure(StatusCode::INTERNAL_SERVER_ERROR, "the capture failed because of a bug in rprof")
        }
    }
}

fn capture_failure(server: &Server, error: CaptureError) -> HttpResponse {
    let status = match error.obstacle() {
        Obstacle::NotAvailable => StatusCode::NOT_IMPLEMENTED,
        Obstacle::Gone => StatusCode::NOT_FOUND,
        Obstacle::NotPermitted => StatusCode::FORBIDDEN,
        Obstacle::Other => StatusCode::INTERNAL_SERVER_ERROR,
    };
    match error {
        // Clients know kinds by their paths.
        CaptureError::NotOffered { kind, why, available } => {
            let paths: Vec<&str> = served(available).iter().map(|kind| kind.path()).collect();
            pages::failure(
                status,
                &format!("{} profiles {why}. Available: {}", kind.path(), paths.join(", ")),
            )
        }
        error => pages::failure(status, &(server.options.explain)(error)),
    }
}
