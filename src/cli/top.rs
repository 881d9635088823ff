//! `rprof top FILE`: the functions that use the most, as a table on standard output.

use std::io::Write;

use anyhow::{Context, Result};

use super::args::TopArgs;
use crate::{profile::decode, report::top};

pub fn run(arguments: &TopArgs) -> Result<()> {
    let path = &arguments.input;
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let profile =
        decode::decode(&bytes).with_context(|| format!("{} is not a usable profile", path.display()))?;
    let last = profile.sample_type.len().saturating_sub(1);
    let table = top(&profile, last).text(arguments.count);
    match write!(std::io::stdout(), "{table}") {
        // `rprof top FILE | head` closes the pipe early.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
