//! The short forms: `rprof top`, `list`, `tree`, `peek`, `tags`, `traces` and `diff`.
//!
//! `report::output` makes the reports; [`super::pprof`] is the command line of `go tool pprof`.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    SUCCESS,
    advice::{NothingMatches, Unreadable},
    args::{
        ColorArg, DiffArgs, DiffOptions, FileArgs, MatchArgs, ReportArgs, TopArgs, are_defaults, stdout_width,
    },
    live, pprof, spool,
    target::{self, Needs},
};
use crate::{
    capture::kinds,
    profile::{columns::Columns, file, function_starts},
    report::{
        output::{NameStyle, ReportOutput, ReportRequest, TextFormat, build_report, diff_runs},
        paint,
        pprof::{Command, Settings},
    },
};

/// Runs a report on whole profiles (`rprof tree FILE...`).
pub fn of_files(name: &'static str, arguments: &FileArgs) -> Result<()> {
    run(name, None, &arguments.files, &arguments.report)
}

/// Runs `rprof top FILE...` or the live view of processes.
pub fn top(arguments: &TopArgs) -> Result<()> {
    if let Some(source) = spool_source(arguments)? {
        return run("top", None, &[source], &arguments.report);
    }
    let Some(pids) = processes(arguments)? else {
        if !are_defaults(&arguments.live) {
            bail!(
                "--kind, --interval, --children, -F … apply to a running process only: rprof top --pid PID"
            );
        }
        return run("top", None, &arguments.files, &arguments.report);
    };
    // The live view has keys for these: an option must not be ignored silently.
    if !are_defaults(&arguments.report) {
        bail!(
            "report options are for files; in the live view / searches, and s, t and n sort. To use the options, run \
             `rprof attach --pid PID -o FILE`, then `rprof top FILE`"
        );
    }
    live::run(pids, &arguments.live)
}

/// The spool that `rprof top` reads, with the query of its options; `None`: it is none. Errors:
/// options of a spool with another source.
fn spool_source(arguments: &TopArgs) -> Result<Option<PathBuf>> {
    let kind = Some(arguments.live.kind).filter(|kind| *kind != kinds::DEFAULT);
    let query = arguments.spool.query(kind.map(|kind| kind.name));
    match &arguments.files[..] {
        [only] if spool::parts(&only.to_string_lossy()).is_some() => {
            let source = only.to_string_lossy();
            let sign = if source.contains('?') { '&' } else { '?' };
            Ok(Some(PathBuf::from(format!("{source}{sign}{query}"))))
        }
        _ if are_defaults(&arguments.spool) => Ok(None),
        _ => bail!("--since, --until and --service select profiles of one spool: rprof top SPOOL --since 1h"),
    }
}

/// The processes that `rprof top` watches; `None`: it reads files.
fn processes(arguments: &TopArgs) -> Result<Option<Vec<u32>>> {
    let selectors = &arguments.live.selectors;
    let word = match &arguments.files[..] {
        [] => return selectors.choose(false).map(Some),
        [only] => only.to_str().filter(|word| !is_source(word)),
        _ => None,
    };
    let Some(word) = word else { return Ok(None) };
    if Path::new(word).exists() && !Path::new(word).is_dir() {
        if let Some(note) = target::also_a_process(word) {
            super::say(&note);
        }
        return Ok(None);
    }
    match target::by_word(word, Needs::OneOrMore, selectors.children, false) {
        Ok(pids) => Ok(Some(pids)),
        Err(error) => Err(match error.downcast::<NothingMatches>() {
            Ok(none) => NothingMatches { why: format!("there is no such file; {}", none.why), ..none }.into(),
            Err(other) => other,
        }),
    }
}

