//! Looking at all threads of a process, each by the gentlest way that gives its whole stack.
//!
//! ```text
//! sleeps   BPF iterator, else /proc and memory; is the stack cut for want of registers: ptrace, if safe
//! runs     a perf event; is that refused, or does it wait for a CPU all the while: ptrace
//! ```
//!
//! Not here: how each way works (`sampler::look`), the profile.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{DumpRequest, DumpStats};
use crate::{
    capture::{
        CaptureError,
        collector::{Labels, LabelsId, Place, Weight},
        images::{SYNTHETIC, Synthetic},
        world::{World, kernel_places, place},
    },
    issue::Issue,
    process::{
        Identity, ProcessError, identity,
        thread_state::{self, SchedulerClock, ThreadState},
        threads,
    },
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

/// How long a thread that runs is waited for, until a perf event catches it.
const PERF_PATIENCE: Duration = Duration::from_millis(8);
/// How long all of them together: where many wait for few CPUs, most do not run now.
const PERF_BUDGET: Duration = Duration::from_millis(120);
/// The same where it cannot, or must not, be stopped: a ready thread may wait long for a CPU.
const LAST_PATIENCE: Duration = Duration::from_millis(150);
const LAST_BUDGET: Duration = Duration::from_millis(600);

/// All threads looked at.
#[derive(Default)]
pub struct ThreadSnapshots {
    pub threads: Vec<ThreadSnapshot>,
    pub stopped: Vec<Duration>,
    perf_spent: Duration,
    perf_refused: bool,
}

/// A thread that was looked at.
pub struct ThreadSnapshot {
    pub pid: u32,
    pub state: ThreadState,
    /// In the collector: tells its stack.
    pub labels: LabelsId,
    pub way: Option<LookMethod>,
    /// Why its stack ended; `None`: it has none.
    pub end: Option<StackEnd>,
    /// What could not be done to get more of it.
    pub note: Option<String>,
}

/// A stack that one way gave.
struct Attempt {
    way: LookMethod,
    end: StackEnd,
    places: Vec<Place>,
    scanned: bool,
    /// Its process was stopped.
    in_stop: bool,
}

impl Attempt {
    /// Nothing would be gained by another way. (A scan for return addresses is a guess.)
    fn is_complete(&self) -> bool {
        self.end.is_whole() && !self.scanned
    }

    fn is_better_than(&self, other: &Attempt) -> bool {
        let rank = |attempt: &Attempt| (attempt.is_complete(), attempt.end.is_whole(), attempt.places.len());
        rank(self) > rank(other)
    }
}

/// What one thread's ways have given so far.
#[derive(Default)]
struct Attempts {
    best: Option<Attempt>,
    note: Option<String>,
    refused: Option<ProcessError>,
}

/// Looks at all threads of a process. Errors: none of them may be looked at.
pub fn at_process(
    request: &DumpRequest,
    identity: &Identity,
    world: &mut World,
    looked: &mut ThreadSnapshots,
) -> Result<(), CaptureError> {
    let mut at = Process::new(request, identity, world, looked);
    at.world.watch(identity.pid, identity::monotonic_ns());
    at.ahead()?;
    let mut refused = None;
    let mut any = false;
    for tid in threads::list(identity.pid) {
        let Ok(mut state) = thread_state::read(identity.pid, tid, &at.now) else { continue };
        let tries = at.thread(tid, &state);
        at.settle(&mut state, &tries);
        any |= tries.best.is_some();
        refused = refused.or(at.keep(state, tries));
    }
    match refused {
        Some(error) if !any => Err(error.into()),
        _ => Ok(()),
    }
}

struct Process<'a> {
    request: &'a DumpRequest,
    identity: &'a Identity,
    target: Target,
    now: SchedulerClock,
    world: &'a mut World,
    looked: &'a mut ThreadSnapshots,
    /// What was taken of many threads at once, before each is asked for.
    taken: BTreeMap<u32, (Attempt, Option<u64>)>,
}

