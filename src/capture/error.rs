//! Why there is no profile.

use super::kinds::{Kind, list};
use crate::{
    process::{Identity, ProcessError},
    runtime::RuntimeError,
    sampler::SamplerError,
};

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A process does not exist or cannot be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The process with this number is a kernel thread.
    #[error("process {0} is a kernel thread: it has no user-space stack")]
    KernelThread(u32),
    /// The request has no process, or all have ended.
    #[error("there is no process to profile")]
    NoProcess,
    /// The kind is not available for these processes.
    #[error("{} profiles {why}. Available: {}", kind.name, list(available))]
    NotOffered {
        /// The kind.
        kind: Kind,
        /// The reason: `need a Go program, and …`.
        why: String,
        /// The kinds that are available instead.
        available: Vec<Kind>,
    },
    /// The requested sampler cannot make the kind.
    #[error("--kind {} {why}", kind.name)]
    WrongSampler {
        /// The kind.
        kind: Kind,
        /// The samplers that can, and why not the others.
        why: &'static str,
    },
    /// The language runtime of the process cannot be read, or does not record the kind.
    #[error(transparent)]
    Runtime(RuntimeError),
    /// No sampler could be opened.
    #[error("cannot profile: {source}")]
    Sampler {
        /// The error of the most suitable sampler.
        #[source]
        source: SamplerError,
        /// The other samplers that were tried, and their errors.
        tried: Vec<(&'static str, SamplerError)>,
        /// The processes to be profiled.
        identities: Vec<Identity>,
    },
    /// The command to be profiled could not be started.
    #[error("cannot run the command")]
    NotStarted(#[source] std::io::Error),
    /// The sampler failed before it delivered a sample.
    #[error("the sampler failed: {0}")]
    SamplerDied(SamplerError),
    /// Two readings cannot be subtracted.
    #[error("the two readings cannot be compared: {0}")]
    Incomparable(String),
    /// The capture panicked.
    #[error("the capture failed: this is a bug in rprof")]
    Bug,
}

/// Who or what is in the way of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The process has no such profile.
    NotAvailable,
    /// The process does not run any more.
    Gone,
    /// A right is missing.
    NotPermitted,
    /// Anything else.
    Other,
}

impl From<RuntimeError> for CaptureError {
    fn from(error: RuntimeError) -> CaptureError {
        match error {
            RuntimeError::Process(error) => CaptureError::Process(error),
            other => CaptureError::Runtime(other),
        }
    }
}

impl CaptureError {
    /// Who or what is in the way.
    pub fn obstacle(&self) -> Obstacle {
        match self {
            CaptureError::NotOffered { .. }
            | CaptureError::WrongSampler { .. }
            | CaptureError::Runtime(RuntimeError::NotCollected { .. } | RuntimeError::Absent { .. }) => {
                Obstacle::NotAvailable
            }
            CaptureError::Process(error) | CaptureError::Runtime(RuntimeError::Process(error)) => match error
            {
                ProcessError::NoSuchProcess(_) | ProcessError::Zombie(_) | ProcessError::Replaced(_) => {
                    Obstacle::Gone
                }
                ProcessError::NotPermitted { .. } => Obstacle::NotPermitted,
                _ => Obstacle::Other,
            },
            CaptureError::Sampler { .. } | CaptureError::Runtime(RuntimeError::NotPermitted { .. }) => {
                Obstacle::NotPermitted
            }
            _ => Obstacle::Other,
        }
    }
}
