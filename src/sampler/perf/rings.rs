//! The rings of all CPUs: waiting for data, and merging their records by time.
//!
//! Not here: what the records mean.

use std::{os::fd::AsFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    sampler::SamplerError,
    sys::perf::{Event, RawRecord, Ring},
};

/// One CPU's ring and the event that owns it.
struct Owned {
    cpu: u32,
    owner: Event,
    ring: Ring,
    /// When the oldest unread record was written.
    oldest_ns: Option<u64>,
    /// Whether poll(2) works for it; it does not once its CPU is offline.
    pollable: bool,
}

/// The rings of all CPUs.
pub(super) struct Rings {
    rings: Vec<Owned>,
}

impl Rings {
    /// The CPU, the owner and the ring of each.
    pub(super) fn new(rings: Vec<(u32, Event, Ring)>) -> Rings {
        let owned = |(cpu, owner, ring)| Owned { cpu, owner, ring, oldest_ns: None, pollable: true };
        Rings { rings: rings.into_iter().map(owned).collect() }
    }

    /// The events that own the rings.
    pub(super) fn owners(&self) -> impl Iterator<Item = &Event> {
        self.rings.iter().map(|owned| &owned.owner)
    }

    /// Each CPU with the event that owns its ring.
    pub(super) fn owners_by_cpu(&self) -> impl Iterator<Item = (u32, &Event)> {
        self.rings.iter().map(|owned| (owned.cpu, &owned.owner))
    }

    /// The total capacity of all rings, in bytes.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.rings.iter().map(|owned| owned.ring.capacity_bytes()).sum()
    }

    /// Waits until a ring has filled up to its wake-up mark, a signal arrives, or the time is over.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<(), SamplerError> {
        if timeout.is_zero() {
            return Ok(());
        }
        // Rounded up, so that a wait below a millisecond does not become a busy loop.
        let timeout_ms = i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(timeout_ms).unwrap_or(PollTimeout::MAX);
        let polled: Vec<usize> = (0..self.rings.len()).filter(|index| self.rings[*index].pollable).collect();
        let mut fds: Vec<PollFd> = polled
            .iter()
            .map(|index| PollFd::new(self.rings[*index].owner.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                return Err(SamplerError::System { what: "poll".to_owned(), source: errno.into() });
            }
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        let is_gone = |fd: &PollFd| fd.revents().is_some_and(|flags| flags.intersects(gone));
        let gone: Vec<bool> = fds.iter().map(is_gone).collect();
        for (index, gone) in polled.into_iter().zip(gone) {
            self.rings[index].pollable = !gone;
        }
        Ok(())
    }

    /// Passes the records that are in the rings now to `handle`, oldest first, up to those written
    /// at `cutoff_ns`. Returns whether a ring was so full that it should be read again at once.
    pub(super) fn merge(&mut self, cutoff_ns: u64, handle: &mut dyn FnMut(RawRecord<'_>)) -> bool {
        let mut crowded = false;
        for owned in &mut self.rings {
            let waiting = owned.ring.refresh();
            crowded |= waiting > owned.ring.capacity_bytes() / 2;
            owned.oldest_ns = owned.ring.oldest_time_ns();
        }
        // A ring that is half full is emptied without regard to the cutoff.
        let cutoff_ns = if crowded { u64::MAX } else { cutoff_ns };
        while let Some(owned) = self.oldest(cutoff_ns) {
            if let Some(record) = owned.ring.peek() {
                handle(record);
            }
            owned.ring.consume();
            owned.oldest_ns = owned.ring.oldest_time_ns();
        }
        crowded
    }

    /// The ring with the oldest record of all, if that is not newer than `cutoff_ns`.
    fn oldest(&mut self, cutoff_ns: u64) -> Option<&mut Owned> {
        let waiting = self.rings.iter_mut().filter(|owned| owned.oldest_ns.is_some_and(|at| at <= cutoff_ns));
        waiting.min_by_key(|owned| owned.oldest_ns)
    }

    /// Whether a ring was found inconsistent since the last call.
    pub(super) fn take_corrupt(&mut self) -> bool {
        let corrupt = self.rings.iter_mut().filter_map(|owned| owned.ring.take_corrupt().then_some(()));
        corrupt.count() > 0
    }
}
