//! Continuous profiling: processes that come and go are sampled in windows, and each window is
//! written to a spool, one file for each service and kind.
//!
//! ```text
//! select (once a second: which processes) ─► rounds (one session, windows) ─► spool
//! labels (service, version, host …) ────────────┘   ▲ │
//!                                       companions ─┘ └─► events
//! ```
//!
//! A [`Companion`] takes part in the main loop: it sees the watched processes once a second and
//! each [`Event`], and may request that the window ends now, or other settings. One of them is
//! [`care::Care`]:
//!
//! ```text
//! care ─► limits (own CPU time and memory) ─► settings of the next window
//!   ├───► metrics, log
//!   └───► watcher ─► triggers ─► incident ─► hook
//!             └────► recorder ─► ring (what came before)
//! ```
//!
//! Not here: printing, and the command line.

pub mod care;
pub mod config;
pub mod hook;
pub mod incident;
mod instant;
pub mod labels;
pub mod limits;
mod live;
pub mod log;
pub mod metrics;
pub mod recorder;
pub mod ring;
pub mod rounds;
mod save;
pub mod select;
pub mod triggers;
pub mod watcher;

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    capture::{CaptureError, Request, kinds::Kind},
    spool::{self, SpoolError},
};
use select::{Rules, Watched};

/// What a sidecar does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which processes.
    pub rules: Rules,
    /// How often a window begins, on multiples of this time since 1970.
    pub every: Duration,
    /// How long a window lasts; the same as `every`: without pauses.
    pub window: Duration,
    /// The kinds.
    pub kinds: Vec<Kind>,
    /// How to sample.
    pub request: Request,
    /// The directory of the spool.
    pub spool: PathBuf,
    /// How large the spool may become.
    pub limits: spool::Limits,
    /// A file for each process instead of one for each service.
    pub per_process: bool,
    /// The most values of each label.
    pub label_values: usize,
}

/// What may change from one window to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Samples per second.
    pub frequency_hz: u32,
    /// The most stack copied per sample, in bytes.
    pub max_stack_bytes: u32,
    /// The kinds.
    pub kinds: Vec<Kind>,
}

/// What a companion sees once a second.
pub struct View<'a> {
    /// The watched processes, by PID.
    pub watched: &'a [Arc<Watched>],
    /// The settings of the current window.
    pub settings: &'a Settings,
    /// The settings that the user has given.
    pub base: &'a Settings,
    /// The number of profiles in the spool, and their disk space in bytes.
    pub spool: (usize, u64),
    /// How many values of labels were replaced because there were too many.
    pub replaced_labels: u64,
}

/// What a companion requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End the current window now; its files are marked with this word.
    Capture {
        /// Why: a short word, such as `oom`.
        reason: String,
    },
    /// Sample with these settings from the next window on.
    Apply(Settings),
    /// Sample with these settings now: the current window ends, and its files are marked with this
    /// word.
    ApplyNow {
        /// The settings.
        settings: Settings,
        /// Why: a short word.
        reason: String,
    },
}

/// What happens, in the order in which it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// The spool was opened, and what was mended.
    Opened(&'a spool::Recovery),
    /// A process is watched from now on.
    Watching(&'a Watched),
    /// A watched process has ended, or is not watched any more.
    Gone(&'a Watched),
    /// A process cannot be sampled.
    Refused {
        /// The process.
        process: &'a Watched,
        /// Why.
        error: &'a CaptureError,
    },
    /// A kind cannot be captured.
    KindRefused {
        /// The kind.
        kind: Kind,
        /// Why.
        error: &'a CaptureError,
    },
    /// A window has ended; its profiles are written as soon as they have their names.
    WindowEnded {
        /// Why it ended early.
        mark: Option<&'a str>,
    },
    /// A profile was written.
    Saved {
        /// What it is.
        entry: &'a spool::Entry,
        /// Its file.
        path: &'a std::path::Path,
        /// How many samples it has (the sum of its first value), and how many samples of this kind
        /// were lost in the window.
        samples: (u64, u64),
    },
    /// A profile could not be written and is lost.
    NotSaved(&'a SpoolError),
    /// Profiles were removed because the spool was full, or they were old.
    Removed(usize),
    /// The settings were changed.
    Applied(&'a Settings),
    /// The configuration was read again.
    Reloaded,
    /// The configuration could not be read again: the old one stays.
    ReloadFailed(&'a str),
}

/// Takes part in the main loop, on its thread.
pub trait Companion {
    /// Called about once a second.
    fn tick(&mut self, _view: &View<'_>) -> Vec<Action> {
        Vec::new()
    }

    /// Called when something happens.
    fn event(&mut self, _event: &Event<'_>) {}
}

/// Why a sidecar cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The times do not fit.
    #[error("the window ({window:?}) is longer than the time from one to the next ({every:?})")]
    WindowTooLong {
        /// The length of a window.
        window: Duration,
        /// The time from one to the next.
        every: Duration,
    },
}

impl Options {
    /// The settings that the user has given.
    fn settings(&self) -> Settings {
        Settings {
            frequency_hz: self.request.frequency_hz,
            max_stack_bytes: self.request.max_stack_bytes,
            kinds: self.kinds.clone(),
        }
    }

    /// Whether one window follows the other without a pause.
    fn is_continuous(&self) -> bool {
        self.window >= self.every
    }
}
