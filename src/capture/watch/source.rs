//! The sources of samples of a session: one sampler for each kind of profile. All report the same
//! processes, and one of them also what changes in these.
//!
//! Not here: opening a sampler (`attach`), what its events mean (`world`).

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::merge::Merge;
use crate::{
    addr::RuntimeAddr,
    capture::{
        CaptureError, Request, attach, collector::SourceId, identify_all, kinds::Kind, request::Plan,
        threadcreate::Threads,
    },
    issue::{Issue, Issues},
    process::{Hints, Identity, identity},
    sampler::{Description, Event, Sampler, SamplerError, idle},
};

/// How long an event may need until its source reports it, in nanoseconds.
const SETTLE_NS: u64 = 1_500_000;

/// How often samplers are opened for processes that fork meanwhile.
const MOST_OPENINGS: usize = 3;

/// One source of samples.
pub struct Source {
    /// What it measures, and how.
    pub plan: Plan,
    /// Its number in the world.
    pub id: SourceId,
    /// Its own issues of the current window.
    pub issues: Issues,
    /// The threads whose stacks were read, where the kind shows them too.
    pub threads: Option<Threads>,
    description: Description,
    /// `None`: it has failed, or was closed.
    sampler: Option<Box<dyn Sampler>>,
    /// Why it has failed.
    failure: Option<SamplerError>,
    /// All its processes have ended.
    has_no_target: bool,
}

/// Kinds that cannot be sampled, with the reason.
pub type Refused = Vec<(Kind, CaptureError)>;

/// The sources of a session.
pub struct Sources {
    list: Vec<Source>,
    merge: Merge,
    /// The index of the source whose reports of mappings, forks and exits are used.
    reporter: usize,
}

impl Sources {
    /// Finds the processes of a request and opens a sampler for each plan. A plan without a sampler
    /// is returned with its error. Errors: a process does not exist, or there is no sampler for any
    /// plan.
    ///
    /// Samplers follow forks from when they are open, which takes a tenth of a second. If a process
    /// has a new child then, the child may have been created before: all samplers are opened again,
    /// with the child.
    pub fn open(
        request: &Request,
        plans: &[Plan],
    ) -> Result<(Vec<Identity>, Sources, Refused), CaptureError> {
        let mut identities = identify_all(&request.pids, request.children)?;
        let mut opened = Sources::of(plans, &identities)?;
        for _ in 1..MOST_OPENINGS {
            let Some(all) = with_new_children(request, &identities) else { break };
            // The kernel may not have room for two of each.
            drop(opened);
            identities = all;
            opened = Sources::of(plans, &identities)?;
        }
        let (sources, refused) = opened;
        Ok((identities, sources, refused))
    }

    /// Opens a sampler of these processes for each plan; their numbers are those of the plans.
    fn of(plans: &[Plan], identities: &[Identity]) -> Result<(Sources, Refused), CaptureError> {
        let mut sources = Sources { list: Vec::new(), merge: Merge::default(), reporter: 0 };
        let mut refused = Vec::new();
        let mut has_reporter = false;
        for (id, plan) in plans.iter().enumerate() {
            let mut issues = Issues::default();
            match attach::open((plan, !has_reporter), identities, &mut issues) {
                Ok(sampler) => {
                    if !has_reporter && sampler.reports_changes() {
                        (has_reporter, sources.reporter) = (true, sources.list.len());
                    }
                    sources.list.push(Source::new(plan.clone(), id, sampler, issues));
                }
                Err(error) => refused.push((plan.kind, error)),
            }
        }
        match refused.pop() {
            Some((_, error)) if sources.list.is_empty() => Err(error),
            last => {
                refused.extend(last);
                Ok((sources, refused))
            }
        }
    }

    #[cfg(test)]
    pub fn only(sampler: Box<dyn Sampler>) -> Sources {
        let source =
            Source::new(Plan::default(), crate::capture::collector::ONLY, sampler, Issues::default());
        Sources { list: vec![source], merge: Merge::default(), reporter: 0 }
    }

    /// Closes the source of a kind.
    pub fn close_kind(&mut self, kind: Kind) {
        self.list.retain(|source| source.plan.kind != kind);
        self.reporter = self.list.iter().position(Source::reports_changes).unwrap_or(0);
    }

