//! Which thread ran, waited and woke when (`trace.bpf.c`): a [`ThreadEvent`] for each change of a
//! thread of a target.
//!
//! Needs CAP_BPF and CAP_PERFMON (or root), Linux 5.10 and the kernel's BTF. Not here: spans of
//! time, which follow from the events.

use std::time::Duration;

use super::{
    common::{FIRST_PID_NAMESPACE, own_pid_namespace, system},
    load::{self, LoadedTrace},
    record::{u32_at, u64_at},
    refusal,
};
use crate::{
    arch,
    sampler::SamplerError,
    sys::bpf::{self, WakeUps},
};

/// The ring: some 100,000 events.
const RING_BYTES: u32 = 8 << 20;
/// `TASK_UNINTERRUPTIBLE` and `TASK_DEAD` of linux/sched.h.
const UNINTERRUPTIBLE: u32 = 2;
const DEAD: u32 = 0x80;

/// A change of what a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadEvent {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Its process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The CPU on which it happens.
    pub cpu: u32,
    /// The change.
    pub what: ThreadEventKind,
    /// The name (`comm`) of the thread if it leaves its CPU, of the thread that wakes or creates
    /// it; else zeros.
    pub comm: [u8; 16],
}

/// The change of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadEventKind {
    /// It gets a CPU.
    Runs,
    /// Its CPU is taken from it.
    Preempted,
    /// It gives up its CPU to wait.
    Waits {
        /// The system call in which it waits; `None`: none, or one whose name is not known.
        system_call: Option<&'static str>,
        /// A signal does not end the wait.
        uninterruptible: bool,
    },
    /// It ends.
    Ends,
    /// Its wait is over.
    Woken {
        /// The thread that woke it; 0: one that is not visible in this PID namespace, or the idle
        /// thread.
        by_tid: u32,
    },
    /// It is created.
    Made {
        /// The thread that created it.
        by_tid: u32,
    },
}

/// A running trace.
pub struct Tracer {
    loaded: LoadedTrace,
    wake_ups: WakeUps,
}

/// Starts to trace these processes. Errors: rights or the kernel do not allow it.
pub fn open(pids: &[u32]) -> Result<Tracer, SamplerError> {
    let namespace = own_pid_namespace()?;
    bpf::lift_locked_memory_limit();
    let mut loaded = load::load_trace(namespace, namespace == FIRST_PID_NAMESPACE, RING_BYTES)?;
    let wake_ups = WakeUps::new().map_err(system("epoll_create1"))?;
    wake_ups.add(&loaded.ring).map_err(system("waiting for the BPF ring"))?;
    for pid in pids {
        loaded.targets.insert(*pid, 1, 0).map_err(|error| refusal::from_map(&error))?;
    }
    Ok(Tracer { loaded, wake_ups })
}

impl Tracer {
    /// Waits up to `timeout`, then reports the events in the ring: roughly in the order of time.
    pub fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(ThreadEvent)) -> Result<(), SamplerError> {
        if !timeout.is_zero() {
            self.wake_ups.wait(timeout).map_err(system("epoll_wait"))?;
        }
        // At most one ring in all: then the caller checks the time.
        let mut left = RING_BYTES as usize;
        while let Some(item) = (left > 0).then(|| self.loaded.ring.next()).flatten() {
            left = left.saturating_sub(item.len());
            if let Some(moment) = parse(&item) {
                sink(moment);
            }
        }
        Ok(())
    }

    /// Stops tracing: a last `poll` reports the rest.
    pub fn stop(&mut self) {
        self.loaded.links.clear();
    }

    /// How many events found no room in the ring. Errors: the map cannot be read.
    pub fn lost(&self) -> Result<u64, SamplerError> {
        let lost = self.loaded.lost.get(&0, 0).map_err(|error| refusal::from_map(&error))?;
        Ok(lost.iter().sum())
    }
}

/// `struct event`.
pub(super) fn parse(record: &[u8]) -> Option<ThreadEvent> {
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
    fn a_whole_record_is_parsed_and_a_cut_one_is_not() {
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
