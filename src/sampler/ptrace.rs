//! Tier C: reads threads one by one, where neither BPF nor perf events are allowed. Running threads
//! are stopped for some microseconds (`look::hold`); sleeping threads are read without stopping
//! them.
//!
//! A round visits all threads. The weight of a sample is the CPU time that the kernel has charged
//! to the thread since its last sample, so that the sum is exact at any rate. In wall-clock mode a
//! thread that keeps sleeping is read once, and the weight of that sample grows until the thread
//! runs.
//!
//! After a stop a thread is left alone for a hundred times as long as it was stopped, and a long
//! round is followed by a longer pause: a thread is stopped for at most 1 % of the time, and rprof
//! uses a fraction of one CPU. Kernel frames are not available. Not here: unwinding.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    Description, Event, RawSample, Sampler, SamplerError, SamplerOptions, Values,
    look::{HoldError, StackSnapshot, Target, asleep, hold},
};
use crate::{
    process::{Hints, Identity, identify, identity, select, thread_state, threads, wait::Blocked},
    sys::ptrace,
};

/// Which time is sampled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// CPU time.
    #[default]
    Cpu,
    /// Wall-clock time, of sleeping threads too.
    Wall,
}

/// After a stop a thread is left alone for this many times the duration of the stop.
const REST: u32 = 100;
/// Rounds are spaced so that they use at most one part in this many of a CPU.
const ROUND_SHARE: u32 = 10;
/// How often new children and new programs are searched for.
const LOOK_AROUND_EVERY: Duration = Duration::from_millis(200);

/// How long it is assumed that a thread may be stopped once that was checked.
const CHECK_HOLDS: Duration = Duration::from_millis(1);

/// A running sampler of tier C.
pub struct PtraceSampler {
    description: Description,
    clock: Clock,
    options: SamplerOptions,
    processes: Vec<Process>,
    period: Duration,
    next_round: Instant,
    next_look_around: Instant,
    holds: Holds,
    stopped: bool,
}

struct Process {
    identity: Identity,
    executable: Option<PathBuf>,
    target: Target,
    threads: FxHashMap<u32, Thread>,
}

/// The state of a thread between rounds.
#[derive(Default)]
struct Thread {
    /// Round in which it was last seen.
    round: u64,
    /// CPU time at the last reading of the account, and when that was.
    run_ns: u64,
    seen: Option<Instant>,
    /// Time that is not in a sample yet.
    owed_ns: u64,
    asleep: Option<Asleep>,
    /// Must not be stopped before this.
    rest_until: Option<Instant>,
    held: Duration,
}

/// The one snapshot of a thread that sleeps.
struct Asleep {
    moment: StackSnapshot,
    at: Blocked,
    /// How often it had begun to run.
    turns: Option<u64>,
    /// It was woken for the snapshot, and may not have gone back to sleep yet.
    waked: bool,
}

/// How often and how long threads were stopped.
#[derive(Default)]
struct Holds {
    rounds: u64,
    count: u64,
    longest: Duration,
    all: Duration,
    /// The longest total time that one thread was stopped.
    worst: Duration,
    began: Option<Instant>,
}

/// Starts sampling. Errors: `NoTarget` if no process of `options.pids` runs; `Unavailable` if its
/// threads must not be traced.
pub fn open(options: &SamplerOptions, clock: Clock) -> Result<PtraceSampler, SamplerError> {
    let mut sampler = PtraceSampler {
        description: describe(clock, options),
        clock,
        options: options.clone(),
        processes: Vec::new(),
        period: Duration::from_nanos(1_000_000_000 / u64::from(options.frequency_hz.max(1))),
        next_round: Instant::now(),
        next_look_around: Instant::now() + LOOK_AROUND_EVERY,
        holds: Holds { began: Some(Instant::now()), ..Holds::default() },
        stopped: false,
    };
    options.pids.iter().for_each(|pid| sampler.add(*pid));
    let Some(first) = sampler.processes.first() else { return Err(SamplerError::NoTarget) };
    may_hold(first.identity.pid)?;
    // CPU time used before now does not count.
    sampler.processes.iter_mut().for_each(Process::read_accounts);
    Ok(sampler)
}

fn may_hold(pid: u32) -> Result<(), SamplerError> {
    let tried = ptrace::session(|session| session.may_hold(threads::reader(pid)));
    let why = match tried {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(HoldError::Gone)) => return Err(SamplerError::NoTarget),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    let tracer =
        identity::tracer(pid).map(|tracer| format!("; process {tracer} traces it")).unwrap_or_default();
    Err(SamplerError::Unavailable(format!("its threads cannot be traced: {why}{tracer}")))
}

fn describe(clock: Clock, options: &SamplerOptions) -> Description {
    Description {
        name: "ptrace",
        event: match clock {
            Clock::Cpu => "CPU time",
            Clock::Wall => "wall-clock time",
        },
        summary: format!("threads are read one by one, up to {} times a second", options.frequency_hz),
        kernel: false,
        buffer_bytes: 0,
        event_count: 0,
    }
}

