//! A running capture: the sampler, the state it has built up, and the profiles made from it.
//!
//! Not here: kinds of profiles and durations ([`super::run`], [`super::windows`]), the content of a
//! profile (`finish`).

use std::time::{Duration, Instant, SystemTime};

use super::{
    Capture, CaptureError, Ended, LabelKeys, POLL_DEEP_EVERY, POLL_EVERY, Progress, Request, Stop, attach,
    finish, identify_all,
    naming::{Names, name_new},
    threadcreate::Threads,
    world::World,
};
use crate::{
    issue::{Issue, Issues},
    process::{Identity, identify, identity},
    profile::proto::Profile,
    sampler::{Sampler, SamplerError, idle},
};

/// A running capture.
pub(super) struct Session<'r> {
    request: &'r Request,
    identities: Vec<Identity>,
    world: World,
    sampler: Box<dyn Sampler>,
    names: Names,
    began: Instant,
    attach_took: Duration,
    /// Where the current profile begins.
    since: Mark,
    poll_every: Duration,
    /// Whether a profile has been returned already.
    has_returned_profile: bool,
}

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

impl<'r> Session<'r> {
    /// Begins to sample. Errors: a process does not exist or cannot be profiled.
    pub fn begin(request: &'r Request) -> Result<Session<'r>, CaptureError> {
        let opening = Instant::now();
        let identities = identify_all(&request.pids, request.children)?;
        let pids: Vec<u32> = identities.iter().map(|identity| identity.pid).collect();
        let several = pids.len() > 1 || request.children;
        let labels = LabelKeys { process: request.labels.process || several, ..request.labels };
        let mut world = World::new(labels);
        let sampler = attach::open(request, &pids, &identities, &mut world.issues)?;
        let since = Mark::now(pids.iter().copied());
        let now_ns = identity::monotonic_ns();
        pids.iter().for_each(|pid| world.watch(*pid, now_ns));
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
            // Short at first: it is not known yet whether stacks are deeper than their copies.
            poll_every: POLL_DEEP_EVERY,
            has_returned_profile: false,
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
        threads.add_new(self.request, &self.identities, &mut self.world.issues);
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
            match self.poll(left.min(self.poll_every)) {
                // Not a failure: the profile ends here.
                Err(SamplerError::NoTarget) => return Ok(Ended::TargetsGone),
                other => other?,
            }
            progress(Progress::Sampling { elapsed: self.began.elapsed(), tally: &self.world.tally });
            if self.all_targets_ended() {
                return Ok(Ended::TargetsGone);
            }
        }
    }

    fn poll(&mut self, timeout: Duration) -> Result<(), SamplerError> {
        let (world, sampler) = (&mut self.world, &mut self.sampler);
        for (tid, start, end) in world.hints.drain(..) {
            sampler.hint_stack(tid, start, end);
        }
        for (pid, layout) in world.task_hints.drain(..) {
            sampler.hint_tasks(pid, layout.as_ref());
        }
        let late_before = world.late_reads;
        let polled = sampler.poll(timeout, &mut |event| world.handle(event));
        // The interval grows slowly: at 99 Hz only every fifth poll returns a sample.
        self.poll_every = if world.late_reads > late_before {
            POLL_DEEP_EVERY
        } else {
            (self.poll_every + self.poll_every / 8).min(POLL_EVERY)
        };
        polled
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
            match self.poll(Duration::ZERO) {
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
        let _ = self.sampler.split().and_then(|()| self.poll(Duration::ZERO));
        self.has_returned_profile = true;
        let capture = self.capture(Ended::Duration);
        self.learn_kernel_names();
        let (world, names) = (&mut self.world, &mut self.names);
        let capture = with_profile(capture, self.request, world, names, None, progress);
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
        with_profile(capture, request, &mut world, &mut names, threads, progress)
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
    request: &Request,
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
