//! Samples the watched processes all the time at a low rate, and keeps the last minutes.
//!
//! One session on a thread of its own. Its windows go into the [`Ring`]. A window can be ended
//! early: at an incident the ring then has all that was sampled before it. Not here: which
//! processes are watched, when there is an incident.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use super::{
    log::Log,
    metrics::Metrics,
    ring::{Ring, Window},
    triggers::ProcessKey,
};
use crate::{
    capture::{self, LabelKeys, Outcome, Request, Response, Session, Step, Stop, kinds},
    process::identity::monotonic_ns,
    profile::{columns, encode_gzip},
};

/// The rate of continuous sampling, in samples per second of CPU time.
pub const RATE_HZ: u32 = 19;
/// The length of a window.
const EVERY: Duration = Duration::from_secs(10);
/// How often new processes and requests are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long after a failure sampling is tried again: at first and at most.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// How many processes are tried as the first one of a session, before the pause.
const MAX_FIRST: usize = 8;

/// Continuous sampling. Dropping it ends it.
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    ring: Mutex<Ring>,
    /// The processes to sample.
    wanted: Mutex<BTreeSet<ProcessKey>>,
    /// How often they were changed.
    changes: AtomicUsize,
    rate_hz: AtomicU32,
    stack_bytes: AtomicU32,
    /// How often the current window was requested to end.
    flushes: AtomicUsize,
    /// How many of these were fulfilled.
    flushed: AtomicUsize,
    stop: AtomicBool,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
}

