//! `rprof dump` of a Go program and `rprof attach --kind goroutine`: its goroutines in Go's text
//! formats.
//!
//! `capture::goroutines` reads them.

use std::{fmt::Write as _, io::Write, path::Path};

use anyhow::{Result, bail};

use super::{
    args::{AttachArgs, DumpArgs, LookArg},
    dump::{DumpOutput, Form},
    output::Destination,
};
use crate::{
    capture::{
        go_profile::{self, GoKind},
        goroutines::{GoDump, GoDumpRequest, dump},
    },
    process::{Identity, identify},
    report::{self, RenderOptions},
    runtime::go::GoProcess,
    text::counted,
};

/// Whether a dump shows goroutines: those of a single Go program, unless options on threads are
/// given.
pub fn are_wanted(arguments: &DumpArgs, pids: &[u32]) -> bool {
    let of_threads = arguments.threads || arguments.each || arguments.kernel || arguments.children;
    !of_threads && arguments.look == LookArg::Auto && are_of(pids)
}

/// Whether this is a single process that runs a Go program.
pub fn are_of(pids: &[u32]) -> bool {
    matches!(pids, [pid] if GoProcess::is_likely(*pid))
}

/// Runs `rprof dump` of a Go program.
pub fn run(arguments: &DumpArgs, pid: u32) -> Result<()> {
    let output = DumpOutput::choose(arguments)?;
    let in_full = matches!(output.form, Form::Text);
    let dumped = dump(&GoDumpRequest { pid, arguments: in_full, consistent: arguments.consistent })?;
    output.write(|form, writer| write(&dumped, form, arguments.system, writer))?;
    if !arguments.quiet {
        super::say(summary(&dumped, output.path, arguments.stats).trim_end());
    }
    Ok(())
}

/// Runs `rprof attach --kind goroutine`.
pub fn attach(pid: u32, targets: &[Identity], arguments: &AttachArgs) -> Result<()> {
    let destination = Destination::choose(&arguments.output, targets)?;
    let dumped = dump(&GoDumpRequest { pid, ..GoDumpRequest::default() })?;
    destination.write(&dumped.profile(false))?;
    if !arguments.output.quiet {
        let path = (!destination.is_stdout()).then(|| destination.path());
        super::say(summary(&dumped, path, arguments.output.stats).trim_end());
    }
    Ok(())
}

/// Runs `rprof attach` for a kind that Go's runtime records (heap, allocs, block, mutex,
/// threadcreate).
pub fn profile(pids: &[u32], kind: GoKind, arguments: &AttachArgs) -> Result<()> {
    let [pid] = pids else { bail!("--kind {} takes one process", kind.name()) };
    let destination = Destination::choose(&arguments.output, &[identify(*pid)?])?;
    let read = go_profile::read(*pid, kind)?;
    destination.write(&read.profile)?;
    if arguments.output.quiet {
        return Ok(());
    }
    let mut text = format!(
        "{}: {} of {}, read once; nothing was stopped, nothing was sampled\n",
        kind.name(),
        counted(read.records, "record"),
        read.version
    );
    for warning in &read.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    if !destination.is_stdout() {
        let _ = writeln!(text, "wrote {}", destination.path().display());
    }
    super::say(text.trim_end());
    Ok(())
}

/// The text formats are those of `/debug/pprof/goroutine?debug=2` and `?debug=1`.
fn write(dumped: &GoDump, form: Form, system: bool, writer: &mut dyn Write) -> std::io::Result<()> {
    match form {
        Form::Text => dumped.text(system).write_each(writer),
        Form::Aggregated => dumped.text(system).write_counted(writer),
        Form::Json => dumped.text(system).write_json(writer),
        Form::Profile(format) => {
            Ok(report::render(&dumped.profile(system), format, &RenderOptions::default(), writer)?)
        }
    }
}

/// A quality line, warnings, and with `stats` the cost.
fn summary(dumped: &GoDump, path: Option<&Path>, stats: bool) -> String {
    let (numbers, goroutines) = (&dumped.stats, &dumped.goroutines);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "quality: {} of {} ({} more of the runtime), {} read again, {} unstable; {}",
        counted(numbers.shown, "goroutine"),
        dumped.process.version_text,
        numbers.system,
        goroutines.read_again,
        goroutines.unstable,
        match numbers.stopped_threads {
            0 => "nothing was stopped".to_owned(),
            count => format!(
                "{} stopped together for {:.1} ms",
                counted(count, "thread"),
                numbers.stopped.as_secs_f64() * 1e3
            ),
        }
    );
    if numbers.running > numbers.running_captured {
        let unseen = numbers.running - numbers.running_captured;
        let unseen = counted(unseen, "running goroutine");
        let _ = writeln!(text, "warning: the stacks of {unseen} could not be read");
    }
    if goroutines.unstable > 0 {
        let _ = writeln!(
            text,
            "warning: {} changed at every read and {} listed without a stack",
            counted(goroutines.unstable, "goroutine"),
            if goroutines.unstable == 1 { "is" } else { "are" }
        );
    }
    if !dumped.process.is_known_release {
        let _ = writeln!(
            text,
            "warning: {} is newer than all known releases: read with the layout of {}, whose checks passed",
            dumped.process.version_text, dumped.process.layout.source
        );
    }
    if stats {
        let _ = writeln!(
            text,
            "stats: finding the runtime {:.1} ms, reading {:.1} ms ({:.1} MiB, {})",
            numbers.attaching.as_secs_f64() * 1e3,
            numbers.reading.as_secs_f64() * 1e3,
            goroutines.bytes as f64 / f64::from(1 << 20),
            counted(goroutines.stacks.len(), "different stack")
        );
    }
    if let Some(path) = path {
        let _ = writeln!(text, "wrote {}", path.display());
    }
    text
}
