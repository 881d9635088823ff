//! Who ran, waited and woke when (`trace.bpf.c`): a [`ThreadEvent`] for each thing that happens to a thread of a
//! target.
//!
//! Needs CAP_BPF and CAP_PERFMON (or root), Linux 5.15 and the kernel's BTF. Not here: what follows from
//! the moments.

use std::{os::fd::OwnedFd, time::Duration};

use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};

use super::{
    FIRST_PID_NAMESPACE, load, own_pid_namespace,
    record::{u32_at, u64_at},
    system,
};
use crate::{
    arch,
    sampler::SamplerError,
    sys::bpf::{self, WakeUps},
};

/// The ring: some 100,000 moments.
const RING_BYTES: u32 = 8 << 20;
/// `TASK_UNINTERRUPTIBLE` and `TASK_DEAD` of linux/sched.h.
const UNINTERRUPTIBLE: u32 = 2;
const DEAD: u32 = 0x80;

/// Something happens to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadEvent {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    pub pid: u32,
    pub tid: u32,
    /// Where it happens.
    pub cpu: u32,
    pub what: ThreadEventKind,
    /// The name (`comm`) of the thread itself if it leaves, of who wakes or makes it; else nothing.
    pub comm: [u8; 16],
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadEventKind {
    /// It gets a CPU.
    Runs,
    /// Its CPU is taken from it.
    Preempted,
    /// It gives its CPU up, to wait in this system call (`None`: in none, or one not known by name).
    Waits {
        system_call: Option<&'static str>,
        uninterruptible: bool,
    },
    Ends,
    /// It need not wait any more; by which thread (0: none that is seen from here, as the idle one).
    Woken {
        by_tid: u32,
    },
    /// This thread has made it.
    Made {
        by_tid: u32,
    },
}

/// The programs, attached, and their maps.
pub struct Loaded {
    pub links: Vec<OwnedFd>,
    pub targets: HashMap<MapData, u32, u32>,
    /// For each CPU: moments without room.
    pub lost: PerCpuArray<MapData, u64>,
    pub ring: RingBuf<MapData>,
}

/// A running trace.
pub struct Tracer {
    loaded: Loaded,
    wake_ups: WakeUps,
}

/// Begins to trace these processes. Errors: rights or the kernel do not allow it.
pub fn open(pids: &[u32]) -> Result<Tracer, SamplerError> {
    let namespace = own_pid_namespace()?;
    bpf::lift_locked_memory_limit();
    let mut loaded = load::load_trace(namespace, namespace == FIRST_PID_NAMESPACE, RING_BYTES)?;
    let wake_ups = WakeUps::new().map_err(system("epoll_create1"))?;
    wake_ups.add(&loaded.ring).map_err(system("waiting for the BPF ring"))?;
    for pid in pids {
        loaded.targets.insert(*pid, 1, 0).map_err(|error| load::from_map(&error))?;
    }
    Ok(Tracer { loaded, wake_ups })
}

impl Tracer {
    /// Waits up to `timeout`, then hands over what is there: about in the order of time.
    pub fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(ThreadEvent)) -> Result<(), SamplerError> {
        if !timeout.is_zero() {
            self.wake_ups.wait(timeout).map_err(system("epoll_wait"))?;
        }
        // No more than a ring in all: the caller's turn.
        let mut left = RING_BYTES as usize;
        while let Some(item) = (left > 0).then(|| self.loaded.ring.next()).flatten() {
            left = left.saturating_sub(item.len());
            if let Some(moment) = parse(&item) {
                sink(moment);
            }
        }
        Ok(())
    }

    /// Ends it: a last `poll` hands over the rest.
    pub fn stop(&mut self) {
        self.loaded.links.clear();
    }

    /// How many moments found no room.
    pub fn lost(&self) -> Result<u64, SamplerError> {
        let lost = self.loaded.lost.get(&0, 0).map_err(|error| load::from_map(&error))?;
        Ok(lost.iter().sum())
    }
}

/// `struct moment`.
fn parse(record: &[u8]) -> Option<ThreadEvent> {
    let kinds = u32_at(record, 24)?;
    let (kind, preempted) = (kinds as u16, kinds >> 16 != 0);
    let (by_tid, state) = (u32_at(record, 20)?, u32_at(record, 28)?);
    let system_call = u64_at(record, 32)?;
    let what = match kind {
        1 => ThreadEventKind::Runs,
        2 if state & DEAD != 0 => ThreadEventKind::Ends,
        2 if preempted || state == 0 => ThreadEventKind::Preempted,
        2 => ThreadEventKind::Waits {
            system_call: arch::syscall_name(system_call),
            uninterruptible: state & UNINTERRUPTIBLE != 0,
        },
        3 => ThreadEventKind::Woken { by_tid },
        4 => ThreadEventKind::Made { by_tid },
        _ => return None,
    };
    Some(ThreadEvent {
        time_ns: u64_at(record, 0)?,
        pid: u32_at(record, 8)?,
        tid: u32_at(record, 12)?,
        cpu: u32_at(record, 16)?,
        what,
        comm: *record.get(40..)?.first_chunk()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_what_happens_and_a_cut_one_nothing() {
        let mut record = [0u8; 56];
        (record[8], record[12], record[16], record[24]) = (7, 8, 1, 2);
        record[28] = 2;
        record[32..40].copy_from_slice(&u64::MAX.to_ne_bytes());
        let moment = parse(&record).expect("whole");
        assert_eq!((moment.pid, moment.tid, moment.cpu), (7, 8, 1));
        assert_eq!(moment.what, ThreadEventKind::Waits { system_call: None, uninterruptible: true });
        record[28] = 0;
        assert_eq!(parse(&record).expect("whole").what, ThreadEventKind::Preempted);
        record[28] = 0x80;
        assert_eq!(parse(&record).expect("whole").what, ThreadEventKind::Ends);
        assert!(parse(&record[..55]).is_none());
        record[24] = 9;
        assert!(parse(&record).is_none());
    }
}
