//! Builds a profile from counted stacks; the comments of the profile describe the quality of the
//! capture.
//!
//! Not here: names (`name`), sampling, writing files.

use std::collections::BTreeMap;

use super::{
    Capture, Ended, FrameChoice, Tally,
    collector::{LocationId, Lock, SourceId},
    kinds::WaitFilter,
    name::{
        locations::{Locations, clamp, epoch_ns, label_list, nanos},
        names::{Names, file_of},
        unnamed,
    },
    request::Plan,
    threadcreate::{self, Threads},
    waits::{self, by_name},
    watch::{
        images::{KERNEL, Synthetic},
        window::{LanguageNotes, Window},
    },
};
use crate::{
    issue::Issue,
    profile::builder::{Builder, LabelValue, LineSpec},
    runtime::CategoryRule,
};

/// How many reasons for truncated stacks a comment lists.
const REASONS_SHOWN: usize = 3;

/// Adds the profile of a source to `capture`.
pub(super) fn finish(
    plan: &Plan,
    (window, source): (&Window, SourceId),
    names: &Names,
    threads: Option<Threads>,
    capture: &mut Capture,
) {
    count_issues(plan, (window, source), capture);
    capture.unnamed_share = unnamed_share(window, source, names);
    let values = plan.kind.sample_types;
    let mut builder = Builder::new(values);
    let executable = capture.identities.first().and_then(|identity| identity.executable.as_deref());
    let locations = Locations::add(window, source, names, &mut builder, executable);
    match threads {
        Some(threads) => {
            let before =
                threadcreate::add_samples((window, source), names, threads, &locations, &mut builder);
            capture.threads_before = Some(before);
        }
        None => {
            let each = worth_of_lost_sample(plan, &capture.tally);
            let locks = match plan.live.waits {
                Some(_) => waits::lock_names(&window.collector.locks(), &plan.symbolize.budget),
                None => Default::default(),
            };
            let naming = Naming { locations, names, locks, waits: plan.live.waits };
            add_samples((window, source), (capture.tally.lost, each), &naming, &mut builder);
        }
    }
    let (kind, unit) = values[values.len() - 1];
    builder.set_period(kind, unit, period_of(plan));
    builder.set_default_sample_type(kind);
    builder.set_time(epoch_ns(capture.started_at), nanos(capture.elapsed));
    for comment in comments(plan, capture, (window, source)) {
        builder.comment(&comment);
    }
    for comment in unnamed::comments((window, source), names) {
        builder.comment(&comment);
    }
    capture.profile = builder.finish();
}

/// The period of the main sample type: nanoseconds for each sample, or 1 event.
fn period_of(plan: &Plan) -> i64 {
    if plan.kind.is_time() { 1_000_000_000 / i64::from(plan.frequency_hz.max(1)) } else { 1 }
}

/// Adds the issues of the source and of the whole window.
fn count_issues(plan: &Plan, (window, source): (&Window, SourceId), capture: &mut Capture) {
    let (tally, issues) = (&capture.tally, &mut capture.issues);
    issues.extend(&window.issues);
    let cuts = tally.cuts(|id| file_of(window, id));
    for (why, count) in cuts {
        issues.add(Issue::CutStack { why }, count);
    }
    issues.add(Issue::LostSamples, tally.lost - tally.late);
    issues.add(Issue::LateSamples, tally.late);
    issues.add(Issue::StackTableFull, window.collector.counts(source).overflow().count);
    if plan.live.is_periodic {
        few_samples(tally.samples).into_iter().for_each(|issue| issues.add(issue, 1));
    }
}

/// How many frames from the leaf on tell what a thread waits for.
const LEAVES: usize = 24;

/// With fewer samples than this, the profile says how uncertain shares are.
const FEW_SAMPLES: u64 = 50;

/// What shares of so few samples are worth, where they are few.
fn few_samples(samples: u64) -> Option<Issue> {
    // Half the width of the 95 % confidence interval of a share of one half.
    let points = 98.0 / (samples as f64).sqrt();
    (1..FEW_SAMPLES).contains(&samples).then(|| Issue::FewSamples { samples, points: points.round() as u32 })
}

/// The share of frames without a name, weighted by samples: 0 to 1.
fn unnamed_share(window: &Window, source: SourceId, names: &Names) -> f64 {
    let (mut all, mut unnamed) = (0u64, 0u64);
    for (_, locations, weight) in window.collector.counts(source).stacks() {
        let without = locations.iter().filter(|id| names.frames[**id as usize].is_empty()).count();
        all += weight.count * locations.len() as u64;
        unnamed += weight.count * without as u64;
    }
    if all == 0 { 0.0 } else { unnamed as f64 / all as f64 }
}

/// The average worth of a lost sample: nanoseconds, or events.
fn worth_of_lost_sample(plan: &Plan, tally: &Tally) -> u64 {
    match plan.kind.is_time() {
        true => 1_000_000_000 / u64::from(plan.frequency_hz.max(1)),
        false => tally.amount / tally.samples.max(1),
    }
}

