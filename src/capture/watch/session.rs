//! A running capture: the sampler, the state it has built up, and the profiles made from it.
//!
//! Not here: kinds of profiles and durations (`capture::open`), the content of a profile
//! (`finish`).

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    source::{Refused, Sources},
    targets::{Charged, Targets},
    world::World,
};
use crate::{
    capture::{
        Capture, CaptureError, Ended, LabelKeys, POLL_DEEP_EVERY, POLL_EVERY, Progress, Request, Stop, Tally,
        collector::SourceId,
        kinds::Kind,
        name::{
            queue::{Job, Named, Namer, Unnamed},
            store,
        },
        request::Plan,
        threadcreate::Threads,
    },
    issue::Issue,
    process::{Identity, Throttled, identify, identity, own_memory_bytes, quota::Quota, release_free_memory},
    profile::proto::Profile,
    sampler::{Event, SamplerError, Trigger},
};

/// How long the samples that are buffered when sampling ends may take to unwind: at least, and at
/// most. In between it is half the time that was sampled: the first sample of a large program takes
/// long.
const LEAST_OVERRUN: Duration = Duration::from_secs(1);
const MOST_OVERRUN: Duration = Duration::from_secs(5);

/// How long buffered samples may take to unwind after this time of sampling.
fn overrun(sampled: Duration) -> Duration {
    (sampled / 2).clamp(LEAST_OVERRUN, MOST_OVERRUN)
}

/// Until when samples are unwound: `overrun` after a time or after the request to stop, whichever
/// comes first.
struct Limit<'a> {
    /// By source, whether its samples have no limit: at the end of a window, threads that still
    /// wait come last, one sample each.
    spared: Vec<bool>,
    at: Option<Instant>,
    stop: Option<&'a Stop>,
    overrun: Duration,
    /// When the request to stop was first seen.
    stopped_at: Cell<Option<Instant>>,
}

impl Limit<'_> {
    fn is_reached_by(&self, source: SourceId) -> bool {
        let is_spared = self.spared.get(source).copied().unwrap_or(false);
        !is_spared && self.is_reached()
    }

    fn is_reached(&self) -> bool {
        let now = Instant::now();
        if self.stopped_at.get().is_none() && self.stop.is_some_and(Stop::is_set) {
            self.stopped_at.set(Some(now));
        }
        [self.at, self.stopped_at.get()].into_iter().flatten().any(|at| now >= at + self.overrun)
    }
}

/// A running capture.
pub struct Session {
    request: Arc<Request>,
    targets: Targets,
    world: World,
    sources: Sources,
    namer: Namer,
    began: Instant,
    attach_took: Duration,
    /// Where the current window begins.
    since: Mark,
    /// Samples before this time are not counted.
    from_ns: u64,
    poll_every: Duration,
    memory_checked_at: Instant,
    /// Whether a profile has been returned already.
    has_returned_profile: bool,
    /// How often the current window could not be closed because the queue of names was full.
    late_names: u64,
    /// How long buffered samples may take to unwind; `None`: as long as [`overrun`] says.
    overrun: Option<Duration>,
}

/// How often rprof's memory is compared with its limit.
const CHECK_MEMORY_EVERY: Duration = Duration::from_millis(500);

/// Why [`Session::sample`] returned.
pub enum Sampled {
    /// Sampling is over, or the time has passed.
    Ended(Ended),
    /// A window has got its names; sampling goes on.
    Named(Named),
}

/// A point in time, and the CPU time used until then.
struct Mark {
    at: Instant,
    clock: SystemTime,
    charged: Charged,
    throttled: Vec<(u32, Option<u64>)>,
    quotas: Vec<Quota>,
}

impl Mark {
    fn now(targets: &Targets) -> Mark {
        let (clock, at) = (SystemTime::now(), Instant::now());
        // Both clocks are read at the same point, before the slower CPU times.
        Mark {
            at,
            clock,
            charged: targets.charged(),
            throttled: targets.throttled(),
            quotas: targets.quotas(),
        }
    }
}

/// Tells the samplers what runtimes ask them to read; whether any asks for frames.
fn hint_runtimes(world: &mut World, sources: &mut Sources) -> bool {
    let mut asks = false;
    for (pid, hints) in world.runtime_hints.drain(..) {
        asks |= hints.walker.is_some() || hints.reader.is_some();
        for error in sources.hint_runtimes(pid, &hints) {
            world.issues.add(Issue::LanguageFrames { why: error.to_string() }, 1);
        }
    }
    asks
}

