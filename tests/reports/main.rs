//! The reports as their users meet them: the prompt at a terminal (driven through tmux), the short
//! forms, their formats, comparisons and flame graphs, on the profiles of `tests/fixtures/pprof`.
//!
//! Not here: whether `rprof pprof` says what `go tool pprof` says (`pprof_reference`).

mod fed;
mod prompt;
mod short_forms;

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

/// A profile of the fixtures.
fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pprof").join(name);
    path.display().to_string()
}

fn rprof(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rprof")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// What a run that must succeed prints.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = rprof(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
