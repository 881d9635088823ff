//! The summary of a capture: a first look at the profile (what was profiled, the heaviest call
//! paths, the quality, the next command), which is the result for a reader; and messages (warnings,
//! costs, the name of the file).

use std::{borrow::Cow, fmt::Write, io::IsTerminal, path::Path};

use anyhow::Result;

use super::{
    args::{OutputArgs, ViewArgs},
    language_hint, missing_symbols,
    output::Destination,
};
use crate::{
    capture::{Capture, Ended, Reading, Response},
    issue::Issue,
    process::Identity,
    profile::{columns::parse, function_starts, proto::Profile},
    report::{
        OutputFormat,
        output::{ReportRequest, TextFormat, build_report},
        paint,
        paths::{
            PathOptions,
            fold::Expand,
            heaviest,
            text::{self as paths_text, TextOptions},
        },
        pprof::{Command, Settings},
    },
    text::{counted, shell::quote_path},
};

/// Lines of the first look at a profile. The name of the file is one more: 24 fill a terminal.
const LINES: usize = 23;
/// Lines of them that say what was profiled.
const MOST_HEAD_LINES: usize = 3;
/// More processes are counted.
const MOST_PROCESSES: usize = 8;
/// How many functions `--flat` shows.
const TOP_FUNCTIONS: usize = 10;
/// A CPU quota that has cost this share of the time is reported.
const WORTH_A_WARNING: f64 = 0.01;
/// How many different warnings are shown; the others are counted.
const WARNINGS: usize = 8;

/// The summary of a profile that was read at one instant.
pub fn read(reading: &Reading, path: Option<&Path>, stats: bool) -> String {
    let mut text = format!("{}\n", reading.summary);
    for warning in reading.warnings.iter().take(WARNINGS) {
        let _ = writeln!(text, "warning: {warning}");
    }
    if reading.warnings.len() > WARNINGS {
        let more = counted(reading.warnings.len() - WARNINGS, "more warning");
        let _ = writeln!(text, "warning: {more} not shown");
    }
    if stats && !reading.costs.is_empty() {
        let _ = writeln!(text, "stats: {}", reading.costs);
    }
    if let Some(path) = path {
        let _ = writeln!(text, "wrote {}", path.display());
    }
    text
}

/// What a response is, for readers other than a terminal.
#[derive(Debug, Default)]
pub struct Description {
    /// What was profiled, for how long, and how uncertain shares are.
    pub head: String,
    /// The quality in one line; `None`: it was not sampled.
    pub quality: Option<String>,
    /// What is missing or uncertain.
    pub warnings: Vec<String>,
}

/// Describes a response.
pub fn describe(response: &Response) -> Description {
    match response {
        Response::Sampled(capture) => {
            Description { head: head(capture), quality: Some(quality(capture)), warnings: warnings(capture) }
        }
        Response::Read(reading) => Description {
            head: targets(&reading.identities),
            quality: None,
            warnings: reading.warnings.iter().take(WARNINGS).cloned().collect(),
        },
        Response::Timeline(_) | Response::Text(_) => Description::default(),
    }
}

/// The stream that a first look at the profile goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Prints the summary: warnings and the name of the file to standard error, the first look at the
/// profile, its quality and the next command to `stream`.
pub fn print(
    response: &Response,
    destination: &Destination,
    output: &OutputArgs,
    stream: Stream,
) -> Result<()> {
    let path = (!destination.is_stdout()).then(|| destination.path());
    let messages = match response {
        Response::Sampled(capture) => messages(capture, destination, output.stats),
        Response::Read(reading) => read(reading, path, output.stats),
        Response::Timeline(_) | Response::Text(_) => format!("wrote {}", destination.path().display()),
    };
    if !messages.is_empty() {
        super::say(messages.trim_end());
    }
    let is_terminal = match stream {
        Stream::Output => std::io::stdout().is_terminal(),
        Stream::Error => std::io::stderr().is_terminal(),
    };
    let options = output.view.text(is_terminal);
    let (head, profile, quality) = match response {
        Response::Sampled(capture) => {
            (head(capture), Cow::Borrowed(&capture.profile), Some(quality(capture)))
        }
        Response::Read(reading) => (targets(&reading.identities), reading.content.profile(), None),
        Response::Timeline(_) | Response::Text(_) => return Ok(()),
    };
    let look = first_look(&head, &profile, quality.as_deref(), destination, &output.view, options);
    match stream {
        Stream::Output => super::report::to_stdout(paint::harmless(&look).as_bytes()),
        Stream::Error => {
            super::say(look.trim_end());
            Ok(())
        }
    }
}

