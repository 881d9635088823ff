//! Limits on what foreign bytes may cost: memory, temporary disk space and work.
//!
//! Files, process memory and perf maps may be crafted. Every reader that copies, decompresses or
//! repeatedly scans such bytes draws from a [`Budget`]: one a file, which draws from that of its
//! process and that of the session. When a budget is exhausted or the session is stopped, the
//! reader returns what it has, and the lack is reported as [`crate::issue::Issue::LimitReached`].
//!
//! Not here: memory-mapped bytes, which the kernel can drop, and limits on time.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Memory, disk and work of one file. The largest debug information known (a browser's)
/// decompresses to about 1 GiB.
const FILE: [u64; 3] = [256 * MIB, 3 * GIB, 4 * GIB];
/// Memory, disk and work of one process: a Go program with a million goroutines takes about 300
/// MiB.
const PROCESS: [u64; 3] = [512 * MIB, 4 * GIB, 64 * GIB];
/// Memory, disk and work of all files and processes of a session. Work ends with each file, and a
/// session may live long.
const SESSION: [u64; 3] = [GIB, 4 * GIB, u64::MAX];

/// How long work may go on after the session was stopped: a signal must end rprof within a second,
/// and the profile is still to be written.
const GRACE: Duration = Duration::from_millis(600);

/// What a reader consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Bytes of anonymous memory.
    Memory,
    /// Bytes of a temporary file.
    Disk,
    /// Bytes of foreign memory or files that are scanned; not given back.
    Work,
}

/// Why a reader must end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Exhausted {
    /// The limit of a file, process or session would be exceeded.
    #[error("it needs more {} than the limit of {} MiB", resource(.0), .1 / MIB)]
    Limit(Resource, u64),
    /// The session was stopped (SIGINT, SIGTERM, the client disconnected).
    #[error("rprof was stopped before all of it was read")]
    Stopped,
}

fn resource(which: &Resource) -> &'static str {
    match which {
        Resource::Memory => "memory",
        Resource::Disk => "disk space",
        Resource::Work => "reading",
    }
}

/// An account of resources. Clones share it.
#[derive(Clone)]
pub struct Budget(Arc<Account>);

struct Account {
    limits: [u64; 3],
    used: [AtomicU64; 3],
    parent: Option<Budget>,
    /// Set from outside to end all work.
    stop: Option<Arc<AtomicBool>>,
    /// When the stop was first noticed.
    stopped_at: OnceLock<Instant>,
    /// The first refusal.
    refusal: OnceLock<Exhausted>,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    resource: Resource,
    amount: u64,
}

impl Budget {
    /// The budget of a session: all files and processes that one command or request reads.
    pub fn session() -> Budget {
        Budget::new(SESSION, None, None)
    }

    /// A budget within this one that also ends when `stop` is set.
    pub fn stopped_by(&self, stop: Arc<AtomicBool>) -> Budget {
        Budget::new(SESSION, Some(self.clone()), Some(stop))
    }

    /// The budget of one process within this session.
    pub fn process(&self) -> Budget {
        Budget::new(PROCESS, Some(self.clone()), None)
    }

    /// The budget of one file within this session or process.
    pub fn file(&self) -> Budget {
        Budget::new(FILE, Some(self.clone()), None)
    }

    /// A budget within this one whose limits for memory, disk and work, in bytes, are stated.
    pub fn with_limits(&self, limits: [u64; 3]) -> Budget {
        Budget::new(limits, Some(self.clone()), None)
    }

    fn new(limits: [u64; 3], parent: Option<Budget>, stop: Option<Arc<AtomicBool>>) -> Budget {
        Budget(Arc::new(Account {
            limits,
            used: Default::default(),
            parent,
            stop,
            stopped_at: OnceLock::new(),
            refusal: OnceLock::new(),
        }))
    }

    /// Takes `amount` bytes from this budget and those around it. Errors: one of them has too
    /// little left (then nothing is taken), or the session was stopped.
    pub fn take(&self, resource: Resource, amount: u64) -> Result<(), Exhausted> {
        if self.is_stopped() {
            return Err(self.refuse(Exhausted::Stopped));
        }
        self.take_unless_full(resource, amount).map_err(|error| self.refuse(error))
    }

