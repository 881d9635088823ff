//! The stacks of all threads at one instant.

use std::{borrow::Cow, cmp::Reverse, collections::BTreeMap, io, time::Duration};

use super::{
    super::{
        CaptureError, Content, Reading, Request, Response, WaitGraph,
        dump::{self, Dump, DumpRequest},
        tasks,
    },
    Bundle, Check, DumpOf, Form, Kind, KindRow, Make, Maker, NO_WORDS, Need, Span, TextForm,
    maker::any_process,
};
use crate::{
    profile::proto::{Profile, Sample},
    runtime::{TaskDump, TaskForm},
    text::counted,
};

/// How many kinds of wait the findings list.
const SHOWN: usize = 8;

/// The row.
pub static ROW: KindRow = KindRow {
    name: "threads",
    alias: None,
    served_as: None,
    what: "The current stacks of all threads",
    help: "The stack of every thread now, one sample per thread (see `rprof dump`)",
    parameters: "",
    span: Span::Instant,
    form: Form::Profile,
    sample_types: &[("threads", "count")],
    view: "threads",
    texts: &[TextForm::Each, TextForm::Counted, TextForm::Json],
    samplers: None,
    makers: &[MAKER],
    words: NO_WORDS,
    watch: None,
    bundle: Some(Bundle { file: "threads", title: "Threads", findings, has_table: false }),
    dump: Some(DumpOf::Threads),
};

/// Stacks are in the memory of the process.
const MEMORY: Check = Check::ProcMem;

/// Reads the threads of any process.
pub(super) const MAKER: Maker = Maker {
    offers: any_process,
    make: Make::Once(read),
    is_substitute: false,
    needs: &[
        Need::one("bpf and perf", &[MEMORY, Check::BpfThreads, Check::PerfThread], "no thread is stopped"),
        Need::one(
            "/proc and perf",
            &[MEMORY, Check::ThreadState, Check::PerfThread],
            "a thread is stopped for microseconds only if its stack needs it",
        ),
        Need::one("/proc and ptrace", &[MEMORY, Check::Ptrace], "some threads are stopped for microseconds"),
        Need::one("/proc", &[MEMORY, Check::ThreadState], "sleeping threads only"),
    ],
};

fn read(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    let stacks = &request.stacks;
    let options = DumpRequest {
        pids: request.pids.clone(),
        children: request.children,
        method: stacks.method,
        never_stop: stacks.never_stop,
        consistent: stacks.consistent,
        kernel: stacks.kernel,
        max_stack_bytes: request.max_stack_bytes,
        variables: stacks.variables,
        symbolize: request.symbolize.clone(),
    };
    let mut dump = match &request.core {
        Some(core) => dump::dump_core(core, &options)?,
        None => dump::dump(&options)?,
    };
    if request.only_changes {
        remove_volatile_labels(&mut dump.profile);
    }
    Ok(Response::Read(Box::new(Reading {
        kind,
        summary: summary(&dump),
        warnings: warnings(&dump),
        costs: costs(&dump),
        content: Box::new(ThreadContent {
            tasks: match &request.core {
                Some(core) => tasks::after_threads_of_core(core, &request.symbolize.budget),
                None => tasks::after_threads(
                    dump.identities.iter().map(|identity| identity.pid),
                    &request.symbolize.budget,
                ),
            },
            profile: dump.profile,
            about: dump.about,
            waits: dump.waits,
        }),
        identities: dump.identities,
    })))
}

/// Threads that were read, and the tasks that they run.
#[derive(Debug)]
struct ThreadContent {
    profile: Profile,
    waits: WaitGraph,
    about: Vec<String>,
    tasks: Vec<Box<dyn TaskDump>>,
}

impl Content for ThreadContent {
    fn profile(&self) -> Cow<'_, Profile> {
        Cow::Borrowed(&self.profile)
    }

    fn tasks(&self) -> Vec<serde_json::Value> {
        let json = |tasks: &dyn TaskDump| {
            let mut text = Vec::new();
            tasks.write(TaskForm::Json, false, &mut text).ok()?;
            serde_json::from_slice(&text).ok()
        };
        self.tasks.iter().filter_map(|tasks| json(tasks.as_ref())).collect()
    }

    fn waits(&self) -> Option<&WaitGraph> {
        Some(&self.waits)
    }

    fn about(&self) -> &[String] {
        &self.about
    }

    fn write_more(&self, form: TextForm, writer: &mut dyn io::Write) -> io::Result<()> {
        let form = match form {
            TextForm::Each => TaskForm::Each,
            TextForm::Grouped => TaskForm::Grouped,
            TextForm::Counted => TaskForm::Counted,
            // The threads are one JSON object.
            TextForm::Json => return Ok(()),
        };
        self.tasks.iter().try_for_each(|tasks| tasks.write(form, false, writer))
    }
}

