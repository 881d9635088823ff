//! Starts a command that waits to be profiled from its first instruction.

use std::{
    ffi::{CString, OsString},
    io,
    os::unix::ffi::OsStringExt,
};

pub use crate::sys::launch::{Ending, Gate};

/// Starts `command` (program and arguments) behind a gate. Must be called before any thread is
/// created. Errors: an argument contains a NUL byte, or fork(2) failed.
pub fn start(command: Vec<OsString>) -> io::Result<Gate> {
    let words: Result<Vec<CString>, _> =
        command.into_iter().map(|word| CString::new(word.into_vec())).collect();
    Gate::start(&words.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?)
}
