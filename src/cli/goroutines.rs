//! `rprof dump` of a Go program, and `rprof attach --kind goroutine`: its goroutines, in Go's own words.
//!
//! Not here: reading them, and the forms of the answer.

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
};

/// Whether a dump is to show goroutines: of one Go program, unless threads were asked for, or a way of
/// looking at them.
pub fn are_wanted(arguments: &DumpArgs, pids: &[u32]) -> bool {
    let of_threads = arguments.threads || arguments.each || arguments.kernel || arguments.children;
    !of_threads && arguments.look == LookArg::Auto && are_of(pids)
}

/// Whether these are one process, of Go.
pub fn are_of(pids: &[u32]) -> bool {
    matches!(pids, [pid] if GoProcess::is_likely(*pid))
}

/// `rprof dump`.
pub fn run(arguments: &DumpArgs, pid: u32) -> Result<()> {
    let answer = DumpOutput::choose(arguments)?;
    let in_full = matches!(answer.form, Form::Text);
    let dumped = dump(&GoDumpRequest { pid, arguments: in_full, consistent: arguments.consistent })?;
    answer.write(|form, writer| write(&dumped, form, arguments.system, writer))?;
    if !arguments.quiet {
        super::say(summary(&dumped, answer.path, arguments.stats).trim_end());
    }
    Ok(())
}

/// `rprof attach --kind goroutine`.
pub fn attach(pid: u32, first: &Identity, arguments: &AttachArgs) -> Result<()> {
    let destination = Destination::choose(&arguments.output, Some(first))?;
    let dumped = dump(&GoDumpRequest { pid, ..GoDumpRequest::default() })?;
    destination.write(&dumped.profile(false))?;
    if !arguments.output.quiet {
        let path = (!destination.is_stdout()).then(|| destination.path());
        super::say(summary(&dumped, path, arguments.output.stats).trim_end());
    }
    Ok(())
}

/// `rprof attach --kind heap`, and the others that the runtime keeps.
pub fn profile(pids: &[u32], kind: GoKind, arguments: &AttachArgs) -> Result<()> {
    let [pid] = pids else { bail!("--kind {} is of one process at a time", kind.name()) };
    let first = identify(*pid)?;
    let destination = Destination::choose(&arguments.output, Some(&first))?;
    let read = go_profile::read(*pid, kind)?;
    destination.write(&read.profile)?;
    if arguments.output.quiet {
        return Ok(());
    }
    let mut text = format!(
        "{}: {} records of {}, read once; nothing was stopped, nothing sampled\n",
        kind.name(),
        read.records,
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

/// As text, what `/debug/pprof/goroutine?debug=2` and `debug=1` show.
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

/// One line of quality, warnings, and with `stats` what it cost.
fn summary(dumped: &GoDump, path: Option<&Path>, stats: bool) -> String {
    let (numbers, goroutines) = (&dumped.stats, &dumped.goroutines);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "quality: {} goroutines of {} ({} more of the runtime), {} read again, {} unstable; {}",
        numbers.shown,
        dumped.process.version_text,
        numbers.system,
        goroutines.read_again,
        goroutines.unstable,
        match numbers.stopped_threads {
            0 => "nothing was stopped".to_owned(),
            count => format!(
                "{count} threads were stopped together for {:.1} ms",
                numbers.stopped.as_secs_f64() * 1e3
            ),
        }
    );
    if numbers.running > numbers.running_captured {
        let unseen = numbers.running - numbers.running_captured;
        let _ = writeln!(text, "warning: {unseen} goroutines ran, and their stacks could not be caught");
    }
    if goroutines.unstable > 0 {
        let _ = writeln!(
            text,
            "warning: {} goroutines changed each time they were read: they are listed without stacks",
            goroutines.unstable
        );
    }
    if !dumped.process.is_known_release {
        let _ = writeln!(
            text,
            "warning: {} is newer than all releases that rprof knows: read as {}, whose checks held",
            dumped.process.version_text, dumped.process.layout.source
        );
    }
    if stats {
        let _ = writeln!(
            text,
            "stats: finding the runtime {:.1} ms, reading {:.1} ms ({:.1} MiB, {} different stacks)",
            numbers.attaching.as_secs_f64() * 1e3,
            numbers.reading.as_secs_f64() * 1e3,
            goroutines.bytes as f64 / f64::from(1 << 20),
            goroutines.stacks.len()
        );
    }
    if let Some(path) = path {
        let _ = writeln!(text, "wrote {}", path.display());
    }
    text
}