impl Session {
    /// Begins to sample, with one source for each of `plans`. Kinds that cannot be sampled are
    /// returned with the reason. Errors: a process does not exist or cannot be profiled in any of
    /// these ways.
    pub fn begin(request: &Arc<Request>, plans: &[Plan]) -> Result<(Session, Refused), CaptureError> {
        let opening = Instant::now();
        let (identities, mut sources, mut refused) = Sources::open(request, plans)?;
        let targets = Targets::new(identities);
        let (mut since, opened_ns) = (Mark::now(&targets), identity::monotonic_ns());
        let several = targets.identities().len() > 1 || request.children;
        let labels = LabelKeys { process: request.labels.process || several, ..request.labels };
        let mut world = World::within(labels, &request.symbolize.budget);
        world.frame_choice = request.frames;
        world.source_count = plans.len();
        let now_ns = identity::monotonic_ns();
        targets.pids().iter().for_each(|pid| world.watch(*pid, now_ns));
        world.programs =
            targets.identities().iter().map(|identity| (identity.pid, identity.clone())).collect();
        for (kind, error) in read_existing_threads(request, &targets, &mut sources, &mut world) {
            sources.close_kind(kind);
            if sources.iter().next().is_none() {
                return Err(error);
            }
            refused.push((kind, error));
        }
        // Waits that ended while the samplers were opened are not of the time of the profile.
        let is_of_waits =
            |plan: &Plan| matches!(plan.live.trigger, Trigger::Waited | Trigger::Blocked | Trigger::Released);
        let mut from_ns = if plans.iter().all(is_of_waits) { opened_ns } else { 0 };
        // Samples before the samplers know the runtimes lack their frames: the profiles begin now.
        if hint_runtimes(&mut world, &mut sources) {
            (since, from_ns) = (Mark::now(&targets), identity::monotonic_ns());
        }
        let session = Session::with(Arc::clone(request), targets, world, sources);
        let (began, attach_took) = (since.at, opening.elapsed());
        Ok((Session { began, attach_took, since, from_ns, ..session }, refused))
    }

    fn with(request: Arc<Request>, targets: Targets, world: World, sources: Sources) -> Session {
        let since = Mark::now(&targets);
        Session {
            namer: Namer::start(&request.symbolize),
            request,
            targets,
            world,
            sources,
            began: since.at,
            attach_took: Duration::ZERO,
            since,
            from_ns: 0,
            // Short at first: it is not known yet whether stacks are deeper than their copies.
            poll_every: POLL_DEEP_EVERY,
            memory_checked_at: Instant::now(),
            has_returned_profile: false,
            late_names: 0,
            overrun: None,
        }
    }

    /// What was requested.
    pub fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// Whether a kind is sampled.
    pub fn samples(&self, kind: Kind) -> bool {
        self.sources.iter().any(|source| source.plan.kind == kind)
    }