/// The profile of what was sampled of a process before an incident.
#[derive(Debug)]
pub struct Before {
    /// All windows, merged; `None`: nothing was sampled of it.
    pub merged: Option<Vec<u8>>,
    /// The windows: their start in milliseconds since 1970, duration, and number of samples.
    pub windows: Vec<(i64, Duration, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Begins to sample, as `request` says it, at [`RATE_HZ`]. The ring covers `span` within
    /// `max_bytes`.
    pub fn start(
        request: Request,
        span: Duration,
        max_bytes: usize,
        metrics: Arc<Metrics>,
        log: Arc<Log>,
    ) -> std::io::Result<Recorder> {
        let shared = Arc::new(Shared {
            ring: Mutex::new(Ring::new(span, max_bytes)),
            wanted: Mutex::default(),
            changes: AtomicUsize::new(0),
            rate_hz: AtomicU32::new(RATE_HZ),
            stack_bytes: AtomicU32::new(request.max_stack_bytes),
            flushes: AtomicUsize::new(0),
            flushed: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            metrics,
            log,
        });
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("rprof-ring".into()).spawn(move || run(&own, &request))?;
        Ok(Recorder { shared, thread: Some(thread) })
    }

    /// Sets the processes to sample.
    pub fn set_processes(&self, processes: impl Iterator<Item = ProcessKey>) {
        let processes = processes.collect();
        let mut wanted = lock(&self.shared.wanted);
        if *wanted != processes {
            *wanted = processes;
            self.shared.changes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Sets the rate and the depth of stacks, from the next window on; rate 0 pauses sampling.
    pub fn set_effort(&self, rate_hz: u32, stack_bytes: u32) {
        self.shared.rate_hz.store(rate_hz, Ordering::Relaxed);
        self.shared.stack_bytes.store(stack_bytes, Ordering::Relaxed);
    }

    /// Ends the current window, and waits until it is in the ring, for at most this time.
    pub fn flush(&self, patience: Duration) {
        let number = self.shared.flushes.fetch_add(1, Ordering::SeqCst) + 1;
        let until = Instant::now() + patience;
        while self.shared.flushed.load(Ordering::SeqCst) < number && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the ring has of some processes.
    pub fn before(&self, pids: &[u32]) -> Before {
        let windows: Vec<Window> = lock(&self.shared.ring).windows().cloned().collect();
        let mut before = Before { merged: None, windows: Vec::new() };
        let mut parts = Vec::new();
        for window in windows {
            let Ok(mut profile) = columns::decode::read(window.profile.to_vec()) else { continue };
            profile.filter_by_label(Some(&|columns, sample| is_of(columns, sample, pids)), None);
            let count: i64 = (0..profile.sample_count()).filter_map(|row| profile.values(row).first()).sum();
            let duration = Duration::from_nanos(window.span_ns.1.saturating_sub(window.span_ns.0));
            before.windows.push((window.started_ms, duration, u64::try_from(count).unwrap_or(0)));
            if profile.sample_count() > 0 {
                parts.push(profile);
            }
        }
        if !parts.is_empty()
            && let Ok(merged) = columns::merge::combine(parts)
        {
            let mut bytes = Vec::new();
            before.merged = merged.write_gzip(&mut bytes).is_ok().then_some(bytes);
        }
        before
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_of(columns: &columns::Columns, sample: usize, pids: &[u32]) -> bool {
    columns.labels(sample).iter().any(|label| {
        let number = label.as_number().filter(|_| columns.text(label.key) == "pid");
        number.is_some_and(|(pid, _)| pids.iter().any(|known| i64::from(*known) == pid))
    })
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn wanted(&self) -> BTreeSet<ProcessKey> {
        lock(&self.wanted).clone()
    }

    fn must_flush(&self) -> bool {
        self.flushes.load(Ordering::SeqCst) > self.flushed.load(Ordering::SeqCst)
    }

    /// Everything that was sampled is in the ring.
    fn note_flushed(&self, until: usize) {
        self.flushed.fetch_max(until, Ordering::SeqCst);
    }

    fn push(&self, response: &Response) {
        let Response::Sampled(capture) = response else { return };
        self.metrics.samples.add(capture.tally.samples);
        self.metrics.lost_samples.add(capture.tally.lost);
        let end = monotonic_ns().saturating_sub(u64::try_from(capture.finish_took.as_nanos()).unwrap_or(0));
        let length = u64::try_from(capture.elapsed.as_nanos()).unwrap_or(u64::MAX);
        let window = Window {
            span_ns: (end.saturating_sub(length), end),
            started_ms: milliseconds(capture.started_at),
            profile: Arc::new(encode_gzip(&capture.profile)),
        };
        let mut ring = lock(&self.ring);
        ring.push(window);
        self.metrics.ring_bytes.set(ring.bytes() as u64);
    }
}

fn milliseconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Sampling until the recorder is dropped: one session after the other.
fn run(shared: &Shared, request: &Request) {
    let mut retry = RETRY[0];
    let mut failures = 0;
    while !shared.is_stopped() {
        let flushes = shared.flushes.load(Ordering::SeqCst);
        let wanted = shared.wanted();
        let rate_hz = shared.rate_hz.load(Ordering::Relaxed);
        shared.note_flushed(flushes);
        if wanted.is_empty() || rate_hz == 0 {
            thread::sleep(LOOK_EVERY);
            continue;
        }
        let alive = wanted.iter().copied().filter(|one| is_alive(*one)).collect();
        match Recording::open(shared, request, alive, failures) {
            Ok(recording) => {
                (retry, failures) = (RETRY[0], 0);
                recording.run(shared);
            }
            Err(error) => {
                failures += 1;
                // What ends while it is opened is no failure.
                if wanted == shared.wanted() && wanted.iter().all(|one| is_alive(*one)) {
                    shared.metrics.errors.add(1);
                    shared.log.warn("ring_failed", &[("why", json!(error.to_string()))]);
                    retry = (retry * 2).min(RETRY[1]);
                }
                pause(shared, retry);
            }
        }
    }
}

fn pause(shared: &Shared, time: Duration) {
    let until = Instant::now() + time;
    while !shared.is_stopped() && Instant::now() < until {
        shared.note_flushed(shared.flushes.load(Ordering::SeqCst));
        thread::sleep(LOOK_EVERY);
    }
}

fn is_alive(process: ProcessKey) -> bool {
    let stat = crate::process::identity::read_stat(process.pid);
    stat.is_ok_and(|stat| stat.start_ticks == process.start_ticks && !stat.is_over())
}

/// A running session.
struct Recording {
    session: Session,
    /// The processes that are sampled.
    sampled: BTreeSet<ProcessKey>,
    /// Processes that cannot be sampled; they are not tried again.
    failed: BTreeMap<ProcessKey, String>,
    /// The change of the wanted processes that was followed last.
    changes: Option<usize>,
    rate_hz: u32,
    stack_bytes: u32,
}

impl Recording {
    fn open(
        shared: &Shared,
        request: &Request,
        mut alive: Vec<ProcessKey>,
        failures: usize,
    ) -> Result<Recording, capture::CaptureError> {
        let (rate_hz, stack_bytes) =
            (shared.rate_hz.load(Ordering::Relaxed), shared.stack_bytes.load(Ordering::Relaxed));
        // After failures, others come first.
        let first = (failures * MAX_FIRST) % alive.len().max(1);
        alive.rotate_left(first);
        let mut failed = BTreeMap::new();
        let mut sampled = BTreeSet::new();
        let mut last_error = capture::CaptureError::NoProcess;
        // The session begins with the first process that can be sampled.
        for process in alive.into_iter().take(MAX_FIRST) {
            let request = Request {
                pids: vec![process.pid],
                kinds: vec![kinds::DEFAULT],
                duration: None,
                every: None,
                frequency_hz: rate_hz,
                max_stack_bytes: stack_bytes,
                labels: LabelKeys { pid: true, process: true, tid: false },
                stop: Stop::default(),
                ..request.clone()
            };
            match capture::open(&request) {
                Ok(session) => {
                    sampled.insert(process);
                    return Ok(Recording { session, sampled, failed, changes: None, rate_hz, stack_bytes });
                }
                Err(error) => {
                    failed.insert(process, error.to_string());
                    last_error = error;
                }
            }
        }
        Err(last_error)
    }

    /// Samples until the effort is changed, the recorder is dropped, or all processes have ended.
    fn run(mut self, shared: &Shared) {
        let mut window_ends = Instant::now() + EVERY;
        // The flush that is fulfilled when the window that ends now is in the ring.
        let mut flushing = None;
        while !shared.is_stopped() && !self.is_outdated(shared) {
            self.follow(shared);
            let flushes = shared.flushes.load(Ordering::SeqCst);
            let is_due = Instant::now() >= window_ends;
            if flushing.is_none() && (is_due || shared.must_flush()) && self.session.end_window() {
                flushing = Some(flushes);
                window_ends = Instant::now() + EVERY;
            }
            match self.session.step(Instant::now() + LOOK_EVERY, &mut |_| {}) {
                Step::Reached => {}
                Step::Window(outcomes) => {
                    take(shared, outcomes);
                    flushing.take().into_iter().for_each(|until| shared.note_flushed(until));
                }
                Step::Over => return,
            }
        }
        self.session.end_sampling(&mut |_| {});
        while let Step::Window(outcomes) = self.session.step(Instant::now(), &mut |_| {}) {
            take(shared, outcomes);
        }
    }

    fn is_outdated(&self, shared: &Shared) -> bool {
        shared.rate_hz.load(Ordering::Relaxed) != self.rate_hz
            || shared.stack_bytes.load(Ordering::Relaxed) != self.stack_bytes
    }

    /// Adds and removes processes.
    fn follow(&mut self, shared: &Shared) {
        let changes = shared.changes.load(Ordering::SeqCst);
        if self.changes.replace(changes) == Some(changes) {
            return;
        }
        let wanted = shared.wanted();
        // The session itself notices those that have ended.
        for dropped in self.sampled.difference(&wanted).filter(|process| is_alive(**process)) {
            self.session.remove(dropped.pid);
        }
        self.sampled.retain(|process| wanted.contains(process));
        self.failed.retain(|process, _| wanted.contains(process));
        for process in wanted {
            if self.sampled.contains(&process) || self.failed.contains_key(&process) || !is_alive(process) {
                continue;
            }
            match self.session.add(process.pid) {
                Ok(()) => drop(self.sampled.insert(process)),
                Err(error) => {
                    shared.metrics.processes_failed.add(1);
                    let why = json!(error.to_string());
                    shared.log.warn("ring_cannot_sample", &[("pid", json!(process.pid)), ("why", why)]);
                    self.failed.insert(process, error.to_string());
                }
            }
        }
    }
}

fn take(shared: &Shared, outcomes: Vec<Outcome>) {
    for outcome in outcomes {
        match outcome.result {
            Ok(response) => shared.push(&response),
            Err(error) => {
                shared.metrics.errors.add(1);
                shared.log.warn("ring_failed", &[("why", json!(error.to_string()))]);
            }
        }
    }
}
