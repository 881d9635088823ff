//! Builds a profile from counted stacks; the comments of the profile describe the quality of the
//! capture.
//!
//! Not here: names (`name`), sampling, writing files.

use super::{
    Capture, Ended, ProfileKind, Request, Tally,
    name::{
        locations::{Locations, clamp, epoch_ns, label_list, nanos},
        names::{Names, file_of},
    },
    threadcreate::{self, Threads},
    watch::{images::Synthetic, world::World},
};
use crate::{
    issue::Issue,
    profile::builder::{Builder, LineSpec},
};

/// How many reasons for truncated stacks a comment lists.
const REASONS_SHOWN: usize = 3;

pub(super) fn finish(
    request: &Request,
    world: &mut World,
    names: &Names,
    threads: Option<Threads>,
    capture: &mut Capture,
) {
    count_issues(world, &capture.tally);
    if matches!(request.kind, ProfileKind::Cpu | ProfileKind::Wall) {
        let few = few_samples(capture.tally.samples);
        few.into_iter().for_each(|issue| world.issues.add(issue, 1));
    }
    capture.unnamed_share = unnamed_share(world, names);
    let (values, period) = values_of(request);
    let mut builder = Builder::new(&values);
    let executable = capture.identities.first().and_then(|identity| identity.executable.as_deref());
    let locations = Locations::add(world, names, &mut builder, executable);
    match threads {
        Some(threads) => {
            let before = threadcreate::add_samples(request, world, threads, &locations, &mut builder);
            capture.threads_before = Some(before);
        }
        None => {
            let each = worth_of_lost_sample(request, &capture.tally);
            add_samples(world, capture.tally.lost, each, &locations, &mut builder);
        }
    }
    let (kind, unit) = values[values.len() - 1];
    builder.set_period(kind, unit, period);
    builder.set_default_sample_type(kind);
    builder.set_time(epoch_ns(capture.started_at), nanos(capture.elapsed));
    capture.issues = std::mem::take(&mut world.issues);
    for comment in comments(request, capture, world) {
        builder.comment(&comment);
    }
    capture.profile = builder.finish();
}

/// The sample types, the main one last, and the period of the main one.
fn values_of(request: &Request) -> (Vec<(&'static str, &'static str)>, i64) {
    let timed = |time| vec![("samples", "count"), (time, "nanoseconds")];
    let waits = || vec![("waits", "count"), ("offcpu", "nanoseconds")];
    let period_ns = 1_000_000_000 / i64::from(request.frequency_hz.max(1));
    match request.kind {
        ProfileKind::Cpu => (timed("cpu"), period_ns),
        ProfileKind::Wall => (timed("wall"), period_ns),
        ProfileKind::Faults => (vec![("samples", "count"), ("faults", "count")], 1),
        ProfileKind::ThreadCreate => (vec![("threadcreate", "count")], 1),
        ProfileKind::OffCpu => (waits(), period_ns),
    }
}

fn count_issues(world: &mut World, tally: &Tally) {
    let cuts = tally.cuts(|id| file_of(world, id));
    for (why, count) in cuts {
        world.issues.add(Issue::CutStack { why }, count);
    }
    world.issues.add(Issue::LostSamples, tally.lost - tally.late);
    world.issues.add(Issue::LateSamples, tally.late);
    world.issues.add(Issue::StackTableFull, world.collector.overflow().count);
}

/// With fewer samples than this, the profile says how uncertain shares are.
const FEW_SAMPLES: u64 = 50;

/// What shares of so few samples are worth, where they are few.
fn few_samples(samples: u64) -> Option<Issue> {
    // Half the width of the 95 % confidence interval of a share of one half.
    let points = 98.0 / (samples as f64).sqrt();
    (1..FEW_SAMPLES).contains(&samples).then(|| Issue::FewSamples { samples, points: points.round() as u32 })
}

/// The share of frames without a name, weighted by samples: 0 to 1.
fn unnamed_share(world: &World, names: &Names) -> f64 {
    let (mut all, mut unnamed) = (0u64, 0u64);
    for (_, locations, weight) in world.collector.stacks() {
        let without = locations.iter().filter(|id| names.frames[**id as usize].is_empty()).count();
        all += weight.count * locations.len() as u64;
        unnamed += weight.count * without as u64;
    }
    if all == 0 { 0.0 } else { unnamed as f64 / all as f64 }
}

/// The average worth of a lost sample: nanoseconds or page faults.
fn worth_of_lost_sample(request: &Request, tally: &Tally) -> u64 {
    match request.kind {
        ProfileKind::Faults => tally.amount / tally.samples.max(1),
        _ => 1_000_000_000 / u64::from(request.frequency_hz.max(1)),
    }
}

fn add_samples(world: &World, lost: u64, each: u64, locations: &Locations, builder: &mut Builder) {
    for (labels, stack, weight) in world.collector.stacks() {
        let ids = locations.of(stack);
        let labels = label_list(world.collector.labels_of(labels));
        builder.sample(&ids, &[clamp(weight.count), clamp(weight.amount)], &labels);
    }
    let lost = (lost, lost.saturating_mul(each));
    let overflow = world.collector.overflow();
    for (kind, (count, amount)) in
        [(Synthetic::Lost, lost), (Synthetic::Overflow, (overflow.count, overflow.amount))]
    {
        if count > 0 {
            let function = builder.function(kind.name(), kind.name(), "", 0);
            let line = LineSpec { function, line: 0, column: 0 };
            let location = builder.location(None, kind as u64, &[line]);
            builder.sample(&[location], &[clamp(count), clamp(amount)], &[]);
        }
    }
}

