//! The entry into capture: [`open`] takes a [`Request`] and returns a [`Session`], whose windows
//! are the responses.
//!
//! Not here: which kinds there are and who makes them (`kinds`), how samples become a profile
//! (`watch`, `finish`).

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Capture, CaptureError, Ended, Response, identify_all,
    kinds::{Kind, Make, Span, difference},
    progress::Progress,
    request::{Plan, Request, Stop},
    threadcreate::Threads,
    watch::session::Session as Engine,
};
use crate::{process::read_mappings, profile::proto::Profile};

/// In a series of profiles, the next window lasts at least this many times as long as building the
/// previous profile took. This bounds rprof's own CPU time.
const OWN_PAUSE: u32 = 8;

/// What became of a kind in a window.
#[derive(Debug)]
pub struct Outcome {
    /// The kind.
    pub kind: Kind,
    /// The response, or why there is none.
    pub result: Result<Response, CaptureError>,
}

/// A running capture. Dropping it ends the capture.
pub struct Session {
    request: Arc<Request>,
    parts: Vec<Part>,
}

/// What captures one kind of a session.
enum Part {
    /// Sampling on this thread.
    Sampling(Box<Sampling>),
    /// A call that returns the response.
    Once(Kind, fn(&Request, Kind) -> Result<Response, CaptureError>),
    /// Another kind that lasts, captured at the same time.
    Thread(Kind, JoinHandle<Result<Response, CaptureError>>),
    /// It could not be opened.
    Failed(Kind, CaptureError),
}

/// Opens a capture. Where kinds are sampled, sampling has begun when this returns: the command that
/// is to be recorded may start now.
///
/// # Errors
/// With a single kind: it cannot be captured. With several, each has an [`Outcome`] of its own.
pub fn open(request: &Request) -> Result<Session, CaptureError> {
    let mut request = request.clone();
    // A budget that also ends, after a grace period, with the capture: then names that were not
    // found yet are missing, and the profile is built with those that were.
    request.symbolize.budget = request.symbolize.budget.stopped_by(Arc::clone(&request.stop.0));
    let request = Arc::new(request);
    let parts = match request.kinds[..] {
        [kind] => vec![Part::open(&request, kind)?],
        _ => request.kinds.iter().map(|kind| Part::open_beside_others(&request, kind)).collect(),
    };
    Ok(Session { request, parts })
}

