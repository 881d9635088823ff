//! A trace: what each thread did at which time. It ran, was runnable without a CPU, waited in a
//! system call, or was woken by another thread.
//!
//! [`record::run`] collects events (`sampler::bpf::trace`), [`Trace::spans`] turns them into spans,
//! [`Trace::write`] writes them for ui.perfetto.dev (`perfetto`), [`Trace::profile`] for pprof
//! (`profile`). Not here: stacks (off-CPU profiles have them).

mod perfetto;
mod profile;
pub(super) mod record;
mod spans;

use std::{
    io::{self, Write},
    time::SystemTime,
};

use rustc_hash::FxHashMap;

use super::ended::Ended;
use crate::{process::Identity, profile::proto::Profile, sampler::bpf::trace::ThreadEvent};

pub use spans::{Span, ThreadActivity};

/// A trace.
#[derive(Debug)]
pub struct Trace {
    /// The traced processes.
    pub identities: Vec<Identity>,
    /// Ordered by time.
    events: Vec<ThreadEvent>,
    /// Names of processes and threads by number, including threads that only wake others.
    names: FxHashMap<u32, String>,
    /// When the trace began.
    pub started_at: SystemTime,
    /// When the trace began, CLOCK_MONOTONIC in nanoseconds.
    pub from_ns: u64,
    /// When the trace ended, CLOCK_MONOTONIC in nanoseconds.
    pub until_ns: u64,
    /// Events that did not fit into the kernel's buffer.
    pub lost: u64,
    /// Whether the trace ended early because it had [`record::TraceRequest::max_events`] events.
    pub is_full: bool,
    /// Why the trace ended.
    pub ended: Ended,
}

impl Trace {
    /// The number of events.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there are no events.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// A thread's name; `?` if it is unknown.
    pub fn name(&self, tid: u32) -> &str {
        self.names.get(&tid).map_or("?", String::as_str)
    }

    /// What threads did, ordered by end time; a span that is still open ends with the trace.
    pub fn spans(&self) -> Vec<Span> {
        spans::spans(&self.events, self.from_ns, self.until_ns)
    }

    /// Writes the trace in Perfetto's format. Errors: those of `writer`.
    pub fn write(&self, writer: &mut dyn Write) -> io::Result<()> {
        perfetto::write(self, writer)
    }

    /// The trace as a profile: one sample per span, with its duration and end time.
    pub fn profile(&self) -> Profile {
        profile::profile(self)
    }
}
