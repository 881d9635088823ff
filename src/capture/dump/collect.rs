//! Reads the stacks of all threads of a process, each with the least intrusive method that returns
//! the whole stack.
//!
//! ```text
//! sleeping  BPF iterator, else /proc and memory; ptrace if the stack is truncated and it is safe
//! running   a perf event; if that is not permitted, or the thread gets no CPU: ptrace
//! ```
//!
//! Not here: how each method works (`sampler::look`), the profile.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{DumpRequest, DumpStats};
use crate::{
    budget::Exhausted,
    capture::{
        CaptureError,
        collector::{Labels, LabelsId, Place, SourceId, Weight},
        watch::{
            images::{SYNTHETIC, Synthetic},
            place::kernel_places,
            world::World,
        },
    },
    issue::Issue,
    process::{
        Hints, Identity, ProcessError, identity,
        thread_state::{self, SchedulerClock, ThreadState},
        threads,
    },
    runtime::{self, Variable},
    sampler::{
        PerfError,
        look::{
            self, HoldError, LookMethod, Sleeper, StackSnapshot, Target,
            asleep::{self, NotAsleep},
            hold, running,
        },
    },
    unwind::{StackEnd, UnwindMethod},
};

/// How long to wait until a perf event samples a running thread.
const PERF_PATIENCE: Duration = Duration::from_millis(8);
/// The same for all threads together: where many threads wait for few CPUs, most do not run now.
const PERF_BUDGET: Duration = Duration::from_millis(120);
/// The same for a thread that cannot, or must not, be stopped: it may wait long for a CPU.
const LAST_PATIENCE: Duration = Duration::from_millis(150);
/// The same for all such threads together.
const LAST_BUDGET: Duration = Duration::from_millis(600);

/// The threads read so far.
#[derive(Default)]
pub struct ThreadSnapshots {
    /// One snapshot per thread.
    pub threads: Vec<ThreadSnapshot>,
    /// How long each stopped thread was stopped.
    pub stopped: Vec<Duration>,
    perf_spent: Duration,
    perf_refused: bool,
}

/// A thread at the time of the dump.
pub struct ThreadSnapshot {
    /// Its process.
    pub pid: u32,
    /// Its scheduler state and times.
    pub state: ThreadState,
    /// Its labels in the collector, which identify its stack.
    pub labels: LabelsId,
    /// The method that returned its stack.
    pub method: Option<LookMethod>,
    /// Why its stack ends; `None`: it has no stack.
    pub end: Option<StackEnd>,
    /// Why no other method could return more of the stack.
    pub note: Option<String>,
    /// The signal that ended its process, which the thread got.
    pub signal: Option<String>,
    /// What a language runtime did on the thread.
    pub runtime: Option<&'static str>,
    /// The local variables of frames, by the frame's index in the stack.
    pub variables: Vec<(usize, Vec<Variable>)>,
}

/// A stack that one method returned.
struct Attempt {
    method: LookMethod,
    end: StackEnd,
    places: Vec<Place>,
    scanned: bool,
    /// The process was stopped.
    in_stop: bool,
    /// What a language runtime did on the thread.
    runtime: Option<&'static str>,
    /// Labels that the program has set.
    own: Option<runtime::Labels>,
    /// The local variables of frames, by the index of the place.
    variables: Vec<(usize, Vec<Variable>)>,
}

/// How often the BPF iterator is read again, in all, for single threads that have run since.
const MAX_BPF_READINGS: u32 = 16;

impl Attempt {
    /// Whether another method cannot do better. (A scan for return addresses is a guess.)
    fn is_complete(&self) -> bool {
        self.end.is_whole() && !self.scanned
    }

    fn is_better_than(&self, other: &Attempt) -> bool {
        let rank = |attempt: &Attempt| (attempt.is_complete(), attempt.end.is_whole(), attempt.places.len());
        rank(self) > rank(other)
    }
}

/// What the methods have returned for one thread so far.
#[derive(Default)]
struct Attempts {
    best: Option<Attempt>,
    note: Option<String>,
    refused: Option<ProcessError>,
}

