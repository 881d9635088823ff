//! The processes that a session was asked to profile: they may be added and removed while it runs.
//!
//! Not here: their mappings (`space`), their descendants, which the world finds.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    capture::CaptureError,
    process::{Hindrance, Identity, cgroup, hindrance, identify, identity, quota::Quota},
};

/// How often processes that have ended are searched for.
const CHECK_PIDS_EVERY: Duration = Duration::from_millis(100);

/// The same for each of them, where there are many.
const CHECK_EACH_EVERY: Duration = Duration::from_millis(10);

/// The requested processes.
#[derive(Debug)]
pub struct Targets {
    identities: Vec<Identity>,
    /// Those of them that have ended, as [`Targets::newly_ended`] has reported.
    ended: Vec<u32>,
    /// When processes that have ended were last searched for.
    checked_at: Instant,
}

/// CPU time that the kernel has charged to processes until some point in time.
#[derive(Debug)]
pub struct Charged(Vec<(u32, Option<u64>)>);

impl Targets {
    /// These processes.
    pub fn new(identities: Vec<Identity>) -> Targets {
        Targets { identities, ended: Vec::new(), checked_at: Instant::now() }
    }

    /// All of them, in the order in which they were added.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Their numbers.
    pub fn pids(&self) -> Vec<u32> {
        self.identities.iter().map(|identity| identity.pid).collect()
    }

    /// Adds a process; `None`: it is known. A process that had its number before is replaced.
    /// Errors: it does not exist, or is a kernel thread.
    pub fn add(&mut self, pid: u32) -> Result<Option<Identity>, CaptureError> {
        let identity = identify(pid)?;
        if identity.is_kernel_thread {
            return Err(CaptureError::KernelThread(pid));
        }
        let same = |known: &Identity| known.pid == pid && known.start_ticks == identity.start_ticks;
        if self.identities.iter().any(same) {
            return Ok(None);
        }
        self.remove(pid);
        self.identities.push(identity.clone());
        Ok(Some(identity))
    }

    /// Removes a process.
    pub fn remove(&mut self, pid: u32) {
        self.identities.retain(|identity| identity.pid != pid);
        self.ended.retain(|ended| *ended != pid);
    }

    /// Removes the processes that [`Targets::newly_ended`] has reported, unless all have ended;
    /// returns their numbers.
    pub fn remove_ended(&mut self) -> Vec<u32> {
        if self.ended.is_empty() || !self.any_alive() {
            return Vec::new();
        }
        let gone = std::mem::take(&mut self.ended);
        self.identities.retain(|identity| !gone.contains(&identity.pid));
        gone
    }

    /// The numbers of processes that have ended, each once; searched for now and then.
    pub fn newly_ended(&mut self) -> Vec<u32> {
        if self.checked_at.elapsed() < self.check_every() {
            return Vec::new();
        }
        self.checked_at = Instant::now();
        let is_new = |identity: &&Identity| !self.ended.contains(&identity.pid) && !identity.is_alive();
        let ended: Vec<u32> = self.identities.iter().filter(is_new).map(|identity| identity.pid).collect();
        self.ended.extend(&ended);
        ended
    }

    /// How often they are searched: of a thousand processes each ten seconds, so that this does not
    /// cost more than the samples.
    fn check_every(&self) -> Duration {
        CHECK_PIDS_EVERY.max(CHECK_EACH_EVERY * u32::try_from(self.identities.len()).unwrap_or(u32::MAX))
    }

    /// Whether one of them still runs.
    pub fn any_alive(&self) -> bool {
        self.identities.iter().any(Identity::is_alive)
    }

    /// The CPU time charged to each of them until now.
    pub fn charged(&self) -> Charged {
        let charged = |identity: &Identity| (identity.pid, identity::cpu_time_ns(identity.pid));
        Charged(self.identities.iter().map(charged).collect())
    }

    /// How often the kernel has throttled each of them until now.
    pub fn throttled(&self) -> Vec<(u32, Option<u64>)> {
        let mut of_groups = BTreeMap::new();
        let mut count =
            |pid: u32| *of_groups.entry(cgroup::paths(pid)).or_insert_with(|| hindrance::throttle_count(pid));
        self.identities.iter().map(|one| (one.pid, count(one.pid))).collect()
    }

    /// The CPU quotas that limit them, each once.
    pub fn quotas(&self) -> Vec<Quota> {
        let mut seen = BTreeSet::new();
        let each_group = self.identities.iter().filter(|one| seen.insert(cgroup::paths(one.pid)));
        let mut quotas: Vec<Quota> = each_group.filter_map(|one| Quota::of(one.pid)).collect();
        quotas.sort_by(|one, other| one.group.cmp(&other.group));
        quotas.dedup_by(|one, other| one.group == other.group);
        quotas
    }

    /// What keeps all of them from running; `None` if one of them may run. `before`: how often they
    /// had been throttled.
    pub fn hindrance(&self, before: &[(u32, Option<u64>)]) -> Option<Hindrance> {
        let was_throttled = |pid: u32| {
            let known = before.iter().find(|(known, _)| *known == pid).and_then(|(_, count)| *count);
            hindrance::throttle_count(pid).zip(known).is_some_and(|(now, known)| now > known)
        };
        let of_one = |identity: &Identity| {
            let pid = identity.pid;
            Hindrance::of(pid).or_else(|| was_throttled(pid).then_some(Hindrance::Throttled))
        };
        let all: Option<Vec<Hindrance>> = self.identities.iter().map(of_one).collect();
        all?.first().copied()
    }
}

impl Charged {
    /// The nanoseconds charged between `before` and this; `None` if a process has ended, or the
    /// processes are not the same.
    pub fn since(&self, before: &Charged) -> Option<u64> {
        if self.0.len() != before.0.len() {
            return None;
        }
        let pairs = self.0.iter().zip(&before.0);
        pairs
            .map(|((pid, now_ns), (known, before_ns))| {
                (pid == known).then_some(())?;
                Some((*now_ns)?.saturating_sub((*before_ns)?))
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_added_once_and_can_be_removed() {
        let me = std::process::id();
        let mut targets = Targets::new(Vec::new());
        assert!(targets.add(me).expect("this process").is_some());
        assert!(targets.add(me).expect("this process").is_none());
        assert_eq!(targets.pids(), [me]);
        assert!(targets.any_alive() && targets.remove_ended().is_empty());
        assert!(matches!(targets.add(0x7fff_0000), Err(CaptureError::Process(_))));
        assert!(targets.add(2).is_err(), "a thread of the kernel, or not in this namespace");
        targets.remove(me);
        assert!(targets.pids().is_empty());
    }

    #[test]
    fn charged_time_is_known_only_for_the_same_living_processes() {
        let before = Charged(vec![(1, Some(10)), (2, Some(20))]);
        assert_eq!(Charged(vec![(1, Some(15)), (2, Some(21))]).since(&before), Some(6));
        assert_eq!(Charged(vec![(1, Some(15)), (2, None)]).since(&before), None);
        assert_eq!(Charged(vec![(1, Some(15))]).since(&before), None);
        assert_eq!(Charged(vec![(1, Some(15)), (3, Some(21))]).since(&before), None);
    }
}
