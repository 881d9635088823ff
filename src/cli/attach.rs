//! `rprof attach`: profiles running processes.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{
    args::{AttachArgs, DebugArgs, FramesArg, LabelArg, OutputArgs, SamplerArg, SamplingArgs},
    output::Destination,
    progress::Bar,
    summary,
    target::Selection,
};
use crate::{
    capture::{
        self, CaptureError, FrameChoice, LabelKeys, Request, SamplerChoice, Stop,
        kinds::{Form, Kind, Make, Span},
    },
    process::identify,
    sampler::look::hold,
    symbolize::{Debuginfod, SymbolizeOptions},
};

/// Runs the verb.
pub fn run(arguments: AttachArgs) -> Result<()> {
    let selection = Selection {
        target: arguments.target,
        pids: &arguments.pid,
        name: arguments.name.as_ref(),
        match_args: arguments.match_args,
        quiet: arguments.output.quiet,
    };
    let pids = selection.choose()?;
    check_debug_options(&arguments.debug)?;
    let targets = pids.iter().map(|pid| identify(*pid)).collect::<Result<Vec<_>, _>>()?;
    let several = pids.len() > 1;
    let sampling = request(&arguments.sampling, &arguments.debug);
    let kind = arguments.kind;
    kind.check_sampler(sampling.sampler)?;
    let request = Request {
        pids,
        kinds: vec![kind],
        children: arguments.children,
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
            capture_and_write(request, &destination, &arguments.output, || Ok(()))
        }
    }
}

/// How long to capture: an instant kind is read now, unless it has to be sampled.
fn duration(kind: Kind, request: &Request, requested: Duration) -> Duration {
    let now = Request { duration: Some(Duration::ZERO), ..request.clone() };
    let is_sampled = || kind.maker(&now).is_ok_and(|maker| matches!(maker.make, Make::Live(_)));
    if kind.span != Span::Instant || is_sampled() { requested } else { Duration::ZERO }
}

/// The request that the sampling options describe, without targets.
pub fn request(sampling: &SamplingArgs, debug: &DebugArgs) -> Request {
    Request {
        frequency_hz: sampling.frequency,
        sampler: match sampling.sampler {
            SamplerArg::Auto => SamplerChoice::Auto,
            SamplerArg::Bpf => SamplerChoice::Bpf,
            SamplerArg::PerfCpu => SamplerChoice::PerfCpu,
            SamplerArg::PerfCgroup => SamplerChoice::PerfCgroup,
            SamplerArg::PerfThread => SamplerChoice::PerfThread,
            SamplerArg::Ptrace => SamplerChoice::Ptrace,
        },
        kernel: !sampling.no_kernel,
        frames: match sampling.frames {
            FramesArg::Mixed => FrameChoice::Mixed,
            FramesArg::Language => FrameChoice::Language,
            FramesArg::Native => FrameChoice::Native,
        },
        max_stack_bytes: sampling.max_stack_bytes,
        buffer_bytes: sampling.buffer_bytes,
        labels: LabelKeys {
            pid: sampling.label.contains(&LabelArg::Pid),
            tid: sampling.label.contains(&LabelArg::Tid),
            process: sampling.label.contains(&LabelArg::Process),
        },
        symbolize: symbolize_options(debug),
        ..Request::default()
    }
}

/// Reports options on debug files that cannot have any effect, before sampling starts.
pub fn check_debug_options(debug: &DebugArgs) -> Result<()> {
    if let Some(missing) = debug.debug_dir.iter().find(|folder| !folder.is_dir()) {
        bail!("--debug-dir {}: there is no such directory", missing.display());
    }
    if debug.debuginfod.as_deref().is_some_and(|urls| debuginfod(urls).is_none()) {
        bail!("--debuginfod names no server, and DEBUGINFOD_URLS is not set: use --debuginfod=URL");
    }
    Ok(())
}

/// The options on debug files.
pub fn symbolize_options(debug: &DebugArgs) -> SymbolizeOptions {
    SymbolizeOptions {
        debug_dirs: debug.debug_dir.clone(),
        debuginfod: debug.debuginfod.as_deref().and_then(debuginfod),
        ..SymbolizeOptions::default()
    }
}

/// The servers that the flag names, or those in DEBUGINFOD_URLS.
fn debuginfod(urls: &str) -> Option<Debuginfod> {
    Debuginfod::from_environment(|name| match name {
        "DEBUGINFOD_URLS" if !urls.is_empty() => Some(urls.to_owned()),
        _ => std::env::var(name).ok(),
    })
}

/// Captures, writes the file and prints the summary. `release` is called once sampling has started.
pub fn capture_and_write(
    request: Request,
    destination: &Destination,
    output: &OutputArgs,
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
            super::say(&summary::text(&response, destination, output.stats));
        }
    }
    Ok(())
}

/// The same options; naming also ends soon after the first signal, with the names found so far.
pub fn interruptible(options: SymbolizeOptions) -> Result<SymbolizeOptions> {
    let budget = options.budget.stopped_by(stop_on_signals()?.0);
    Ok(SymbolizeOptions { budget, ..options })
}

/// Whether rprof was started with SIGHUP ignored (`SigIgn` of proc_pid_status(5), bit 0).
fn ignores_hang_up() -> bool {
    let status =
        String::from_utf8_lossy(&std::fs::read("/proc/self/status").unwrap_or_default()).into_owned();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(ignored.trim(), 16).is_ok_and(|set| set & 1 == 1)
}

/// Ctrl-C, SIGTERM and SIGHUP end the capture early and keep its data; a second one ends rprof
/// (once every thread that it stopped is released).
pub fn stop_on_signals() -> Result<Stop> {
    use signal_hook::{consts, flag};
    let stop = Stop::default();
    // nohup(1) asks for SIGHUP to be ignored.
    let hang_up = (!ignores_hang_up()).then_some(consts::SIGHUP);
    for signal in [consts::SIGINT, consts::SIGTERM].into_iter().chain(hang_up) {
        // In this order: the first signal must find the flag unset.
        hold::end_at_next(signal, std::sync::Arc::clone(&stop.0))?;
        flag::register(signal, std::sync::Arc::clone(&stop.0))?;
    }
    Ok(stop)
}
