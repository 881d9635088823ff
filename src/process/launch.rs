//! Starts a command that waits to be profiled from its first instruction.

use std::{
    ffi::{CString, OsString},
    io,
    os::unix::ffi::OsStringExt,
};

pub use crate::sys::launch::{Ending, Gate};

/// Starts `command` (program and arguments) behind a gate; to be called before any thread is made.
/// Errors: an argument with a NUL byte, or no process could be made.
pub fn start(command: Vec<OsString>) -> io::Result<Gate> {
    let words: Result<Vec<CString>, _> =
        command.into_iter().map(|word| CString::new(word.into_vec())).collect();
    Gate::start(&words.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?)
}
