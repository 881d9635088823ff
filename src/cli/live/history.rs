//! The samples of the last minutes, by function and by thread.
//!
//! `table` selects what is shown of them, `draw` draws it.

use std::{collections::VecDeque, time::Duration};

use rustc_hash::FxHashMap;

use super::idle;
use crate::{
    capture::Capture,
    process::comm::printable,
    profile::proto::{Label, Profile, Sample},
    report::{
        paths::{
            CallTree, Described, Row,
            category::{Category, FrameFacts, Rules, category},
            fold::{Expand, Frame},
        },
        stacks::base_name,
    },
};

/// The longest time that can be shown.
const LONGEST: Duration = Duration::from_secs(300);
/// The maximum number of profiles.
const MOST_WINDOWS: usize = 4096;
/// The maximum number of frames in all samples: 32 MiB.
const MOST_FRAMES: usize = 8 << 20;
/// The maximum number of different functions, and of threads: a JIT compiler may create names
/// without end.
const MOST_NAMES: usize = 1 << 18;

/// The number of a function, in the order of first occurrence.
pub type FunctionId = u32;
/// The number of a thread, in the order of first occurrence.
pub type ThreadId = u32;

/// A function as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its name, without control characters.
    pub name: String,
    /// The base name of its source file, or of its binary if that is not known.
    pub place: String,
    /// The short name of its binary.
    pub module: String,
    /// What kind of code it is.
    pub category: Category,
}

/// A thread as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    /// Its name, without control characters.
    pub name: String,
    /// Its ID.
    pub tid: i64,
    /// Its process's name; empty if only one process is watched.
    pub process: String,
}

/// Interns values: equal values have equal numbers.
struct Numbers<T> {
    numbers: FxHashMap<T, u32>,
    list: Vec<T>,
    /// Replaces all new values once the table is full.
    others: T,
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    fn new(others: T) -> Numbers<T> {
        Numbers { numbers: FxHashMap::default(), list: Vec::new(), others }
    }

    fn of(&mut self, value: T) -> u32 {
        let is_full = self.list.len() >= MOST_NAMES && !self.numbers.contains_key(&value);
        let value = if is_full { self.others.clone() } else { value };
        let next = self.list.len() as u32;
        *self.numbers.entry(value).or_insert_with_key(|value| {
            self.list.push(value.clone());
            next
        })
    }
}

/// The samples of a thread that have the same stack.
#[derive(Debug)]
struct Stack {
    thread: ThreadId,
    /// Innermost first.
    functions: Box<[FunctionId]>,
    value: i64,
    /// How many samples or events it stands for.
    count: i64,
    /// Whether the thread waits for work.
    is_idle: bool,
}

/// The contents of a profile.
#[derive(Debug)]
struct Window {
    length: Duration,
    stacks: Vec<Stack>,
    samples: u64,
    whole: u64,
    lost: u64,
}

/// Totals over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// The length of the time.
    pub seconds: f64,
    /// Nanoseconds, or page faults.
    pub value: i64,
    /// The part of all values, also of hidden ones, in idle waits.
    pub idle: i64,
    /// The number of samples of equal weight that are as precise as these (L. Kish, "Survey
    /// Sampling", 1965).
    pub effective: f64,
    /// All samples.
    pub samples: u64,
    /// Samples with a whole stack.
    pub whole: u64,
    /// Lost samples.
    pub lost: u64,
}

/// The values of a function, in the unit of [`Sum::value`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The function itself.
    pub own: i64,
    /// With called functions.
    pub total: i64,
}

/// The values of a thread, in the unit of [`Sum::value`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadShare {
    /// The thread's value.
    pub total: i64,
    /// The function with the greatest value of its own.
    pub hottest: Option<FunctionId>,
}

/// The callers and callees of a function, each with its value, the greatest first.
#[derive(Debug, Default)]
pub struct CallersAndCallees {
    /// The function itself.
    pub of: Share,
    /// The functions that call it.
    pub callers: Vec<(FunctionId, i64)>,
    /// The functions that it calls.
    pub callees: Vec<(FunctionId, i64)>,
}

/// The samples of the last minutes.
pub struct History {
    functions: Numbers<Function>,
    threads: Numbers<Thread>,
    windows: VecDeque<Window>,
    frames: usize,
    /// Idle waits are left out.
    pub hides_idle: bool,
}