impl PtraceSampler {
    fn add(&mut self, pid: u32) {
        let known = self.processes.iter().any(|process| process.identity.pid == pid);
        if let Some(identity) = identify(pid).ok().filter(|_| !known) {
            self.processes.push(Process {
                executable: identity.executable.clone(),
                identity,
                target: Target::new(pid, self.options.max_stack_bytes),
                threads: FxHashMap::default(),
            });
        }
    }

    /// Finds new children, new programs, and processes that have ended.
    fn look_around(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let now = Instant::now();
        if now < self.next_look_around {
            return;
        }
        self.next_look_around = now + LOOK_AROUND_EVERY;
        if self.options.follow_forks {
            let parents: Vec<u32> = self.processes.iter().map(|process| process.identity.pid).collect();
            for pid in parents.into_iter().flat_map(select::descendants) {
                self.add(pid);
            }
        }
        for process in &mut self.processes {
            process.look_for_exec(sink);
            process.target.refresh();
        }
        self.processes.retain(|process| process.identity.is_alive());
    }

    fn round(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        self.holds.rounds += 1;
        for process in &mut self.processes {
            process.round(self.clock, &mut self.holds, sink);
        }
    }

    /// Reports the samples of threads that still sleep, and the statistics of stops.
    fn settle(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        for process in &mut self.processes {
            let pid = process.identity.pid;
            process.threads.values_mut().for_each(|thread| thread.hand_over_sleep(pid, sink));
        }
        let holds = &self.holds;
        let elapsed_s = holds.began.map_or(1.0, |began| began.elapsed().as_secs_f64()).max(1e-9);
        self.description.summary = format!(
            "threads were read one by one, {:.1} times a second; {} stops of a thread, each at most {} us \
             (mean {} us), {:.1} ms in all, at most {:.2} % of a thread's time",
            holds.rounds as f64 / elapsed_s,
            holds.count,
            holds.longest.as_micros(),
            holds.all.as_micros() / u128::from(holds.count.max(1)),
            holds.all.as_secs_f64() * 1e3,
            holds.worst.as_secs_f64() / elapsed_s * 100.0,
        );
    }
}

impl Sampler for PtraceSampler {
    fn description(&self) -> &Description {
        &self.description
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
        if self.stopped {
            self.settle(sink);
            return Ok(());
        }
        let until = Instant::now() + timeout;
        while self.next_round < until {
            std::thread::sleep(self.next_round.saturating_duration_since(Instant::now()));
            let began = Instant::now();
            self.round(sink);
            // No catching up after a delay, and no more than a share of a CPU.
            let pause = (began.elapsed() * ROUND_SHARE).max(self.period);
            self.next_round = (self.next_round + self.period).max(began + pause);
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        self.look_around(sink);
        if self.processes.is_empty() { Err(SamplerError::NoTarget) } else { Ok(()) }
    }

    fn stop(&mut self) -> Result<(), SamplerError> {
        self.stopped = true;
        Ok(())
    }

    fn reports_changes(&self) -> bool {
        false
    }

    fn watch(&mut self, pid: u32) -> Result<(), SamplerError> {
        if self.processes.iter().any(|process| process.identity.pid == pid) {
            return Ok(());
        }
        may_hold(pid)?;
        self.add(pid);
        let added = self.processes.iter_mut().find(|process| process.identity.pid == pid);
        added.ok_or(SamplerError::NoTarget)?.read_accounts();
        Ok(())
    }

    fn unwatch(&mut self, pid: u32) {
        self.processes.retain(|process| process.identity.pid != pid);
    }

    fn due(&self) -> Option<Instant> {
        (!self.stopped).then_some(self.next_round)
    }

    fn hint_runtimes(&mut self, pid: u32, hints: &Hints) -> Result<(), SamplerError> {
        for process in self.processes.iter_mut().filter(|process| process.identity.pid == pid) {
            process.target.hints = hints.clone();
        }
        Ok(())
    }
}

impl Process {
    fn read_accounts(&mut self) {
        let pid = self.identity.pid;
        for tid in threads::list(pid) {
            let run_ns = thread_state::account(pid, tid).map_or(0, |account| account.run_ns);
            self.threads.insert(tid, Thread { run_ns, seen: Some(Instant::now()), ..Thread::default() });
        }
    }

    fn look_for_exec(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let Ok(now) = identify(self.identity.pid) else { return };
        if now.start_ticks != self.identity.start_ticks || now.executable == self.executable {
            return;
        }
        self.executable = now.executable;
        let (time_ns, pid) = (identity::monotonic_ns(), self.identity.pid);
        sink(Event::Execed { time_ns, pid, tid: pid, comm: now.name.as_bytes() });
    }

