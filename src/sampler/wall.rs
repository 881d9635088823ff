//! Wall-clock time by BPF, without stopping any thread: a timer samples the threads that run
//! ([`super::bpf`]), and a sweep of the kernel's task iterator ([`super::bpf::threads`]) reads all
//! others: those that sleep, that are ready and get no CPU (starved, throttled by a quota), that
//! are stopped, traced, or frozen.
//!
//! The weight of a thread off the CPU is the time that has passed since the last sweep, less the
//! CPU time that the kernel has charged to it. A thread that keeps sleeping is read once, and the
//! weight of that sample grows until it runs. Sweeps of many threads are further apart and weigh
//! more: they take at most one part in [`SWEEP_SHARE`] of a CPU. The first sweep of many threads
//! only finds them; their stacks are read in the time after it, some at a time ([`READ_SHARE`]), so
//! that sampling begins and ends on time. Not here: unwinding.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    Description, Event, RawSample, Sampler, SamplerError, SamplerOptions, Values,
    bpf::{
        self, BpfSampler,
        threads::{COMM_BYTES, Sleeper, ThreadIterator, ThreadRecord},
    },
    look::{StackSnapshot, Target, asleep},
};
use crate::{
    addr::RuntimeAddr,
    process::{Hints, Identity, identify, identity, select},
};

/// Sweeps take at most one part in this many of a CPU.
const SWEEP_SHARE: u32 = 12;
/// The stacks of the first sweep take at most one part in this many of a CPU.
const READ_SHARE: u32 = 5;
/// How many of them are read without a pause.
const READ_AT_ONCE: usize = 128;
/// How often the memory map is read again, and new children are searched for.
const LOOK_AROUND_EVERY: Duration = Duration::from_millis(200);
/// From so many threads on, a second sweep shows which of them have kept sleeping while their
/// stacks were read; fewer are asked one by one.
const MANY_THREADS: usize = 64;
/// All copies of stacks together, and the least that is copied of each. (More of a stack is read
/// later if it is needed and the thread still sleeps.)
const ALL_STACKS_BYTES: usize = 64 << 20;
const MIN_STACK_BYTES: usize = 4 << 10;

/// A running sampler of wall-clock time.
pub struct WallSampler {
    description: Description,
    clock: BpfSampler,
    options: SamplerOptions,
    processes: Vec<Process>,
    period: Duration,
    next_sweep: Instant,
    /// When stacks that the first sweep left unread are read again.
    next_reading: Instant,
    next_look_around: Instant,
    /// Samples that are complete and not reported yet.
    ready: VecDeque<Weighted>,
    sweeps: u64,
    /// Report what sleeping threads have slept until now.
    settle: bool,
    stopped: bool,
}

/// What the sampler does beside the timer.
enum Work {
    Reading,
    Sweep,
}

/// A process, and its threads as of the last sweep.
struct Process {
    identity: Identity,
    iterator: ThreadIterator,
    target: Target,
    threads: FxHashMap<u32, Thread>,
    /// Threads of the first sweep whose stacks are still to be read. The next sweep shows which of
    /// them have kept sleeping until then.
    unread: Vec<Sleeper>,
    /// CLOCK_MONOTONIC of the last sweep, nanoseconds; 0: none.
    swept_ns: u64,
}

/// What is known of a thread between sweeps.
#[derive(Default)]
struct Thread {
    /// The sweep in which it was last found.
    sweep: u64,
    /// CPU time at the last sweep, nanoseconds.
    run_ns: u64,
    /// Time off the CPU that no sample has yet, nanoseconds. Below 0 for a moment, because the CPU
    /// time of a running thread is charged late.
    owed_ns: i64,
    /// Its stack while it is off the CPU.
    asleep: Option<Asleep>,
    /// It was off the CPU in some sweep.
    was_off: bool,
}

/// The one reading of a thread that is off the CPU.
struct Asleep {
    snapshot: StackSnapshot,
    /// How often it had started to run.
    turns: u64,
    weight_ns: u64,
}