impl Default for History {
    fn default() -> History {
        let other = |what: &str| format!("[other {what}]");
        let threads = Thread { name: other("threads"), tid: 0, process: String::new() };
        History {
            functions: Numbers::new(Function {
                name: other("functions"),
                place: String::new(),
                module: String::new(),
                category: Category::Own,
            }),
            threads: Numbers::new(threads),
            windows: VecDeque::new(),
            frames: 0,
            hides_idle: false,
        }
    }
}

impl History {
    /// Adds a profile: the last of its values, which is the main one.
    pub fn add(&mut self, capture: &Capture) {
        let profile = &capture.profile;
        let frames = self.frames_of(profile);
        // While a thread runs, it is not idle.
        let may_wait = capture.kind.watch.is_some_and(|watch| watch.has_waits);
        let stacks: Vec<Stack> =
            profile.sample.iter().map(|sample| self.stack_of(profile, sample, &frames, may_wait)).collect();
        self.frames += frames_in(&stacks);
        let tally = &capture.tally;
        self.windows.push_back(Window {
            length: capture.elapsed,
            stacks,
            samples: tally.samples,
            whole: tally.whole,
            lost: tally.lost,
        });
        while self.has_too_much() {
            let old = self.windows.pop_front();
            self.frames -= old.map_or(0, |old| frames_in(&old.stacks));
        }
    }

    fn stack_of(
        &mut self,
        profile: &Profile,
        sample: &Sample,
        frames: &FxHashMap<u64, Vec<FunctionId>>,
        may_wait: bool,
    ) -> Stack {
        let found = sample.location_id.iter().filter_map(|location| frames.get(location));
        let functions: Box<[FunctionId]> = found.flatten().copied().collect();
        let names = functions.iter().map(|id| &*self.functions.list[*id as usize].name);
        let is_idle = may_wait && idle::is_idle(names);
        Stack {
            thread: self.thread_of(profile, sample),
            is_idle,
            value: sample.value.last().copied().unwrap_or_default(),
            // With one value, each event is a sample.
            count: sample.value.first().copied().unwrap_or_default().max(1),
            functions,
        }
    }

    fn has_too_much(&self) -> bool {
        let later: Duration = self.windows.iter().skip(1).map(|window| window.length).sum();
        let is_one_of_several = self.windows.len() > 1;
        is_one_of_several
            && (later >= LONGEST || self.windows.len() > MOST_WINDOWS || self.frames > MOST_FRAMES)
    }

    /// Whether there is no number left for a new name.
    pub fn is_full(&self) -> bool {
        self.functions.list.len() >= MOST_NAMES || self.threads.list.len() >= MOST_NAMES
    }

    /// The functions at each location, innermost first.
    fn frames_of(&mut self, profile: &Profile) -> FxHashMap<u64, Vec<FunctionId>> {
        let by_id: FxHashMap<u64, _> = profile.function.iter().map(|known| (known.id, known)).collect();
        let mappings: FxHashMap<u64, _> = profile.mapping.iter().map(|known| (known.id, known)).collect();
        let rules = Rules::new(profile.comments());
        let main_module = profile.mapping.first().map_or("", |mapping| profile.string(mapping.filename));
        let mut frames = FxHashMap::default();
        for location in &profile.location {
            let path = mappings.get(&location.mapping_id).map_or("", |known| profile.string(known.filename));
            let code = code_name(path);
            let module = printable(code.as_bytes());
            let is_kernel_address = location.address >> 63 == 1;
            let of_kind = |name: &str, file: &str| {
                category(&FrameFacts { name, file, module: path, main_module, is_kernel_address }, &rules)
            };
            let mut functions: Vec<FunctionId> = (location.line.iter())
                .filter_map(|line| by_id.get(&line.function_id))
                .map(|known| {
                    let (name, file) = (profile.string(known.name), profile.string(known.filename));
                    let source = base_name(file);
                    let place = if source.is_empty() { code } else { source };
                    self.functions.of(Function {
                        name: printable(name.as_bytes()),
                        place: printable(place.as_bytes()),
                        module: module.clone(),
                        category: of_kind(name, file),
                    })
                })
                .collect();
            if functions.is_empty() {
                let name = if code.is_empty() { "[unknown]".into() } else { format!("[{module}]") };
                let category = of_kind(&name, "");
                functions.push(self.functions.of(Function { name, place: String::new(), module, category }));
            }
            frames.insert(location.id, functions);
        }
        frames
    }

