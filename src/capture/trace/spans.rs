//! Turns events into spans: what a thread did between two events.
//!
//! There is no span where events were lost, or where the time before a thread's first event is
//! unknown. Not here: reading events, writing spans.

use rustc_hash::FxHashMap;

use crate::sampler::bpf::trace::{ThreadEvent, ThreadEventKind};

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadActivity {
    /// It runs.
    Runs {
        /// On this CPU.
        cpu: u32,
    },
    /// It is runnable and has no CPU.
    Ready {
        /// The thread that woke or created it (0: an interrupt); `None`: it was preempted.
        by_tid: Option<u32>,
    },
    /// It waits.
    Waits {
        /// The system call it is in; `None`: unknown or none.
        system_call: Option<&'static str>,
        /// Whether signals cannot interrupt the wait.
        uninterruptible: bool,
    },
}

/// An activity of a thread, with its start and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// What it did.
    pub doing: ThreadActivity,
    /// Start, CLOCK_MONOTONIC in nanoseconds.
    pub from_ns: u64,
    /// End, CLOCK_MONOTONIC in nanoseconds.
    pub until_ns: u64,
}

/// The spans of `events` (ordered by time) between `from_ns` and `until_ns`, ordered by end and cut
/// at these times. A thread whose first event is that it leaves a CPU ran since `from_ns`; one
/// whose first event is a wake-up waited since then.
pub fn spans(events: &[ThreadEvent], from_ns: u64, until_ns: u64) -> Vec<Span> {
    let mut open: FxHashMap<u32, Span> = FxHashMap::default();
    let mut spans = Vec::with_capacity(events.len());
    for event in events {
        let begun = open.remove(&event.tid);
        let end = |doing, from_ns| Span { doing, from_ns, until_ns: event.time_ns, ..of(event) };
        let (is_over, next) = step(event, begun.map(|span| span.doing));
        match begun {
            Some(span) if is_over => spans.push(end(span.doing, span.from_ns)),
            // The activity continues.
            Some(span) => {
                open.insert(event.tid, span);
                continue;
            }
            None => spans.extend(before(event).map(|doing| end(doing, from_ns.min(event.time_ns)))),
        }
        if let Some(doing) = next {
            open.insert(event.tid, Span { doing, from_ns: event.time_ns, ..of(event) });
        }
    }
    let mut rest: Vec<Span> = open.into_values().collect();
    rest.sort_by_key(|span| (span.pid, span.tid));
    spans.extend(rest.into_iter().map(|span| Span { until_ns: until_ns.max(span.from_ns), ..span }));
    // The programs are attached before the window begins and detached after it ends.
    spans.retain_mut(|span| {
        let overlaps = span.until_ns >= from_ns && span.from_ns <= until_ns;
        (span.from_ns, span.until_ns) = (span.from_ns.max(from_ns), span.until_ns.min(until_ns));
        overlaps
    });
    spans
}

fn of(event: &ThreadEvent) -> Span {
    let doing = ThreadActivity::Ready { by_tid: None };
    Span { pid: event.pid, tid: event.tid, doing, from_ns: event.time_ns, until_ns: event.time_ns }
}

/// Whether the event ends the thread's activity, and what the thread does next.
fn step(event: &ThreadEvent, now: Option<ThreadActivity>) -> (bool, Option<ThreadActivity>) {
    match event.what {
        ThreadEventKind::Runs => (true, Some(ThreadActivity::Runs { cpu: event.cpu })),
        ThreadEventKind::Preempted => (true, Some(ThreadActivity::Ready { by_tid: None })),
        ThreadEventKind::Waits { system_call, uninterruptible } => {
            (true, Some(ThreadActivity::Waits { system_call, uninterruptible }))
        }
        ThreadEventKind::Ends => (true, None),
        // A wake-up of a thread that runs or is runnable changes nothing.
        ThreadEventKind::Woken { .. }
            if matches!(now, Some(ThreadActivity::Runs { .. } | ThreadActivity::Ready { .. })) =>
        {
            (false, None)
        }
        ThreadEventKind::Woken { by_tid } | ThreadEventKind::Made { by_tid } => {
            (true, Some(ThreadActivity::Ready { by_tid: Some(by_tid) }))
        }
    }
}

/// What a thread did before its first event.
fn before(event: &ThreadEvent) -> Option<ThreadActivity> {
    match event.what {
        ThreadEventKind::Preempted | ThreadEventKind::Waits { .. } | ThreadEventKind::Ends => {
            Some(ThreadActivity::Runs { cpu: event.cpu })
        }
        ThreadEventKind::Woken { .. } => {
            Some(ThreadActivity::Waits { system_call: None, uninterruptible: false })
        }
        ThreadEventKind::Runs | ThreadEventKind::Made { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(time_ns: u64, tid: u32, what: ThreadEventKind) -> ThreadEvent {
        ThreadEvent { time_ns, pid: 1, tid, cpu: 3, what, comm: [0; 16] }
    }

    #[test]
    fn a_thread_waits_becomes_runnable_and_runs() {
        let waits = ThreadEventKind::Waits { system_call: Some("futex"), uninterruptible: false };
        let events = [
            event(10, 7, waits),
            event(30, 7, ThreadEventKind::Woken { by_tid: 8 }),
            event(31, 7, ThreadEventKind::Woken { by_tid: 9 }),
            event(35, 7, ThreadEventKind::Runs),
            event(36, 7, ThreadEventKind::Woken { by_tid: 9 }),
            event(50, 7, ThreadEventKind::Preempted),
        ];
        let found: Vec<_> =
            spans(&events, 0, 90).into_iter().map(|span| (span.from_ns, span.until_ns, span.doing)).collect();
        let waits = ThreadActivity::Waits { system_call: Some("futex"), uninterruptible: false };
        assert_eq!(
            found,
            [
                (0, 10, ThreadActivity::Runs { cpu: 3 }),
                (10, 30, waits),
                (30, 35, ThreadActivity::Ready { by_tid: Some(8) }),
                (35, 50, ThreadActivity::Runs { cpu: 3 }),
                (50, 90, ThreadActivity::Ready { by_tid: None }),
            ]
        );
    }

    #[test]
    fn spans_are_cut_at_the_window() {
        let waits = ThreadEventKind::Waits { system_call: None, uninterruptible: false };
        let events = [
            event(10, 7, ThreadEventKind::Runs),
            event(20, 7, waits),
            event(60, 7, ThreadEventKind::Runs),
            event(130, 7, waits),
            event(140, 7, ThreadEventKind::Runs),
        ];
        let found: Vec<_> =
            spans(&events, 50, 100).into_iter().map(|span| (span.from_ns, span.until_ns)).collect();
        assert_eq!(found, [(50, 60), (60, 100)]);
    }

    #[test]
    fn a_thread_that_has_ended_has_no_open_span() {
        let events = [
            event(5, 7, ThreadEventKind::Made { by_tid: 1 }),
            event(6, 7, ThreadEventKind::Runs),
            event(9, 7, ThreadEventKind::Ends),
        ];
        let found = spans(&events, 0, 90);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].from_ns, found[1].until_ns), (6, 9));
    }
}
