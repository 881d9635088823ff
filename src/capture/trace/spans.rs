//! From moments to spans: what a thread did from one moment to the next.
//!
//! Where moments were lost, or before the first one of a thread, nothing is known and nothing is said.
//! Not here: reading moments, writing spans.

use rustc_hash::FxHashMap;

use crate::sampler::bpf::trace::{ThreadEvent, ThreadEventKind};

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadActivity {
    Runs {
        cpu: u32,
    },
    /// It could run and has no CPU: since it was woken or made by this thread, or was preempted (`None`).
    Ready {
        by_tid: Option<u32>,
    },
    /// It waits in this system call (`None`: in none).
    Waits {
        system_call: Option<&'static str>,
        uninterruptible: bool,
    },
}

/// Something that a thread did for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub pid: u32,
    pub tid: u32,
    pub doing: ThreadActivity,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub from_ns: u64,
    pub until_ns: u64,
}

/// The spans, in the order in which they end. A thread whose first moment is that it leaves a CPU ran
/// since `from_ns`, one whose first is that it is woken waited since then.
pub fn spans(moments: &[ThreadEvent], from_ns: u64, until_ns: u64) -> Vec<Span> {
    let mut open: FxHashMap<u32, Span> = FxHashMap::default();
    let mut spans = Vec::with_capacity(moments.len());
    for moment in moments {
        let begun = open.remove(&moment.tid);
        let end = |doing, from_ns| Span { doing, from_ns, until_ns: moment.time_ns, ..of(moment) };
        let (is_over, next) = step(moment, begun.map(|span| span.doing));
        match begun {
            Some(span) if is_over => spans.push(end(span.doing, span.from_ns)),
            // Still the same.
            Some(span) => {
                open.insert(moment.tid, span);
                continue;
            }
            None => spans.extend(before(moment).map(|doing| end(doing, from_ns.min(moment.time_ns)))),
        }
        if let Some(doing) = next {
            open.insert(moment.tid, Span { doing, from_ns: moment.time_ns, ..of(moment) });
        }
    }
    let mut rest: Vec<Span> = open.into_values().collect();
    rest.sort_by_key(|span| (span.pid, span.tid));
    spans.extend(rest.into_iter().map(|span| Span { until_ns: until_ns.max(span.from_ns), ..span }));
    spans
}

fn of(moment: &ThreadEvent) -> Span {
    let doing = ThreadActivity::Ready { by_tid: None };
    Span { pid: moment.pid, tid: moment.tid, doing, from_ns: moment.time_ns, until_ns: moment.time_ns }
}

/// Whether the moment ends what the thread did, and what it does from then on.
fn step(moment: &ThreadEvent, now: Option<ThreadActivity>) -> (bool, Option<ThreadActivity>) {
    match moment.what {
        ThreadEventKind::Runs => (true, Some(ThreadActivity::Runs { cpu: moment.cpu })),
        ThreadEventKind::Preempted => (true, Some(ThreadActivity::Ready { by_tid: None })),
        ThreadEventKind::Waits { system_call, uninterruptible } => {
            (true, Some(ThreadActivity::Waits { system_call, uninterruptible }))
        }
        ThreadEventKind::Ends => (true, None),
        // One that runs or is ready may be told to wake up all the same.
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

/// What a thread did before the first moment that is known of it.
fn before(moment: &ThreadEvent) -> Option<ThreadActivity> {
    match moment.what {
        ThreadEventKind::Preempted | ThreadEventKind::Waits { .. } | ThreadEventKind::Ends => {
            Some(ThreadActivity::Runs { cpu: moment.cpu })
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

    fn moment(time_ns: u64, tid: u32, what: ThreadEventKind) -> ThreadEvent {
        ThreadEvent { time_ns, pid: 1, tid, cpu: 3, what, comm: [0; 16] }
    }

    #[test]
    fn a_thread_waits_is_ready_and_runs_in_turn() {
        let waits = ThreadEventKind::Waits { system_call: Some("futex"), uninterruptible: false };
        let moments = [
            moment(10, 7, waits),
            moment(30, 7, ThreadEventKind::Woken { by_tid: 8 }),
            moment(31, 7, ThreadEventKind::Woken { by_tid: 9 }),
            moment(35, 7, ThreadEventKind::Runs),
            moment(36, 7, ThreadEventKind::Woken { by_tid: 9 }),
            moment(50, 7, ThreadEventKind::Preempted),
        ];
        let found: Vec<_> = spans(&moments, 0, 90)
            .into_iter()
            .map(|span| (span.from_ns, span.until_ns, span.doing))
            .collect();
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
    fn what_has_ended_goes_on_no_more() {
        let moments = [
            moment(5, 7, ThreadEventKind::Made { by_tid: 1 }),
            moment(6, 7, ThreadEventKind::Runs),
            moment(9, 7, ThreadEventKind::Ends),
        ];
        let found = spans(&moments, 0, 90);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].from_ns, found[1].until_ns), (6, 9));
    }
}
