//! Why a core cannot be read.

use std::{io, path::PathBuf};

/// Why a file could not be read as a core.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The file could not be opened or mapped.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is not a core file of a 64-bit little-endian process")]
    NotCore(PathBuf),
    /// The process ran on another CPU.
    #[error("{path} is the core of a process on another CPU (ELF machine {machine})")]
    OtherCpu {
        /// The file.
        path: PathBuf,
        /// `e_machine` of the file.
        machine: u16,
    },
    /// It ends before the registers of the first thread.
    #[error("{0} is truncated before the registers of any thread")]
    NoThreads(PathBuf),
    /// The program that was given is not that of the core.
    #[error(
        "{program} is not the program of this core: its build ID is {found}, that of the core {expected}"
    )]
    OtherProgram {
        /// The file that was given.
        program: PathBuf,
        /// Its build ID in hexadecimal, or `none`.
        found: String,
        /// The build ID of the core's program.
        expected: String,
    },
    /// The program that was given cannot be read.
    #[error("cannot read {path}: {why}")]
    Program {
        /// The file that was given.
        path: PathBuf,
        /// The error.
        why: String,
    },
    /// No core of systemd-coredump matches.
    #[error("there is no file {what}, and no core of such a process in {folder}")]
    NotFound {
        /// What was given: a path, a PID or a name.
        what: String,
        /// Where systemd-coredump keeps cores.
        folder: PathBuf,
    },
    /// A compressed core could not be unpacked.
    #[error("cannot unpack {path}: {why}")]
    Packed {
        /// The file.
        path: PathBuf,
        /// The error, or what to do.
        why: String,
    },
}
