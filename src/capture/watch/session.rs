//! A running capture: the sampler, the state it has built up, and the profiles made from it.
//!
//! Not here: kinds of profiles and durations (`capture::open`), the content of a
//! profile (`finish`).

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use super::world::World;
use crate::{
    capture::{
        Capture, CaptureError, Ended, LabelKeys, POLL_DEEP_EVERY, POLL_EVERY, Progress, Stop, attach, finish,
        name::names::{Names, name_new},
        request::Plan,
        threadcreate::Threads,
    },
    issue::{Issue, Issues},
    process::{Identity, identify, identity},
    profile::proto::Profile,
    sampler::{Event, Sampler, SamplerError, idle},
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
    at: Option<Instant>,
    stop: Option<&'a Stop>,
    overrun: Duration,
    /// When the request to stop was first seen.
    stopped_at: Cell<Option<Instant>>,
}

impl Limit<'_> {
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
    request: Plan,
    identities: Vec<Identity>,
    world: World,
    sampler: Box<dyn Sampler>,
    names: Names,
    began: Instant,
    attach_took: Duration,
    /// Where the current profile begins.
    since: Mark,
    /// Samples before this time are not counted.
    from_ns: u64,
    poll_every: Duration,
    /// When processes that have ended were last searched for.
    pids_checked_at: Instant,
    /// Whether a profile has been returned already.
    has_returned_profile: bool,
    /// How long buffered samples may take to unwind; `None`: as long as [`overrun`] says.
    overrun: Option<Duration>,
}

/// How often processes that have ended are searched for.
const CHECK_PIDS_EVERY: Duration = Duration::from_millis(100);

/// A point in time, and the CPU time used until then.
struct Mark {
    at: Instant,
    clock: SystemTime,
    /// CPU time of each process in nanoseconds; `None`: it has ended.
    cpu_ns: Vec<Option<u64>>,
}

impl Mark {
    fn now(pids: impl Iterator<Item = u32>) -> Mark {
        let (clock, at) = (SystemTime::now(), Instant::now());
        // Both clocks are read at the same point, before the slower CPU times.
        Mark { at, clock, cpu_ns: pids.map(identity::cpu_time_ns).collect() }
    }
}

/// Tells the sampler what runtimes ask it to read; whether any asks for frames.
fn hint_runtimes(world: &mut World, sampler: &mut dyn Sampler) -> bool {
    let mut asks = false;
    for (pid, hints) in world.runtime_hints.drain(..) {
        asks |= hints.walker.is_some() || hints.reader.is_some();
        if let Err(error) = sampler.hint_runtimes(pid, &hints) {
            world.issues.add(Issue::LanguageFrames { why: error.to_string() }, 1);
        }
    }
    asks
}

impl Session {
    /// Begins to sample. Errors: a process does not exist or cannot be profiled.
    pub fn begin(request: Plan) -> Result<Session, CaptureError> {
        let opening = Instant::now();
        let mut issues = Issues::default();
        let (identities, mut sampler) = attach::open(&request, &mut issues)?;
        let pids: Vec<u32> = identities.iter().map(|identity| identity.pid).collect();
        let several = pids.len() > 1 || request.children;
        let labels = LabelKeys { process: request.labels.process || several, ..request.labels };
        let mut world = World::within(labels, &request.symbolize.budget);
        world.frame_choice = request.frames;
        world.issues = issues;
        let mut since = Mark::now(pids.iter().copied());
        let now_ns = identity::monotonic_ns();
        pids.iter().for_each(|pid| world.watch(*pid, now_ns));
        // Samples before the sampler knows the runtimes lack their frames: the profile begins now.
        let mut from_ns = 0;
        if hint_runtimes(&mut world, &mut *sampler) {
            (since, from_ns) = (Mark::now(pids.iter().copied()), identity::monotonic_ns());
        }
        world.programs = identities.iter().map(|identity| (identity.pid, identity.clone())).collect();
        Ok(Session {
            request,
            identities,
            world,
            sampler,
            names: Names::default(),
            began: since.at,
            attach_took: opening.elapsed(),
            since,
            from_ns,
            // Short at first: it is not known yet whether stacks are deeper than their copies.
            poll_every: POLL_DEEP_EVERY,
            has_returned_profile: false,
            overrun: None,
            pids_checked_at: Instant::now(),
        })
    }

