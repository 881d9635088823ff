//! A spool: a directory of profiles that grows with time and is bounded by size and age.
//!
//! ```text
//! SPOOL/index                                         what is in the spool, one line a change
//! SPOOL/lock                                          locked by the only writer
//! SPOOL/SERVICE/KIND/20261130/20261130T012000.000Z-60000ms[-pPID][-MARK].pb.gz
//! ```
//!
//! A file is written under a temporary name, synced and renamed, so it is complete or absent. The
//! names of the files are sufficient to rebuild the index. A file that is damaged nevertheless is
//! renamed to `….torn` when the spool is opened for writing, and reported.
//!
//! Not here: where profiles come from, and how they are shown.

mod index;
mod name;
mod read;
mod split;
#[cfg(test)]
mod tests;
mod walk;
mod write;

use std::{io, path::PathBuf};

use crate::profile::WriteError;

pub use name::{Entry, Time};
pub use read::{Catalog, Query, Series, parse_time};
pub use split::{Group, split};
pub use write::{Limits, Recovery, Spool};

/// The extension of a profile in a spool.
const EXTENSION: &str = ".pb.gz";
/// What is added to the name of a damaged file.
const TORN: &str = ".torn";
/// The index.
const INDEX: &str = "index";
/// The file that the writer locks.
const LOCK: &str = "lock";

/// Why a spool cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The path is not a spool.
    #[error("{0} is not a spool: it has no file `index`")]
    NotASpool(PathBuf),
    /// The directory has files and is not a spool.
    #[error("{0} is not empty and is not a spool: give a new or an empty directory")]
    NotEmpty(PathBuf),
    /// Another process writes to it.
    #[error("another process writes to the spool {0}: give each sidecar a spool of its own")]
    InUse(PathBuf),
    /// Nothing matches the query.
    #[error("the spool has no profile that matches: {0}")]
    NothingMatches(String),
    /// A profile was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A profile is damaged.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Profiles cannot be merged.
    #[error("cannot merge these profiles: {0}")]
    Merge(String),
    /// Any other error.
    #[error("{what} {path}: {source}")]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl SpoolError {
    fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SpoolError {
        let path = path.into();
        move |source| SpoolError::Io { what, path, source }
    }

    /// Whether the disk, or the user's quota, is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            SpoolError::Write(WriteError::DiskFull { .. }) => true,
            SpoolError::Io { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
            }
            _ => false,
        }
    }
}
