//! `rprof attach`: profiles running processes.

use std::time::Duration;

use anyhow::Result;

use super::{
    args::{AttachArgs, OutputArgs},
    output::Destination,
    progress::Bar,
    sampling::{check_debug_options, request},
    signals::stop_on_signals,
    summary::{self, Stream},
};
use crate::{
    capture::{
        self, CaptureError, LabelKeys, Request,
        kinds::{Form, Kind, Make, Span},
    },
    process::identify,
};

/// Runs the verb.
pub fn run(arguments: AttachArgs) -> Result<()> {
    let pids = arguments.processes.choose(arguments.output.quiet)?;
    check_debug_options(&arguments.debug)?;
    let targets = pids.iter().map(|pid| identify(*pid)).collect::<Result<Vec<_>, _>>()?;
    let several = pids.len() > 1;
    let sampling = request(&arguments.sampling, &arguments.debug);
    let kind = arguments.kind;
    kind.check_sampler(sampling.sampler)?;
    let request = Request {
        pids,
        kinds: vec![kind],
        children: arguments.processes.selectors.children,
        labels: match several {
            true => LabelKeys { pid: true, process: true, ..sampling.labels },
            false => sampling.labels,
        },
        ..sampling
    };
    let request = Request { duration: Some(duration(kind, &request, arguments.duration)), ..request };
    match kind.form {
        Form::Timeline => super::timeline::attach(request, &targets, &arguments.output),
        Form::Profile => {
            let destination = Destination::choose(&arguments.output, &targets)?;
            // Standard output may be the profile's.
            let stream = if destination.is_stdout() { Stream::Error } else { Stream::Output };
            capture_and_write(request, &destination, &arguments.output, stream, || Ok(()))
        }
    }
}

/// How long to capture: an instant kind is read now, unless it has to be sampled.
pub fn duration(kind: Kind, request: &Request, requested: Duration) -> Duration {
    let now = Request { duration: Some(Duration::ZERO), ..request.clone() };
    let is_sampled = || kind.maker(&now).is_ok_and(|maker| matches!(maker.make, Make::Live(_)));
    if kind.span != Span::Instant || is_sampled() { requested } else { Duration::ZERO }
}

/// Captures, writes the file and prints the summary, its first look at the profile to `first_look`.
/// `release` is called once sampling has started.
pub fn capture_and_write(
    request: Request,
    destination: &Destination,
    output: &OutputArgs,
    first_look: Stream,
    release: impl FnOnce() -> std::io::Result<()>,
) -> Result<()> {
    let request = Request { stop: stop_on_signals()?, ..request };
    let mut bar = Bar::new(output.quiet, request.duration);
    let mut session = capture::open(&request)?;
    release().map_err(CaptureError::NotStarted)?;
    let window = session.next_window(&mut |progress| bar.show(&progress)).unwrap_or_default();
    drop(bar);
    for outcome in window {
        let response = outcome.result?;
        if let Some(profile) = response.profile() {
            destination.write(&profile)?;
        }
        if !output.quiet {
            summary::print(&response, destination, output, first_look)?;
        }
    }
    Ok(())
}