    fn round(&mut self, clock: Clock, holds: &mut Holds, sink: &mut dyn FnMut(Event<'_>)) {
        let (pid, checked_at) = (self.identity.pid, Instant::now());
        let mut to_hold = Vec::new();
        for tid in threads::list(pid) {
            let Some(account) = thread_state::account(pid, tid) else { continue };
            let thread = self.threads.entry(tid).or_default();
            thread.round = holds.rounds;
            thread.owe(clock, account.run_ns);
            if clock == Clock::Wall && thread.sleeps_on(pid, tid, account.turns) {
                continue;
            }
            thread.hand_over_sleep(pid, sink);
            if thread.owed_ns == 0 {
                continue;
            }
            match thread_state::blocked(pid, tid) {
                Ok(Blocked::Running) if hold::may_hold(pid, tid) => to_hold.push(tid),
                Ok(at) if clock == Clock::Wall => {
                    let look = asleep::look(&self.target, tid).ok();
                    thread.asleep =
                        look.map(|moment| Asleep { moment, at, turns: account.turns, waked: false });
                    // More than two registers give whole stacks more often.
                    if hold::may_hold(pid, tid) {
                        to_hold.push(tid);
                    }
                }
                _ => {}
            }
        }
        self.catch(&to_hold, checked_at, holds, sink);
        self.forget_ended(holds.rounds, sink);
    }

    fn forget_ended(&mut self, round: u64, sink: &mut dyn FnMut(Event<'_>)) {
        let pid = self.identity.pid;
        let ended: Vec<u32> =
            self.threads.iter().filter(|(_, thread)| thread.round != round).map(|(tid, _)| *tid).collect();
        for tid in ended {
            let mut thread = self.threads.remove(&tid).unwrap_or_default();
            thread.hand_over_sleep(pid, sink);
            sink(Event::Exited { time_ns: identity::monotonic_ns(), pid, tid });
        }
    }

    /// Stops threads one after the other and reads each. `checked_at`: since when it is known that
    /// they may be stopped.
    fn catch(
        &mut self,
        tids: &[u32],
        checked_at: Instant,
        holds: &mut Holds,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let now = Instant::now();
        let rested = |tid: &&u32| self.threads.get(tid).is_some_and(|thread| thread.is_rested(now));
        let waiting: Vec<u32> = tids.iter().filter(rested).copied().collect();
        if waiting.is_empty() {
            return;
        }
        let target = &self.target;
        // A thread that does not stop in time is left to the session, which releases it later.
        let may_hold = |tid: u32| checked_at.elapsed() < CHECK_HOLDS || hold::may_hold(target.pid, tid);
        let looked = ptrace::session(|session| {
            let waiting = waiting.iter().filter(|tid| may_hold(**tid));
            waiting.filter_map(|tid| hold::look(session, target, *tid).ok()).collect::<Vec<_>>()
        });
        for moment in looked.unwrap_or_default() {
            self.caught(&moment, holds, sink);
        }
    }

    fn caught(&mut self, moment: &StackSnapshot, holds: &mut Holds, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(thread) = self.threads.get_mut(&moment.tid) else { return };
        thread.rest_until = Some(Instant::now() + moment.stopped * REST);
        thread.held += moment.stopped;
        holds.count += 1;
        holds.all += moment.stopped;
        holds.longest = holds.longest.max(moment.stopped);
        holds.worst = holds.worst.max(thread.held);
        if let Some(asleep) = &mut thread.asleep {
            asleep.moment = moment.clone();
            asleep.waked = true;
            return;
        }
        let period_ns = std::mem::take(&mut thread.owed_ns);
        let sample = moment.as_sample(self.identity.pid, identity::monotonic_ns());
        sink(Event::Sample(RawSample { values: Values::of_time(period_ns), ..sample }));
    }
}

impl Thread {
    /// Adds the time that has passed since the last round.
    fn owe(&mut self, clock: Clock, run_ns: u64) {
        let now = Instant::now();
        let wall = self.seen.replace(now).map_or(Duration::ZERO, |seen| now.duration_since(seen));
        let ran_ns = run_ns.saturating_sub(self.run_ns);
        self.run_ns = run_ns;
        self.owed_ns += match clock {
            Clock::Cpu => ran_ns,
            Clock::Wall => u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        };
    }

    fn is_rested(&self, now: Instant) -> bool {
        self.rest_until.is_none_or(|until| until <= now)
    }

    /// Whether it sleeps and has not run since it was read.
    fn sleeps_on(&mut self, pid: u32, tid: u32, turns: Option<u64>) -> bool {
        let Some(asleep) = &mut self.asleep else { return false };
        if asleep.turns == turns && turns.is_some() {
            return true;
        }
        // rprof woke it, and it has gone back to the same call.
        if asleep.waked && thread_state::blocked(pid, tid).is_ok_and(|at| at == asleep.at) {
            (asleep.turns, asleep.waked) = (turns, false);
            return true;
        }
        false
    }

    fn hand_over_sleep(&mut self, pid: u32, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(Asleep { moment, .. }) = self.asleep.take() else { return };
        let period_ns = std::mem::take(&mut self.owed_ns);
        let sample = moment.as_sample(pid, identity::monotonic_ns());
        sink(Event::Sample(RawSample { values: Values::of_time(period_ns), ..sample }));
    }
}
