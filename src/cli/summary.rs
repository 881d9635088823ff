//! The summary of a capture: the hottest functions, a quality line, warnings, the file and the
//! command that opens it. It goes to standard error, because standard output is for data.

use std::fmt::Write;

use super::output::Destination;
use crate::{
    capture::{Capture, Ended, ProfileKind},
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
pub fn text(capture: &Capture, destination: &Destination, stats: bool) -> String {
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
    let samples = counted(tally.samples, "sample");
    let sampled = |of: &str| format!("{samples} ({:.2} s of {of} in", tally.amount as f64 / 1e9);
    let what = match capture.kind {
        ProfileKind::Cpu => sampled("CPU time"),
        ProfileKind::Wall => sampled("thread time"),
        ProfileKind::Faults => format!("{samples} (about {} in", counted(tally.amount, "page fault")),
        ProfileKind::ThreadCreate => threads_created(capture),
        ProfileKind::OffCpu => waited(capture),
    };
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

/// The number of waits is in the profile: a sample may stand for several.
fn waited(capture: &Capture) -> String {
    let waits: i64 = capture.profile.sample.iter().flat_map(|sample| sample.value.first()).sum();
    format!(
        "{} of {} ({:.2} s in",
        counted(capture.tally.samples, "sample"),
        counted(waits, "wait"),
        capture.tally.amount as f64 / 1e9
    )
}

fn threads_created(capture: &Capture) -> String {
    let (created, before) = capture.created_threads();
    format!("{} created ({before} existed before;", counted(created, "thread"))
}

fn warnings(capture: &Capture) -> Vec<String> {
    let mut warnings = Vec::new();
    if capture.tally.samples == 0 && capture.kind != ProfileKind::ThreadCreate {
        warnings.push(format!("{}. The file is valid and empty", no_samples(capture)));
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

/// CPU time in nanoseconds from which a CPU profile without samples is not explained by sleep.
const BUSY_NS: u64 = 100_000_000;

/// Why there are no samples, and what to do.
pub(super) fn no_samples(capture: &Capture) -> String {
    if capture.ended == Ended::TargetsGone {
        return "no samples: the process ended before the first one; for short runs use a higher -F, or \
                `rprof record -F 4999 -- COMMAND`"
            .to_owned();
    }
    let used = match capture.kernel_cpu_ns {
        Some(ns) => format!("it used {:.2} s of CPU time", ns as f64 / 1e9),
        None => "the CPU time it used is not known".into(),
    };
    let (why, advice) = match capture.kind {
        ProfileKind::Cpu if capture.kernel_cpu_ns.is_some_and(|ns| ns >= BUSY_NS) => (
            format!("no sample hit the process, although {used}: its threads may be very short-lived"),
            "use a higher -F, or `--sampler bpf`",
        ),
        ProfileKind::Cpu => (
            format!("a CPU profile shows running code, and the process slept ({used})"),
            "sample for longer, or while the process works",
        ),
        ProfileKind::Faults => {
            (format!("the process touched no new memory ({used})"), "`--kind cpu` shows running code")
        }
        ProfileKind::OffCpu => ("no thread waited".to_owned(), "`--kind cpu` shows running code"),
        ProfileKind::Wall | ProfileKind::ThreadCreate => {
            (format!("no thread could be read ({used})"), "`rprof doctor --pid PID` shows why")
        }
    };
    format!("no samples: {why}; {advice}")
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