/// Whether a word can only be a file or an address, and not the name of a process.
fn is_source(word: &str) -> bool {
    const EXTENSIONS: [&str; 9] =
        [".gz", ".pb", ".pprof", ".prof", ".folded", ".collapsed", ".data", ".out", ".txt"];
    word == "-" || word.contains(['/', ':']) || EXTENSIONS.iter().any(|extension| word.ends_with(extension))
}

/// Runs a report on matching functions (`rprof list REGEX FILE...`).
pub fn of_matches(name: &'static str, arguments: &MatchArgs) -> Result<()> {
    run(name, Some(&arguments.expression), &arguments.files, &arguments.report)
}

fn run(name: &'static str, argument: Option<&str>, files: &[PathBuf], arguments: &ReportArgs) -> Result<()> {
    let command = Command::find(name).ok_or_else(|| anyhow!("there is no report `{name}`"))?;
    let columns = read(files)?;
    let mut messages = Vec::new();
    let request = ReportRequest { argument, count: arguments.printing.count(), ..ReportRequest::default() };
    let output = build_report(columns, command, request, &arguments.settings(), &mut messages);
    // Warnings about a label's unit matter only in reports that show labels.
    let of_labels = ["tags", "traces"].contains(&name);
    messages.retain(|message| of_labels || !message.starts_with("For tag "));
    warn(&messages);
    print(output.map_err(|error| anyhow!(error))?, arguments, arguments.printing.format)
}

/// Exit status of `--fail-on` if a function grew by that much.
const GREW: u8 = 3;

/// Runs `rprof diff BASE NEW`, or with several runs on each side. Returns the exit status.
pub fn compare(arguments: &DiffArgs) -> Result<u8> {
    let both: [&[PathBuf]; 2] = match &arguments.files[..] {
        [base, new] => [std::slice::from_ref(base), std::slice::from_ref(new)],
        _ => [&arguments.base, &arguments.new],
    };
    let names = both.map(|files| match files {
        [one] => one.display().to_string(),
        _ => format!("{} and {} more", files[0].display(), files.len() - 1),
    });
    let report = &arguments.report;
    let read_all = |files: &[PathBuf]| {
        files.iter().map(|file| read(std::slice::from_ref(file))).collect::<Result<Vec<Columns>>>()
    };
    let runs = [read_all(both[0])?, read_all(both[1])?];
    let comparison = Comparison {
        settings: report.settings(),
        count: report.printing.count(),
        options: &arguments.options,
        notes: Vec::new(),
    };
    changes(runs, names, comparison, |output| {
        let format = if arguments.markdown { TextFormat::Markdown } else { report.printing.format };
        print(output, report, format)
    })
}

/// What a comparison shows.
pub struct Comparison<'a> {
    /// What is counted.
    pub settings: Settings,
    /// The most changes that are shown; `None`: the default.
    pub count: Option<usize>,
    /// What is compared, and what counts as a failure.
    pub options: &'a DiffOptions,
    /// More notes.
    pub notes: Vec<String>,
}

/// Compares runs, base first, and prints the result. Returns the exit status.
pub fn changes(
    runs: [Vec<Columns>; 2],
    names: [String; 2],
    comparison: Comparison<'_>,
    print: impl FnOnce(ReportOutput) -> Result<()>,
) -> Result<u8> {
    let Comparison { settings, count, options, notes } = comparison;
    // What is not shown may be what grew.
    let count = if options.fail_on.is_some() { Some(usize::MAX) } else { count };
    let request = ReportRequest { count, ..ReportRequest::default() };
    let mut messages = Vec::new();
    let kinds = runs.each_ref().map(|runs| runs.first().map(kinds).unwrap_or_default());
    let counts = runs.each_ref().map(Vec::len);
    let output = diff_runs(runs, names.clone(), &settings, request, options.all, &mut messages);
    messages.retain(|message| !message.starts_with("For tag "));
    messages.dedup();
    warn(&messages);
    let mut output = output.map_err(|error| anyhow!(error)).with_context(|| {
        let [base, new] = kinds;
        format!("cannot compare {} (it has {base}) with {} (it has {new})", names[0], names[1])
    })?;
    output.notes.extend(notes);
    if let Some(per) = &options.per {
        let [base, new] = [0, 1].map(|side| per.counts[side] * counts[side] as f64);
        output.note_per(&per.name, [base, new]);
    }
    let grew = output.largest_growth().zip(options.fail_on).filter(|((points, _), most)| points >= most);
    print(output)?;
    let Some(((points, name), most)) = grew else { return Ok(SUCCESS) };
    super::say(&format!("failed: {name} grew by {points:.2} points (--fail-on {most}pp)"));
    Ok(GREW)
}

