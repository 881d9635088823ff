//! Why a runtime cannot be read.

use crate::process::ProcessError;

/// Why a runtime cannot be read, or cannot give what was requested.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The process does not exist or cannot be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The process has no such runtime.
    #[error("process {pid} is not a {language} program")]
    Absent {
        /// The process.
        pid: u32,
        /// [`super::Language::name`].
        language: &'static str,
    },
    /// Reading the process is not permitted.
    #[error("{what}")]
    NotPermitted {
        /// What is not permitted.
        what: String,
    },
    /// The runtime, or what was requested of it, cannot be read.
    #[error("{what}")]
    Unreadable {
        /// What failed and why.
        what: String,
        /// What to do.
        advice: Option<&'static str>,
    },
    /// The runtime does not have what was requested, because the program did not enable it.
    #[error("{why}")]
    NotCollected {
        /// Why.
        why: String,
        /// How to enable it, and the next best profile.
        advice: &'static str,
    },
}
