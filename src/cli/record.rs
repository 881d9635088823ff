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
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

use super::{
    FAILURE, advice,
    args::RecordArgs,
    attach::capture_and_write,
    output::Destination,
    sampling::{check_debug_options, request},
    say,
    summary::Stream,
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

/// Exit status of a command that a signal killed: this, plus the number of the signal, as in a
/// shell.
const SIGNALED: i32 = 128;

/// Runs the verb. Returns the exit status of the command: a failing test fails under `record` too.
/// If the profile could not be written, that is reported, and it is an error if the command
/// succeeded.
pub fn run(arguments: RecordArgs) -> Result<u8> {
    let command = arguments.command.first().map(|word| word.to_string_lossy().into_owned());
    let command = command.unwrap_or_default();
    check_debug_options(&arguments.debug)?;
    let mut gate = launch::start(arguments.command).context("cannot start a process")?;
    let mut identity = identify(gate.pid())?;
    // Before exec(2) the process still has rprof's name.
    identity.name = Path::new(&command).file_name().unwrap_or_default().to_string_lossy().into_owned();
    identity.executable = None;
    let destination = Destination::choose(&arguments.output, std::slice::from_ref(&identity))?;
    let request = Request {
        pids: vec![gate.pid()],
        children: true,
        duration: arguments.duration,
        ..request(&arguments.sampling, &arguments.debug)
    };
    let received = received_signal()?;
    // If SIGCHLD is ignored, the kernel discards the command's exit status (sigaction(2)).
    signal_hook::flag::register(SIGCHLD, Arc::<std::sync::atomic::AtomicBool>::default())?;
    // Standard output is the command's.
    let captured = capture_and_write(request, &destination, &arguments.output, Stream::Error, || gate.open());
    if matches!(&captured, Err(error) if matches!(error.downcast_ref(), Some(CaptureError::NotStarted(_)))) {
        captured.with_context(|| format!("cannot run {command}"))?;
        return Ok(FAILURE);
    }
    if !gate.is_open() {
        // Nothing was sampled, and the command was not started: dropping the gate ends its process.
        captured?;
        return Ok(FAILURE);
    }
    let (how, status) = match wait_for(&gate, &received) {
        Ending::Exited(code) => (format!("exited with status {code}"), code),
        Ending::Killed(signal) => (format!("was killed by signal {signal}"), SIGNALED + signal),
        Ending::Unknown => ("has ended with an unknown status".to_owned(), i32::from(FAILURE)),
    };
    if !arguments.output.quiet {
        say(&format!("{command} {how}"));
    }
    match captured {
        Err(error) if status == 0 => Err(error),
        Err(error) => {
            say(&advice::explain(&error));
            Ok(status as u8)
        }
        Ok(()) => Ok(status as u8),
    }
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
