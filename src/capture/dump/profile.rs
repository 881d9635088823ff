//! Builds the profile of a dump: one sample per thread, described by labels.
//!
//! Not here: text, which is made from the profile (`report::threads`).

use std::time::{Duration, SystemTime};

use super::{
    DumpStats,
    collect::{ThreadSnapshot, ThreadSnapshots},
};
use crate::{
    capture::{
        collector::{LabelsId, ONLY},
        name::{
            locations::{Locations, epoch_ns, nanos},
            names::{file_of, name_all},
        },
        tally::reason,
        watch::window::Window,
    },
    issue::{Issue, Issues},
    process::Identity,
    profile::{
        builder::{Builder, LabelValue},
        proto::Profile,
    },
    runtime::Variable,
    symbolize::SymbolizeOptions,
};

/// The profile, and what is missing in it.
pub fn make(
    options: &SymbolizeOptions,
    mut window: Window,
    identities: &[Identity],
    snapshots: &ThreadSnapshots,
    about: &[String],
    (stats, began_at): (&DumpStats, SystemTime),
) -> (Profile, Issues) {
    let names = name_all(options, &mut window);
    let mut builder = Builder::new(&[("threads", "count")]);
    let executable = identities.first().and_then(|identity| identity.executable.as_deref());
    let locations = Locations::add(&window, ONLY, &names, &mut builder, executable);
    let mut stacks: Vec<(LabelsId, &[u32])> = window
        .collector
        .counts(ONLY)
        .stacks()
        .into_iter()
        .map(|(labels, stack, _)| (labels, stack))
        .collect();
    stacks.sort_unstable_by_key(|(labels, _)| *labels);
    let mut issues = std::mem::take(&mut window.issues);
    for thread in &snapshots.threads {
        let Ok(at) = stacks.binary_search_by_key(&thread.labels, |(labels, _)| *labels) else { continue };
        let ids = locations.of(stacks[at].1);
        let cut = cut(thread, &window);
        if let Some(why) = &cut {
            issues.add(Issue::CutStack { why: why.clone() }, 1);
        }
        add_thread(&mut builder, &window, thread, cut.as_deref(), &ids);
    }
    builder.set_period("threads", "count", 1);
    builder.set_time(epoch_ns(began_at), nanos(stats.reading));
    comments(identities, stats).iter().chain(about).for_each(|comment| builder.comment(comment));
    (builder.finish(), issues)
}

fn add_thread(
    builder: &mut Builder,
    window: &Window,
    thread: &ThreadSnapshot,
    cut: Option<&str>,
    ids: &[crate::profile::builder::LocationId],
) {
    let state = &thread.state;
    let process = window.collector.labels_of(thread.labels).process.as_deref();
    let nanoseconds = |ns: u64| LabelValue::Number(i64::try_from(ns).unwrap_or(i64::MAX), "nanoseconds");
    let mut labels = vec![
        ("thread", LabelValue::Text(&state.name)),
        ("tid", LabelValue::Number(i64::from(state.tid), "")),
        ("pid", LabelValue::Number(i64::from(thread.pid), "")),
        ("state", LabelValue::Text(state_in_words(state.state))),
    ];
    labels.extend(process.map(|name| ("process", LabelValue::Text(name))));
    if let Some(waiting) = &state.waiting {
        labels.push(("wait", LabelValue::Text(&waiting.what)));
        labels.extend(waiting.syscall.map(|name| ("syscall", LabelValue::Text(name))));
    }
    labels.extend(thread.signal.as_ref().map(|signal| ("signal", LabelValue::Text(signal))));
    labels.extend(thread.runtime.map(|what| ("runtime", LabelValue::Text(what))));
    let own = window.collector.labels_of(thread.labels).own.iter().flat_map(|own| own.iter());
    labels.extend(own.map(|(key, value)| (key.as_str(), LabelValue::Text(value))));
    labels.extend(state.cpu_ns.map(|ns| ("cpu", nanoseconds(ns))));
    labels.extend(state.waited_ns.map(|ns| ("waited", nanoseconds(ns))));
    labels.extend(thread.method.map(|method| ("look", LabelValue::Text(method.name()))));
    labels.extend(cut.map(|why| ("cut", LabelValue::Text(why))));
    let texts: Vec<String> =
        thread.variables.iter().flat_map(|(frame, some)| local_labels(*frame, some)).collect();
    labels.extend(texts.iter().map(|text| ("local", LabelValue::Text(text))));
    builder.sample(ids, &[1], &labels);
}

/// `3 name = value` for each variable of the frame with this index.
fn local_labels(frame: usize, variables: &[Variable]) -> impl Iterator<Item = String> + '_ {
    variables.iter().map(move |one| format!("{frame} {} = {}", one.name, one.value))
}

/// Why a thread's stack is not whole; `None` if it is whole, or the thread is a zombie.
fn cut(thread: &ThreadSnapshot, window: &Window) -> Option<String> {
    let why = match thread.end {
        Some(end) if end.is_whole() => return None,
        Some(end) => reason(end, &|module| file_of(window, module)),
        None if matches!(thread.state.state, 'Z' | 'X') => return None,
        None => "nothing of the stack could be read".to_owned(),
    };
    Some(match &thread.note {
        Some(note) => format!("{why} ({note})"),
        None => why,
    })
}

/// The state letter of proc(5) as a word.
fn state_in_words(state: char) -> &'static str {
    match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "uninterruptible",
        'T' => "stopped",
        't' => "traced",
        'Z' => "zombie",
        'X' => "dead",
        'I' => "idle",
        _ => "unknown",
    }
}

fn comments(identities: &[Identity], stats: &DumpStats) -> Vec<String> {
    let microseconds = |duration: Duration| duration.as_micros();
    let mut comments = vec!["kind: threads".to_owned()];
    comments.extend(
        identities
            .iter()
            .map(|identity| format!("target: {} (pid {})", identity.display_name(), identity.pid)),
    );
    let methods: Vec<String> =
        stats.by_method.iter().map(|(method, count)| format!("{} {count}", method.name())).collect();
    comments.push(format!("threads: {}", stats.threads));
    comments.push(format!("methods: {}", methods.join(", ")));
    comments.push(format!("stacks: whole {:.2}%", stats.whole_share() * 100.0));
    let (all, median, longest) = stats.stopped_summary();
    comments.push(match stats.stopped.len() {
        0 => "stopped: no thread".to_owned(),
        count => format!(
            "stopped: {count} threads, each at most {} us (median {} us), {} us in all",
            microseconds(longest),
            microseconds(median),
            microseconds(all)
        ),
    });
    comments.push(format!("rprof: {}", env!("CARGO_PKG_VERSION")));
    comments
}
