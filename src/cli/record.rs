//! `rprof record -- COMMAND`: starts a command and profiles it, with its children, from the first
//! instruction.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    args::RecordArgs,
    attach::{capture_and_write, request},
    output::Destination,
};
use crate::{
    capture::Request,
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
    let mut started = Ok(());
    let captured = capture_and_write(&request, &destination, &arguments.output, || started = gate.open());
    if let Err(error) = started {
        let _ = std::fs::remove_file(destination.path());
        return Err(error).with_context(|| format!("cannot run {command}"));
    }
    if let Some(ending) = gate.wait().filter(|_| !arguments.output.quiet) {
        match ending {
            Ending::Exited(code) => eprintln!("{command} exited with {code}"),
            Ending::Killed(signal) => eprintln!("{command} was killed by signal {signal}"),
        }
    }
    captured
}