fn summary(dump: &Dump) -> String {
    let numbers = &dump.stats;
    let methods: Vec<String> =
        numbers.by_method.iter().map(|(method, count)| format!("{count} by {}", method.name())).collect();
    format!(
        "quality: {}, {:.1}% whole stacks; {}; {}",
        counted(numbers.threads, "thread"),
        // Never round up to "all".
        (numbers.whole_share() * 1000.0).floor() / 10.0,
        if methods.is_empty() { "no thread could be read".to_owned() } else { methods.join(", ") },
        match numbers.stopped.len() {
            0 => "no thread was stopped".to_owned(),
            count => format!("{} stopped for microseconds", counted(count, "thread")),
        }
    )
}

fn warnings(dump: &Dump) -> Vec<String> {
    let mut issues: Vec<_> = dump.issues.iter().collect();
    issues.sort_by_key(|(_, count)| Reverse(*count));
    issues.into_iter().map(|(issue, count)| format!("{issue} ({count})")).collect()
}

fn costs(dump: &Dump) -> String {
    let numbers = &dump.stats;
    let (all, median, longest) = numbers.stopped_summary();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    format!(
        "reading {:.1} ms, naming {:.1} ms, waits {:.1} ms; {} stopped, at most {} us each (median {} us), {} us in all",
        milliseconds(numbers.reading),
        milliseconds(numbers.naming),
        milliseconds(numbers.waits),
        counted(numbers.stopped.len(), "thread"),
        longest.as_micros(),
        median.as_micros(),
        all.as_micros()
    )
}

/// How many threads there are, and what they wait for.
fn findings(response: &Response) -> Vec<String> {
    let Response::Read(reading) = response else { return Vec::new() };
    let verdicts = reading.content.waits().into_iter().flat_map(|waits| waits.headlines());
    let verdicts: Vec<String> = verdicts.map(|line| format!("- **{line}**")).collect();
    let profile = reading.content.profile();
    let mut waits: BTreeMap<String, usize> = BTreeMap::new();
    let mut whole = 0;
    for sample in &profile.sample {
        let what = match (label(&profile, sample, "wait"), label(&profile, sample, "state")) {
            (Some(wait), Some("uninterruptible")) => format!("{wait} (uninterruptible)"),
            (Some(wait), _) => wait.to_owned(),
            (None, state) => state.unwrap_or("unknown").to_owned(),
        };
        *waits.entry(what).or_default() += 1;
        whole += usize::from(label(&profile, sample, "cut").is_none());
    }
    let count = profile.sample.len();
    let mut lines = vec![format!(
        "{}, {:.1} % of the stacks whole:",
        counted(count, "thread"),
        if count == 0 { 100.0 } else { whole as f64 / count as f64 * 100.0 }
    )];
    let mut waits: Vec<_> = waits.into_iter().collect();
    waits.sort_by_key(|(_, count)| Reverse(*count));
    lines.extend(waits.into_iter().take(SHOWN).map(|(what, count)| format!("- {count}: {what}")));
    lines.extend(verdicts);
    lines
}

fn label<'p>(profile: &'p Profile, sample: &Sample, key: &str) -> Option<&'p str> {
    let found = sample.label.iter().find(|label| profile.string(label.key) == key)?;
    Some(profile.string(found.str)).filter(|text| !text.is_empty())
}

/// Removes labels that change with every reading: they would make all samples differ.
fn remove_volatile_labels(profile: &mut Profile) {
    let is_volatile: Vec<bool> =
        profile.string_table.iter().map(|text| ["cpu", "waited", "look"].contains(&text.as_str())).collect();
    let is_kept = |key: i64| usize::try_from(key).ok().and_then(|key| is_volatile.get(key)) != Some(&true);
    profile.sample.iter_mut().for_each(|sample| sample.label.retain(|label| is_kept(label.key)));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        capture::kinds::changes,
        profile::builder::{Builder, LabelValue, LineSpec},
    };

    fn profile(counts: &[(&str, i64)], time: i64) -> Profile {
        let mut builder = Builder::new(&[("threads", "count")]);
        for (name, count) in counts {
            let function = builder.function(name, name, "", 0);
            let location = builder.location(None, 0, &[LineSpec { function, line: 0, column: 0 }]);
            // The CPU time of a thread grows from dump to dump.
            let labels =
                [("tid", LabelValue::Number(7, "")), ("cpu", LabelValue::Number(time, "nanoseconds"))];
            builder.sample(&[location], &[*count], &labels);
        }
        builder.set_time(time, 3);
        builder.finish()
    }

    #[test]
    fn a_difference_contains_only_added_and_removed_samples() {
        let last = profile(&[("stays", 2), ("came", 3)], 5_000);
        let first = profile(&[("went", 1), ("stays", 2)], 4_000);
        let [first, last] = [first, last].map(|mut profile| {
            remove_volatile_labels(&mut profile);
            profile
        });
        let found = changes(&first, &last).expect("a profile");
        let mut values: Vec<i64> =
            found.sample.iter().map(|sample| sample.value[0]).filter(|n| *n != 0).collect();
        values.sort_unstable();
        assert_eq!(values, [-1, 3]);
        assert!(found.sample.iter().all(|sample| sample.label.len() == 1), "tid stays");
        assert_eq!((found.time_nanos, found.duration_nanos), (5_000, 1_000), "as Go's net/http/pprof");
    }
}
