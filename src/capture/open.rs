//! The entry into capture: [`open`] takes a [`Request`] and returns a [`Session`], whose windows
//! are the responses.
//!
//! Not here: which kinds there are and who makes them (`kinds`), how samples become a profile
//! (`watch`, `finish`).

use std::{
    collections::VecDeque,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Capture, CaptureError, Ended, Response, identify_all,
    kinds::{Kind, Live, Make, Span, changes},
    name::queue::Named,
    progress::Progress,
    request::{Plan, Request},
    watch::{
        memory::Memory,
        session::{Sampled, Session as Engine},
        source::Refused,
    },
};
use crate::{process::read_mappings, sampler::SamplerError};

/// In a series of profiles, a window lasts at least this many times as long as building the
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

/// Why [`Session::step`] returned.
#[derive(Debug)]
pub enum Step {
    /// The time has come.
    Reached,
    /// A window that was ended has its names: the outcome of each kind that is sampled.
    Window(Vec<Outcome>),
    /// Sampling is over, and all windows were returned.
    Over,
}

/// A running capture. Dropping it ends the capture.
pub struct Session {
    request: Arc<Request>,
    parts: Vec<Part>,
}

/// What captures some kinds of a session.
enum Part {
    /// Sampling on this thread: all kinds that are sampled, of the same processes and time.
    Sampling(Box<Sampling>),
    /// A call that returns the response.
    Once(Kind, fn(&Request, Kind) -> Result<Response, CaptureError>),
    /// A recording, made at the same time.
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
        _ => open_several(&request),
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
    /// opened and addresses symbolized once for all windows and kinds. Sampling goes on while
    /// profiles are built; if that takes long, a window is longer.
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
                    outcomes.extend(sampling.next_window(progress));
                    if !sampling.is_over() {
                        self.parts.push(Part::Sampling(sampling));
                    }
                    continue;
                }
            };
            outcomes.push(Outcome { kind, result });
        }
        let place = |outcome: &Outcome| self.request.kinds.iter().position(|kind| *kind == outcome.kind);
        outcomes.sort_by_key(place);
        Some(outcomes)
    }

    /// Samples until `until`. The caller ends the windows ([`Session::end_window`]) and may add and
    /// remove processes between two calls. Returns earlier when a window has its names. Not to be
    /// mixed with [`Session::next_window`].
    pub fn step(&mut self, until: Instant, progress: &mut dyn FnMut(Progress<'_>)) -> Step {
        self.sampling().map_or(Step::Over, |sampling| sampling.step(until, progress))
    }

    /// Ends the current window of the kinds that are sampled; the next one begins. Returns false if
    /// too many windows wait for their names: then the window goes on.
    pub fn end_window(&mut self) -> bool {
        self.engines().all(Engine::end_window)
    }

    /// Ends sampling. [`Session::step`] returns the windows that were not returned yet.
    pub fn end_sampling(&mut self, progress: &mut dyn FnMut(Progress<'_>)) {
        if let Some(sampling) = self.sampling()
            && let Some(engine) = sampling.engine.take()
        {
            let _ = sampling.finish(engine, Ok(Ended::Duration), progress);
        }
    }

    /// Whether any kind is sampled.
    pub fn is_sampling(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Sampling(_)))
    }

    /// The kinds that could not be opened, with the reason. They are returned once.
    pub fn take_refused(&mut self) -> Vec<Outcome> {
        let is_refused = |part: &mut Part| matches!(part, Part::Failed(..));
        let refused = self.parts.extract_if(.., is_refused).filter_map(|part| match part {
            Part::Failed(kind, error) => Some(Outcome { kind, result: Err(error) }),
            _ => None,
        });
        refused.collect()
    }

    /// Also samples this process from now on: its mappings are read, and its samples are in the
    /// windows with those of the others. Does nothing where no kind is sampled.
    ///
    /// # Errors
    /// It does not exist, is a thread of the kernel, or cannot be sampled.
    pub fn add(&mut self, pid: u32) -> Result<(), CaptureError> {
        self.engines().try_for_each(|engine| engine.add(pid))
    }

    /// Stops sampling this process, and forgets all that belongs to it. What was sampled stays in
    /// the current window.
    pub fn remove(&mut self, pid: u32) {
        self.engines().for_each(|engine| engine.remove(pid));
    }

    /// What the sampled kinds keep in memory.
    pub fn memory(&mut self) -> Memory {
        let owners = self.engines().flat_map(|engine| engine.memory()).collect();
        Memory::of(owners)
    }

    fn sampling(&mut self) -> Option<&mut Sampling> {
        self.parts.iter_mut().find_map(|part| match part {
            Part::Sampling(sampling) => Some(&mut **sampling),
            _ => None,
        })
    }

    fn engines(&mut self) -> impl Iterator<Item = &mut Engine> {
        self.parts.iter_mut().filter_map(|part| match part {
            Part::Sampling(sampling) => sampling.engine.as_mut(),
            _ => None,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let is_running = |part: &Part| matches!(part, Part::Thread(..) | Part::Sampling(_));
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
                let request = &lasting(request, live);
                let plan = Plan::new(Arc::clone(request), kind, live);
                Part::Sampling(Box::new(Sampling::begin(request, vec![plan])?.0))
            }
            Make::Once(make) => Part::Once(kind, make),
        })
    }
}