/// Reads all threads of a process; their stacks are counted as those of a source. Errors: none of
/// them can be read.
pub fn collect_process(
    request: &DumpRequest,
    identity: &Identity,
    (world, source): (&mut World, SourceId),
    snapshots: &mut ThreadSnapshots,
) -> Result<(), CaptureError> {
    world.watch(identity.pid, identity::monotonic_ns());
    let mut target = Target::new(identity.pid, request.max_stack_bytes);
    target.hints = hints(request, identity.pid, world);
    let mut reader = ProcessReader::new(request, (identity, target), (world, source), snapshots);
    reader.read_all_at_once()?;
    let mut refused = None;
    let mut any = false;
    let tids = threads::list(identity.pid);
    for (number, tid) in tids.iter().copied().enumerate() {
        if request.symbolize.budget.is_ending() {
            let what = format!("threads of process {}", identity.pid);
            reader.add_limit(what, Exhausted::Stopped, tids.len() - number);
            break;
        }
        let Ok(mut state) = thread_state::read(identity.pid, tid, &reader.now) else { continue };
        let attempts = reader.thread(tid, &state);
        reader.correct_state(&mut state, &attempts);
        any |= attempts.best.is_some();
        refused = refused.or(reader.keep(state, attempts));
    }
    match refused {
        Some(error) if !any => Err(error.into()),
        _ => Ok(()),
    }
}

/// What the language runtimes of a process ask to read of each thread.
pub(super) fn hints(request: &DumpRequest, pid: u32, world: &World) -> Hints {
    let space = world.spaces.get(&pid);
    let mut hints = space.map(|space| space.languages.hints()).unwrap_or_default();
    if request.variables
        && let Some(with) = hints.reader.as_ref().and_then(|one| one.with_variables())
    {
        hints.reader = Some(with);
    }
    hints
}

/// Reads the threads of one process.
pub(super) struct ProcessReader<'a> {
    request: &'a DumpRequest,
    identity: &'a Identity,
    target: Target,
    now: SchedulerClock,
    world: &'a mut World,
    source: SourceId,
    snapshots: &'a mut ThreadSnapshots,
    /// How often the BPF iterator may still be read again, for threads that have run since; `None`:
    /// it does not work here.
    bpf_readings: Option<u32>,
    /// Stacks that were read for many threads at once; with the number of context switches at that
    /// time.
    stored: BTreeMap<u32, (Attempt, Option<u64>)>,
}

