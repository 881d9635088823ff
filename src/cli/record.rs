//! `rprof record -- COMMAND`: starts a command and profiles it and its children from the first
//! instruction.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

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
        launch::{self, Ending, Gate},
    },
};

/// How often rprof checks whether the command has ended.
const WAIT_EVERY: Duration = Duration::from_millis(20);

/// Runs the verb.
pub fn run(arguments: RecordArgs) -> Result<()> {
    let command = arguments.command.first().map(|word| word.to_string_lossy().into_owned());
    let command = command.unwrap_or_default();
    let mut gate = launch::start(arguments.command).context("cannot start a process")?;
    let mut identity = identify(gate.pid())?;
    // Before exec(2) the process still has rprof's name.
    identity.name = Path::new(&command).file_name().unwrap_or_default().to_string_lossy().into_owned();
    identity.executable = None;
    let destination = Destination::choose(&arguments.output, Some(&identity))?;
    let request = Request {
        pids: vec![gate.pid()],
        children: true,
        duration: arguments.duration,
        ..request(&arguments.sampling, &arguments.debug)
    };
    let received = received_signal()?;
    let captured = capture_and_write(&request, &destination, &arguments.output, || gate.open());
    if matches!(&captured, Err(error) if matches!(error.downcast_ref(), Some(CaptureError::NotStarted(_)))) {
        return captured.with_context(|| format!("cannot run {command}"));
    }
    if !gate.is_open() {
        // Nothing was sampled, and the command was not started: dropping the gate ends its process.
        return captured;
    }
    let how = match wait_for(&gate, &received) {
        Ending::Exited(code) => format!("exited with status {code}"),
        Ending::Killed(signal) => format!("was killed by signal {signal}"),
        Ending::Unknown => "has ended".to_owned(),
    };
    if !arguments.output.quiet {
        say(&format!("{command} {how}"));
    }
    captured
}

/// The number of the last signal that asked rprof to end; 0 before any.
fn received_signal() -> Result<Arc<AtomicUsize>> {
    let received = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(signal, Arc::clone(&received), signal as usize)?;
    }
    Ok(received)
}

/// Waits for the command. A signal that asks rprof to end is passed on to the command once (a
/// second signal ends rprof itself).
fn wait_for(gate: &Gate, received: &AtomicUsize) -> Ending {
    loop {
        if let Some(ending) = gate.status() {
            return ending;
        }
        let signal = received.swap(0, Ordering::Relaxed);
        if signal != 0 {
            gate.signal(signal as i32);
        }
        std::thread::sleep(WAIT_EVERY);
    }
}