    /// The profiled processes.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The time since sampling began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether the sampler delivers no events (see `sampler::idle`).
    pub fn is_idle(&self) -> bool {
        self.sampler.description().name == idle::NAME
    }

    /// Reports the profiled processes and the sampler.
    pub fn report_attached(&self, progress: &mut dyn FnMut(Progress<'_>)) {
        progress(Progress::Attached {
            sampler: self.sampler.description(),
            identities: &self.identities,
            took: self.attach_took,
        });
    }

    /// Adds the threads created since `threads` was read.
    pub fn add_new_threads(&mut self, threads: &mut Threads) {
        threads.add_new(&self.request, &self.identities, &mut self.world.issues);
    }

    /// The main loop: drains the buffers until `until` has passed since sampling began, `stop` is
    /// set, or all processes have ended.
    pub fn sample(
        &mut self,
        until: Option<Duration>,
        stop: &Stop,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Ended, SamplerError> {
        loop {
            let left = until.map_or(POLL_EVERY, |until| until.saturating_sub(self.began.elapsed()));
            if left.is_zero() {
                return Ok(Ended::Duration);
            }
            if stop.is_set() {
                return Ok(Ended::Stopped);
            }
            match self.poll(left.min(self.poll_every), &self.limit(until, stop)) {
                // Not a failure: the profile ends here.
                Err(SamplerError::NoTarget) => return Ok(Ended::TargetsGone),
                other => other?,
            }
            self.note_ended();
            progress(Progress::Sampling { elapsed: self.began.elapsed(), tally: &self.world.tally });
            if self.all_targets_ended() {
                return Ok(Ended::TargetsGone);
            }
        }
    }

    /// Hands what the sampler has to the world. Samples that come once `limit` is reached are
    /// dropped and counted: the sampler may have more of them than can be unwound in time.
    fn poll(&mut self, timeout: Duration, limit: &Limit<'_>) -> Result<(), SamplerError> {
        let (world, sampler) = (&mut self.world, &mut self.sampler);
        for (tid, start, end) in world.hints.drain(..) {
            sampler.hint_stack(tid, start, end);
        }
        hint_runtimes(world, &mut **sampler);
        let late_before = world.late_reads;
        let from_ns = self.from_ns;
        let polled = sampler.poll(timeout, &mut |event| match event {
            Event::Sample(sample) if sample.time_ns < from_ns => {}
            Event::Sample(_) if limit.is_reached() => world.tally.count_late(),
            event => world.handle(event),
        });
        // The interval grows slowly: at 99 Hz only every fifth poll returns a sample.
        self.poll_every = if world.late_reads > late_before {
            POLL_DEEP_EVERY
        } else {
            (self.poll_every + self.poll_every / 8).min(POLL_EVERY)
        };
        polled
    }

    /// The limit while samples are taken: `until` counts from the start of the capture.
    fn limit<'s>(&self, until: Option<Duration>, stop: &'s Stop) -> Limit<'s> {
        let sampled = until.unwrap_or_else(|| self.began.elapsed());
        Limit {
            at: until.map(|until| self.began + until),
            stop: Some(stop),
            overrun: self.overrun.unwrap_or_else(|| overrun(sampled)),
            stopped_at: Cell::new(None),
        }
    }

