//! `rprof attach` for kinds that are timelines: a file for ui.perfetto.dev, and a table of the
//! threads.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};

use super::{
    args::{FormatArg, OutputArgs},
    output::{file_options, name_and_time, write_or_rescue},
    signals::stop_on_signals,
};
use crate::{
    capture::{
        self, Request, Response,
        trace::{ThreadActivity, Trace},
    },
    process::Identity,
    profile::{
        file::{self, pipe::PipeWriter},
        write_gzip,
    },
    report::OutputFormat,
    text::{counted, shell::quote_path},
};

/// How many threads the table shows.
const SHOWN: usize = 12;

/// Runs `rprof attach` for a kind that is a timeline.
pub fn attach(request: Request, targets: &[Identity], output: &OutputArgs) -> Result<()> {
    let path = output.output.clone().unwrap_or_else(|| default_name(targets));
    let is_profile = match output.format {
        Some(FormatArg::Pprof) => true,
        Some(_) => {
            let kind = request.kinds[0].name;
            bail!("--kind {kind} is written in Perfetto's format, or as --format pprof")
        }
        None => matches!(OutputFormat::from_path(&path), Ok(OutputFormat::Pprof)),
    };
    let to_stdout = path == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        bail!("a trace is binary, and standard output is a terminal: use -o FILE or a pipe");
    }
    if !to_stdout {
        file::check_writable(&path)?;
    }
    let request = Request { stop: stop_on_signals()?, as_profile: is_profile, ..request };
    let Response::Timeline(trace) = capture::once(&request, &mut |_| {})? else {
        bail!("the kind is not a timeline: this is a bug in rprof")
    };
    let write = |writer: &mut dyn Write| match is_profile {
        true => write_gzip(&trace.profile(), writer),
        false => trace.write(writer),
    };
    if to_stdout {
        let stdout = PipeWriter::stdout().context("cannot write to standard output")?;
        let mut stdout = io::BufWriter::with_capacity(1 << 16, stdout);
        write(&mut stdout).and_then(|()| stdout.flush()).context("cannot write to standard output")?;
    } else {
        let is_packed = !is_profile && path.extension().is_some_and(|end| end == "gz");
        let write = |writer: &mut dyn Write| if is_packed { packed(&trace, writer) } else { write(writer) };
        write_or_rescue(&path, &file_options(output.file_mode), write, &path, write)?;
    }
    if !output.quiet {
        super::say(&summary(&trace, (!to_stdout).then_some(&path), is_profile));
    }
    Ok(())
}

fn packed(trace: &Trace, writer: &mut dyn Write) -> io::Result<()> {
    let mut gzip = GzEncoder::new(writer, Compression::fast());
    trace.write(&mut gzip)?;
    gzip.finish().map(drop)
}

/// `rprof-redis-server-1234-20261123T091500Z.pftrace`
fn default_name(of: &[Identity]) -> PathBuf {
    PathBuf::from(format!("rprof-{}.pftrace", name_and_time(of)))
}

/// Nanoseconds of a thread by activity; `waits` by system call.
#[derive(Default)]
struct Times {
    runs: u64,
    ready: u64,
    waits: BTreeMap<&'static str, u64>,
}

fn summary(trace: &Trace, path: Option<&PathBuf>, is_profile: bool) -> String {
    let mut threads: BTreeMap<u32, Times> = BTreeMap::new();
    for span in trace.spans() {
        let (times, took) = (threads.entry(span.tid).or_default(), span.until_ns - span.from_ns);
        match span.doing {
            ThreadActivity::Runs { .. } => times.runs += took,
            ThreadActivity::Ready { .. } => times.ready += took,
            ThreadActivity::Waits { system_call, .. } => {
                *times.waits.entry(system_call.unwrap_or("other")).or_default() += took;
            }
        }
    }
    let whole = (trace.until_ns - trace.from_ns).max(1) as f64;
    let percent = |ns: u64| ns as f64 / whole * 100.0;
    let mut text = format!("{:>8} {:>8} {:>8}  thread, and its waits\n", "running", "runnable", "waiting");
    let count = threads.len();
    let mut threads: Vec<_> = threads.into_iter().collect();
    threads.sort_by_key(|(tid, times)| (std::cmp::Reverse(times.runs + times.ready), *tid));
    for (tid, times) in threads.into_iter().take(SHOWN) {
        let all: u64 = times.waits.values().sum();
        let mut waits: Vec<_> = times.waits.into_iter().filter(|(_, ns)| percent(*ns) >= 0.1).collect();
        waits.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        let waits: Vec<String> =
            waits.iter().take(3).map(|(call, ns)| format!("{call} {:.1}%", percent(*ns))).collect();
        let _ = writeln!(
            text,
            "{:>7.1}% {:>7.1}% {:>7.1}%  {} ({tid})  {}",
            percent(times.runs),
            percent(times.ready),
            percent(all),
            trace.name(tid),
            waits.join(", ")
        );
    }
    if count > SHOWN {
        let _ = writeln!(text, "… {}", counted(count - SHOWN, "more thread"));
    }
    let _ = writeln!(
        text,
        "quality: {} of {} in {:.1} s{}, {} lost",
        counted(trace.len(), "event"),
        counted(count, "thread"),
        whole / 1e9,
        super::summary::words(trace.ended),
        trace.lost
    );
    if trace.is_empty() {
        text.push_str("warning: the trace is empty: no thread ran, woke or was created\n");
    }
    if trace.is_full {
        let _ = writeln!(
            text,
            "warning: the trace is full ({}) and ends early: use a shorter duration (-d)",
            counted(trace.len(), "event")
        );
    }
    if let Some(path) = path {
        let (path, argument) = (path.display(), quote_path(path));
        let _ = match is_profile {
            true => write!(text, "wrote {path}\nopen it with: rprof pprof -http=: {argument}   (Timeline)"),
            false => {
                write!(text, "wrote {path}\nopen it at https://ui.perfetto.dev (nothing is uploaded)")
            }
        };
    }
    text
}