/// Warnings, the costs, and the name of the file.
fn messages(capture: &Capture, destination: &Destination, stats: bool) -> String {
    let mut text = String::new();
    warnings(capture).iter().for_each(|warning| {
        let _ = writeln!(text, "warning: {warning}");
    });
    if let Some(advice) = names_advice(capture, destination) {
        let _ = writeln!(text, "  try      {advice}");
    }
    if stats {
        let _ = writeln!(text, "{}", costs(capture));
    }
    if !destination.is_stdout() {
        let _ = writeln!(text, "wrote {}", destination.path().display());
    }
    text
}

/// How to get names for the functions of the file that has the most without.
fn names_advice(capture: &Capture, destination: &Destination) -> Option<String> {
    let unnamed = capture.issues.iter().filter_map(|(issue, count)| match issue {
        Issue::UnnamedFrames { file, build_id } if !build_id.is_empty() => Some((count, file)),
        _ => None,
    });
    let (_, file) = unnamed.max_by_key(|(count, _)| *count)?;
    let is_profile = !destination.is_stdout() && destination.format == OutputFormat::Pprof;
    missing_symbols::advice(Path::new(file), is_profile.then(|| destination.path()))
}

/// What was profiled, the heaviest paths (or with `--flat` the hottest functions), the quality, and
/// the next command: at most [`LINES`] lines.
fn first_look(
    head: &str,
    profile: &Profile,
    quality: Option<&str>,
    destination: &Destination,
    view: &ViewArgs,
    options: TextOptions,
) -> String {
    let head = wrapped(head, options.width, MOST_HEAD_LINES);
    let mut end = quality.map_or_else(String::new, |quality| wrapped(quality, options.width, 2));
    // An empty profile shows nothing.
    if !destination.is_stdout() && !profile.sample.is_empty() {
        let _ = writeln!(end, "{}", opens_with(destination));
    }
    let look = match view.flat {
        true => table(profile, TOP_FUNCTIONS).unwrap_or_default(),
        false => {
            let others = head.lines().count() + end.lines().count();
            paths(profile, LINES.saturating_sub(others), view.expand(), options)
        }
    };
    format!("{head}{look}{end}")
}

/// The heaviest paths of a profile in at most `lines` lines; empty if it is.
pub fn paths(profile: &Profile, lines: usize, expand: Expand, options: TextOptions) -> String {
    let Some(mut columns) = parse::of_profile(profile).ok().filter(|_| !profile.sample.is_empty()) else {
        return String::new();
    };
    function_starts::name_unnamed(&mut columns);
    let value = columns.value_index("").unwrap_or(0);
    // The heading and the line of the hottest functions are not rows.
    let rows = lines.saturating_sub(2).max(1);
    let paths = heaviest(&columns, value, PathOptions { rows, expand });
    let mut text = paths_text::tree(&paths, options);
    text.extend(paths_text::hottest(&paths, options).map(|line| line + "\n"));
    text
}

/// `redis-server (1234): 1.04 s of CPU time in 5.0 s; 103 samples: ±10 %`.
fn head(capture: &Capture) -> String {
    format!("{}: {}{}", targets(&capture.identities), measured(capture), uncertainty(capture))
}

