//! Collects the events of a trace.

use std::time::{Duration, Instant, SystemTime};

use rustc_hash::FxHashMap;

use super::{
    super::{CaptureError, Ended, Stop, identify_all},
    Trace,
};
use crate::{
    process::{Identity, comm, identity, threads},
    sampler::{
        SamplerError,
        bpf::trace::{self as tracer, ThreadEvent, ThreadEventKind},
    },
};

/// How often the ring buffer is drained.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Limit of the events of a trace: about 100 MB in memory, and as much in the file.
pub const MAX_EVENTS: usize = 2_000_000;
/// Limit of the events of a trace that becomes a profile.
pub const MAX_PROFILE_EVENTS: usize = 500_000;

/// Options of a trace.
#[derive(Clone, Debug)]
pub struct TraceRequest {
    /// The processes to trace.
    pub pids: Vec<u32>,
    /// Also trace their existing descendants.
    pub children: bool,
    /// How long to trace.
    pub duration: Duration,
    /// The trace ends when it has this many events.
    pub max_events: usize,
}

/// Traces processes until the time is over, `stop` is set, the last one has ended, or there are
/// [`TraceRequest::max_events`] events. `progress` gets the time since the start. Errors: a process
/// cannot be traced, BPF is not permitted, or the tracer failed.
pub fn run(
    request: &TraceRequest,
    stop: &Stop,
    progress: &mut dyn FnMut(Duration),
) -> Result<Trace, CaptureError> {
    let identities = identify_all(&request.pids, request.children)?;
    let pids: Vec<u32> = identities.iter().map(|identity| identity.pid).collect();
    let refused =
        |source| CaptureError::Sampler { source, tried: Vec::new(), identities: identities.clone() };
    let mut tracer = tracer::open(&pids).map_err(|error| refused(only_bpf(error)))?;
    let mut trace = Trace {
        identities: identities.clone(),
        events: Vec::new(),
        names: FxHashMap::default(),
        started_at: SystemTime::now(),
        from_ns: identity::monotonic_ns(),
        until_ns: 0,
        lost: 0,
        is_full: false,
        ended: Ended::Duration,
    };
    // Threads that end meanwhile have no name later.
    pids.iter().for_each(|pid| trace.read_names(*pid));
    let began = Instant::now();
    trace.ended = loop {
        let left = request.duration.saturating_sub(began.elapsed());
        if left.is_zero() || trace.is_full {
            break Ended::Duration;
        }
        if stop.is_set() {
            break Ended::Stopped;
        }
        let polled = tracer.poll(left.min(POLL_EVERY), &mut |event| trace.add(event, request.max_events));
        match polled {
            Err(error) if trace.is_empty() => return Err(CaptureError::SamplerDied(error)),
            // The events recorded until then are kept.
            Err(_) => break Ended::Failed,
            Ok(()) => progress(began.elapsed()),
        }
        if !identities.iter().any(Identity::is_alive) {
            break Ended::TargetsGone;
        }
    };
    trace.until_ns = identity::monotonic_ns();
    tracer.stop();
    let rest = tracer.poll(Duration::ZERO, &mut |event| trace.add(event, request.max_events));
    rest.map_err(CaptureError::SamplerDied)?;
    trace.lost = tracer.lost().map_err(CaptureError::SamplerDied)?;
    pids.iter().for_each(|pid| trace.read_names(*pid));
    // Events of one CPU are in order, those of different CPUs are not.
    trace.events.sort_by_key(|event| event.time_ns);
    if trace.is_full {
        trace.until_ns = trace.events.last().map_or(trace.until_ns, |last| last.time_ns);
    }
    Ok(trace)
}

fn only_bpf(source: SamplerError) -> SamplerError {
    let instead = "a trace needs BPF (--kind wall works without BPF and shows where all time goes)";
    SamplerError::Only { source: Box::new(source), instead }
}

impl Trace {
    fn add(&mut self, event: ThreadEvent, max: usize) {
        if self.events.len() >= max {
            self.is_full = true;
            return;
        }
        let named = match event.what {
            ThreadEventKind::Woken { by_tid } | ThreadEventKind::Made { by_tid } => by_tid,
            _ => event.tid,
        };
        if event.comm[0] != 0 && named != 0 {
            // The latest name wins: the thread has set it itself.
            let name = self.names.entry(named).or_default();
            if name.as_bytes() != until_nul(&event.comm) {
                *name = comm::printable(until_nul(&event.comm));
            }
        }
        self.events.push(event);
    }

    fn read_names(&mut self, pid: u32) {
        for tid in threads::list(pid) {
            if let Some(name) = threads::name(pid, tid) {
                self.names.insert(tid, name);
            }
        }
    }
}

fn until_nul(comm: &[u8]) -> &[u8] {
    comm.split(|byte| *byte == 0).next().unwrap_or_default()
}