    /// The time since sampling began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Reports the profiled processes and the first sampler.
    pub fn report_attached(&mut self, progress: &mut dyn FnMut(Progress<'_>)) {
        let sampler = self.sources.first_mut().description();
        let (identities, took) = (self.targets.identities(), self.attach_took);
        progress(Progress::Attached { sampler, identities, took });
    }

    /// Also profiles this process from now on. Errors: it does not exist, is a thread of the
    /// kernel, or no source can sample it.
    pub fn add(&mut self, pid: u32) -> Result<(), CaptureError> {
        let Some(identity) = self.targets.add(pid)? else { return Ok(()) };
        if let Err(source) = self.sources.watch(pid) {
            self.targets.remove(pid);
            return Err(CaptureError::Sampler { source, tried: Vec::new(), identities: vec![identity] });
        }
        self.world.add(identity, identity::monotonic_ns());
        // From now on the names of processes tell samples apart.
        self.world.label_keys.process |= self.targets.identities().len() > 1;
        Ok(())
    }

    /// Stops profiling this process, and forgets all that belongs to it. Its samples stay in the
    /// current window.
    pub fn remove(&mut self, pid: u32) {
        self.targets.remove(pid);
        self.sources.unwatch(pid);
        self.world.forget(pid, identity::monotonic_ns());
    }

    /// What the session keeps in memory, and about how many bytes.
    pub fn memory(&self) -> Vec<(&'static str, usize)> {
        let mut owners = self.world.memory_bytes().to_vec();
        owners.push(("events that wait for their order", self.sources.memory_bytes()));
        owners.push(("names", self.namer.memory_bytes()));
        owners.push(("names shared by all captures", store::memory_bytes()));
        owners
    }

    /// At the limit of memory, stores no further stacks in this window.
    fn keep_memory_limit(&mut self) {
        let limit = self.request.max_memory_bytes;
        if limit == 0 || self.memory_checked_at.elapsed() < CHECK_MEMORY_EVERY {
            return;
        }
        self.memory_checked_at = Instant::now();
        let is_exceeded = || own_memory_bytes().is_some_and(|bytes| bytes > limit);
        if is_exceeded() {
            // What is free is not needed.
            release_free_memory();
            if is_exceeded() {
                self.world.collector.store_no_more();
            }
        }
    }

    /// The main loop: drains the buffers until `until` has passed since sampling began, `stop` is
    /// set, or all processes have ended. It returns earlier when a window has got its names.
    pub fn sample(
        &mut self,
        until: Option<Duration>,
        stop: &Stop,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Sampled, SamplerError> {
        loop {
            if let Some(window) = self.namer.try_next() {
                return Ok(Sampled::Named(window));
            }
            let left = until.map_or(POLL_EVERY, |until| until.saturating_sub(self.began.elapsed()));
            if left.is_zero() {
                return Ok(Sampled::Ended(Ended::Duration));
            }
            if stop.is_set() {
                return Ok(Sampled::Ended(Ended::Stopped));
            }
            match self.poll(left.min(self.poll_every), &self.limit(until, stop)) {
                // Not a failure: the profile ends here.
                Err(SamplerError::NoTarget) => return Ok(Sampled::Ended(Ended::TargetsGone)),
                other => other?,
            }
            self.note_ended();
            self.keep_memory_limit();
            let tally = self.world.tally(self.sources.first().id);
            progress(Progress::Sampling { elapsed: self.began.elapsed(), tally });
            if self.all_targets_ended() {
                return Ok(Sampled::Ended(Ended::TargetsGone));
            }
        }
    }

    /// Hands what the samplers have to the world. Samples that come once `limit` is reached are
    /// dropped and counted: the samplers may have more of them than can be unwound in time.
    fn poll(&mut self, timeout: Duration, limit: &Limit<'_>) -> Result<(), SamplerError> {
        self.pass_on_changes();
        let late_before = self.world.late_reads;
        let (world, from_ns) = (&mut self.world, self.from_ns);
        let polled =
            self.sources.poll(timeout, &mut |source, event| handle(world, (limit, from_ns), source, event));
        // The interval grows slowly: at 99 Hz only every fifth poll returns a sample.
        self.poll_every = if self.world.late_reads > late_before {
            POLL_DEEP_EVERY
        } else {
            (self.poll_every + self.poll_every / 8).min(POLL_EVERY)
        };
        polled
    }

    /// Tells the samplers what the world has learned since the last call.
    fn pass_on_changes(&mut self) {
        let (world, sources) = (&mut self.world, &mut self.sources);
        for (tid, start, end) in world.hints.drain(..) {
            sources.hint_stack(tid, start, end);
        }
        hint_runtimes(world, sources);
        world.children.drain(..).for_each(|pid| sources.watch_child(pid));
        world.gone.drain(..).for_each(|pid| sources.ended(pid));
    }

    /// The limit while samples are taken: `until` counts from the start of the capture.
    fn limit<'s>(&self, until: Option<Duration>, stop: &'s Stop) -> Limit<'s> {
        let sampled = until.unwrap_or_else(|| self.began.elapsed());
        Limit {
            spared: Vec::new(),
            at: until.map(|until| self.began + until),
            stop: Some(stop),
            overrun: self.overrun.unwrap_or_else(|| overrun(sampled)),
            stopped_at: Cell::new(None),
        }
    }

