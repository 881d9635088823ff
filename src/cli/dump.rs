//! `rprof dump`: every thread's stack, now.
//!
//! The answer goes to standard output (or a file), how it went to standard error. Not here: looking,
//! and the forms of the answer.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::{
    args::{AttachArgs, DumpArgs, DumpFormatArg, LookArg},
    output::Destination,
};
use crate::{
    capture::dump::{Dump, DumpRequest, dump},
    process::Identity,
    profile::file,
    report::{self, OutputFormat, RenderOptions, threads::Threads},
    sampler::look::LookMethod,
};

/// How many different warnings are shown; the rest are counted.
const WARNINGS: usize = 8;

pub fn run(arguments: &DumpArgs) -> Result<()> {
    let pids = super::attach::choose(arguments.target, &arguments.pid, arguments.name.as_ref())?;
    if super::goroutines::are_wanted(arguments, &pids) {
        return super::goroutines::run(arguments, pids[0]);
    }
    let answer = DumpOutput::choose(arguments)?;
    let dumped = dump(&request(arguments, pids))?;
    answer.write(|form, writer| write(&dumped, form, arguments.each, writer))?;
    if !arguments.quiet {
        super::say(summary(&dumped, answer.path, arguments.stats).trim_end());
    }
    Ok(())
}

/// `rprof attach --kind threads`: the same as a profile, to the place and in the format of `attach`.
pub fn attach(pids: Vec<u32>, first: &Identity, arguments: &AttachArgs) -> Result<()> {
    let destination = Destination::choose(&arguments.output, Some(first))?;
    let symbolize = super::attach::symbolize_options(&arguments.debug);
    let request = DumpRequest { pids, children: arguments.children, symbolize, ..DumpRequest::default() };
    let dumped = dump(&request)?;
    destination.write(&dumped.profile)?;
    if !arguments.output.quiet {
        let path = (!destination.is_stdout()).then(|| destination.path());
        super::say(summary(&dumped, path, arguments.output.stats).trim_end());
    }
    Ok(())
}

fn request(arguments: &DumpArgs, pids: Vec<u32>) -> DumpRequest {
    DumpRequest {
        pids,
        children: arguments.children,
        method: match arguments.look {
            LookArg::Auto => None,
            LookArg::Bpf => Some(LookMethod::Bpf),
            LookArg::Proc => Some(LookMethod::Asleep),
            LookArg::Perf => Some(LookMethod::Perf),
            LookArg::Ptrace => Some(LookMethod::Held),
        },
        never_stop: arguments.no_stop,
        consistent: arguments.consistent,
        kernel: arguments.kernel,
        symbolize: super::attach::symbolize_options(&arguments.debug),
        ..DumpRequest::default()
    }
}

/// A form of the answer.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// For reading: each thread (goroutine), or each stack, in full.
    Text,
    /// Equal stacks counted.
    Aggregated,
    Json,
    /// One of those in which any profile can be written.
    Profile(OutputFormat),
}

/// Where the answer goes and in what form; known, and known to be possible, before anything is looked at.
pub(super) struct DumpOutput<'a> {
    /// `None`: standard output.
    pub path: Option<&'a Path>,
    pub form: Form,
}

impl<'a> DumpOutput<'a> {
    pub fn choose(arguments: &'a DumpArgs) -> Result<DumpOutput<'a>> {
        let path = arguments.output.as_deref().filter(|path| *path != Path::new("-"));
        let form = Form::choose(arguments.format, path)?;
        let is_binary = matches!(form, Form::Profile(OutputFormat::Pprof));
        if path.is_none() && is_binary && std::io::stdout().is_terminal() {
            bail!("a pprof file is binary, and standard output is a terminal: give -o FILE, or a pipe");
        }
        path.map(file::check_writable).transpose()?;
        Ok(DumpOutput { path, form })
    }

    /// Lets `write` write it. Who reads standard output may have seen enough (`| head`): that is no error.
    pub fn write(&self, write: impl FnOnce(Form, &mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        let Some(path) = self.path else {
            let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
            return match write(self.form, &mut out).and_then(|()| out.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                written => written.context("cannot write to standard output"),
            };
        };
        Ok(file::write_atomically(path, |writer| write(self.form, writer))?)
    }
}

impl Form {
    fn choose(asked: Option<DumpFormatArg>, path: Option<&Path>) -> Result<Form> {
        if let Some(format) = asked {
            return Ok(match format {
                DumpFormatArg::Text => Form::Text,
                DumpFormatArg::Aggregated => Form::Aggregated,
                DumpFormatArg::Pprof => Form::Profile(OutputFormat::Pprof),
                DumpFormatArg::Json => Form::Json,
            });
        }
        let Some(path) = path else { return Ok(Form::Text) };
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        Ok(match extension.as_str() {
            "json" => Form::Json,
            "txt" | "log" | "" => Form::Text,
            _ => Form::Profile(OutputFormat::from_path(path)?),
        })
    }
}

fn write(dumped: &Dump, form: Form, each: bool, writer: &mut dyn Write) -> std::io::Result<()> {
    let profile = &dumped.profile;
    match form {
        Form::Text => {
            for identity in &dumped.identities {
                writeln!(writer, "{} (pid {})", identity.display_name(), identity.pid)?;
            }
            writeln!(writer)?;
            Threads::new(profile).write_text(each, writer)
        }
        Form::Aggregated => Threads::new(profile).write_aggregated(writer),
        Form::Json => Threads::new(profile).write_json(writer),
        Form::Profile(format) => Ok(report::render(profile, format, &RenderOptions::default(), writer)?),
    }
}

/// One line of quality, warnings, and with `stats` what it cost.
fn summary(dumped: &Dump, path: Option<&Path>, stats: bool) -> String {
    let mut text = String::new();
    let numbers = &dumped.stats;
    let ways: Vec<String> =
        numbers.by_method.iter().map(|(way, count)| format!("{count} by {}", way.name())).collect();
    let _ = writeln!(
        text,
        "quality: {} thread{}, {:.1}% whole stacks; {}; {}",
        numbers.threads,
        if numbers.threads == 1 { "" } else { "s" },
        // Never round up to "all".
        (numbers.whole_share() * 1000.0).floor() / 10.0,
        if ways.is_empty() { "none could be looked at".to_owned() } else { ways.join(", ") },
        match numbers.stopped.len() {
            0 => "no thread was stopped".to_owned(),
            1 => "1 thread was stopped for a moment".to_owned(),
            count => format!("{count} threads were stopped for a moment each"),
        }
    );
    let mut issues: Vec<_> = dumped.issues.iter().collect();
    issues.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (issue, count) in issues.iter().take(WARNINGS) {
        let _ = writeln!(text, "warning: {issue} ({count})");
    }
    if issues.len() > WARNINGS {
        let _ = writeln!(text, "warning: and {} more kinds of issue", issues.len() - WARNINGS);
    }
    if stats {
        let (all, median, longest) = numbers.stopped_summary();
        let _ = writeln!(
            text,
            "stats: looking {:.1} ms, naming {:.1} ms; {} threads stopped, at most {} us each (median {} us), {} us in all",
            numbers.reading.as_secs_f64() * 1e3,
            numbers.naming.as_secs_f64() * 1e3,
            numbers.stopped.len(),
            longest.as_micros(),
            median.as_micros(),
            all.as_micros()
        );
    }
    if let Some(path) = path {
        let _ = writeln!(text, "wrote {}", path.display());
    }
    text
}