/// A sample of a process's thread with its weight in nanoseconds.
struct Weighted {
    pid: u32,
    /// CLOCK_MONOTONIC, nanoseconds: of a thread that has ended, when it was last found.
    time_ns: u64,
    snapshot: StackSnapshot,
    weight_ns: u64,
}

/// Starts sampling. Errors: `NoTarget` if no process of `options.pids` runs; `Unavailable` with the
/// reason if rights or the kernel do not allow BPF.
pub fn open(options: &SamplerOptions) -> Result<WallSampler, SamplerError> {
    let clock = bpf::open(options)?;
    let description = Description {
        event: "wall-clock time",
        summary: format!(
            "{}; threads off the CPU are read by the BPF task iterator; no thread is stopped",
            clock.description().summary
        ),
        ..clock.description().clone()
    };
    let now = Instant::now();
    let mut sampler = WallSampler {
        description,
        clock,
        options: options.clone(),
        processes: Vec::new(),
        period: Duration::from_nanos(1_000_000_000 / u64::from(options.frequency_hz.max(1))),
        next_sweep: now,
        next_reading: now,
        next_look_around: now + LOOK_AROUND_EVERY,
        ready: VecDeque::new(),
        sweeps: 0,
        settle: false,
        stopped: false,
    };
    for pid in &options.pids {
        sampler.add(*pid)?;
    }
    sampler.sweep()?;
    if sampler.processes.is_empty() { Err(SamplerError::NoTarget) } else { Ok(sampler) }
}

impl WallSampler {
    fn add(&mut self, pid: u32) -> Result<(), SamplerError> {
        let known = self.processes.iter().any(|process| process.identity.pid == pid);
        if let Some(identity) = identify(pid).ok().filter(|_| !known) {
            self.processes.push(Process {
                identity,
                iterator: ThreadIterator::load(pid, self.options.kernel)?,
                target: Target::new(pid, self.options.max_stack_bytes),
                threads: FxHashMap::default(),
                unread: Vec::new(),
                swept_ns: 0,
            });
        }
        Ok(())
    }

    /// Finds new children, and processes that have ended.
    fn look_around(&mut self) -> Result<(), SamplerError> {
        if self.options.follow_forks {
            let parents: Vec<u32> = self.processes.iter().map(|process| process.identity.pid).collect();
            for pid in parents.into_iter().flat_map(select::descendants) {
                self.add(pid)?;
            }
        }
        for process in &mut self.processes {
            if process.identity.is_alive() {
                process.target.refresh();
            } else {
                process.end(&mut self.ready);
            }
        }
        self.processes.retain(|process| process.identity.is_alive());
        Ok(())
    }

    /// Reads all threads, and sets when that is due again.
    fn sweep(&mut self) -> Result<(), SamplerError> {
        let began = Instant::now();
        self.sweeps += 1;
        for process in &mut self.processes {
            process.sweep(self.sweeps, &mut self.ready)?;
        }
        let pause = (began.elapsed() * SWEEP_SHARE).max(self.period);
        // No catching up after a delay.
        self.next_sweep = (self.next_sweep + self.period).max(began + pause);
        if Instant::now() >= self.next_look_around {
            self.next_look_around = Instant::now() + LOOK_AROUND_EVERY;
            self.look_around()?;
        }
        Ok(())
    }

    /// Reads some of the stacks that the first sweep left unread, and sets when that is due again.
    fn read_some(&mut self) {
        let began = Instant::now();
        if let Some(process) = self.processes.iter_mut().find(|process| !process.unread.is_empty()) {
            process.read_some();
            self.next_reading = began + began.elapsed() * READ_SHARE;
        }
    }

    fn has_unread(&self) -> bool {
        self.processes.iter().any(|process| !process.unread.is_empty())
    }

    /// What is due next, and when.
    fn next_work(&self) -> (Work, Instant) {
        match self.has_unread() {
            true => (Work::Reading, self.next_reading),
            false => (Work::Sweep, self.next_sweep),
        }
    }

