//! `rprof record -- COMMAND`: starts a command and profiles it, with its children, from the first
//! instruction.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    args::RecordArgs,
    attach::{capture_and_write, request},
    output::Destination,
    say,
};
use crate::{
    capture::{CaptureError, Request},
    process::{
        identify,
        launch::{self, Ending},
    },
};

pub fn run(arguments: RecordArgs) -> Result<()> {
    let command = arguments.command.first().map(|word| word.to_string_lossy().into_owned());
    let command = command.unwrap_or_default();
    let mut gate = launch::start(arguments.command).context("cannot start a process")?;
    let mut identity = identify(gate.pid())?;
    // Until it runs, the process still has rprof's own name.
    identity.name = Path::new(&command).file_name().unwrap_or_default().to_string_lossy().into_owned();
    identity.executable = None;
    let destination = Destination::choose(&arguments.output, Some(&identity))?;
    let request = Request {
        pids: vec![gate.pid()],
        children: true,
        duration: arguments.duration,
        ..request(&arguments.sampling, &arguments.debug)
    };
    let captured = capture_and_write(&request, &destination, &arguments.output, || gate.open());
    if matches!(&captured, Err(error) if matches!(error.downcast_ref(), Some(CaptureError::NotStarted(_)))) {
        return captured.with_context(|| format!("cannot run {command}"));
    }
    if let Some(ending) = gate.wait().filter(|_| !arguments.output.quiet) {
        match ending {
            Ending::Exited(code) => say(&format!("{command} exited with {code}")),
            Ending::Killed(signal) => say(&format!("{command} was killed by signal {signal}")),
        }
    }
    captured
}