impl<'a> Process<'a> {
    fn new(
        request: &'a DumpRequest,
        identity: &'a Identity,
        world: &'a mut World,
        looked: &'a mut ThreadSnapshots,
    ) -> Process<'a> {
        let target = Target::new(identity.pid, request.max_stack_bytes);
        Process {
            request,
            identity,
            target,
            now: SchedulerClock::read(),
            world,
            looked,
            taken: BTreeMap::new(),
        }
    }

    /// The ways that look at many threads at once.
    fn ahead(&mut self) -> Result<(), CaptureError> {
        if !self.request.consistent && matches!(self.request.way, None | Some(LookMethod::Bpf)) {
            match look::sleepers(self.target.pid, self.request.kernel) {
                Ok(sleepers) => self.sleepers(&sleepers),
                // Only better than what follows.
                Err(error) if self.request.way.is_none() => self.without_kernel_frames(error.to_string()),
                Err(source) => {
                    let (tried, identities) = (Vec::new(), vec![self.identity.clone()]);
                    return Err(CaptureError::Sampler { source, tried, identities });
                }
            }
        }
        if self.request.consistent {
            let tids = threads::list(self.target.pid);
            for moment in hold::look_together(&self.target, &tids) {
                self.take(&moment, None);
            }
        }
        Ok(())
    }

    fn without_kernel_frames(&mut self, why: String) {
        if self.request.kernel {
            let what = "what threads do inside the kernel".to_owned();
            self.world.issues.add(Issue::Unwatched { what, why }, 1);
        }
    }

    fn sleepers(&mut self, sleepers: &[Sleeper]) {
        for sleeper in sleepers {
            if let Some(moment) = asleep::look_at(&self.target, sleeper) {
                self.take(&moment, Some(sleeper.turns));
            }
        }
    }

    fn take(&mut self, moment: &StackSnapshot, turns: Option<u64>) {
        if let Some(attempt) = self.unwind(moment) {
            self.taken.insert(moment.tid, (attempt, turns));
        }
    }

    /// What was taken of a thread ahead, unless it has run since.
    fn taken(&mut self, state: &ThreadState) -> Option<Attempt> {
        let (attempt, turns) = self.taken.remove(&state.tid)?;
        (turns.is_none() || turns == state.turns).then_some(attempt)
    }

    /// Looks at one thread.
    fn thread(&mut self, tid: u32, state: &ThreadState) -> Attempts {
        let mut tries = Attempts { best: self.taken(state), ..Attempts::default() };
        if matches!(state.state, 'Z' | 'X') || tries.best.as_ref().is_some_and(Attempt::is_complete) {
            return tries;
        }
        match self.request.way {
            None => self.gently(tid, &mut tries),
            Some(LookMethod::Bpf) => {}
            Some(LookMethod::Asleep) => drop(self.asleep(tid, &mut tries)),
            Some(LookMethod::Perf) => self.running(tid, &mut tries, LAST_PATIENCE, LAST_BUDGET),
            Some(LookMethod::Held) => self.hold(tid, state, &mut tries),
        }
        tries
    }

    /// A thread may have gone to sleep or waked up between its state and its stack: the stack counts.
    fn settle(&self, state: &mut ThreadState, tries: &Attempts) {
        let Some(best) = &tries.best else { return };
        match best.way {
            // It goes back to being stopped while it is asked.
            _ if best.in_stop => (state.state, state.waiting, state.waited_ns) = ('T', None, None),
            LookMethod::Perf => (state.state, state.waiting, state.waited_ns) = ('R', None, None),
            LookMethod::Bpf | LookMethod::Asleep if state.state == 'R' => {
                let again = thread_state::read(self.target.pid, state.tid, &self.now);
                *state = again.unwrap_or_else(|_| state.clone());
            }
            _ => {}
        }
    }

    /// The ways in turn, until one gives the whole stack.
    fn gently(&mut self, tid: u32, tries: &mut Attempts) {
        if self.asleep(tid, tries) {
            self.running(tid, tries, PERF_PATIENCE, PERF_BUDGET);
            if tries.best.is_none() {
                // It has gone to sleep meanwhile, as a rule.
                self.asleep(tid, tries);
            }
        }
        let complete = tries.best.as_ref().is_some_and(Attempt::is_complete);
        if !complete && !self.request.never_stop {
            let state = thread_state::read(self.target.pid, tid, &self.now);
            if let Ok(state) = state {
                self.hold(tid, &state, tries);
            }
        }
        if tries.best.is_none() && self.asleep(tid, tries) {
            self.running(tid, tries, LAST_PATIENCE, LAST_BUDGET);
        }
    }

    /// Whether it runs (instead of sleeping).
    fn asleep(&mut self, tid: u32, tries: &mut Attempts) -> bool {
        match asleep::look(&self.target, tid) {
            Ok(moment) => self.offer(&moment, tries),
            Err(NotAsleep::Runs) => return true,
            Err(NotAsleep::Process(error @ ProcessError::NotPermitted { .. })) => tries.refused = Some(error),
            Err(NotAsleep::Process(_)) => {}
            Err(error @ NotAsleep::NoMemory) => tries.note = Some(error.to_string()),
        }
        false
    }

    fn running(&mut self, tid: u32, tries: &mut Attempts, patience: Duration, budget: Duration) {
        if self.looked.perf_refused || self.looked.perf_spent > budget {
            return;
        }
        let began = Instant::now();
        match running::look(&self.target, tid, patience) {
            Ok(Some(moment)) => self.offer(&moment, tries),
            Ok(None) => {}
            Err(error) => {
                // For this thread alone, if it has just ended: the next one tells.
                self.looked.perf_refused = !matches!(error, PerfError::ThreadGone { .. });
                tries.note = Some(error.to_string());
            }
        }
        self.looked.perf_spent += began.elapsed();
    }

    fn hold(&mut self, tid: u32, state: &ThreadState, tries: &mut Attempts) {
        if !hold::may_hold(self.target.pid, tid) {
            tries.note = Some(match (&state.waiting, state.state) {
                (Some(waiting), _) => format!("it sleeps in {}, which must not be interrupted", waiting.what),
                (None, 't') => "another debugger holds it".to_owned(),
                (None, _) => "it must not be interrupted where it is".to_owned(),
            });
            return;
        }
        match hold::look_one(&self.target, tid) {
            Ok(moment) => {
                self.offer(&moment, tries);
                tries.refused = None;
            }
            Err(HoldError::Gone) => {}
            Err(HoldError::Refused(source)) => {
                let traced = identity::tracer(tid).map(|tracer| format!("process {tracer} traces it"));
                tries.note = Some(traced.unwrap_or_else(|| format!("ptrace: {source}")));
                let (pid, what) = (self.target.pid, "registers and stacks");
                tries.refused =
                    tries.refused.take().or(Some(ProcessError::NotPermitted { pid, what, source }));
            }
            Err(error @ HoldError::NotStopping) => tries.note = Some(error.to_string()),
        }
    }

    /// Unwinds a moment and keeps it if it is better than what there was.
    fn offer(&mut self, moment: &StackSnapshot, tries: &mut Attempts) {
        let Some(attempt) = self.unwind(moment) else { return };
        if tries.best.as_ref().is_none_or(|best| attempt.is_better_than(best)) {
            tries.best = Some(attempt);
        }
    }

    fn unwind(&mut self, moment: &StackSnapshot) -> Option<Attempt> {
        if !moment.stopped.is_zero() {
            self.looked.stopped.push(moment.stopped);
        }
        let pid = self.target.pid;
        let sample = moment.as_sample(pid, identity::monotonic_ns());
        let end = self.world.unwind(&sample)?;
        let space = self.world.spaces.get(&pid)?;
        let frames = &self.world.frames;
        let user = frames.iter().map(|frame| place(frame, space, &self.world.images));
        let places = kernel_places(sample.kernel_stack).chain(user).collect();
        let scanned = frames.iter().any(|frame| frame.how == UnwindMethod::Scan);
        self.world.tally.stack_bytes += moment.stack.len() as u64;
        Some(Attempt { way: moment.way, end, places, scanned, in_stop: moment.in_stop })
    }

    /// Puts a thread among those looked at; gives the refusal, if that is why nothing is known of it.
    fn keep(&mut self, state: ThreadState, tries: Attempts) -> Option<ProcessError> {
        let pid = self.target.pid;
        let process = self.world.spaces.get(&pid).map(|space| space.name.clone());
        let labels = self.world.collector.labels(Labels {
            thread: state.name.clone(),
            pid: Some(pid),
            tid: Some(state.tid),
            process,
            own: None,
        });
        let synthetic = |kind: Synthetic| Place { mapping: SYNTHETIC, address: kind as u64 };
        let mut seen = ThreadSnapshot { pid, state, labels, way: None, end: None, note: None };
        let mut places = vec![synthetic(Synthetic::NoStack)];
        if let Some(attempt) = tries.best {
            (seen.way, seen.end, places) = (Some(attempt.way), Some(attempt.end), attempt.places);
            if !attempt.end.is_whole() {
                places.push(synthetic(Synthetic::Truncated));
                seen.note = tries.note;
            }
        } else if !matches!(seen.state.state, 'Z' | 'X') {
            seen.note = tries.note.or(tries.refused.as_ref().map(ToString::to_string));
        }
        self.world.collector.add(labels, places.into_iter(), Weight { count: 1, amount: 0 });
        self.looked.threads.push(seen);
        tries.refused
    }
}

impl ThreadSnapshots {
    pub fn stats(&mut self, looking: Duration) -> DumpStats {
        self.stopped.sort_unstable();
        let by_way = LookMethod::ALL
            .map(|way| (way, self.threads.iter().filter(|seen| seen.way == Some(way)).count()));
        let whole = |seen: &&ThreadSnapshot| seen.end.is_some_and(StackEnd::is_whole);
        DumpStats {
            threads: self.threads.len(),
            whole: self.threads.iter().filter(whole).count(),
            without_stack: (self.threads.iter()).filter(|seen| matches!(seen.state.state, 'Z' | 'X')).count(),
            by_way: by_way.into_iter().filter(|(_, count)| *count > 0).collect(),
            stopped: self.stopped.clone(),
            looking,
            naming: Duration::ZERO,
        }
    }
}