    /// The limit for what is still buffered at the end of a profile. Threads that still wait then
    /// come last, one sample each: they have none.
    fn drain_limit(&self) -> Limit<'static> {
        let at = (!self.request.live.sees_waiting).then(Instant::now);
        let overrun = self.overrun.unwrap_or_else(|| overrun(self.since.at.elapsed()));
        Limit { at, stop: None, overrun, stopped_at: Cell::new(None) }
    }

    /// Notes the processes that have ended without an event that showed it.
    fn note_ended(&mut self) {
        if self.pids_checked_at.elapsed() < CHECK_PIDS_EVERY {
            return;
        }
        self.pids_checked_at = Instant::now();
        let now_ns = identity::monotonic_ns();
        for identity in self.identities.iter().filter(|identity| !identity.is_alive()) {
            self.world.over.entry(identity.pid).or_insert(now_ns);
        }
    }

    fn all_targets_ended(&self) -> bool {
        if self.identities.iter().any(Identity::is_alive) {
            return false;
        }
        // Children stay in `spaces` until their exit event; a lost event is detected by the number.
        !self.request.children || !self.world.spaces.keys().any(|pid| identify(*pid).is_ok())
    }

    /// Drains the buffers a last time; `sampled` is how sampling ended. Errors: the sampler failed
    /// before it delivered a sample.
    pub fn end(&mut self, sampled: Result<Ended, SamplerError>) -> Result<Ended, CaptureError> {
        let ended = sampled.and_then(|ended| {
            self.sampler.stop()?;
            match self.poll(Duration::ZERO, &self.drain_limit()) {
                Ok(()) | Err(SamplerError::NoTarget) => Ok(ended),
                Err(error) => Err(error),
            }
        });
        match ended {
            Ok(ended) => Ok(ended),
            Err(error) if self.world.tally.samples == 0 && !self.has_returned_profile => {
                Err(CaptureError::SamplerDied(error))
            }
            // The samples taken until then are kept.
            Err(error) => {
                self.world.issues.add(Issue::SamplerFailed { why: error.to_string() }, 1);
                Ok(Ended::Failed)
            }
        }
    }

    /// The profile of the window since the last one; sampling continues.
    pub fn window(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Capture {
        // If this fails, waits that are in progress are counted in the next profile.
        let _ = self.sampler.split().and_then(|()| self.poll(Duration::ZERO, &self.drain_limit()));
        self.has_returned_profile = true;
        let capture = self.capture(Ended::Duration);
        self.learn_kernel_names();
        let (world, names) = (&mut self.world, &mut self.names);
        let capture = with_profile(capture, &self.request, world, names, None, progress);
        self.world.collector.forget_stacks();
        if self.world.collector.is_crowded() {
            self.world.forget_labels_and_places();
            self.names = Names::default();
        }
        capture
    }

    /// The last profile.
    pub fn finish(
        mut self,
        ended: Ended,
        threads: Option<Threads>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Capture {
        let capture = self.capture(ended);
        self.learn_kernel_names();
        let Session { request, mut world, mut names, sampler, .. } = self;
        // Closing the events now ends the target's overhead while names are looked up.
        drop(sampler);
        with_profile(capture, &request, &mut world, &mut names, threads, progress)
    }

    fn learn_kernel_names(&mut self) {
        let addresses = self.world.kernel_addresses(self.names.count());
        if !addresses.is_empty() {
            self.world.kernel_names = self.sampler.kernel_names(&addresses);
        }
    }

    /// A capture without its profile; the next window begins here.
    fn capture(&mut self, ended: Ended) -> Capture {
        let pids = self.identities.iter().map(|identity| identity.pid);
        let since = std::mem::replace(&mut self.since, Mark::now(pids));
        let programs = &self.world.programs;
        let now = |identity: &Identity| programs.get(&identity.pid).unwrap_or(identity).clone();
        let kernel_cpu_ns = (since.cpu_ns.iter().zip(&self.since.cpu_ns))
            .map(|(before, after)| Some(after.as_ref()?.saturating_sub((*before)?)))
            .sum::<Option<u64>>()
            .filter(|_| !self.request.children);
        Capture {
            profile: Profile::default(),
            issues: Issues::default(),
            tally: std::mem::take(&mut self.world.tally),
            sampler: self.sampler.description().clone(),
            kind: self.request.kind,
            identities: self.identities.iter().map(now).collect(),
            ended,
            unnamed_share: 0.0,
            started_at: since.clock,
            elapsed: self.since.at - since.at,
            kernel_cpu_ns,
            threads_before: None,
            attach_took: self.attach_took,
            finish_took: Duration::ZERO,
        }
    }
}

/// Adds the profile to a capture.
fn with_profile(
    mut capture: Capture,
    request: &Plan,
    world: &mut World,
    names: &mut Names,
    threads: Option<Threads>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Capture {
    let finishing = Instant::now();
    progress(Progress::Naming { addresses: world.collector.places().len() - names.count() });
    name_new(&request.symbolize, world, names);
    finish::finish(request, world, names, threads, &mut capture);
    capture.finish_took = finishing.elapsed();
    capture
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, thread::sleep};

    use super::*;
    use crate::sampler::{Description, RawSample};

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

        fn stop(&mut self) -> Result<(), SamplerError> {
            Ok(())
        }
    }

    fn flooded(request: &Plan, samples: u64, pause: Duration, stop: Option<Stop>) -> Session {
        let description = Description {
            name: "flood",
            event: "none",
            summary: String::new(),
            kernel: false,
            buffer_bytes: 0,
            event_count: 0,
        };
        let pid = std::process::id();
        let since = Mark::now(std::iter::once(pid));
        Session {
            request: request.clone(),
            identities: vec![identify(pid).expect("this process")],
            world: World::within(LabelKeys::default(), &Default::default()),
            sampler: Box::new(Flood { description, samples, pause, stop }),
            names: Names::default(),
            began: since.at,
            attach_took: Duration::ZERO,
            since,
            from_ns: 0,
            poll_every: POLL_EVERY,
            pids_checked_at: Instant::now(),
            has_returned_profile: false,
            overrun: Some(Duration::ZERO),
        }
    }

    #[test]
    fn samples_that_come_after_the_end_are_dropped_and_counted_as_lost() {
        let request = Plan::default();
        let mut session = flooded(&request, 200, Duration::from_millis(2), None);
        let ended = session.sample(Some(Duration::from_millis(20)), &Stop::default(), &mut |_| {});
        assert_eq!(ended.expect("sampled"), Ended::Duration);
        let tally = &session.world.tally;
        assert_eq!(tally.samples + tally.lost, 200);
        assert_eq!(tally.late, tally.lost);
        assert!((1..=11).contains(&tally.samples), "{} samples in 20 ms, one each 2 ms", tally.samples);
    }

    #[test]
    fn samples_that_are_buffered_at_the_end_are_unwound_for_a_while() {
        let request = Plan::default();
        let mut session = flooded(&request, 50, Duration::from_millis(2), None);
        session.overrun = None;
        let ended = session.sample(Some(Duration::from_millis(20)), &Stop::default(), &mut |_| {});
        assert_eq!(ended.expect("sampled"), Ended::Duration);
        assert_eq!((session.world.tally.samples, session.world.tally.lost), (50, 0));
        assert_eq!(overrun(Duration::from_secs(4)), Duration::from_secs(2));
        assert_eq!(overrun(Duration::from_secs(900)), MOST_OVERRUN);
    }

    #[test]
    fn a_request_to_stop_takes_effect_between_two_samples() {
        let (request, stop) = (Plan::default(), Stop::default());
        let mut session = flooded(&request, 100, Duration::ZERO, Some(stop.clone()));
        let ended = session.sample(None, &stop, &mut |_| {}).expect("sampled");
        assert_eq!(ended, Ended::Stopped);
        assert_eq!((session.world.tally.samples, session.world.tally.lost), (50, 50));
    }
}