/// What samples get.
struct Naming<'a> {
    locations: Locations,
    names: &'a Names,
    locks: BTreeMap<Lock, String>,
    waits: Option<WaitFilter>,
}

impl Naming<'_> {
    /// The names of the innermost functions of a stack, leaf first, without the kernel's.
    fn leaves(&self, window: &Window, stack: &[LocationId]) -> Vec<&str> {
        let places = window.collector.places();
        let own = stack.iter().filter(|id| places[**id as usize].mapping != KERNEL);
        own.take(LEAVES)
            .flat_map(|id| self.names.frames[*id as usize].iter())
            .map(|frame| frame.function.as_str())
            .collect()
    }

    /// The labels of what a stack waits for: `waits_for` and `lock`, without those that are not
    /// known. `None`: the stack does not belong into the profile.
    fn waits_for(
        &self,
        window: &Window,
        stack: &[LocationId],
        lock: Option<Lock>,
    ) -> Option<Vec<(&str, LabelValue<'_>)>> {
        let Some(waits) = self.waits else { return Some(Vec::new()) };
        let leaves = self.leaves(window, stack);
        let what = waits(&leaves, lock)?;
        let lock =
            lock.filter(|_| by_name::has_futex_of_lock(&leaves)).and_then(|lock| self.locks.get(&lock));
        let texts = [("waits_for", Some(what)), ("lock", lock.map(String::as_str))];
        Some(texts.into_iter().filter_map(|(key, text)| Some((key, LabelValue::Text(text?)))).collect())
    }
}

/// Adds the stacks of a source; and the samples that were lost, whose worth is `each`.
fn add_samples(
    (window, source): (&Window, SourceId),
    (lost, each): (u64, u64),
    naming: &Naming<'_>,
    builder: &mut Builder,
) {
    let counts = window.collector.counts(source);
    for (labels, stack, weight) in counts.stacks() {
        let labels = window.collector.labels_of(labels);
        let Some(waits_for) = naming.waits_for(window, stack, labels.lock) else { continue };
        let ids = naming.locations.of(stack);
        let mut labels = label_list(labels);
        labels.extend(waits_for);
        builder.sample(&ids, &[clamp(weight.count), clamp(weight.amount)], &labels);
    }
    let lost = (lost, lost.saturating_mul(each));
    let overflow = counts.overflow();
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
fn comments(plan: &Plan, capture: &Capture, (window, source): (&Window, SourceId)) -> Vec<String> {
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
    comments.extend(capture.throttled.iter().map(|throttled| format!("throttled: {throttled}")));
    comments.extend(capture.hindrance.iter().map(|hindrance| format!("hindrance: {hindrance}")));
    if tally.without_user_stack > 0 {
        comments.push(format!(
            "no user stack: {} samples (the kernel was starting or ending a program)",
            tally.without_user_stack
        ));
    }
    comments.push(format!("unnamed: {:.2}% of frames", percent(capture.unnamed_share)));
    comments.push(format!("samples: {}", tally.samples));
    comments.push(format!("lost: {} samples", tally.lost));
    comments.extend((plan.live.comments)(plan, capture));
    comments.push(format!("kernel frames: {}", if sampler.kernel { "yes" } else { "no" }));
    comments.push(format!("scanned: {} of {} user frames", tally.scanned_frames, tally.frames));
    let notes = &window.language_notes;
    if !notes.quality.is_empty() || plan.frames != FrameChoice::Mixed {
        comments.push(format!("frames: {}", plan.frames.name()));
    }
    comments.extend(notes.quality.iter().cloned());
    let stack_count = window.collector.counts(source).stack_count();
    comments.push(format!("different stacks: {stack_count}"));
    comments.extend(of_languages(notes));
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

/// The comments on frames of languages: those without a certain place, those that could not be
/// read, and which frames are of which category.
fn of_languages(notes: &LanguageNotes) -> Vec<String> {
    let mut unplaced: Vec<_> = notes.unplaced.iter().collect();
    unplaced.sort();
    let mut comments: Vec<String> = unplaced
        .into_iter()
        .map(|(why, count)| format!("language frames: {why} ({count} samples)"))
        .collect();
    let LanguageNotes { failed, late, .. } = notes;
    if *failed > 0 {
        comments.push(format!("language frames: {failed} could not be read, {late} of them for lateness"));
    }
    comments.extend(notes.categories.iter().map(|rule| {
        let (category, what, text) = match rule {
            CategoryRule::Mapping(category, path) => (category, "mapping", path),
            CategoryRule::Function(category, prefix) => (category, "function", prefix),
            CategoryRule::Source(category, prefix) => (category, "source", prefix),
        };
        format!("category: {} {what} {text}", category.name())
    }));
    comments
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
