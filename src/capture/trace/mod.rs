//! A trace: what each thread did when. It ran, was ready to run and had to wait for a CPU, waited for
//! something else in a system call, was woken by another.
//!
//! [`run`] collects moments (`sampler::bpf::trace`), [`Trace::spans`] makes spans of them, [`Trace::write`]
//! writes them as ui.perfetto.dev reads them (`perfetto`), [`Trace::profile`] as pprof does (`profile`). Not here: stacks (`Kind::OffCpu` has them).

mod perfetto;
mod profile;
mod spans;

use std::{
    io::{self, Write},
    time::{Duration, Instant, SystemTime},
};

use rustc_hash::FxHashMap;

use super::{CaptureError, Ended, Stop, identify_all};
use crate::{
    process::{Identity, identity, threads},
    profile::proto::Profile,
    sampler::{
        SamplerError,
        bpf::trace::{self as tracer, ThreadEvent, ThreadEventKind},
    },
};

pub use spans::{Span, ThreadActivity};

/// How often the ring is emptied.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// The most moments that are kept: some 100 MB in memory, and as much in the file.
pub const MOST_MOMENTS: usize = 2_000_000;
/// The same of a trace that becomes a profile.
pub const MOST_MOMENTS_OF_A_PROFILE: usize = 500_000;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct TraceRequest {
    pub pids: Vec<u32>,
    /// Also the processes that these have started already.
    pub children: bool,
    pub duration: Duration,
    pub most_moments: usize,
}

/// What was seen.
#[derive(Debug)]
pub struct Trace {
    pub identities: Vec<Identity>,
    /// In the order of time.
    moments: Vec<ThreadEvent>,
    /// Of processes and threads, by number; also of those that only wake others.
    names: FxHashMap<u32, String>,
    pub started_at: SystemTime,
    /// From when to when, CLOCK_MONOTONIC in nanoseconds.
    pub from_ns: u64,
    pub until_ns: u64,
    /// Moments for which the kernel's buffer had no room.
    pub lost: u64,
    /// The trace was full before the time was up.
    pub is_full: bool,
    pub ended: Ended,
}

/// Watches processes; what happens until time is up, somebody says stop, the last one has ended, or
/// [`TraceRequest::most_moments`] have been seen. `progress` is told how long it has run.
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
        moments: Vec::new(),
        names: FxHashMap::default(),
        started_at: SystemTime::now(),
        from_ns: identity::monotonic_ns(),
        until_ns: 0,
        lost: 0,
        is_full: false,
        ended: Ended::Duration,
    };
    // Those that end meanwhile cannot be asked later.
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
        let polled = tracer.poll(left.min(POLL_EVERY), &mut |moment| trace.add(moment, request.most_moments));
        match polled {
            Err(error) if trace.is_empty() => return Err(CaptureError::SamplerDied(error)),
            // What was collected until then is worth keeping.
            Err(_) => break Ended::Failed,
            Ok(()) => progress(began.elapsed()),
        }
        if !identities.iter().any(Identity::is_alive) {
            break Ended::TargetsGone;
        }
    };
    trace.until_ns = identity::monotonic_ns();
    tracer.stop();
    let rest = tracer.poll(Duration::ZERO, &mut |moment| trace.add(moment, request.most_moments));
    rest.map_err(CaptureError::SamplerDied)?;
    trace.lost = tracer.lost().map_err(CaptureError::SamplerDied)?;
    pids.iter().for_each(|pid| trace.read_names(*pid));
    // Each CPU writes in order, but not all together.
    trace.moments.sort_by_key(|moment| moment.time_ns);
    if trace.is_full {
        trace.until_ns = trace.moments.last().map_or(trace.until_ns, |last| last.time_ns);
    }
    Ok(trace)
}

fn only_bpf(error: SamplerError) -> SamplerError {
    match error {
        SamplerError::Unavailable(why) => SamplerError::Unavailable(format!(
            "{why}; a trace is made by BPF alone (--kind wall shows, without it, where all time goes)"
        )),
        other => other,
    }
}

impl Trace {
    fn add(&mut self, moment: ThreadEvent, most: usize) {
        if self.moments.len() >= most {
            self.is_full = true;
            return;
        }
        let named = match moment.what {
            ThreadEventKind::Woken { by_tid } | ThreadEventKind::Made { by_tid } => by_tid,
            _ => moment.tid,
        };
        if moment.comm[0] != 0 && named != 0 {
            // A later name counts: it is the one the thread has chosen.
            let name = self.names.entry(named).or_default();
            if name.as_bytes() != until_nul(&moment.comm) {
                *name = threads::printable(until_nul(&moment.comm));
            }
        }
        self.moments.push(moment);
    }

    fn read_names(&mut self, pid: u32) {
        for tid in threads::list(pid) {
            if let Some(name) = threads::name(pid, tid) {
                self.names.insert(tid, name);
            }
        }
    }

    /// How many moments there are.
    pub fn len(&self) -> usize {
        self.moments.len()
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.moments.is_empty()
    }

    /// A thread's name.
    pub fn name(&self, tid: u32) -> &str {
        self.names.get(&tid).map_or("?", String::as_str)
    }

    /// What threads did, in the order in which it ended; what still goes on ends with the trace.
    pub fn spans(&self) -> Vec<Span> {
        spans::spans(&self.moments, self.from_ns, self.until_ns)
    }

    /// Writes the trace in Perfetto's format.
    pub fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        perfetto::write(self, writer)
    }

    /// The trace as a profile: a sample for each span, with its time.
    pub fn profile(&self) -> Profile {
        profile::profile(self)
    }
}

fn until_nul(comm: &[u8]) -> &[u8] {
    comm.split(|byte| *byte == 0).next().unwrap_or_default()
}
