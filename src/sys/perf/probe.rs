//! Tests whether perf events at tracepoints and uprobes can be opened. They are opened for the
//! calling thread, disabled, and closed at once: nothing is counted, no program is changed.
//!
//! Not here: sampling events, which are tested by opening them.

use std::{ffi::CStr, fs, io};

use perf_event_open_sys::bindings;

use super::event;

/// The ID file of a tracepoint that every kernel with scheduling events has, for both places where
/// tracefs is mounted.
const TRACEPOINT_IDS: [&str; 2] = [
    "/sys/kernel/tracing/events/sched/sched_switch/id",
    "/sys/kernel/debug/tracing/events/sched/sched_switch/id",
];

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

/// Tests the tracepoint sched:sched_switch. Errors: see [`TracepointError`].
pub fn tracepoint() -> Result<(), TracepointError> {
    let ids: Vec<io::Result<String>> = TRACEPOINT_IDS.iter().map(fs::read_to_string).collect();
    let id = match ids.iter().find_map(|id| id.as_ref().ok()?.trim().parse().ok()) {
        Some(id) => id,
        None => {
            let error = ids.into_iter().find_map(Result::err);
            return Err(TracepointError::NoId(error.unwrap_or(io::ErrorKind::InvalidData.into())));
        }
    };
    let mut attr = switched_off(bindings::PERF_TYPE_TRACEPOINT);
    attr.config = id;
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
