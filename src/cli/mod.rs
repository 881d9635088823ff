//! TODO
use std::{ffi::OsString, process::ExitCode};
pub fn run(_a: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::SUCCESS
}