/// `redis-server (1234), redis-benchmark (1240)`.
fn targets(identities: &[Identity]) -> String {
    let names: Vec<String> = (identities.iter())
        .take(MOST_PROCESSES)
        .map(|identity| format!("{} ({})", identity.display_name(), identity.pid))
        .collect();
    let more = identities.len().saturating_sub(MOST_PROCESSES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Whether the profile is a statistical sample; otherwise it has every event.
fn counts_samples(capture: &Capture) -> bool {
    capture.kind.sample_types.iter().any(|(name, _)| ["samples", "waits"].contains(name))
}

/// `; 40 samples: ±15 %`: how far a share may be off.
fn uncertainty(capture: &Capture) -> String {
    let samples = capture.tally.samples;
    if samples == 0 || !counts_samples(capture) {
        return String::new();
    }
    let points = 98.0 / (samples as f64).sqrt();
    let points = if points < 1.0 { format!("{points:.1}") } else { format!("{points:.0}") };
    format!("; {}: ±{points} %", counted(samples, "sample"))
}

/// `text` in lines of at most `width` characters, broken at blanks; the last of `most` lines is
/// cut.
fn wrapped(text: &str, width: usize, most: usize) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width {
            let blank = if line.is_empty() { "" } else { " " };
            *line += &format!("{blank}{word}");
        } else {
            lines.push(format!("  {word}"));
        }
    }
    let is_cut = lines.len() > most;
    lines.truncate(most);
    lines.join("\n") + if is_cut { " …\n" } else { "\n" }
}

/// The first `count` rows of `rprof top`, without its heading. `None`: the profile is empty.
pub fn table(profile: &Profile, count: usize) -> Option<String> {
    let command = Command::find("top").filter(|_| !profile.sample.is_empty())?;
    let columns = parse::of_profile(profile).ok()?;
    let settings = Settings { compact_labels: true, ..Settings::default() };
    let request = ReportRequest { count: Some(count), ..ReportRequest::default() };
    let output = build_report(columns, command, request, &settings, &mut Vec::new()).ok()?;
    Some(output.print(TextFormat::Text, None, false))
}

/// Why the capture ended, unless its time was up.
pub(super) fn words(ended: Ended) -> &'static str {
    match ended {
        Ended::Duration => "",
        Ended::Stopped => ", stopped early",
        Ended::TargetsGone => ", the target ended",
        Ended::Failed => ", sampling failed",
    }
}

/// `1.04 s of CPU time in 5.0 s`: how much of what was sampled, and why sampling ended.
fn measured(capture: &Capture) -> String {
    let what = (capture.kind.words.measured)(capture);
    format!("{what} in {:.1} s{}", capture.elapsed.as_secs_f64(), words(capture.ended))
}

/// `quality: 2970 samples, 99.9% whole stacks, 0 lost, 0.3% unnamed; sampler bpf`.
fn quality(capture: &Capture) -> String {
    let tally = &capture.tally;
    // Shares of nothing mean nothing.
    let shares = match tally.samples {
        0 => String::new(),
        _ => format!(
            ", {:.1}% whole stacks, {} lost, {:.1}% unnamed",
            // Never round up to "all".
            (tally.whole_share() * 1000.0).floor() / 10.0,
            tally.lost,
            capture.unnamed_share * 100.0,
        ),
    };
    let what = match counts_samples(capture) {
        true => counted(tally.samples, "sample"),
        false => counted(tally.samples, "event"),
    };
    let kernel = if capture.sampler.kernel { "" } else { ", no kernel frames" };
    format!("quality: {what}{shares}; sampler {}{kernel}", capture.sampler.name)
}