    fn thread_of(&mut self, profile: &Profile, sample: &Sample) -> ThreadId {
        let label = |key: &str| sample.label.iter().find(|label| profile.string(label.key) == key);
        let text = |label: Option<&Label>| {
            label.map_or_else(String::new, |label| printable(profile.string(label.str).as_bytes()))
        };
        self.threads.of(Thread {
            name: text(label("thread")),
            tid: label("tid").map_or(0, |label| label.num),
            process: text(label("process")),
        })
    }

    /// The function with this number, which this history has given out.
    pub fn function(&self, id: FunctionId) -> &Function {
        &self.functions.list[id as usize]
    }

    /// The thread with this number, which this history has given out.
    pub fn thread(&self, id: ThreadId) -> &Thread {
        &self.threads.list[id as usize]
    }

    /// The windows of the last `span`, newest first: at least one.
    fn last(&self, span: Duration) -> impl Iterator<Item = &Window> {
        last(&self.windows, span, |window| window.length)
    }

    /// The stacks of the last `span`, of one thread or all, that are not hidden.
    fn stacks(&self, span: Duration, thread: Option<ThreadId>) -> impl Iterator<Item = &Stack> {
        let stacks = self.last(span).flat_map(|window| &window.stacks);
        stacks
            .filter(move |stack| thread.is_none_or(|thread| stack.thread == thread) && !self.is_hidden(stack))
    }

    fn is_hidden(&self, stack: &Stack) -> bool {
        self.hides_idle && stack.is_idle
    }

    /// The totals of the last `span`; the value only of `thread`, if given.
    pub fn sum(&self, span: Duration, thread: Option<ThreadId>) -> Sum {
        let mut sum = Sum::default();
        let mut squares = 0.0;
        for stack in self.stacks(span, thread) {
            sum.value += stack.value;
            squares += (stack.value as f64).powi(2) / stack.count as f64;
        }
        sum.effective = if squares > 0.0 { (sum.value as f64).powi(2) / squares } else { 0.0 };
        for window in self.last(span) {
            sum.idle +=
                window.stacks.iter().filter(|stack| stack.is_idle).map(|stack| stack.value).sum::<i64>();
            sum.seconds += window.length.as_secs_f64();
            sum.samples += window.samples;
            sum.whole += window.whole;
            sum.lost += window.lost;
        }
        sum
    }

    /// The value per second of each of the last `count` profiles, of one thread or all; oldest
    /// first, 0 where there are fewer.
    pub fn course(&self, count: usize, thread: Option<ThreadId>) -> Vec<f64> {
        let wanted = |id: ThreadId| thread.is_none_or(|thread| thread == id).then_some(());
        self.courses_by(count, wanted).remove(&()).unwrap_or_else(|| vec![0.0; count])
    }

    /// The same for each thread in that time.
    pub fn courses(&self, count: usize) -> FxHashMap<ThreadId, Vec<f64>> {
        self.courses_by(count, Some)
    }

    fn courses_by<K: Eq + std::hash::Hash>(
        &self,
        count: usize,
        of: impl Fn(ThreadId) -> Option<K>,
    ) -> FxHashMap<K, Vec<f64>> {
        let mut courses: FxHashMap<K, Vec<f64>> = FxHashMap::default();
        for (back, window) in self.windows.iter().rev().take(count).enumerate() {
            let seconds = window.length.as_secs_f64().max(0.001);
            for stack in window.stacks.iter().filter(|stack| !self.is_hidden(stack)) {
                let Some(key) = of(stack.thread) else { continue };
                let course = courses.entry(key).or_insert_with(|| vec![0.0; count]);
                course[count - 1 - back] += stack.value as f64 / seconds;
            }
        }
        courses
    }

    /// The functions of the last `span` with their values.
    pub fn functions(&self, span: Duration, thread: Option<ThreadId>) -> Vec<(FunctionId, Share)> {
        self.shares(span, thread, |_| true)
    }

    /// The program's own functions of the last `span`. The value of a function itself includes the
    /// libraries and the kernel that it calls.
    pub fn own_functions(&self, span: Duration, thread: Option<ThreadId>) -> Vec<(FunctionId, Share)> {
        self.shares(span, thread, |id| self.is_own(id))
    }

