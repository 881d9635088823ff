//! `rprof dump`: the stack of every thread now; of a Go program, of every goroutine.
//!
//! The dump goes to standard output or a file, the summary to standard error. `report::threads`
//! formats threads; a language runtime has its own text.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    SUCCESS,
    args::{DumpArgs, DumpFormatArg, FailOnArg, GraphArg, LookArg},
    output::file_options,
    sampling::{check_debug_options, symbolize_options},
    signals::stop_on_signals,
    summary,
};
use crate::{
    capture::{
        self, Reading, Request, Response, StackOptions, WaitGraph,
        kinds::{self, DumpOf, Kind, TextForm},
    },
    core_file::{CoreFile, find},
    profile::{
        FileOptions,
        file::{self, pipe::PipeWriter},
    },
    report::{self, OutputFormat, RenderOptions, graphviz, threads::Threads},
    sampler::look::LookMethod,
    symbolize::SymbolizeOptions,
};

/// Exit status of `--fail-on` if the dump has what it names.
const FOUND: u8 = 3;

/// Runs the verb. Returns the exit status.
pub fn run(arguments: &DumpArgs) -> Result<u8> {
    let pids = match arguments.core {
        Some(_) => Vec::new(),
        None => arguments.processes.choose(arguments.quiet)?,
    };
    check_debug_options(&arguments.debug)?;
    let output = DumpOutput::choose(arguments)?;
    let response = capture::once(&request(arguments, pids, output.form)?, &mut |_| {})?;
    let Response::Read(reading) = response else {
        bail!("the stacks were not read at one instant: this is a bug in rprof")
    };
    output.write(|form, writer| write(&reading, form, arguments.each, writer))?;
    if !arguments.quiet {
        super::say(summary::read(&reading, output.path, arguments.stats).trim_end());
    }
    Ok(if fails(arguments.fail_on, &reading) { FOUND } else { SUCCESS })
}

/// Whether the dump has what `--fail-on` names.
fn fails(on: Option<FailOnArg>, reading: &Reading) -> bool {
    let has = |probable| reading.content.waits().is_some_and(|waits| waits.has_deadlock(probable));
    match on {
        None => false,
        Some(FailOnArg::Deadlock) => has(false),
        Some(FailOnArg::ProbableDeadlock) => has(true),
    }
}

/// What the options request.
fn request(arguments: &DumpArgs, pids: Vec<u32>, form: Form) -> Result<Request> {
    let symbolize = symbolize_options(&arguments.debug);
    let request = Request {
        pids,
        core: open_core(arguments, &symbolize)?.map(Arc::new),
        children: arguments.processes.selectors.children,
        duration: Some(Duration::ZERO),
        text: form.text(arguments.each),
        stacks: StackOptions {
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
            system: arguments.system,
            variables: arguments.locals,
        },
        symbolize,
        stop: stop_on_signals()?,
        ..Request::default()
    };
    Ok(with_kind(request, arguments.threads))
}

/// The core that the options name.
fn open_core(arguments: &DumpArgs, symbolize: &SymbolizeOptions) -> Result<Option<CoreFile>> {
    let Some(what) = &arguments.core else { return Ok(None) };
    let (path, file) = find::open(&what.to_string_lossy(), Path::new(find::SYSTEMD_FOLDER))?;
    let program = arguments.processes.target.as_ref().map(PathBuf::from);
    Ok(Some(CoreFile::open(path, &file, program, &symbolize.budget)?))
}

/// The request with the kind that a dump shows: the tasks of the processes, unless threads are
/// requested; where a process has no tasks, its threads.
pub fn with_kind(request: Request, of_threads: bool) -> Request {
    let shows = |of: DumpOf| move |kind: &&Kind| kind.dump == Some(of);
    let has_tasks = |kind: &&Kind| {
        kind.makers.iter().any(|maker| !maker.is_substitute && (maker.offers)(&request).is_ok())
    };
    let tasks = kinds::ALL.iter().filter(shows(DumpOf::Tasks)).find(has_tasks);
    let kind = tasks.filter(|_| !of_threads).or(kinds::ALL.iter().find(shows(DumpOf::Threads)));
    Request { kinds: kind.copied().into_iter().collect(), ..request }
}