    fn report_ready(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if std::mem::take(&mut self.settle) {
            let (ready, last) = (&mut self.ready, self.stopped);
            self.processes.iter_mut().for_each(|process| process.settle(ready, last));
        }
        for sample in self.ready.drain(..) {
            sample.report(sink);
        }
    }
}

impl Sampler for WallSampler {
    fn description(&self) -> &Description {
        &self.description
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
        let until = Instant::now() + timeout;
        loop {
            let (work, at) = self.next_work();
            let due = if self.stopped { until } else { until.min(at) };
            let wait = due.saturating_duration_since(Instant::now());
            let (processes, ready) = (&mut self.processes, &mut self.ready);
            self.clock.poll(wait, &mut |event| pass_on(event, processes, ready, sink))?;
            if !self.stopped && Instant::now() >= at {
                match work {
                    Work::Reading => self.read_some(),
                    Work::Sweep => self.sweep()?,
                }
            }
            self.report_ready(sink);
            if Instant::now() >= until {
                break;
            }
        }
        let ended = !self.stopped && self.processes.is_empty();
        if ended { Err(SamplerError::NoTarget) } else { Ok(()) }
    }

    fn split(&mut self) -> Result<(), SamplerError> {
        self.clock.split()?;
        self.sweep()?;
        self.settle = true;
        Ok(())
    }

    fn stop(&mut self) -> Result<(), SamplerError> {
        if !self.stopped {
            // Time that passes now is in no sweep.
            self.sweep()?;
            self.clock.stop()?;
            (self.settle, self.stopped) = (true, true);
            self.description.summary = format!("{}; {} sweeps", self.description.summary, self.sweeps);
        }
        Ok(())
    }

    fn hint_stack(&mut self, tid: u32, start: RuntimeAddr, end: RuntimeAddr) {
        self.clock.hint_stack(tid, start, end);
    }

    fn hint_runtimes(&mut self, pid: u32, hints: &Hints) -> Result<(), SamplerError> {
        for process in self.processes.iter_mut().filter(|process| process.identity.pid == pid) {
            process.target.hints = hints.clone();
        }
        self.clock.hint_runtimes(pid, hints)
    }

    fn hint_thread_state(&mut self, tid: u32, state: Option<u64>) {
        self.clock.hint_thread_state(tid, state);
    }

    fn reports_changes(&self) -> bool {
        self.clock.reports_changes()
    }

    fn watch(&mut self, pid: u32) -> Result<(), SamplerError> {
        self.clock.watch(pid)?;
        self.add(pid)
    }

    fn unwatch(&mut self, pid: u32) {
        self.clock.unwatch(pid);
        let (ended, rest) = std::mem::take(&mut self.processes)
            .into_iter()
            .partition::<Vec<_>, _>(|process| process.identity.pid == pid);
        self.processes = rest;
        ended.into_iter().for_each(|mut process| process.end(&mut self.ready));
    }

    fn due(&self) -> Option<Instant> {
        (!self.stopped).then_some(self.next_sweep)
    }
}