    fn is_own(&self, id: FunctionId) -> bool {
        self.functions.list[id as usize].category == Category::Own
    }

    fn shares(
        &self,
        span: Duration,
        thread: Option<ThreadId>,
        is_shown: impl Fn(FunctionId) -> bool,
    ) -> Vec<(FunctionId, Share)> {
        let mut shares = vec![Share::default(); self.functions.list.len()];
        // The stack in which each function was counted last: a recursive function counts once per stack.
        let mut counted = vec![0usize; shares.len()];
        for (at, stack) in (1..).zip(self.stacks(span, thread)) {
            for (depth, id) in stack.functions.iter().filter(|id| is_shown(**id)).enumerate() {
                let share = &mut shares[*id as usize];
                if depth == 0 {
                    share.own += stack.value;
                }
                if counted[*id as usize] != at {
                    counted[*id as usize] = at;
                    share.total += stack.value;
                }
            }
        }
        (0..).zip(shares).filter(|(_, share)| share.total != 0).collect()
    }

    /// The heaviest call paths of the last `span`: at most `count` rows, folded as in the first
    /// look at a profile, or of the program's own functions alone.
    pub fn tree(&self, span: Duration, thread: Option<ThreadId>, only_own: bool, count: usize) -> Vec<Row> {
        let mut tree = CallTree::new(Expand::default());
        let mut frames = Vec::new();
        for stack in self.stacks(span, thread) {
            let shown = stack.functions.iter().rev().filter(|id| !only_own || self.is_own(**id));
            frames.clear();
            frames.extend(shown.map(|id| {
                let Function { name, category, .. } = &self.functions.list[*id as usize];
                Frame { name, id: *id, category: *category }
            }));
            tree.add(&frames, stack.value);
        }
        let describe = |id: u32| {
            let Function { name, module, category, .. } = &self.functions.list[id as usize];
            Described { name, module, is_kernel: *category == Category::Kernel }
        };
        tree.rows(count, &describe)
    }

    /// The threads of the last `span` with their values.
    pub fn threads(&self, span: Duration) -> Vec<(ThreadId, ThreadShare)> {
        let mut own: FxHashMap<(ThreadId, FunctionId), i64> = FxHashMap::default();
        let mut shares = vec![ThreadShare::default(); self.threads.list.len()];
        for stack in self.stacks(span, None) {
            shares[stack.thread as usize].total += stack.value;
            if let Some(leaf) = stack.functions.first() {
                *own.entry((stack.thread, *leaf)).or_default() += stack.value;
            }
        }
        let mut best = vec![0; shares.len()];
        let mut own: Vec<_> = own.into_iter().collect();
        own.sort_unstable();
        for ((thread, function), value) in own {
            if value > best[thread as usize] {
                best[thread as usize] = value;
                shares[thread as usize].hottest = Some(function);
            }
        }
        (0..).zip(shares).filter(|(_, share)| share.total != 0).collect()
    }

    /// The callers and callees of a function in the last `span`, of one thread or all.
    pub fn around(&self, span: Duration, thread: Option<ThreadId>, id: FunctionId) -> CallersAndCallees {
        let mut around = CallersAndCallees::default();
        let (mut callers, mut callees) = (FxHashMap::default(), FxHashMap::default());
        // Each counts once per stack.
        let mut counted: Vec<(bool, FunctionId)> = Vec::new();
        for stack in self.stacks(span, thread).filter(|stack| stack.functions.contains(&id)) {
            around.of.total += stack.value;
            around.of.own += if stack.functions.first() == Some(&id) { stack.value } else { 0 };
            counted.clear();
            for pair in stack.functions.windows(2).filter(|pair| pair.contains(&id)) {
                let (callee, caller) = (pair[0], pair[1]);
                for (is_caller, other) in [(true, caller), (false, callee)] {
                    let is_ours = if is_caller { callee == id } else { caller == id };
                    if is_ours && !counted.contains(&(is_caller, other)) {
                        counted.push((is_caller, other));
                        *(if is_caller { &mut callers } else { &mut callees }).entry(other).or_insert(0) +=
                            stack.value;
                    }
                }
            }
        }
        let sorted = |found: FxHashMap<FunctionId, i64>| {
            let mut list: Vec<_> = found.into_iter().collect();
            list.sort_unstable_by_key(|(id, value)| (std::cmp::Reverse(*value), *id));
            list
        };
        (around.callers, around.callees) = (sorted(callers), sorted(callees));
        around
    }
}