/// The request, with the default duration where the state now is requested of a kind that has none.
fn lasting(request: &Arc<Request>, live: &Live) -> Arc<Request> {
    match live.default_seconds {
        Some(seconds) if request.is_now() => {
            Arc::new(Request { duration: Some(Duration::from_secs(seconds)), ..(**request).clone() })
        }
        _ => Arc::clone(request),
    }
}

/// Opens several kinds: those that are sampled together, recordings on threads of their own, and
/// the others when the window is requested.
fn open_several(request: &Arc<Request>) -> Vec<Part> {
    let (mut parts, mut plans) = (Vec::new(), Vec::new());
    for kind in request.kinds.iter().copied() {
        parts.push(match kind.maker(request).map(|maker| maker.make) {
            Err(error) => Part::Failed(kind, readable(&request.pids, error)),
            Ok(Make::Live(live)) => {
                plans.push(Plan::new(Arc::clone(request), kind, live));
                continue;
            }
            Ok(Make::Once(make)) if kind.span == Span::Instant => Part::Once(kind, make),
            Ok(Make::Once(_)) => {
                let request = Arc::new(Request { kinds: vec![kind], every: None, ..(**request).clone() });
                Part::Thread(kind, thread::spawn(move || once(&request, &mut |_| {})))
            }
        });
    }
    if plans.is_empty() {
        return parts;
    }
    let kinds: Vec<Kind> = plans.iter().map(|plan| plan.kind).collect();
    match Sampling::begin(request, plans) {
        Ok((sampling, refused)) => {
            parts.extend(refused.into_iter().map(|(kind, error)| Part::Failed(kind, error)));
            // It runs for the whole time; what is read afterwards shows the end of it.
            parts.insert(0, Part::Sampling(Box::new(sampling)));
        }
        Err(error) => {
            parts.extend(failed_together(&kinds, error).map(|(kind, error)| Part::Failed(kind, error)))
        }
    }
    parts
}

/// One error for several kinds: the first has it, the others its text.
fn failed_together(kinds: &[Kind], error: CaptureError) -> impl Iterator<Item = (Kind, CaptureError)> {
    let text = error.to_string();
    let mut first = Some(error);
    kinds.iter().map(move |kind| {
        let error = first
            .take()
            .unwrap_or_else(|| CaptureError::SamplerDied(SamplerError::Unavailable(text.clone())));
        (*kind, error)
    })
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
    request.stop.wait(duration);
    let mut last = make(request, kind)?;
    if let (Response::Read(first), Response::Read(last)) = (first, &mut last) {
        let changed = changes(&first.content.profile(), &last.content.profile())?;
        last.content = Box::new(changed);
    }
    Ok(last)
}

/// The capture of the kinds that are sampled.
struct Sampling {
    plans: Vec<Plan>,
    /// `None`: sampling is over.
    engine: Option<Engine>,
    /// Windows that have their names and were not returned yet.
    named: VecDeque<Named>,
    /// When the current window of a series ends, and when it began.
    until: Option<Duration>,
    window_began: Duration,
    /// The current window does not end before this: naming the last one took long.
    not_before: Duration,
    /// Whether the processes and the sampler were reported.
    is_reported: bool,
}

impl Sampling {
    fn begin(request: &Arc<Request>, plans: Vec<Plan>) -> Result<(Sampling, Refused), CaptureError> {
        let (engine, refused) = Engine::begin(request, &plans)?;
        let sampling = Sampling {
            until: request.every,
            plans: plans.into_iter().filter(|plan| engine.samples(plan.kind)).collect(),
            engine: Some(engine),
            named: VecDeque::new(),
            window_began: Duration::ZERO,
            not_before: Duration::ZERO,
            is_reported: false,
        };
        Ok((sampling, refused))
    }