    fn take_unless_full(&self, resource: Resource, amount: u64) -> Result<(), Exhausted> {
        let Account { limits, used, parent, .. } = &*self.0;
        let (limit, used) = (limits[resource as usize], &used[resource as usize]);
        let add = |now: u64| now.checked_add(amount).filter(|sum| *sum <= limit);
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .map_err(|_| Exhausted::Limit(resource, limit))?;
        let around = parent.as_ref().map_or(Ok(()), |parent| parent.take_unless_full(resource, amount));
        if around.is_err() {
            used.fetch_sub(amount, Ordering::Relaxed);
        }
        around
    }

    fn refuse(&self, why: Exhausted) -> Exhausted {
        self.0.refusal.get_or_init(|| why);
        why
    }

    /// Gives back what was taken; for [`Resource::Memory`] and [`Resource::Disk`].
    pub fn give_back(&self, resource: Resource, amount: u64) {
        self.0.used[resource as usize].fetch_sub(amount, Ordering::Relaxed);
        if let Some(parent) = &self.0.parent {
            parent.give_back(resource, amount);
        }
    }

    /// As [`Budget::take`]; what was taken is given back when the reservation is dropped.
    pub fn reserve(&self, resource: Resource, amount: u64) -> Result<Reservation, Exhausted> {
        self.take(resource, amount)?;
        Ok(Reservation { budget: self.clone(), resource, amount })
    }

    /// The session was stopped, and the time for finishing has passed.
    pub fn is_stopped(&self) -> bool {
        let Account { stop, stopped_at, parent, .. } = &*self.0;
        let is_set = stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        (is_set && stopped_at.get_or_init(Instant::now).elapsed() >= GRACE)
            || parent.as_ref().is_some_and(Budget::is_stopped)
    }

    /// The session is to end: collecting stops now, and what was collected is finished in the time
    /// until [`Budget::is_stopped`].
    pub fn is_ending(&self) -> bool {
        let Account { stop, parent, .. } = &*self.0;
        stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed))
            || parent.as_ref().is_some_and(Budget::is_ending)
    }

    /// Bytes in use.
    pub fn used(&self, resource: Resource) -> u64 {
        self.0.used[resource as usize].load(Ordering::Relaxed)
    }

    /// Why this budget refused something, if it did.
    pub fn refusal(&self) -> Option<Exhausted> {
        self.0.refusal.get().copied()
    }
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::session()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("used", &self.0.used).field("limits", &self.0.limits).finish()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Some(parent) = &self.parent else { return };
        for resource in [Resource::Memory, Resource::Disk] {
            parent.give_back(resource, *self.used[resource as usize].get_mut());
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.resource, self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_draws_from_its_session_and_gives_back_on_drop() {
        let session = Budget::session().with_limits([100, 100, 100]);
        let (one, two) = (session.with_limits([80, 80, 80]), session.with_limits([80, 80, 80]));
        let held = one.reserve(Resource::Memory, 60).expect("60 of 80");
        assert_eq!(one.take(Resource::Memory, 30), Err(Exhausted::Limit(Resource::Memory, 80)));
        assert_eq!(two.take(Resource::Memory, 60), Err(Exhausted::Limit(Resource::Memory, 100)));
        assert_eq!(two.used(Resource::Memory), 0, "a refusal takes nothing");
        drop(held);
        assert_eq!(two.take(Resource::Memory, 60), Ok(()));
        assert_eq!((session.used(Resource::Memory), one.used(Resource::Memory)), (60, 0));
        assert!(one.refusal().is_some() && session.refusal().is_none());
        drop(two);
        assert_eq!(session.used(Resource::Memory), 0, "a budget that ends gives back what it holds");
        assert_eq!(one.take(Resource::Work, u64::MAX), Err(Exhausted::Limit(Resource::Work, 80)));
    }

    #[test]
    fn a_stop_ends_all_budgets_within_it_after_the_grace_period() {
        let stop = Arc::new(AtomicBool::new(false));
        let file = Budget::session().stopped_by(Arc::clone(&stop)).file();
        assert_eq!(file.take(Resource::Work, 1), Ok(()));
        assert!(!file.is_ending());
        stop.store(true, Ordering::Relaxed);
        assert_eq!(file.take(Resource::Work, 1), Ok(()), "the grace period has begun");
        assert!(file.is_ending() && !file.is_stopped());
        std::thread::sleep(GRACE);
        assert_eq!(file.take(Resource::Work, 1), Err(Exhausted::Stopped));
    }
}