/// The elements of the last `span`, newest first: at least one, unless there is none.
pub fn last<T>(all: &VecDeque<T>, span: Duration, length: fn(&T) -> Duration) -> impl Iterator<Item = &T> {
    let mut covered = Duration::ZERO;
    all.iter().rev().take_while(move |one| {
        let is_in = covered < span;
        covered += length(one);
        is_in
    })
}

fn frames_in(stacks: &[Stack]) -> usize {
    stacks.iter().map(|stack| stack.functions.len()).sum()
}

/// The short name of a binary.
fn code_name(path: &str) -> &str {
    if path == "[kernel.kallsyms]" { "[kernel]" } else { base_name(path) }
}

#[cfg(test)]
pub mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        capture::{Ended, Tally, kinds},
        issue::Issues,
        profile::builder::{Builder, LabelValue, LineSpec},
        sampler::Description,
    };

    const SPAN: Duration = Duration::from_secs(10);

    /// A profile of one second. Each stack: thread, functions innermost first, milliseconds.
    pub fn capture(stacks: &[(&str, &[&str], i64)]) -> Capture {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        for (thread, functions, milliseconds) in stacks {
            let locations: Vec<_> = (functions.iter())
                .map(|name| {
                    let function = builder.function(name, name, "/src/work.c", 0);
                    builder.location(None, name.len() as u64, &[LineSpec { function, line: 1, column: 0 }])
                })
                .collect();
            let labels = [("thread", LabelValue::Text(thread)), ("tid", LabelValue::Number(7, ""))];
            builder.sample(&locations, &[1, milliseconds * 1_000_000], &labels);
        }
        let mut tally = Tally::default();
        (tally.samples, tally.whole) = (stacks.len() as u64, stacks.len() as u64);
        Capture {
            profile: builder.finish(),
            issues: Issues::default(),
            tally,
            sampler: Description {
                name: "bpf",
                event: "cpu-clock",
                summary: String::new(),
                kernel: false,
                buffer_bytes: 0,
                event_count: 0,
            },
            kind: kinds::DEFAULT,
            identities: Vec::new(),
            ended: Ended::Duration,
            unnamed_share: 0.0,
            started_at: SystemTime::UNIX_EPOCH,
            elapsed: Duration::from_secs(1),
            kernel_cpu_ns: None,
            hindrance: None,
            throttled: None,
            threads_before: None,
            attach_took: Duration::ZERO,
            finish_took: Duration::ZERO,
        }
    }

    /// A history of one such profile.
    pub fn history(stacks: &[(&str, &[&str], i64)]) -> History {
        let mut history = History::default();
        history.add(&capture(stacks));
        history
    }

    fn named(history: &History, found: Vec<(FunctionId, Share)>) -> Vec<(String, i64, i64)> {
        let in_ms = |value| value / 1_000_000;
        let name = |id| history.function(id).name.clone();
        found.into_iter().map(|(id, share)| (name(id), in_ms(share.own), in_ms(share.total))).collect()
    }

    #[test]
    fn a_recursive_function_counts_once_per_stack() {
        let history = history(&[("a", &["leaf", "main"], 30), ("b", &["walk", "walk", "main"], 10)]);
        let found = named(&history, history.functions(SPAN, None));
        let row = |name: &str, own, total| (name.to_owned(), own, total);
        assert_eq!(found, [row("leaf", 30, 30), row("main", 0, 40), row("walk", 10, 10)]);
        assert_eq!(history.sum(SPAN, None).value, 40_000_000);
    }

    #[test]
    fn a_thread_has_its_own_functions_and_its_hottest_one() {
        let history = history(&[("a", &["x", "main"], 5), ("a", &["y"], 20), ("b", &["z"], 100)]);
        let threads = history.threads(SPAN);
        let names: Vec<_> = threads
            .iter()
            .map(|(id, share)| (&*history.thread(*id).name, &*history.function(share.hottest.unwrap()).name))
            .collect();
        assert_eq!(names, [("a", "y"), ("b", "z")]);
        let of_a = named(&history, history.functions(SPAN, Some(threads[0].0)));
        assert_eq!(of_a.iter().map(|row| row.1).sum::<i64>(), 25);
        assert!(of_a.iter().all(|row| row.0 != "z"));
    }

    #[test]
    fn callers_and_callees_are_distinguished_also_for_a_recursive_function() {
        let history = history(&[("a", &["walk", "walk", "main"], 10), ("a", &["leaf", "walk", "main"], 30)]);
        let id = (0..).find(|id| history.function(*id).name == "walk").unwrap();
        let around = history.around(SPAN, None, id);
        let name = |found: &[(FunctionId, i64)]| -> Vec<(String, i64)> {
            let of =
                |(id, value): &(FunctionId, i64)| (history.function(*id).name.clone(), value / 1_000_000);
            found.iter().map(of).collect()
        };
        let row = |name: &str, value| (name.to_owned(), value);
        assert_eq!(around.of, Share { own: 10_000_000, total: 40_000_000 });
        assert_eq!(name(&around.callers), [row("main", 40), row("walk", 10)]);
        assert_eq!(name(&around.callees), [row("leaf", 30), row("walk", 10)]);
    }

    #[test]
    fn samples_older_than_the_span_are_hidden_and_dropped_after_minutes() {
        let mut history = history(&[("a", &["old"], 5)]);
        for _ in 0..3 {
            history.add(&capture(&[("a", &["new"], 7)]));
        }
        let own =
            |history: &History, seconds| history.sum(Duration::from_secs(seconds), None).value / 1_000_000;
        assert_eq!([own(&history, 1), own(&history, 2), own(&history, 9)], [7, 14, 26]);
        assert_eq!(history.course(5, None), [0.0, 5e6, 7e6, 7e6, 7e6]);
        assert_eq!(history.courses(5)[&0], [0.0, 5e6, 7e6, 7e6, 7e6]);
        (0..300).for_each(|_| history.add(&capture(&[("a", &["new"], 1)])));
        assert_eq!(own(&history, 10_000), 300);
    }

    #[test]
    fn the_programs_own_functions_have_what_they_call() {
        let history = history(&[("a", &["std::sys::x", "mine", "main"], 30), ("a", &["main"], 10)]);
        let found = named(&history, history.own_functions(SPAN, None));
        assert_eq!(found, [("mine".to_owned(), 30, 30), ("main".to_owned(), 10, 40)]);
        let rows = history.tree(SPAN, None, true, 10);
        let names: Vec<String> = rows.iter().map(|row| row.names.join("›")).collect();
        assert_eq!(names, ["main", "mine"]);
        assert_eq!((rows[1].depth, rows[1].own), (1, 0.75));
    }

    #[test]
    fn idle_waits_are_counted_apart_and_can_be_hidden() {
        let stacks: &[(&str, &[&str], i64)] =
            &[("a", &["epoll_wait", "main"], 900), ("a", &["pthread_mutex_lock", "main"], 100)];
        let waits = Capture { kind: kinds::KindRow::named("offcpu").expect("a kind"), ..capture(stacks) };
        let mut history = History::default();
        history.add(&waits);
        let values = |history: &History| {
            let sum = history.sum(SPAN, None);
            (sum.value / 1_000_000, sum.idle / 1_000_000)
        };
        assert_eq!(values(&history), (1000, 900));
        history.hides_idle = true;
        assert_eq!(values(&history), (100, 900));
        assert_eq!(history.course(1, None), [1e8]);
        // A thread that runs is not idle.
        history.add(&capture(stacks));
        assert_eq!(history.sum(Duration::from_secs(1), None).idle, 0);
    }

    #[test]
    fn samples_of_unequal_weight_are_less_precise() {
        let equal = history(&[("a", &["x"], 10), ("a", &["y"], 10)]);
        let unequal = history(&[("a", &["x"], 10), ("a", &["y"], 1000)]);
        assert_eq!(equal.sum(SPAN, None).effective, 2.0);
        assert!(unequal.sum(SPAN, None).effective < 1.1);
        assert_eq!(History::default().sum(SPAN, None).effective, 0.0);
    }

    #[test]
    fn control_characters_in_names_are_replaced() {
        let history = history(&[("\x1b[2J", &["a\x07b"], 5)]);
        assert_eq!(history.thread(0).name, "?[2J");
        assert_eq!(history.function(0).name, "a?b");
    }
}