/// A format of a dump.
#[derive(Clone, Copy)]
enum Form {
    /// Text: each thread (goroutine), or each different stack, in full.
    Text,
    /// Text: equal stacks counted.
    Aggregated,
    /// JSON.
    Json,
    /// Only the graph of waits.
    Graph(GraphArg),
    /// A format of profiles.
    Profile(OutputFormat),
}

/// Where a dump goes and in which format, checked before any thread is read.
struct DumpOutput<'a> {
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
        let form = match arguments.graph {
            Some(format) => Form::Graph(format),
            None => Form::choose(arguments.format, path)?,
        };
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
            let stdout = PipeWriter::stdout().context("cannot write to standard output")?;
            let mut out = std::io::BufWriter::with_capacity(1 << 16, stdout);
            return match write(self.form, &mut out).and_then(|()| out.flush()) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                written => written.context("cannot write to standard output"),
            };
        };
        Ok(file::write_file(path, &self.options, |writer| write(self.form, writer))?)
    }
}

impl Form {
    /// The text form; `None`: it is a profile.
    fn text(self, each: bool) -> Option<TextForm> {
        match self {
            Form::Text if each => Some(TextForm::Each),
            Form::Text => Some(TextForm::Grouped),
            Form::Aggregated => Some(TextForm::Counted),
            Form::Json => Some(TextForm::Json),
            Form::Graph(_) | Form::Profile(_) => None,
        }
    }

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

/// The text of a dump. `each`: one block per thread.
pub fn text(reading: &Reading, each: bool) -> Result<String> {
    let mut bytes = Vec::new();
    write(reading, Form::Text, each, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes which processes the dump is of.
fn write_head(reading: &Reading, writer: &mut dyn Write) -> std::io::Result<()> {
    for identity in &reading.identities {
        writeln!(writer, "{} (pid {})", identity.display_name(), identity.pid)?;
    }
    reading.content.about().iter().try_for_each(|line| writeln!(writer, "{line}"))?;
    writeln!(writer)
}

fn write(reading: &Reading, form: Form, each: bool, writer: &mut dyn Write) -> std::io::Result<()> {
    let about = reading.content.about();
    if matches!(form, Form::Text) && !about.is_empty() {
        write_head(reading, writer)?;
    }
    if let Some(written) = form.text(each).and_then(|text| reading.content.write_text(text, writer)) {
        return written;
    }
    let profile = reading.content.profile();
    match form {
        Form::Text => {
            if about.is_empty() {
                write_head(reading, writer)?;
            }
            reading.content.waits().map_or(Ok(()), |waits| waits.write_verdicts(writer))?;
            Threads::new(&profile).write_text(each, writer)?;
            reading.content.write_more(if each { TextForm::Each } else { TextForm::Grouped }, writer)
        }
        Form::Aggregated => {
            Threads::new(&profile).write_aggregated(writer)?;
            reading.content.write_more(TextForm::Counted, writer)
        }
        Form::Json => Threads::new(&profile).write_json(
            &reading.content.tasks(),
            reading.content.waits().map(WaitGraph::to_json),
            writer,
        ),
        Form::Graph(format) => {
            let Some(waits) = reading.content.waits() else { return Ok(()) };
            match format {
                GraphArg::Text => waits.write_text(writer),
                GraphArg::Dot => waits.write_dot(writer),
                GraphArg::Svg => {
                    let mut dot = Vec::new();
                    waits.write_dot(&mut dot)?;
                    writer.write_all(&graphviz::draw(&dot, "svg").map_err(std::io::Error::other)?)
                }
                GraphArg::Json => {
                    serde_json::to_writer_pretty(&mut *writer, &waits.to_json())?;
                    writeln!(writer)
                }
            }
        }
        Form::Profile(format) => Ok(report::render(&profile, format, &RenderOptions::default(), writer)?),
    }
}
