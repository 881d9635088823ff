//! The prompt of `rprof pprof`: commands, assignments, shortcuts, as the reference has them.
//!
//! Not here: reports, and reading lines from a terminal.

use std::io::{self, BufRead, Write};

use crate::{
    profile::columns::Columns,
    report::pprof::Settings,
};

/// Reads commands until the end of the input.
pub fn run(
    _columns: Columns,
    _settings: Settings,
    _out: &mut dyn Write,
    _say: &mut dyn FnMut(&str),
) -> Result<(), String> {
    let _ = io::stdin().lock().lines();
    Err("prompt".into())
}