/// How the profile was made and how complete it is, as `key: value` lines.
fn comments(request: &Request, capture: &Capture, world: &World) -> Vec<String> {
    let tally = &capture.tally;
    let percent = |share: f64| share * 100.0;
    let mut comments: Vec<String> = capture
        .identities
        .iter()
        .map(|identity| format!("target: {} (pid {})", identity.display_name(), identity.pid))
        .collect();
    let sampler = &capture.sampler;
    comments.push(format!("sampler: {} ({})", sampler.name, sampler.event));
    comments.push(format!("how: {}", sampler.summary));
    // Without samples there is nothing to state a share of.
    if tally.samples > 0 {
        let whole = percent(tally.whole_share());
        comments.push(format!("stacks: whole {whole:.2}%, cut {:.2}%{}", 100.0 - whole, reasons(capture)));
    }
    if tally.without_user_stack > 0 {
        comments.push(format!(
            "no user stack: {} samples (the kernel was starting or ending a program)",
            tally.without_user_stack
        ));
    }
    comments.push(format!("unnamed: {:.2}% of frames", percent(capture.unnamed_share)));
    comments.push(format!("samples: {}", tally.samples));
    comments.push(format!("lost: {} samples", tally.lost));
    comments.extend(measured(request, capture));
    comments.push(format!("kernel frames: {}", if sampler.kernel { "yes" } else { "no" }));
    comments.push(format!("scanned: {} of {} user frames", tally.scanned_frames, tally.frames));
    comments.push(format!("different stacks: {}", world.collector.stack_count()));
    let ended = match capture.ended {
        Ended::Duration => "duration",
        Ended::Stopped => "stopped early",
        Ended::TargetsGone => "the target ended",
        Ended::Failed => "the sampler failed",
    };
    comments.push(format!("ended: {ended} after {:.2} s", capture.elapsed.as_secs_f64()));
    comments.push(format!("rprof: {}", env!("CARGO_PKG_VERSION")));
    comments
}

/// The comments on the sampling rate and the sampled total.
fn measured(request: &Request, capture: &Capture) -> Vec<String> {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let sampled = seconds(capture.tally.amount);
    let rate = format!("rate: asked {} Hz{}", request.frequency_hz, achieved(capture));
    let faults = format!("faults: about {} page faults", capture.tally.amount);
    match (request.kind, capture.kernel_cpu_ns) {
        (ProfileKind::ThreadCreate, _) => Vec::new(),
        (ProfileKind::Faults, _) => vec![faults],
        (ProfileKind::OffCpu, _) => {
            let microseconds = 1_000_000 / request.frequency_hz.max(1);
            vec![
                format!(
                    "offcpu: {sampled:.2} s of waiting, summed over all threads; waits for a free CPU are not counted"
                ),
                format!(
                    "rate: all waits of {microseconds} us or longer are recorded, shorter ones are sampled"
                ),
            ]
        }
        (ProfileKind::Wall, _) => {
            vec![rate, format!("wall: sampled {sampled:.2} s, summed over all threads")]
        }
        (ProfileKind::Cpu, None) => vec![rate, format!("cpu: sampled {sampled:.2} s")],
        (ProfileKind::Cpu, Some(kernel)) => {
            let accounted = seconds(kernel);
            vec![rate, format!("cpu: sampled {sampled:.2} s, the kernel accounts {accounted:.2} s")]
        }
    }
}

/// Samples per second of CPU time that the kernel accounts; empty where the time is too short for
/// the kernel's clock (10 ms).
fn achieved(capture: &Capture) -> String {
    match capture.kernel_cpu_ns {
        Some(kernel_ns) if kernel_ns >= 500_000_000 => {
            let rate = (capture.tally.samples + capture.tally.lost) as f64 / (kernel_ns as f64 / 1e9);
            format!(", achieved {rate:.1} Hz of CPU time")
        }
        _ => String::new(),
    }
}

fn reasons(capture: &Capture) -> String {
    let mut cuts: Vec<(&str, u64)> = capture
        .issues
        .iter()
        .filter_map(|(issue, count)| match issue {
            Issue::CutStack { why } => Some((why.as_str(), count)),
            _ => None,
        })
        .collect();
    cuts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown: Vec<String> =
        cuts.iter().take(REASONS_SHOWN).map(|(why, count)| format!("{count}: {why}")).collect();
    if shown.is_empty() { String::new() } else { format!(" ({})", shown.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_samples_are_reported_with_the_uncertainty_of_their_shares() {
        assert_eq!(few_samples(4), Some(Issue::FewSamples { samples: 4, points: 49 }));
        assert_eq!(few_samples(49), Some(Issue::FewSamples { samples: 49, points: 14 }));
        assert_eq!((few_samples(0), few_samples(50)), (None, None));
    }
}
