//! `rprof heap`: who uses the memory of a process's native heaps, and what grew.
//!
//! The report goes to standard output or a file, warnings to standard error.

use std::{
    io::{IsTerminal, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};

use super::{
    args::{HeapArgs, HeapFormatArg},
    memory::Memory,
    output::file_options,
    signals::stop_on_signals,
    target::Needs,
};
use crate::{
    capture::{
        self, HeapOptions, Reading, Request, Response, Stop,
        heap::{Growth, write_growth},
        kinds::{KindRow, TextForm},
    },
    profile::{
        file::{self, pipe::PipeWriter},
        proto::Profile,
    },
    report::{self, OutputFormat, RenderOptions},
    runtime,
};

/// A format of the report.
#[derive(Clone, Copy)]
enum Form {
    Text(TextForm),
    Profile(OutputFormat),
}

/// Runs the verb.
pub fn run(arguments: &HeapArgs) -> Result<()> {
    let pids = arguments.processes.choose_for(Needs::One, arguments.quiet)?;
    let [pid] = pids[..] else { bail!("rprof heap reads one process: name one of {pids:?}") };
    let path = arguments.output.as_deref().filter(|path| *path != Path::new("-"));
    let form = choose(arguments.format, path)?;
    path.map(file::check_writable).transpose()?;
    let stop = stop_on_signals()?;
    let options = HeapOptions {
        native: true,
        leaks: arguments.leaks && arguments.duration.is_none(),
        // Of two readings, the text shows the holders of the last one; a profile has the difference.
        holders: arguments.holders && (arguments.duration.is_none() || matches!(form, Form::Profile(_))),
        ..HeapOptions::default()
    };
    let first = read(pid, options, &stop)?;
    let Some(duration) = arguments.duration else {
        warn(arguments, &first);
        return write(arguments, path, |out| {
            if let Form::Text(text) = form {
                write_memory(pid, text, out)?;
            }
            write_reading(&first, form, out)
        });
    };
    stop.wait(duration);
    let last =
        read(pid, HeapOptions { leaks: arguments.leaks, holders: arguments.holders, ..options }, &stop)?;
    warn(arguments, &last);
    write(arguments, path, |out| match form {
        // Leaks need several readings anyway: they are those of the last one.
        Form::Profile(_) if arguments.leaks => write_reading(&last, form, out),
        Form::Profile(format) => {
            let changed = capture::kinds::changes(&first.content.profile(), &last.content.profile());
            let changed = changed.map_err(std::io::Error::other)?;
            render(&changed, format, out)
        }
        Form::Text(text) => {
            write_memory(pid, text, out)?;
            if let (Some(before), Some(after)) = (first.content.heap(), last.content.heap()) {
                let (list, between) = Growth::between(before, after);
                write_growth(&list, between, text, out)?;
            }
            write_reading(&last, form, out)
        }
    })
}

fn read(pid: u32, heap: HeapOptions, stop: &Stop) -> Result<Reading> {
    let request = Request {
        kinds: KindRow::named("heap").into_iter().collect(),
        heap,
        stop: stop.clone(),
        ..Request::now(pid)
    };
    match capture::once(&request, &mut |_| {})? {
        Response::Read(reading) => Ok(*reading),
        _ => bail!("the heap was not read at one instant: this is a bug in rprof"),
    }
}

fn warn(arguments: &HeapArgs, reading: &Reading) {
    if !arguments.quiet {
        reading.warnings.iter().for_each(|warning| super::say(&format!("warning: {warning}")));
    }
}

fn choose(format: Option<HeapFormatArg>, path: Option<&Path>) -> Result<Form> {
    let form = match (format, path) {
        (Some(HeapFormatArg::Text), _) => Form::Text(TextForm::Grouped),
        (Some(HeapFormatArg::Json), _) => Form::Text(TextForm::Json),
        (Some(HeapFormatArg::Pprof), _) => Form::Profile(OutputFormat::Pprof),
        (None, None) => Form::Text(TextForm::Grouped),
        (None, Some(path)) => {
            match path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase().as_str() {
                "json" => Form::Text(TextForm::Json),
                "txt" | "log" | "" => Form::Text(TextForm::Grouped),
                _ => Form::Profile(OutputFormat::from_path(path)?),
            }
        }
    };
    if path.is_none() && matches!(form, Form::Profile(OutputFormat::Pprof)) && std::io::stdout().is_terminal()
    {
        bail!("a pprof file is binary, and standard output is a terminal: use -o FILE or a pipe");
    }
    Ok(form)
}

/// Writes whose memory the resident memory is, before the report for people.
fn write_memory(pid: u32, form: TextForm, out: &mut dyn Write) -> std::io::Result<()> {
    let is_for_people = matches!(form, TextForm::Grouped);
    // The process may have ended meanwhile: its heap was read before.
    let attached = if is_for_people { runtime::attach(pid).ok() } else { None };
    let memory = attached.and_then(|attached| {
        let memory = Memory::read(pid, &attached.instances).ok()?;
        Some(memory.with_heaps(&attached.instances).text())
    });
    memory.map_or(Ok(()), |text| writeln!(out, "{text}"))
}

fn write_reading(reading: &Reading, form: Form, out: &mut dyn Write) -> std::io::Result<()> {
    match form {
        Form::Text(text) => reading.content.write_text(text, out).unwrap_or(Ok(())),
        Form::Profile(format) => render(&reading.content.profile(), format, out),
    }
}

fn render(profile: &Profile, format: OutputFormat, out: &mut dyn Write) -> std::io::Result<()> {
    report::render(profile, format, &RenderOptions::default(), out).map_err(std::io::Error::other)
}

/// Writes to the file or standard output. A pipe closed early (`| head`) is not an error.
fn write(
    arguments: &HeapArgs,
    path: Option<&Path>,
    content: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    if let Some(path) = path {
        return Ok(file::write_file(path, &file_options(arguments.file_mode), content)?);
    }
    let stdout = PipeWriter::stdout().context("cannot write to standard output")?;
    let mut out = std::io::BufWriter::with_capacity(1 << 16, stdout);
    match content(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