/// Captures one window of the first kind of a request. `progress` is called while sampling runs.
///
/// # Errors
/// As of [`open`], and when the sampler fails before it delivers a sample.
pub fn once(request: &Request, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Response, CaptureError> {
    let mut session = open(request)?;
    let window = session.next_window(progress).unwrap_or_default();
    window.into_iter().next().map_or(Err(CaptureError::NoProcess), |first| first.result)
}

impl Session {
    /// The outcomes of the next window, one for each kind in the order of the request; `None` after
    /// the last. A series has more than one window only where [`Request::every`] says so. Files are
    /// opened and addresses symbolized once for all windows. If building a profile takes long, the
    /// next window is longer.
    pub fn next_window(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Option<Vec<Outcome>> {
        if self.parts.is_empty() {
            return None;
        }
        let mut outcomes = Vec::new();
        for part in std::mem::take(&mut self.parts) {
            let (kind, result) = match part {
                Part::Failed(kind, error) => (kind, Err(error)),
                Part::Once(kind, make) => (kind, read(&self.request, kind, make)),
                Part::Thread(kind, thread) => (kind, thread.join().unwrap_or(Err(CaptureError::Bug))),
                Part::Sampling(mut sampling) => {
                    let result = sampling.next_window(progress);
                    let kind = sampling.plan.kind;
                    if sampling.engine.is_some() {
                        self.parts.push(Part::Sampling(sampling));
                    }
                    (kind, result.map(|capture| Response::Sampled(Box::new(capture))))
                }
            };
            outcomes.push(Outcome { kind, result });
        }
        Some(outcomes)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let is_running = |part: &Part| matches!(part, Part::Thread(..));
        if self.parts.iter().any(is_running) {
            self.request.stop.set();
        }
        for part in self.parts.drain(..) {
            if let Part::Thread(_, thread) = part {
                let _ = thread.join();
            }
        }
    }
}

impl Part {
    fn open(request: &Arc<Request>, kind: Kind) -> Result<Part, CaptureError> {
        let maker = kind.maker(request).map_err(|error| readable(&request.pids, error))?;
        Ok(match maker.make {
            Make::Live(live) => {
                let plan = Plan::new(Arc::clone(request), kind, live);
                Part::Sampling(Box::new(Sampling::begin(plan)?))
            }
            Make::Once(make) => Part::Once(kind, make),
        })
    }

    /// Kinds that last run on threads of their own; the others are read when the window is
    /// requested.
    fn open_beside_others(request: &Arc<Request>, kind: Kind) -> Part {
        match kind.maker(request).map(|maker| maker.make) {
            Err(error) => Part::Failed(kind, readable(&request.pids, error)),
            Ok(Make::Once(make)) if kind.span == Span::Instant => Part::Once(kind, make),
            Ok(_) => {
                let request = Arc::new(Request { kinds: vec![kind], every: None, ..(**request).clone() });
                Part::Thread(kind, thread::spawn(move || once(&request, &mut |_| {})))
            }
        }
    }
}

/// The error, or the one that says why the program of a process cannot be read at all.
fn readable(pids: &[u32], error: CaptureError) -> CaptureError {
    let unreadable = identify_all(pids, false).err();
    unreadable.unwrap_or_else(|| {
        let unreadable = pids.iter().find_map(|pid| read_mappings(*pid).err());
        unreadable.map_or(error, CaptureError::Process)
    })
}

/// Reads an instant kind; if its changes are requested, twice.
fn read(
    request: &Request,
    kind: Kind,
    make: fn(&Request, Kind) -> Result<Response, CaptureError>,
) -> Result<Response, CaptureError> {
    let first = make(request, kind)?;
    let duration = request.duration.unwrap_or_default();
    if kind.span != Span::Instant || !request.only_changes || duration.is_zero() {
        return Ok(first);
    }
    wait(duration, &request.stop);
    let mut last = make(request, kind)?;
    if let (Response::Read(first), Response::Read(last)) = (first, &mut last) {
        let changed = difference(&first.content.profile(), &last.content.profile())?;
        last.content = Box::new(changed);
    }
    Ok(last)
}

/// Waits for `duration`, or until the capture is cancelled.
fn wait(duration: Duration, stop: &Stop) {
    let began = Instant::now();
    while !stop.is_set() && began.elapsed() < duration {
        thread::sleep(Duration::from_millis(20).min(duration - began.elapsed().min(duration)));
    }
}

/// The capture of a sampled kind.
struct Sampling {
    plan: Plan,
    /// `None`: the last window was returned.
    engine: Option<Engine>,
    /// The existing threads, where the kind shows them too.
    threads: Option<Threads>,
    /// When the current window of a series ends.
    until: Option<Duration>,
    /// Whether the processes and the sampler were reported.
    is_reported: bool,
}

impl Sampling {
    fn begin(plan: Plan) -> Result<Sampling, CaptureError> {
        let engine = Engine::begin(plan.clone())?;
        let threads = match plan.live.reads_threads {
            true => Some(Threads::read_existing(&plan, engine.identities())?),
            false => None,
        };
        Ok(Sampling { until: plan.every, plan, engine: Some(engine), threads, is_reported: false })
    }

    fn next_window(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Capture, CaptureError> {
        let Some(mut engine) = self.engine.take() else { return Err(CaptureError::NoProcess) };
        if !std::mem::replace(&mut self.is_reported, true) {
            engine.report_attached(progress);
        }
        let whole = self.plan.duration;
        let end = [whole, self.until].into_iter().flatten().min();
        let sampled = engine.sample(end, &self.plan.stop, progress);
        let is_last = !matches!(sampled, Ok(Ended::Duration)) || whole == end;
        if is_last {
            let ended = engine.end(sampled)?;
            if let Some(threads) = self.threads.as_mut().filter(|_| engine.is_idle()) {
                engine.add_new_threads(threads);
            }
            let mut capture = engine.finish(ended, self.threads.take(), progress);
            self.keep_changes(&mut capture.profile);
            return Ok(capture);
        }
        let window_ended = engine.elapsed();
        let capture = engine.window(progress);
        let took = engine.elapsed() - window_ended;
        let next = self.until.zip(self.plan.every).map(|(until, every)| until + every);
        self.until = next.map(|next| next.max(engine.elapsed() + took * OWN_PAUSE));
        self.engine = Some(engine);
        Ok(capture)
    }

    fn keep_changes(&self, profile: &mut Profile) {
        match self.plan.live.keep_changes {
            Some(keep) if self.plan.only_changes && !self.plan.is_now() => keep(profile),
            _ => {}
        }
    }
}