impl<'a> ProcessReader<'a> {
    /// A reader of the threads of `target`, whose mappings `world` has.
    pub(super) fn new(
        request: &'a DumpRequest,
        (identity, target): (&'a Identity, Target),
        (world, source): (&'a mut World, SourceId),
        snapshots: &'a mut ThreadSnapshots,
    ) -> ProcessReader<'a> {
        ProcessReader {
            request,
            identity,
            target,
            now: SchedulerClock::read(),
            world,
            source,
            snapshots,
            bpf_readings: None,
            stored: BTreeMap::new(),
        }
    }

    /// Runs the methods that read many threads at once.
    fn read_all_at_once(&mut self) -> Result<(), CaptureError> {
        if !self.request.consistent && matches!(self.request.method, None | Some(LookMethod::Bpf)) {
            match look::sleepers(self.target.pid, self.request.kernel) {
                Ok(sleepers) => {
                    self.bpf_readings = Some(MAX_BPF_READINGS);
                    self.sleepers(&sleepers);
                }
                // The other methods also work, without kernel frames.
                Err(error) if self.request.method.is_none() => {
                    self.add_no_kernel_frames_issue(error.to_string())
                }
                Err(source) => {
                    let (tried, identities) = (Vec::new(), vec![self.identity.clone()]);
                    return Err(CaptureError::Sampler { source, tried, identities });
                }
            }
        }
        if self.request.consistent {
            let tids = threads::list(self.target.pid);
            for snapshot in hold::look_together(&self.target, &tids) {
                self.store(&snapshot, None);
            }
        }
        Ok(())
    }

    fn add_no_kernel_frames_issue(&mut self, why: String) {
        if self.request.kernel {
            let what = "the kernel part of stacks".to_owned();
            self.world.issues.add(Issue::Unwatched { what, why }, 1);
        }
    }

    fn sleepers(&mut self, sleepers: &[Sleeper]) {
        let budget = &self.request.symbolize.budget;
        for sleeper in sleepers.iter().take_while(|_| !budget.is_ending()) {
            if let Some(snapshot) = asleep::look_at(&self.target, sleeper) {
                self.store(&snapshot, Some(sleeper.turns));
            }
        }
    }

    fn store(&mut self, snapshot: &StackSnapshot, switches: Option<u64>) {
        if let Some(attempt) = self.unwind(snapshot) {
            self.stored.insert(snapshot.tid, (attempt, switches));
        }
    }

    /// The stack that was stored for a thread, unless the thread has run since.
    fn take_stored(&mut self, state: &ThreadState) -> Option<Attempt> {
        let (attempt, switches) = self.stored.remove(&state.tid)?;
        (switches.is_none() || switches == state.turns).then_some(attempt)
    }

    /// Reads one thread.
    fn thread(&mut self, tid: u32, state: &ThreadState) -> Attempts {
        let mut attempts = Attempts { best: self.take_stored(state), ..Attempts::default() };
        if matches!(state.state, 'Z' | 'X') || attempts.best.as_ref().is_some_and(Attempt::is_complete) {
            return attempts;
        }
        match self.request.method {
            None => self.try_methods(tid, &mut attempts),
            Some(LookMethod::Bpf | LookMethod::Core) => {}
            Some(LookMethod::Asleep) => drop(self.asleep(tid, &mut attempts)),
            Some(LookMethod::Perf) => self.running(tid, &mut attempts, LAST_PATIENCE, LAST_BUDGET),
            Some(LookMethod::Held) => self.hold(tid, state, &mut attempts),
        }
        attempts
    }

    /// Makes the state match the stack: the thread may have slept or woken between the two reads.
    fn correct_state(&self, state: &mut ThreadState, attempts: &Attempts) {
        let Some(best) = &attempts.best else { return };
        match best.method {
            // A stopped process is stopped again after it was read.
            _ if best.in_stop => (state.state, state.waiting, state.waited_ns) = ('T', None, None),
            LookMethod::Perf => (state.state, state.waiting, state.waited_ns) = ('R', None, None),
            LookMethod::Bpf | LookMethod::Asleep if state.state == 'R' => {
                let again = thread_state::read(self.target.pid, state.tid, &self.now);
                *state = again.unwrap_or_else(|_| state.clone());
            }
            _ => {}
        }
    }

    /// Tries the methods in turn, until one returns the whole stack.
    fn try_methods(&mut self, tid: u32, attempts: &mut Attempts) {
        if self.asleep(tid, attempts) {
            self.running(tid, attempts, PERF_PATIENCE, PERF_BUDGET);
            if attempts.best.is_none() {
                // Usually it has gone to sleep meanwhile.
                self.asleep(tid, attempts);
            }
        }
        let complete = attempts.best.as_ref().is_some_and(Attempt::is_complete);
        if !complete && self.bpf_readings.is_some() {
            // All registers are known without a stop.
            self.read_again(tid, attempts);
        } else if !complete && !self.request.never_stop {
            let state = thread_state::read(self.target.pid, tid, &self.now);
            if let Ok(state) = state {
                self.hold(tid, &state, attempts);
            }
        }
        if attempts.best.is_none() && self.asleep(tid, attempts) {
            self.running(tid, attempts, LAST_PATIENCE, LAST_BUDGET);
        }
    }

    /// Reads one thread by the BPF iterator, after it has run since all were read.
    fn read_again(&mut self, tid: u32, attempts: &mut Attempts) {
        let is_by_bpf = |best: &Attempt| best.method == LookMethod::Bpf;
        let Some(left) = self.bpf_readings.filter(|left| *left > 0) else { return };
        if attempts.best.as_ref().is_some_and(is_by_bpf) {
            return;
        }
        self.bpf_readings = Some(left - 1);
        let sleepers = look::sleepers(self.target.pid, self.request.kernel).unwrap_or_default();
        let found = sleepers.iter().find(|sleeper| sleeper.tid == tid);
        if let Some(snapshot) = found.and_then(|sleeper| asleep::look_at(&self.target, sleeper)) {
            self.offer(&snapshot, attempts);
        }
    }

    /// Reads a sleeping thread. `true`: the thread runs.
    fn asleep(&mut self, tid: u32, attempts: &mut Attempts) -> bool {
        match asleep::look(&self.target, tid) {
            Ok(snapshot) => self.offer(&snapshot, attempts),
            Err(NotAsleep::Runs) => return true,
            Err(NotAsleep::Process(error @ ProcessError::NotPermitted { .. })) => {
                attempts.refused = Some(error)
            }
            Err(NotAsleep::Process(_)) => {}
            Err(error @ NotAsleep::NoMemory) => attempts.note = Some(error.to_string()),
        }
        false
    }

    fn running(&mut self, tid: u32, attempts: &mut Attempts, patience: Duration, budget: Duration) {
        if self.snapshots.perf_refused || self.snapshots.perf_spent > budget {
            return;
        }
        let began = Instant::now();
        match running::look(&self.target, tid, patience) {
            Ok(Some(snapshot)) => self.offer(&snapshot, attempts),
            Ok(None) => {}
            Err(error) => {
                // If the thread has just ended, the next one may succeed.
                self.snapshots.perf_refused = !matches!(error, PerfError::ThreadGone { .. });
                attempts.note = Some(error.to_string());
            }
        }
        self.snapshots.perf_spent += began.elapsed();
    }

    fn hold(&mut self, tid: u32, state: &ThreadState, attempts: &mut Attempts) {
        if !hold::may_hold(self.target.pid, tid) {
            attempts.note = Some(match (&state.waiting, state.state) {
                (Some(waiting), _) => {
                    format!("it sleeps in {}, which must not be interrupted by ptrace", waiting.what)
                }
                (None, 't') => "another debugger traces it".to_owned(),
                (None, _) => "it must not be interrupted by ptrace in its current state".to_owned(),
            });
            return;
        }
        match hold::look_one(&self.target, tid) {
            Ok(snapshot) => {
                self.offer(&snapshot, attempts);
                attempts.refused = None;
            }
            Err(HoldError::Gone) => {}
            Err(HoldError::Refused(source)) => {
                let traced = identity::tracer(tid).map(|tracer| format!("process {tracer} traces it"));
                attempts.note = Some(traced.unwrap_or_else(|| format!("ptrace: {source}")));
                let (pid, what) = (self.target.pid, "registers and stacks");
                attempts.refused =
                    attempts.refused.take().or(Some(ProcessError::NotPermitted { pid, what, source }));
            }
            Err(error @ HoldError::NotStopping) => attempts.note = Some(error.to_string()),
        }
    }

    /// Unwinds a snapshot and keeps it if it is better than the best so far.
    fn offer(&mut self, snapshot: &StackSnapshot, attempts: &mut Attempts) {
        let Some(attempt) = self.unwind(snapshot) else { return };
        if attempts.best.as_ref().is_none_or(|best| attempt.is_better_than(best)) {
            attempts.best = Some(attempt);
        }
    }

    /// Notes that `count` threads were not read.
    pub(super) fn add_limit(&mut self, what: String, why: Exhausted, count: usize) {
        self.world.issues.add(Issue::LimitReached { what, why: why.to_string() }, count as u64);
    }

    /// Takes a thread of a process that has ended.
    pub(super) fn keep_ended(&mut self, state: ThreadState, words: &[u64]) {
        let mut attempts = Attempts::default();
        if let Some(snapshot) = self.target.with_registers(state.tid, words) {
            self.offer(&snapshot, &mut attempts);
        }
        self.keep(state, attempts);
    }

    fn unwind(&mut self, snapshot: &StackSnapshot) -> Option<Attempt> {
        if !snapshot.stopped.is_zero() {
            self.snapshots.stopped.push(snapshot.stopped);
        }
        let pid = self.target.pid;
        let sample = snapshot.as_sample(pid, identity::monotonic_ns());
        let end = self.world.unwind(&sample)?;
        self.world.user_places(&sample, Some(end));
        let user = self.world.places.iter().copied();
        let places: Vec<Place> = kernel_places(sample.kernel_stack).chain(user).collect();
        let mut variables = self.world.variables(&sample);
        let kernel_count = places.len() - self.world.places.len();
        variables.iter_mut().for_each(|(index, _)| *index += kernel_count);
        let scanned = self.world.frames.iter().any(|frame| frame.how == UnwindMethod::Scan);
        self.world.tally(self.source).stack_bytes += snapshot.stack.len() as u64;
        let languages = self.world.spaces.get(&pid).map(|space| &space.languages);
        Some(Attempt {
            method: snapshot.way,
            end,
            places,
            scanned,
            in_stop: snapshot.in_stop,
            runtime: languages.and_then(|languages| languages.thread_state(&sample)),
            own: languages.and_then(|languages| languages.labels(&sample)),
            variables,
        })
    }

    /// Adds a thread to the snapshots. Returns the error, if its stack could not be read because of
    /// one.
    fn keep(&mut self, state: ThreadState, attempts: Attempts) -> Option<ProcessError> {
        let pid = self.target.pid;
        let process = self.world.spaces.get(&pid).map(|space| space.name.clone());
        let labels = self.world.collector.labels(Labels {
            thread: state.name.clone(),
            pid: Some(pid),
            tid: Some(state.tid),
            process,
            own: attempts.best.as_ref().and_then(|attempt| attempt.own.clone()),
            lock: None,
        });
        let synthetic = |kind: Synthetic| Place { mapping: SYNTHETIC, address: kind as u64 };
        let runtime = attempts.best.as_ref().and_then(|attempt| attempt.runtime);
        let variables = Vec::new();
        let (method, end, note, signal) = (None, None, None, None);
        let mut thread = ThreadSnapshot { pid, state, labels, method, end, note, signal, runtime, variables };
        let mut places = vec![synthetic(Synthetic::NoStack)];
        if let Some(attempt) = attempts.best {
            (thread.method, thread.end, places) = (Some(attempt.method), Some(attempt.end), attempt.places);
            thread.variables = attempt.variables;
            if !attempt.end.is_whole() {
                places.push(synthetic(Synthetic::Truncated));
                thread.note = attempts.note;
            }
        } else if !matches!(thread.state.state, 'Z' | 'X') {
            thread.note = attempts.note.or(attempts.refused.as_ref().map(ToString::to_string));
        }
        self.world.collector.add(self.source, labels, places.into_iter(), Weight { count: 1, amount: 0 });
        self.snapshots.threads.push(thread);
        attempts.refused
    }
}

impl ThreadSnapshots {
    /// The counts and costs of the dump; `reading` is the time that reading took.
    pub fn stats(&mut self, reading: Duration) -> DumpStats {
        self.stopped.sort_unstable();
        let by_method = LookMethod::ALL.map(|method| {
            (method, self.threads.iter().filter(|thread| thread.method == Some(method)).count())
        });
        let whole = |thread: &&ThreadSnapshot| thread.end.is_some_and(StackEnd::is_whole);
        DumpStats {
            threads: self.threads.len(),
            whole: self.threads.iter().filter(whole).count(),
            without_stack: (self.threads.iter())
                .filter(|thread| matches!(thread.state.state, 'Z' | 'X'))
                .count(),
            by_method: by_method.into_iter().filter(|(_, count)| *count > 0).collect(),
            stopped: self.stopped.clone(),
            reading,
            naming: Duration::ZERO,
            waits: Duration::ZERO,
        }
    }
}
