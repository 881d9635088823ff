//! Why a process cannot be read as a Go program.

use crate::process::ProcessError;

/// Why a process cannot be read as a Go program.
#[derive(Debug, thiserror::Error)]
pub enum GoError {
    /// The process does not exist or cannot be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The process with this number is not a Go program.
    #[error("process {0} is not a Go program")]
    NotGo(u32),
    /// The function table of the file is not supported.
    #[error("{0} is a Go program without the tables of Go 1.18 to 1.27: its release is older or modified")]
    Tables(String),
    /// The release is not supported.
    #[error("Go {0} is not supported: rprof knows releases since 1.18")]
    Release(String),
    /// A variable of the runtime was not found, or its content is invalid.
    #[error("the runtime's {what} was not found in memory: {why}")]
    Variable {
        /// The variable.
        what: &'static str,
        /// Why it was not found.
        why: &'static str,
    },
    /// Reading the process's memory is not permitted.
    #[error("cannot read the memory of process {0}: not permitted")]
    Memory(u32),
}