fn warnings(capture: &Capture) -> Vec<String> {
    let mut warnings = Vec::new();
    if capture.tally.samples == 0
        && let Some(why) = no_samples(capture)
    {
        warnings.push(format!("{why}. The file is valid and empty"));
    }
    let throttled = capture.throttled.as_ref().filter(|throttled| throttled.share >= WORTH_A_WARNING);
    warnings.extend(throttled.map(|throttled| format!("the processes were throttled {throttled}")));
    let has_unnamed_jit = capture.issues.iter().any(|(issue, _)| matches!(issue, Issue::UnnamedJit { .. }));
    let language = language_hint::hint(&capture.profile, has_unnamed_jit);
    warnings.extend(language.map(str::to_owned));
    let is_said = |issue: &Issue| {
        matches!(issue, Issue::WeakerSampler { .. })
            || language_hint::is_of_jit(language) && matches!(issue, Issue::UnnamedJit { .. })
    };
    let mut shown: Vec<(&Issue, u64)> = capture.issues.iter().filter(|(issue, _)| !is_said(issue)).collect();
    shown.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let more = shown.len().saturating_sub(WARNINGS);
    for (issue, count) in shown.into_iter().take(WARNINGS) {
        warnings.push(match issue {
            Issue::CutStack { .. } => format!("{count} of {} {issue}", capture.tally.samples),
            Issue::LostSamples
            | Issue::LateSamples
            | Issue::UnnamedFrames { .. }
            | Issue::UnnamedJit { .. } => format!("{issue} ({count})"),
            _ => issue.to_string(),
        });
    }
    if more > 0 {
        warnings.push(format!("{} not shown", counted(more, "more warning")));
    }
    let weaker = capture.issues.iter().filter(|(issue, _)| matches!(issue, Issue::WeakerSampler { .. }));
    let weaker: Vec<String> = weaker.map(|(issue, _)| issue.to_string()).collect();
    if !weaker.is_empty() {
        warnings.push(format!("{}; sampling by {} instead", weaker.join("; "), capture.sampler.name));
    }
    warnings
}

/// Why there are no samples, and what to do; `None`: that is normal.
pub(super) fn no_samples(capture: &Capture) -> Option<String> {
    let (why, advice) = (capture.kind.words.without_samples)(capture)?;
    Some(match capture.ended {
        Ended::TargetsGone => {
            "no samples: the process ended before the first one; for short runs use a higher \
                               -F, or `rprof record -F 4999 -- COMMAND`"
                .to_owned()
        }
        _ => match &capture.hindrance {
            Some(hindrance) => format!("no samples: {hindrance}; {}", hindrance.advice()),
            None => format!("no samples: {why}; {advice}"),
        },
    })
}

fn costs(capture: &Capture) -> String {
    let sampler = &capture.sampler;
    let usage = own_usage();
    format!(
        "stats: attach {:.1} ms, finish {:.1} ms after the end; own CPU {:.0} ms, peak memory {:.1} MiB; \
         {}, {} KiB of buffer, {} KiB of stack copied\n\
         stats: {}",
        capture.attach_took.as_secs_f64() * 1e3,
        capture.finish_took.as_secs_f64() * 1e3,
        usage.0,
        usage.1,
        counted(sampler.event_count, "event"),
        sampler.buffer_bytes >> 10,
        capture.tally.stack_bytes >> 10,
        sampler.summary,
    )
}

/// rprof's CPU time in milliseconds and peak resident memory in MiB (getrusage(2)).
fn own_usage() -> (f64, f64) {
    use nix::sys::{resource, time::TimeValLike};
    resource::getrusage(resource::UsageWho::RUSAGE_SELF).map_or((0.0, 0.0), |usage| {
        let cpu = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        (cpu as f64 / 1e3, usage.max_rss() as f64 / 1024.0)
    })
}

fn opens_with(destination: &Destination) -> String {
    let path = quote_path(destination.path());
    match destination.format {
        OutputFormat::Pprof => {
            format!("open it with: rprof top {path}")
        }
        OutputFormat::Svg | OutputFormat::Html => format!("open it in a browser: {path}"),
        OutputFormat::Speedscope => format!("open it at speedscope.app: {path}"),
        OutputFormat::Folded => format!("open it with: less {path}"),
    }
}