/// Reports an event of the timer. A thread that was found on the CPU in every sweep has the time
/// that it waited for a CPU with the code that it runs. A thread that ends has its last sleep
/// reported before.
fn pass_on(
    event: Event<'_>,
    processes: &mut [Process],
    ready: &mut VecDeque<Weighted>,
    sink: &mut dyn FnMut(Event<'_>),
) {
    match event {
        Event::Sample(sample) => {
            let thread =
                process_of(processes, sample.pid).and_then(|process| process.threads.get_mut(&sample.tid));
            let waited = thread.filter(|thread| !thread.was_off).map_or(0, Thread::take_owed);
            let nanoseconds = sample.values.nanoseconds + waited;
            let values = Values { nanoseconds, ..sample.values };
            sink(Event::Sample(RawSample { values, ..sample }));
        }
        Event::Exited { pid, tid, time_ns } => {
            if let Some(process) = process_of(processes, pid)
                && let Some(mut thread) = process.threads.remove(&tid)
            {
                thread.wake(pid, time_ns, ready);
                ready.drain(..).for_each(|sample| sample.report(sink));
            }
            sink(event);
        }
        event => sink(event),
    }
}

fn process_of(processes: &mut [Process], pid: u32) -> Option<&mut Process> {
    processes.iter_mut().find(|process| process.identity.pid == pid)
}

impl Weighted {
    fn report(&self, sink: &mut dyn FnMut(Event<'_>)) {
        let sample = self.snapshot.as_sample(self.pid, self.time_ns);
        sink(Event::Sample(RawSample { values: Values::of_time(self.weight_ns), ..sample }));
    }
}

impl Process {
    fn sweep(&mut self, sweep: u64, ready: &mut VecDeque<Weighted>) -> Result<(), SamplerError> {
        let now_ns = identity::monotonic_ns();
        let records = self.iterator.read()?;
        let before_ns = std::mem::replace(&mut self.swept_ns, now_ns);
        let is_first = before_ns == 0;
        let elapsed_ns = if is_first { 0 } else { now_ns.saturating_sub(before_ns) };
        self.unread.clear();
        let pid = self.identity.pid;
        let mut new = Vec::new();
        for record in records {
            let thread = self.threads.entry(record.sleeper.tid).or_default();
            thread.account(&record, sweep, elapsed_ns);
            let turns = (!record.running).then_some(record.sleeper.turns);
            if thread.asleep.as_ref().is_some_and(|asleep| Some(asleep.turns) == turns) {
                thread.sleep_on(record.sleeper.comm);
                continue;
            }
            thread.wake(pid, now_ns, ready);
            if !record.running {
                thread.was_off = true;
                new.push(record.sleeper);
            }
        }
        let each = ALL_STACKS_BYTES / self.threads.len().max(1);
        self.target.limit_copy(each.max(MIN_STACK_BYTES));
        match is_first && new.len() >= MANY_THREADS {
            true => self.unread = new,
            false => self.read_stacks(&new)?,
        }
        self.forget_ended(sweep, before_ns, ready);
        Ok(())
    }

    /// Reads some stacks of the first sweep.
    fn read_some(&mut self) {
        let rest = self.unread.len().saturating_sub(READ_AT_ONCE);
        for sleeper in self.unread.split_off(rest) {
            self.keep(asleep::read_unchecked(&self.target, &sleeper), &sleeper);
        }
    }

    /// Reads the stacks of threads that have gone off the CPU since the last sweep.
    fn read_stacks(&mut self, sleepers: &[Sleeper]) -> Result<(), SamplerError> {
        if sleepers.len() < MANY_THREADS {
            for sleeper in sleepers {
                self.keep(asleep::look_at(&self.target, sleeper), sleeper);
            }
            return Ok(());
        }
        let snapshots: Vec<_> =
            sleepers.iter().map(|sleeper| asleep::read_unchecked(&self.target, sleeper)).collect();
        let again: FxHashMap<u32, u64> = (self.iterator.read()?.into_iter())
            .filter(|record| !record.running)
            .map(|record| (record.sleeper.tid, record.sleeper.turns))
            .collect();
        for (sleeper, snapshot) in sleepers.iter().zip(snapshots) {
            let slept_on = again.get(&sleeper.tid) == Some(&sleeper.turns);
            self.keep(snapshot.filter(|_| slept_on), sleeper);
        }
        Ok(())
    }

    fn keep(&mut self, snapshot: Option<StackSnapshot>, sleeper: &Sleeper) {
        let (Some(snapshot), Some(thread)) = (snapshot, self.threads.get_mut(&sleeper.tid)) else {
            return;
        };
        let weight_ns = thread.take_owed();
        thread.asleep = Some(Asleep { snapshot, turns: sleeper.turns, weight_ns });
    }

    /// Forgets the threads that this sweep has not found; the one before, at `before_ns`, has.
    fn forget_ended(&mut self, sweep: u64, before_ns: u64, ready: &mut VecDeque<Weighted>) {
        let pid = self.identity.pid;
        self.threads.retain(|_, thread| {
            let lives = thread.sweep == sweep;
            if !lives {
                thread.wake(pid, before_ns, ready);
            }
            lives
        });
    }

    /// Makes samples of what sleeping threads have slept until now; they sleep on, unless these are
    /// the `last` samples.
    fn settle(&mut self, ready: &mut VecDeque<Weighted>, last: bool) {
        let (pid, time_ns) = (self.identity.pid, identity::monotonic_ns());
        if last {
            return self.end(ready);
        }
        for asleep in self.threads.values_mut().filter_map(|thread| thread.asleep.as_mut()) {
            let weight_ns = std::mem::take(&mut asleep.weight_ns);
            if weight_ns > 0 {
                ready.push_back(Weighted { pid, time_ns, snapshot: asleep.snapshot.clone(), weight_ns });
            }
        }
    }

    /// The process has ended, or its sampling.
    fn end(&mut self, ready: &mut VecDeque<Weighted>) {
        let (pid, time_ns) = (self.identity.pid, self.swept_ns);
        self.threads.drain().for_each(|(_, mut thread)| thread.wake(pid, time_ns, ready));
    }
}

impl Thread {
    /// Adds the time off the CPU since the last sweep, which was `elapsed_ns` ago.
    fn account(&mut self, record: &ThreadRecord, sweep: u64, elapsed_ns: u64) {
        let is_new = self.sweep == 0;
        self.sweep = sweep;
        // A new thread was created at some time since then: half of it on average.
        let elapsed_ns = if is_new { elapsed_ns / 2 } else { elapsed_ns };
        let before_ns = if is_new && elapsed_ns == 0 { record.run_ns } else { self.run_ns };
        let ran_ns = record.run_ns.saturating_sub(before_ns);
        self.run_ns = record.run_ns;
        self.owed_ns += elapsed_ns as i64 - ran_ns as i64;
    }

    /// It has slept on since it was read; another thread may have changed its name.
    fn sleep_on(&mut self, comm: Option<[u8; COMM_BYTES]>) {
        let owed_ns = self.take_owed();
        if let Some(asleep) = &mut self.asleep {
            asleep.weight_ns += owed_ns;
            asleep.snapshot.comm = comm;
        }
    }

    /// It has run since it was read, or has ended: its sleep becomes a sample.
    fn wake(&mut self, pid: u32, time_ns: u64, ready: &mut VecDeque<Weighted>) {
        if let Some(Asleep { snapshot, weight_ns, .. }) = self.asleep.take()
            && weight_ns > 0
        {
            ready.push_back(Weighted { pid, time_ns, snapshot, weight_ns });
        }
    }

    fn take_owed(&mut self) -> u64 {
        let owed_ns = self.owed_ns.max(0);
        self.owed_ns -= owed_ns;
        owed_ns as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Registers;

    fn record(run_ns: u64, running: bool) -> ThreadRecord {
        let sleeper = Sleeper {
            tid: 1,
            registers: Registers::default(),
            turns: 5,
            kernel: Vec::new(),
            thread_pointer: 0,
            comm: None,
        };
        ThreadRecord { sleeper, running, run_ns }
    }

    #[test]
    fn time_off_the_cpu_is_what_passed_less_what_it_ran() {
        let mut thread = Thread::default();
        thread.account(&record(1_000_000, false), 1, 0);
        assert_eq!(thread.take_owed(), 0, "what was before the first sweep does not count");
        thread.account(&record(1_000_400, false), 2, 1_000);
        assert_eq!(thread.take_owed(), 600);
        // CPU time that is charged late makes up for itself.
        thread.account(&record(1_000_400, true), 3, 1_000);
        thread.account(&record(1_002_400, true), 4, 1_000);
        assert_eq!(thread.take_owed(), 0);
        let mut new = Thread::default();
        new.account(&record(100, false), 4, 1_000);
        assert_eq!(new.take_owed(), 400);
    }
}