    /// The limit for what is still buffered at the end of a window.
    fn drain_limit(&self) -> Limit<'static> {
        let overrun = self.overrun.unwrap_or_else(|| overrun(self.since.at.elapsed()));
        let at = Some(Instant::now());
        let spared = self.sources.iter().map(|source| source.plan.live.sees_waiting).collect();
        Limit { spared, at, stop: None, overrun, stopped_at: Cell::new(None) }
    }

    /// Notes the processes that have ended without an event that showed it.
    fn note_ended(&mut self) {
        let now_ns = identity::monotonic_ns();
        for pid in self.targets.newly_ended() {
            self.world.over.entry(pid).or_insert(now_ns);
        }
    }

    fn all_targets_ended(&self) -> bool {
        if self.targets.any_alive() {
            return false;
        }
        // Children stay in `spaces` until their exit event; a lost event is detected by the number.
        !self.request.children || !self.world.spaces.keys().any(|pid| identify(*pid).is_ok())
    }

    /// Drains the buffers a last time; `sampled` is how sampling ended. Errors: the sampler failed
    /// before it delivered a sample.
    pub fn end(&mut self, sampled: Result<Ended, SamplerError>) -> Result<Ended, CaptureError> {
        let ended = sampled.and_then(|ended| {
            let limit = self.drain_limit();
            let (world, from_ns) = (&mut self.world, self.from_ns);
            let stopped =
                self.sources.stop(&mut |source, event| handle(world, (&limit, from_ns), source, event));
            match stopped {
                Ok(()) | Err(SamplerError::NoTarget) => Ok(ended),
                Err(error) => Err(error),
            }
        });
        match ended {
            Ok(ended) => Ok(ended),
            Err(error) if !self.world.has_samples() && !self.has_returned_profile => {
                Err(CaptureError::SamplerDied(error))
            }
            // The samples taken until then are kept.
            Err(error) => {
                self.world.issues.add(Issue::SamplerFailed { why: error.to_string() }, 1);
                Ok(Ended::Failed)
            }
        }
    }

    /// Ends a window: its profiles are built on another thread, and [`Session::sample`] returns
    /// them. Returns false if too many windows wait for their names: then the samples stay in this
    /// window, which goes on.
    pub fn end_window(&mut self) -> bool {
        if !self.namer.has_room() {
            self.late_names += 1;
            return false;
        }
        let limit = self.drain_limit();
        let (world, from_ns) = (&mut self.world, self.from_ns);
        // If this fails, waits that are in progress are counted in the next window.
        let _ = self.sources.split(&mut |source, event| handle(world, (&limit, from_ns), source, event));
        self.has_returned_profile = true;
        self.submit(Ended::Duration);
        for pid in self.targets.remove_ended() {
            self.world.programs.remove(&pid);
            // Not where a new child of a profiled process has its number.
            if self.world.over.contains_key(&pid) {
                self.sources.ended(pid);
            }
        }
        true
    }

    /// The windows that are not named yet, the oldest first; the last one is that which ends now.
    pub fn finish(mut self, ended: Ended, progress: &mut dyn FnMut(Progress<'_>)) -> Vec<Named> {
        for source in self.sources.iter_mut().filter(|source| source.is_idle()) {
            if let Some(threads) = &mut source.threads {
                threads.add_new(&self.request, self.targets.identities(), &mut self.world);
            }
        }
        let addresses = self.world.collector.places().len();
        self.submit(ended);
        // Closing the events now ends the target's overhead while names are looked up.
        self.sources.close();
        progress(Progress::Naming { addresses });
        std::iter::from_fn(|| self.namer.next()).collect()
    }

    /// Hands the current window over to be named; the next one begins here.
    fn submit(&mut self, ended: Ended) {
        let since = std::mem::replace(&mut self.since, Mark::now(&self.targets));
        let programs = &self.world.programs;
        let now = |identity: &Identity| programs.get(&identity.pid).unwrap_or(identity).clone();
        let identities: Vec<Identity> = self.targets.identities().iter().map(now).collect();
        let charged_ns = self.since.charged.since(&since.charged);
        let kernel_cpu_ns = charged_ns.filter(|_| !self.request.children);
        self.world.issues.add(Issue::LateNames, std::mem::take(&mut self.late_names));
        let is_empty = self.sources.iter().any(|source| self.world.tally(source.id).samples == 0);
        let hindrance = if is_empty { self.targets.hindrance(&since.throttled) } else { None };
        let captures = self.sources.iter_mut().map(|source| Unnamed {
            source: source.id,
            plan: source.plan.clone(),
            threads: source.threads.take(),
            capture: Capture {
                profile: Profile::default(),
                issues: std::mem::take(&mut source.issues),
                tally: Tally::default(),
                sampler: source.description().clone(),
                kind: source.plan.kind,
                identities: identities.clone(),
                ended,
                unnamed_share: 0.0,
                started_at: since.clock,
                elapsed: self.since.at - since.at,
                kernel_cpu_ns,
                hindrance,
                throttled: Throttled::between(&since.quotas, &self.since.quotas, self.since.at - since.at),
                threads_before: None,
                attach_took: self.attach_took,
                finish_took: Duration::ZERO,
            },
        });
        let captures = captures.collect();
        self.namer.submit(Job { window: self.world.close(), captures, closed_at: self.since.at });
    }
}