    /// Whether the last window was returned.
    fn is_over(&self) -> bool {
        self.engine.is_none() && self.named.is_empty()
    }

    fn next_window(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Vec<Outcome> {
        while self.named.is_empty()
            && let Some(engine) = self.engine.take()
        {
            if let Err(error) = self.sample(engine, progress) {
                return self.failed(error);
            }
        }
        self.pop_named().unwrap_or_default()
    }

    /// The oldest window that has its names.
    fn pop_named(&mut self) -> Option<Vec<Outcome>> {
        let captures = self.named.pop_front()?.captures;
        Some(captures.into_iter().map(|capture| self.outcome(capture)).collect())
    }

    /// See [`Session::step`].
    fn step(&mut self, until: Instant, progress: &mut dyn FnMut(Progress<'_>)) -> Step {
        if let Some(window) = self.pop_named() {
            return Step::Window(window);
        }
        let Some(mut engine) = self.engine.take() else { return Step::Over };
        let stop = engine.request().stop.clone();
        let end = engine.elapsed() + until.saturating_duration_since(Instant::now());
        let ended = match engine.sample(Some(end), &stop, progress) {
            Ok(Sampled::Named(named)) => {
                self.named.push_back(named);
                self.engine = Some(engine);
                return self.pop_named().map_or(Step::Reached, Step::Window);
            }
            Ok(Sampled::Ended(Ended::Duration)) => {
                self.engine = Some(engine);
                return Step::Reached;
            }
            Ok(Sampled::Ended(ended)) => Ok(ended),
            Err(error) => Err(error),
        };
        match self.finish(engine, ended, progress) {
            Ok(()) => self.pop_named().map_or(Step::Over, Step::Window),
            Err(error) => Step::Window(self.failed(error)),
        }
    }

    /// Ends sampling: the last window is among those that have their names.
    fn finish(
        &mut self,
        mut engine: Engine,
        ended: Result<Ended, SamplerError>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), CaptureError> {
        let ended = engine.end(ended)?;
        self.named.extend(engine.finish(ended, progress));
        Ok(())
    }

    /// The outcomes of a window that has failed.
    fn failed(&self, error: CaptureError) -> Vec<Outcome> {
        let kinds: Vec<Kind> = self.plans.iter().map(|plan| plan.kind).collect();
        let failed = failed_together(&kinds, error);
        failed.map(|(kind, error)| Outcome { kind, result: Err(error) }).collect()
    }

    /// Samples until a window has its names, or ends.
    fn sample(
        &mut self,
        mut engine: Engine,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), CaptureError> {
        if !std::mem::replace(&mut self.is_reported, true) {
            engine.report_attached(progress);
        }
        let request = Arc::clone(engine.request());
        let end = [request.duration, self.until].into_iter().flatten().min();
        let ended = match engine.sample(end, &request.stop, progress) {
            Ok(Sampled::Named(named)) => {
                self.not_before = self.not_before.max(self.window_began + named.took * OWN_PAUSE);
                self.named.push_back(named);
                self.engine = Some(engine);
                return Ok(());
            }
            Ok(Sampled::Ended(Ended::Duration)) if request.duration != end => {
                self.end_window(&mut engine);
                self.engine = Some(engine);
                return Ok(());
            }
            Ok(Sampled::Ended(ended)) => Ok(ended),
            Err(error) => Err(error),
        };
        self.finish(engine, ended, progress)
    }

    /// Ends the current window, unless naming needs more time.
    fn end_window(&mut self, engine: &mut Engine) {
        let Some((until, every)) = self.until.zip(engine.request().every) else { return };
        if engine.elapsed() < self.not_before {
            self.until = Some(self.not_before);
            return;
        }
        if engine.end_window() {
            self.window_began = engine.elapsed();
        }
        self.until = Some((until + every).max(engine.elapsed() + every / 2));
    }

    fn outcome(&self, mut capture: Capture) -> Outcome {
        let kind = capture.kind;
        if let Some(plan) = self.plans.iter().find(|plan| plan.kind == kind)
            && let Some(keep) = plan.live.keep_changes
            && plan.only_changes
            && !plan.is_now()
        {
            keep(&mut capture.profile);
        }
        Outcome { kind, result: Ok(Response::Sampled(Box::new(capture))) }
    }
}