    /// Each source.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.list.iter()
    }

    /// Each source.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.list.iter_mut()
    }

    /// The first source.
    pub fn first(&self) -> &Source {
        &self.list[0]
    }

    /// The first source.
    pub fn first_mut(&mut self) -> &mut Source {
        &mut self.list[0]
    }

    /// Waits for events and passes them to `sink`, in order of time. Errors: `NoTarget` once every
    /// process has ended; another error if no source is left. (A source that fails beside others
    /// has an issue.)
    pub fn poll(
        &mut self,
        timeout: Duration,
        sink: &mut dyn FnMut(SourceId, Event<'_>),
    ) -> Result<(), SamplerError> {
        if let [only] = &mut self.list[..] {
            return only.poll(timeout, sink);
        }
        let until_ns = self.collect(timeout)?;
        self.merge.hand_over(until_ns, sink);
        Ok(())
    }

    /// Passes to `sink` what belongs to the time until now, so that a window can end. Waits that
    /// are in progress are split: the next window begins with the rest of them.
    pub fn split(&mut self, sink: &mut dyn FnMut(SourceId, Event<'_>)) -> Result<(), SamplerError> {
        if let [only] = &mut self.list[..] {
            only.split()?;
            return only.poll(Duration::ZERO, sink);
        }
        let now_ns = identity::monotonic_ns();
        sleep(Duration::from_nanos(SETTLE_NS));
        self.collect(Duration::ZERO)?;
        self.merge.hand_over(now_ns, sink);
        for source in self.list.iter_mut().filter(|source| source.plan.live.sees_waiting) {
            source.or_fail(|source| {
                source.split()?;
                source.poll(Duration::ZERO, sink)
            });
        }
        Ok(())
    }

    /// Stops all sources and passes the rest of their events to `sink`.
    pub fn stop(&mut self, sink: &mut dyn FnMut(SourceId, Event<'_>)) -> Result<(), SamplerError> {
        if let [only] = &mut self.list[..] {
            only.stop()?;
            return only.poll(Duration::ZERO, sink);
        }
        for source in &mut self.list {
            source.or_fail(Source::stop);
        }
        let collected = self.collect(Duration::ZERO);
        self.merge.hand_over(u64::MAX, sink);
        collected.map(drop)
    }

    /// Polls all sources into [`Merge`]; returns until when the events of all of them are known,
    /// CLOCK_MONOTONIC in nanoseconds.
    fn collect(&mut self, timeout: Duration) -> Result<u64, SamplerError> {
        let due = self.list.iter().filter_map(|source| source.sampler.as_ref()?.due()).min();
        let timeout = due.map_or(timeout, |due| timeout.min(due.saturating_duration_since(Instant::now())));
        // One source waits for all: that which reports changes.
        let reporter = self.reporter;
        if self.list[reporter].is_active() {
            self.collect_from(reporter, timeout);
        } else {
            sleep(timeout);
        }
        let until_ns = identity::monotonic_ns().saturating_sub(SETTLE_NS);
        for index in (0..self.list.len()).filter(|index| *index != reporter) {
            self.collect_from(index, Duration::ZERO);
        }
        if self.list.iter().any(Source::is_active) {
            return Ok(until_ns);
        }
        let failure = self.list.iter_mut().find_map(|source| source.failure.take());
        if self.list.iter().any(|source| source.has_no_target) {
            return Err(SamplerError::NoTarget);
        }
        Err(failure.unwrap_or(SamplerError::NoTarget))
    }

    fn collect_from(&mut self, index: usize, timeout: Duration) {
        let (merge, is_reporter) = (&mut self.merge, index == self.reporter);
        let source = &mut self.list[index];
        if !source.is_active() {
            return;
        }
        source.or_fail(|source| {
            source.poll(timeout, &mut |id, event| {
                let is_own = matches!(event, Event::Sample(_) | Event::LostSamples { .. });
                if is_reporter || is_own {
                    merge.push(id, &event);
                }
            })
        });
    }

    /// Also samples this process. Errors: no source can.
    pub fn watch(&mut self, pid: u32) -> Result<(), SamplerError> {
        let mut watched = Err(SamplerError::NoTarget);
        for source in &mut self.list {
            let Some(sampler) = &mut source.sampler else { continue };
            match sampler.watch(pid) {
                Ok(()) => {
                    source.has_no_target = false;
                    watched = Ok(());
                }
                Err(SamplerError::NoTarget) => {}
                Err(error) => {
                    let what = format!("process {pid}");
                    source.issues.add(Issue::Unwatched { what, why: error.to_string() }, 1);
                    watched = watched.or(Err(error));
                }
            }
        }
        watched
    }

    /// A child of a sampled process is sampled already; sources that are not told of forks learn of
    /// it here.
    pub fn watch_child(&mut self, pid: u32) {
        for (index, source) in self.list.iter_mut().enumerate() {
            if index != self.reporter
                && let Some(sampler) = &mut source.sampler
                && !sampler.reports_changes()
            {
                // It may have ended already.
                let _ = sampler.watch(pid);
            }
        }
    }

    /// No longer samples this process.
    pub fn unwatch(&mut self, pid: u32) {
        self.samplers().for_each(|sampler| sampler.unwatch(pid));
    }

    /// This process has ended.
    pub fn ended(&mut self, pid: u32) {
        self.samplers().for_each(|sampler| sampler.ended(pid));
    }

    /// See [`Sampler::hint_stack`].
    pub fn hint_stack(&mut self, tid: u32, start: RuntimeAddr, end: RuntimeAddr) {
        self.samplers().for_each(|sampler| sampler.hint_stack(tid, start, end));
    }

    /// See [`Sampler::hint_runtimes`]; returns the errors.
    pub fn hint_runtimes(&mut self, pid: u32, hints: &Hints) -> Vec<SamplerError> {
        self.samplers().filter_map(|sampler| sampler.hint_runtimes(pid, hints).err()).collect()
    }

    fn samplers(&mut self) -> impl Iterator<Item = &mut Box<dyn Sampler>> {
        self.list.iter_mut().filter_map(|source| source.sampler.as_mut())
    }

    /// Closes all samplers; their descriptions stay.
    pub fn close(&mut self) {
        for source in &mut self.list {
            source.description();
            source.sampler = None;
        }
    }

    /// About how many bytes waiting events take.
    pub fn memory_bytes(&self) -> usize {
        self.merge.memory_bytes()
    }
}

/// All processes of a request, if there are children that are not among `known`.
fn with_new_children(request: &Request, known: &[Identity]) -> Option<Vec<Identity>> {
    if !request.children {
        return None;
    }
    // If a process has ended meanwhile, the sampler reports it.
    let all = identify_all(&request.pids, true).ok()?;
    let is_known = |pid: u32| known.iter().any(|identity| identity.pid == pid);
    all.iter().any(|identity| !is_known(identity.pid)).then_some(all)
}

impl Source {
    fn new(plan: Plan, id: SourceId, sampler: Box<dyn Sampler>, issues: Issues) -> Source {
        Source {
            plan,
            id,
            issues,
            threads: None,
            description: sampler.description().clone(),
            sampler: Some(sampler),
            failure: None,
            has_no_target: false,
        }
    }

    fn reports_changes(&self) -> bool {
        self.sampler.as_ref().is_some_and(|sampler| sampler.reports_changes())
    }

    fn is_active(&self) -> bool {
        self.sampler.is_some() && !self.has_no_target
    }

    /// Whether the sampler delivers no events (see `sampler::idle`).
    pub fn is_idle(&self) -> bool {
        self.description.name == idle::NAME
    }

    /// How it samples, as the sampler describes it now.
    pub fn description(&mut self) -> &Description {
        if let Some(sampler) = &self.sampler {
            self.description.clone_from(sampler.description());
        }
        &self.description
    }

    fn poll(
        &mut self,
        timeout: Duration,
        sink: &mut dyn FnMut(SourceId, Event<'_>),
    ) -> Result<(), SamplerError> {
        let id = self.id;
        match &mut self.sampler {
            Some(sampler) => sampler.poll(timeout, &mut |event| sink(id, event)),
            None => Ok(()),
        }
    }

    fn split(&mut self) -> Result<(), SamplerError> {
        self.sampler.as_mut().map_or(Ok(()), |sampler| sampler.split())
    }

    fn stop(&mut self) -> Result<(), SamplerError> {
        self.sampler.as_mut().map_or(Ok(()), |sampler| sampler.stop())
    }

    /// If `work` fails, this source ends and the others go on.
    fn or_fail(&mut self, work: impl FnOnce(&mut Source) -> Result<(), SamplerError>) {
        match work(self) {
            Ok(()) => {}
            Err(SamplerError::NoTarget) => self.has_no_target = true,
            Err(error) => {
                self.issues.add(Issue::SamplerFailed { why: error.to_string() }, 1);
                self.sampler = None;
                self.failure = Some(error);
            }
        }
    }
}