/// Reads the threads that exist already, for the kind of profile that has them. Returns the errors.
fn read_existing_threads(
    request: &Request,
    targets: &Targets,
    sources: &mut Sources,
    world: &mut World,
) -> Refused {
    let mut refused = Vec::new();
    for source in sources.iter_mut().filter(|source| source.plan.live.reads_threads) {
        match Threads::read_existing(request, targets.identities(), world) {
            Ok(threads) => source.threads = Some(threads),
            Err(error) => refused.push((source.plan.kind, error)),
        }
    }
    refused
}

/// Passes an event on to the world, unless it is a sample from before `from_ns` or comes too late.
fn handle(world: &mut World, (limit, from_ns): (&Limit<'_>, u64), source: SourceId, event: Event<'_>) {
    match event {
        Event::Sample(sample) if sample.time_ns < from_ns => {}
        Event::Sample(_) if limit.is_reached_by(source) => world.tally(source).count_late(),
        event => world.handle(source, event),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, thread::sleep};

    use super::*;
    use crate::{
        capture::collector::ONLY,
        sampler::{Description, RawSample, Sampler},
    };

    /// Hands over all its samples in one poll, as a ring that fills faster than it is read.
    struct Flood {
        description: Description,
        samples: u64,
        pause: Duration,
        /// Set when half of the samples were handed over.
        stop: Option<Stop>,
    }

    impl Sampler for Flood {
        fn description(&self) -> &Description {
            &self.description
        }

        fn poll(&mut self, _: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), SamplerError> {
            let all = std::mem::take(&mut self.samples);
            for number in 0..all {
                if let Some(stop) = self.stop.as_ref().filter(|_| number == all / 2) {
                    stop.0.store(true, Ordering::Relaxed);
                }
                sink(Event::Sample(RawSample::without_stack(number, std::process::id())));
                sleep(self.pause);
            }
            Ok(())
        }

        fn watch(&mut self, _: u32) -> Result<(), SamplerError> {
            Ok(())
        }

        fn unwatch(&mut self, _: u32) {}

        fn stop(&mut self) -> Result<(), SamplerError> {
            Ok(())
        }
    }

    fn flooded(samples: u64, pause: Duration, stop: Option<Stop>) -> Session {
        let description = Description {
            name: "flood",
            event: "none",
            summary: String::new(),
            kernel: false,
            buffer_bytes: 0,
            event_count: 0,
        };
        let targets = Targets::new(vec![identify(std::process::id()).expect("this process")]);
        let world = World::within(LabelKeys::default(), &Default::default());
        let sources = Sources::only(Box::new(Flood { description, samples, pause, stop }));
        let session = Session::with(Arc::default(), targets, world, sources);
        Session { poll_every: POLL_EVERY, overrun: Some(Duration::ZERO), ..session }
    }

    #[test]
    fn samples_that_come_after_the_end_are_dropped_and_counted_as_lost() {
        let mut session = flooded(200, Duration::from_millis(2), None);
        let ended = session.sample(Some(Duration::from_millis(20)), &Stop::default(), &mut |_| {});
        assert!(matches!(ended.expect("sampled"), Sampled::Ended(Ended::Duration)));
        let tally = session.world.tally(ONLY);
        assert_eq!(tally.samples + tally.lost, 200);
        assert_eq!(tally.late, tally.lost);
        assert!((1..=11).contains(&tally.samples), "{} samples in 20 ms, one each 2 ms", tally.samples);
    }

    #[test]
    fn samples_that_are_buffered_at_the_end_are_unwound_for_a_while() {
        let mut session = flooded(50, Duration::from_millis(2), None);
        session.overrun = None;
        let ended = session.sample(Some(Duration::from_millis(20)), &Stop::default(), &mut |_| {});
        assert!(matches!(ended.expect("sampled"), Sampled::Ended(Ended::Duration)));
        let tally = session.world.tally(ONLY);
        assert_eq!((tally.samples, tally.lost), (50, 0));
        assert_eq!(overrun(Duration::from_secs(4)), Duration::from_secs(2));
        assert_eq!(overrun(Duration::from_secs(900)), MOST_OVERRUN);
    }

    #[test]
    fn a_request_to_stop_takes_effect_between_two_samples() {
        let stop = Stop::default();
        let mut session = flooded(100, Duration::ZERO, Some(stop.clone()));
        let ended = session.sample(None, &stop, &mut |_| {}).expect("sampled");
        assert!(matches!(ended, Sampled::Ended(Ended::Stopped)));
        let tally = session.world.tally(ONLY);
        assert_eq!((tally.samples, tally.lost), (50, 50));
    }
}
