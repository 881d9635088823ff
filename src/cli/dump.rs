//! `rprof dump`: the stack of every thread now.
//!
//! The dump goes to standard output or a file, the summary to standard error. `capture::dump` reads
//! the threads, `report::threads` formats them.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::{
    args::{AttachArgs, DumpArgs, DumpFormatArg, LookArg},
    attach::{interruptible, symbolize_options},
    output::{Destination, file_options},
    target::Selection,
};
use crate::{
    capture::dump::{Dump, DumpRequest, dump},
    process::Identity,
    profile::{FileOptions, file},
    report::{self, OutputFormat, RenderOptions, threads::Threads},
    sampler::look::LookMethod,
    text::counted,
};

/// How many different warnings are shown; the others are counted.
const WARNINGS: usize = 8;

/// Runs the verb.
pub fn run(arguments: &DumpArgs) -> Result<()> {
    let selection = Selection {
        target: arguments.target,
        pids: &arguments.pid,
        name: arguments.name.as_ref(),
        match_args: arguments.match_args,
        quiet: arguments.quiet,
    };
    let pids = selection.choose()?;
    super::attach::check_debug_options(&arguments.debug)?;
    if super::goroutines::are_wanted(arguments, &pids) {
        return super::goroutines::run(arguments, pids[0]);
    }
    let output = DumpOutput::choose(arguments)?;
    let dumped = dump(&request(arguments, pids)?)?;
    output.write(|form, writer| write(&dumped, form, arguments.each, writer))?;
    if !arguments.quiet {
        super::say(summary(&dumped, output.path, arguments.stats).trim_end());
    }
    Ok(())
}

/// Runs `rprof attach --kind threads`: a dump as a profile, with the file name and format of
/// `attach`.
pub fn attach(pids: Vec<u32>, targets: &[Identity], arguments: &AttachArgs) -> Result<()> {
    let destination = Destination::choose(&arguments.output, targets)?;
    let symbolize = interruptible(symbolize_options(&arguments.debug))?;
    let request = DumpRequest { pids, children: arguments.children, symbolize, ..DumpRequest::default() };
    let dumped = dump(&request)?;
    destination.write(&dumped.profile)?;
    if !arguments.output.quiet {
        let path = (!destination.is_stdout()).then(|| destination.path());
        super::say(summary(&dumped, path, arguments.output.stats).trim_end());
    }
    Ok(())
}

fn request(arguments: &DumpArgs, pids: Vec<u32>) -> Result<DumpRequest> {
    Ok(DumpRequest {
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
        symbolize: interruptible(symbolize_options(&arguments.debug))?,
        ..DumpRequest::default()
    })
}

/// A format of a dump.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// Text: each thread (goroutine), or each different stack, in full.
    Text,
    /// Text: equal stacks counted.
    Aggregated,
    /// JSON.
    Json,
    /// A format of profiles.
    Profile(OutputFormat),
}

/// Where a dump goes and in which format, checked before any thread is read.
pub(super) struct DumpOutput<'a> {
    /// The file; `None`: standard output.
    pub path: Option<&'a Path>,
    options: FileOptions,
    /// The format.
    pub form: Form,
}

impl<'a> DumpOutput<'a> {
    /// Reads the flags. Errors: no known format, a binary format for a terminal, or a path that is
    /// not writable.
    pub fn choose(arguments: &'a DumpArgs) -> Result<DumpOutput<'a>> {
        let path = arguments.output.as_deref().filter(|path| *path != Path::new("-"));
        let form = Form::choose(arguments.format, path)?;
        let is_binary = matches!(form, Form::Profile(OutputFormat::Pprof));
        if path.is_none() && is_binary && std::io::stdout().is_terminal() {
            bail!("a pprof file is binary, and standard output is a terminal: use -o FILE or a pipe");
        }
        path.map(file::check_writable).transpose()?;
        Ok(DumpOutput { path, options: file_options(arguments.file_mode), form })
    }

    /// Writes the dump with `write`. A pipe closed early (`| head`) is not an error.
    pub fn write(&self, write: impl FnOnce(Form, &mut dyn Write) -> std::io::Result<()>) -> Result<()> {
        let Some(path) = self.path else {
            let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
            return match write(self.form, &mut out).and_then(|()| out.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                written => written.context("cannot write to standard output"),
            };
        };
        Ok(file::write_file(path, &self.options, |writer| write(self.form, writer))?)
    }
}

impl Form {
    fn choose(format: Option<DumpFormatArg>, path: Option<&Path>) -> Result<Form> {
        if let Some(format) = format {
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

/// A quality line, warnings, and with `stats` the cost.
fn summary(dumped: &Dump, path: Option<&Path>, stats: bool) -> String {
    let mut text = String::new();
    let numbers = &dumped.stats;
    let methods: Vec<String> =
        numbers.by_method.iter().map(|(method, count)| format!("{count} by {}", method.name())).collect();
    let _ = writeln!(
        text,
        "quality: {}, {:.1}% whole stacks; {}; {}",
        counted(numbers.threads, "thread"),
        // Never round up to "all".
        (numbers.whole_share() * 1000.0).floor() / 10.0,
        if methods.is_empty() { "no thread could be read".to_owned() } else { methods.join(", ") },
        match numbers.stopped.len() {
            0 => "no thread was stopped".to_owned(),
            count => format!("{} stopped for microseconds", counted(count, "thread")),
        }
    );
    let mut issues: Vec<_> = dumped.issues.iter().collect();
    issues.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (issue, count) in issues.iter().take(WARNINGS) {
        let _ = writeln!(text, "warning: {issue} ({count})");
    }
    if issues.len() > WARNINGS {
        let _ = writeln!(text, "warning: {} not shown", counted(issues.len() - WARNINGS, "more warning"));
    }
    if stats {
        let (all, median, longest) = numbers.stopped_summary();
        let _ = writeln!(
            text,
            "stats: reading {:.1} ms, naming {:.1} ms; {} stopped, at most {} us each (median {} us), {} us in all",
            numbers.reading.as_secs_f64() * 1e3,
            numbers.naming.as_secs_f64() * 1e3,
            counted(numbers.stopped.len(), "thread"),
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
