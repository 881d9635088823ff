//! Captures profiles: [`open`] takes a [`Request`] and returns a [`Session`], whose windows are
//! [`Response`]s. It is the only entry.
//!
//! The table of `kinds` says who makes a kind. A sampler is opened (`attach`). Its events update
//! the state of the processes and the counts of their stacks (`watch`, `collector`). At the end,
//! addresses are symbolized and the profile is built (`name`, `finish`). Instant kinds are read by
//! `dump`, `tasks` and `accounts`, timelines by `trace`. Not here: flags, files, printing.

mod accounts;
mod attach;
mod collector;
mod dump;
mod ended;
mod error;
mod finish;
pub mod heap;
pub mod kinds;
#[cfg(test)]
mod language_tests;
pub mod memory;
mod name;
mod open;
mod progress;
pub mod rename;
mod request;
mod response;
mod runtime_stacks;
mod tally;
mod tasks;
mod threadcreate;
pub mod trace;
mod waits;
mod watch;

use std::{collections::BTreeSet, time::Duration};

pub use ended::Ended;
pub use error::{CaptureError, Obstacle};
pub use name::names::names;
pub use open::{Outcome, Session, Step, once, open};
pub use progress::Progress;
pub use request::{FrameChoice, HeapOptions, LabelKeys, Request, SamplerChoice, StackOptions, Stop};
pub use response::{Capture, Content, Reading, Response, TextResponse};
pub use tally::Tally;
pub use tasks::are_shown as has_tasks;
pub use waits::{Finding, WaitGraph};
pub use watch::memory::Memory;

use crate::process::{Identity, ProcessError, identify, select};

/// How often the buffers are emptied. The kernel wakes us earlier when one fills up.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// The same while stacks are deeper than their copies: the rest must be read before it changes.
const POLL_DEEP_EVERY: Duration = Duration::from_millis(1);

/// Checks that no other process has got one of these PIDs meanwhile.
fn check_pids(identities: &[Identity]) -> Result<(), ProcessError> {
    match identities.iter().find(|identity| identity.is_replaced()) {
        Some(identity) => Err(ProcessError::Replaced(identity.pid)),
        None => Ok(()),
    }
}

/// Identifies the processes, and with `children` also their descendants.
fn identify_all(pids: &[u32], children: bool) -> Result<Vec<Identity>, CaptureError> {
    let mut pids: BTreeSet<u32> = pids.iter().copied().collect();
    let named: Vec<Identity> = pids.iter().map(|pid| identify(*pid)).collect::<Result<_, _>>()?;
    if let Some(kernel) = named.iter().find(|identity| identity.is_kernel_thread) {
        return Err(CaptureError::KernelThread(kernel.pid));
    }
    if !children {
        return if named.is_empty() { Err(CaptureError::NoProcess) } else { Ok(named) };
    }
    for identity in &named {
        pids.extend(select::descendants(identity.pid));
    }
    // A child may end meanwhile: that is not an error.
    let all: Vec<Identity> = pids.iter().filter_map(|pid| identify(*pid).ok()).collect();
    if all.is_empty() { Err(CaptureError::NoProcess) } else { Ok(all) }
}