/// The names of a profile's value types.
fn kinds(columns: &Columns) -> String {
    let names = columns.header.kinds.iter().map(|kind| columns.text(kind.name));
    names.collect::<Vec<_>>().join(", ")
}

/// Reads profiles and merges them. Errors: a file cannot be read (a report of the others could be
/// mistaken for a report of all), or the profiles do not fit together.
pub fn read(files: &[PathBuf]) -> Result<Columns> {
    let mut messages = Vec::new();
    let columns = read_with_messages(files, &mut messages)?;
    warn(&messages);
    Ok(columns)
}

/// As [`read`]; warnings are added to `warnings`.
pub fn read_with_messages(files: &[PathBuf], warnings: &mut Vec<String>) -> Result<Columns> {
    let sources: Vec<String> = files.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let sources = spool::expand(&sources).map_err(|why| anyhow!(why))?;
    let mut messages = Vec::new();
    let columns = pprof::fetch(&sources, &mut |message| messages.push(message.to_string()));
    let is_failure =
        |message: &&String| sources.iter().any(|source| message.starts_with(&format!("{source}: ")));
    let failed: Vec<&String> = messages.iter().filter(is_failure).collect();
    if let Some(first) = failed.first() {
        let (source, why) = first.split_once(": ").unwrap_or((first, ""));
        let what = match failed.len() {
            1 => format!("cannot read {source}"),
            count => format!("cannot read {count} of {} files, including {source}", sources.len()),
        };
        return Err(Unreadable { what, why: why.to_owned() }.into());
    }
    let mut columns = columns.map_err(|error| anyhow!(error))?;
    if columns.sample_count() == 0 {
        warnings.push("the profile is empty: it has no samples".into());
    }
    if !columns.functions.iter().any(|function| function.name != 0) && columns.sample_count() > 0 {
        warnings.push("the profile has no names: `rprof symbolize FILE` adds them".into());
    }
    function_starts::name_unnamed(&mut columns);
    Ok(columns)
}

fn warn(messages: &[String]) {
    messages.iter().for_each(|message| super::say(&format!("warning: {message}")));
}

fn print(mut answer: ReportOutput, arguments: &ReportArgs, format: TextFormat) -> Result<()> {
    let arguments = &arguments.printing;
    let to_file = arguments.output.as_deref().filter(|path| *path != Path::new("-"));
    let is_text = format == TextFormat::Text;
    let colored = match arguments.color {
        ColorArg::Always => true,
        ColorArg::Never => false,
        ColorArg::Auto => {
            let wanted = paint::is_wanted(|name| std::env::var(name).ok());
            wanted && to_file.is_none() && std::io::stdout().is_terminal()
        }
    };
    let width = if to_file.is_none() { stdout_width() } else { None };
    answer.names = NameStyle { full: arguments.full_names, width };
    let text = answer.print(format, arguments.budget, colored && is_text);
    match to_file {
        Some(path) => Ok(file::write_atomically(path, |writer| writer.write_all(text.as_bytes()))?),
        None => to_stdout(text.as_bytes()),
    }
}

/// Writes to standard output. A pipe closed early (`rprof top FILE | head`) is not an error.
pub fn to_stdout(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            bail!(anyhow::Error::new(error).context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}
