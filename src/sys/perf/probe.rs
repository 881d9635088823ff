//! Tests whether perf events at tracepoints and uprobes can be opened. They are opened for the
//! calling thread, disabled, and closed at once: nothing is counted, no program is changed.
//!
//! Not here: sampling events, which are tested by opening them.

use std::{ffi::CStr, fs, io};

use perf_event_open_sys::bindings;

use super::event;

/// Where tracefs lists tracepoints, in either place where it is mounted.
const TRACEPOINTS: [&str; 2] = ["/sys/kernel/tracing/events", "/sys/kernel/debug/tracing/events"];

/// Why a tracepoint event is not available.
#[derive(Debug, thiserror::Error)]
pub enum TracepointError {
    /// Its ID is in tracefs, which is not mounted here or must not be read.
    #[error("its ID cannot be read from tracefs: {0}")]
    NoId(#[source] io::Error),
    /// The event was refused.
    #[error("perf_event_open: {0}")]
    Open(#[source] io::Error),
}

/// The number of a tracepoint (`sched/sched_switch`). Errors: tracefs is not mounted or may not be
/// read.
pub fn tracepoint_id(name: &str) -> Result<u64, TracepointError> {
    let read = |folder| fs::read_to_string(format!("{folder}/{name}/id"));
    let ids: Vec<io::Result<String>> = TRACEPOINTS.into_iter().map(read).collect();
    ids.iter().find_map(|id| id.as_ref().ok()?.trim().parse().ok()).ok_or_else(|| {
        let error = ids.into_iter().find_map(Result::err);
        TracepointError::NoId(error.unwrap_or(io::ErrorKind::InvalidData.into()))
    })
}

/// Tests the tracepoint sched:sched_switch. Errors: see [`TracepointError`].
pub fn tracepoint() -> Result<(), TracepointError> {
    let mut attr = switched_off(bindings::PERF_TYPE_TRACEPOINT);
    attr.config = tracepoint_id("sched/sched_switch")?;
    event::open_for_this_thread(&mut attr).map_err(TracepointError::Open)
}

/// Tests an event on an instruction of a file: the first byte of this program, which is never
/// executed. Errors: no uprobe PMU, or perf_event_open(2).
pub fn uprobe() -> io::Result<()> {
    const PATH: &CStr = c"/proc/self/exe";
    let kind = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
    let kind = kind.trim().parse().map_err(io::Error::other)?;
    let mut attr = switched_off(kind);
    attr.__bindgen_anon_3.uprobe_path = PATH.as_ptr() as u64;
    event::open_for_this_thread(&mut attr)
}

fn switched_off(kind: bindings::perf_type_id) -> bindings::perf_event_attr {
    let size = size_of::<bindings::perf_event_attr>() as u32;
    let mut attr = bindings::perf_event_attr { size, type_: kind, ..Default::default() };
    attr.set_disabled(1);
    attr
}
