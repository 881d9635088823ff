//! The summary of a capture: the hottest functions, a quality line, warnings, the file and the
//! command that opens it. It goes to standard error, because standard output is for data.

use std::{fmt::Write, path::Path};

use super::output::Destination;
use crate::{
    capture::{Capture, Ended, Reading, Response},
    issue::Issue,
    profile::{columns::parse, proto::Profile},
    report::{
        OutputFormat,
        output::{ReportRequest, TextFormat, build_report},
        pprof::{Command, Settings},
    },
    text::{counted, shell::quote_path},
};

/// How many functions the summary shows.
const TOP_FUNCTIONS: usize = 10;
/// How many different warnings are shown; the others are counted.
const WARNINGS: usize = 8;

/// The whole summary.
pub fn text(response: &Response, destination: &Destination, stats: bool) -> String {
    match response {
        Response::Sampled(capture) => sampled(capture, destination, stats),
        Response::Read(reading) => {
            let path = (!destination.is_stdout()).then(|| destination.path());
            read(reading, path, stats).trim_end().to_owned()
        }
        Response::Timeline(_) | Response::Text(_) => format!("wrote {}", destination.path().display()),
    }
}

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

/// The summary of a profile of samples.
fn sampled(capture: &Capture, destination: &Destination, stats: bool) -> String {
    let mut text = String::new();
    if let Some(table) = table(&capture.profile, TOP_FUNCTIONS) {
        let _ = writeln!(text, "{table}");
    }
    let _ = writeln!(text, "{}", quality(capture));
    warnings(capture).iter().for_each(|warning| {
        let _ = writeln!(text, "warning: {warning}");
    });
    if stats {
        let _ = writeln!(text, "{}", costs(capture));
    }
    if !destination.is_stdout() {
        let _ = writeln!(text, "wrote {}", destination.path().display());
        // An empty profile shows nothing.
        if !capture.profile.sample.is_empty() {
            let _ = write!(text, "{}", opens_with(destination));
        }
    }
    text
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

/// `quality: 2970 samples (30.0 s of CPU time in 30.0 s), 99.9% whole stacks, 0 lost, 0.3% unnamed;
/// sampler …`
fn quality(capture: &Capture) -> String {
    let tally = &capture.tally;
    let ended = words(capture.ended);
    let what = (capture.kind.words.quality)(capture);
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
    format!(
        "quality: {what} {:.1} s{ended}){shares}; sampler {} ({}{})",
        capture.elapsed.as_secs_f64(),
        capture.sampler.name,
        capture.sampler.event,
        if capture.sampler.kernel { ", kernel frames" } else { ", user frames only" },
    )
}

fn warnings(capture: &Capture) -> Vec<String> {
    let mut warnings = Vec::new();
    if capture.tally.samples == 0
        && let Some(why) = no_samples(capture)
    {
        warnings.push(format!("{why}. The file is valid and empty"));
    }
    let mut shown: Vec<(&Issue, u64)> =
        capture.issues.iter().filter(|(issue, _)| !matches!(issue, Issue::WeakerSampler { .. })).collect();
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
        _ => format!("no samples: {why}; {advice}"),
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
            format!("open it with: rprof top {path}   or: rprof pprof -http=: {path}")
        }
        OutputFormat::Svg | OutputFormat::Html => format!("open it in a browser: {path}"),
        OutputFormat::Speedscope => format!("open it at speedscope.app: {path}"),
        OutputFormat::Folded => format!("open it with: less {path}"),
    }
}
