//! What a live view has seen: the samples of the last minutes, by function and by thread.
//!
//! Not here: which part of it is shown, and how (`table`, `draw`).

use std::{collections::VecDeque, time::Duration};

use rustc_hash::FxHashMap;

use crate::{
    capture::Capture,
    process::threads::printable,
    profile::proto::{Label, Profile, Sample},
    report::stacks::base_name,
};

/// The longest time that is looked back.
const LONGEST: Duration = Duration::from_secs(300);
/// The most profiles that are kept.
const MOST_WINDOWS: usize = 4096;
/// The most frames that are kept, of all samples together: 32 MiB.
const MOST_FRAMES: usize = 8 << 20;
/// The most different functions, and threads: names made at run time could go on without end.
const MOST_NAMES: usize = 1 << 18;

/// Number of a function, in the order they were met.
pub type FunctionId = u32;
/// Number of a thread.
pub type ThreadId = u32;

/// A function, as a person knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    pub name: String,
    /// The file of its source where that is known, else that of its code.
    pub place: String,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Thread {
    pub name: String,
    pub tid: i64,
    /// Its process's name, where several are watched.
    pub process: String,
}

/// Gives equal things equal numbers.
struct Numbers<T> {
    numbers: FxHashMap<T, u32>,
    list: Vec<T>,
    /// What all stand for that come when it is full.
    others: T,
}

impl<T: Clone + Eq + std::hash::Hash> Numbers<T> {
    fn new(others: T) -> Numbers<T> {
        Numbers { numbers: FxHashMap::default(), list: Vec::new(), others }
    }

    fn of(&mut self, thing: T) -> u32 {
        let is_full = self.list.len() >= MOST_NAMES && !self.numbers.contains_key(&thing);
        let thing = if is_full { self.others.clone() } else { thing };
        let next = self.list.len() as u32;
        *self.numbers.entry(thing).or_insert_with_key(|thing| {
            self.list.push(thing.clone());
            next
        })
    }
}

/// Samples of one thread and stack.
#[derive(Debug)]
struct Stack {
    thread: ThreadId,
    /// Innermost first.
    functions: Box<[FunctionId]>,
    value: i64,
}

/// What one profile held.
#[derive(Debug)]
struct Window {
    length: Duration,
    stacks: Vec<Stack>,
    samples: u64,
    whole: u64,
    lost: u64,
}

/// What is measured over a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    pub seconds: f64,
    /// Nanoseconds, or page faults.
    pub value: i64,
    pub samples: u64,
    pub whole: u64,
    pub lost: u64,
}

/// What a function has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// By itself.
    pub own: i64,
    /// With all that it calls.
    pub total: i64,
}

/// What a thread has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadShare {
    pub total: i64,
    /// The function that it was in most often, by itself.
    pub hottest: Option<FunctionId>,
}

/// Who calls a function, and whom it calls.
#[derive(Debug, Default)]
pub struct CallersAndCallees {
    pub of: Share,
    pub callers: Vec<(FunctionId, i64)>,
    pub callees: Vec<(FunctionId, i64)>,
}

/// See the module.
pub struct History {
    functions: Numbers<Function>,
    threads: Numbers<Thread>,
    windows: VecDeque<Window>,
    frames: usize,
}

impl Default for History {
    fn default() -> History {
        let other = |what: &str| format!("[other {what}]");
        let threads = Thread { name: other("threads"), tid: 0, process: String::new() };
        History {
            functions: Numbers::new(Function { name: other("functions"), place: String::new() }),
            threads: Numbers::new(threads),
            windows: VecDeque::new(),
            frames: 0,
        }
    }
}

impl History {
    /// Adds a profile; of its values the main one, which comes last.
    pub fn add(&mut self, capture: &Capture) {
        let profile = &capture.profile;
        let frames = self.frames_of(profile);
        let stacks: Vec<Stack> = (profile.sample.iter())
            .map(|sample| Stack {
                thread: self.thread_of(profile, sample),
                functions: (sample.location_id.iter())
                    .filter_map(|location| frames.get(location))
                    .flatten()
                    .copied()
                    .collect(),
                value: sample.value.last().copied().unwrap_or_default(),
            })
            .collect();
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

    fn has_too_much(&self) -> bool {
        let later: Duration = self.windows.iter().skip(1).map(|window| window.length).sum();
        let is_one_of_several = self.windows.len() > 1;
        is_one_of_several
            && (later >= LONGEST || self.windows.len() > MOST_WINDOWS || self.frames > MOST_FRAMES)
    }

    /// Whether new names find no numbers any more.
    pub fn is_full(&self) -> bool {
        self.functions.list.len() >= MOST_NAMES || self.threads.list.len() >= MOST_NAMES
    }

    /// The functions at each location, innermost first.
    fn frames_of(&mut self, profile: &Profile) -> FxHashMap<u64, Vec<FunctionId>> {
        let by_id: FxHashMap<u64, _> = profile.function.iter().map(|known| (known.id, known)).collect();
        let mappings: FxHashMap<u64, _> = profile.mapping.iter().map(|known| (known.id, known)).collect();
        let mut frames = FxHashMap::default();
        for location in &profile.location {
            let mapping = mappings.get(&location.mapping_id);
            let code = mapping.map_or("", |mapping| code_name(profile.string(mapping.filename)));
            let mut functions: Vec<FunctionId> = (location.line.iter())
                .filter_map(|line| by_id.get(&line.function_id))
                .map(|known| {
                    let source = base_name(profile.string(known.filename));
                    let place = if source.is_empty() { code } else { source };
                    self.functions.of(Function {
                        name: printable(profile.string(known.name).as_bytes()),
                        place: printable(place.as_bytes()),
                    })
                })
                .collect();
            if functions.is_empty() {
                let name = if code.is_empty() {
                    "[unknown]".into()
                } else {
                    format!("[{}]", printable(code.as_bytes()))
                };
                functions.push(self.functions.of(Function { name, place: String::new() }));
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

    pub fn function(&self, id: FunctionId) -> &Function {
        &self.functions.list[id as usize]
    }

    pub fn thread(&self, id: ThreadId) -> &Thread {
        &self.threads.list[id as usize]
    }

    /// The windows of the last `span`, newest first: at least one.
    fn last(&self, span: Duration) -> impl Iterator<Item = &Window> {
        last(&self.windows, span, |window| window.length)
    }

    /// The last `span`, of one thread or all.
    fn stacks(&self, span: Duration, thread: Option<ThreadId>) -> impl Iterator<Item = &Stack> {
        let stacks = self.last(span).flat_map(|window| &window.stacks);
        stacks.filter(move |stack| thread.is_none_or(|thread| stack.thread == thread))
    }

    /// What was measured in the last `span`.
    pub fn sum(&self, span: Duration, thread: Option<ThreadId>) -> Sum {
        let mut sum =
            Sum { value: self.stacks(span, thread).map(|stack| stack.value).sum(), ..Sum::default() };
        for window in self.last(span) {
            sum.seconds += window.length.as_secs_f64();
            sum.samples += window.samples;
            sum.whole += window.whole;
            sum.lost += window.lost;
        }
        sum
    }

    /// What was measured in each second, of the last `count` profiles, oldest first, of one thread or all; 0
    /// where there are fewer.
    pub fn course(&self, count: usize, thread: Option<ThreadId>) -> Vec<f64> {
        let wanted = |id: ThreadId| thread.is_none_or(|thread| thread == id).then_some(());
        self.courses_by(count, wanted).remove(&()).unwrap_or_else(|| vec![0.0; count])
    }

    /// The same of each thread that was met in that time.
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
            for stack in &window.stacks {
                let Some(key) = of(stack.thread) else { continue };
                let course = courses.entry(key).or_insert_with(|| vec![0.0; count]);
                course[count - 1 - back] += stack.value as f64 / seconds;
            }
        }
        courses
    }

    /// What each function has that was met.
    pub fn functions(&self, span: Duration, thread: Option<ThreadId>) -> Vec<(FunctionId, Share)> {
        let mut shares = vec![Share::default(); self.functions.list.len()];
        // In which stack each was counted last: one that calls itself has what it has once.
        let mut counted = vec![0usize; shares.len()];
        for (at, stack) in (1..).zip(self.stacks(span, thread)) {
            for (depth, id) in stack.functions.iter().enumerate() {
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

    /// What each thread has that was met.
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

    /// Who calls a function, and whom it calls; those with most first.
    pub fn around(&self, span: Duration, thread: Option<ThreadId>, id: FunctionId) -> CallersAndCallees {
        let mut around = CallersAndCallees::default();
        let (mut callers, mut callees) = (FxHashMap::default(), FxHashMap::default());
        // Of one stack each counts once.
        let mut seen: Vec<(bool, FunctionId)> = Vec::new();
        for stack in self.stacks(span, thread).filter(|stack| stack.functions.contains(&id)) {
            around.of.total += stack.value;
            around.of.own += if stack.functions.first() == Some(&id) { stack.value } else { 0 };
            seen.clear();
            for pair in stack.functions.windows(2).filter(|pair| pair.contains(&id)) {
                let (callee, caller) = (pair[0], pair[1]);
                for (is_caller, other) in [(true, caller), (false, callee)] {
                    let is_ours = if is_caller { callee == id } else { caller == id };
                    if is_ours && !seen.contains(&(is_caller, other)) {
                        seen.push((is_caller, other));
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

/// What there was in the last `span`, newest first: at least one.
pub fn last<T>(all: &VecDeque<T>, span: Duration, length: fn(&T) -> Duration) -> impl Iterator<Item = &T> {
    let mut seen = Duration::ZERO;
    all.iter().rev().take_while(move |one| {
        let is_in = seen < span;
        seen += length(one);
        is_in
    })
}

fn frames_in(stacks: &[Stack]) -> usize {
    stacks.iter().map(|stack| stack.functions.len()).sum()
}

/// What a person calls the file of some code.
fn code_name(path: &str) -> &str {
    if path == "[kernel.kallsyms]" { "[kernel]" } else { base_name(path) }
}

#[cfg(test)]
pub mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        capture::{Ended, ProfileKind, Tally},
        issue::Issues,
        profile::builder::{Builder, LabelValue, LineSpec},
        sampler::Description,
    };

    const SPAN: Duration = Duration::from_secs(10);

    /// A second's profile of stacks: thread, functions innermost first, milliseconds.
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
            kind: ProfileKind::Cpu,
            identities: Vec::new(),
            ended: Ended::Duration,
            unnamed_share: 0.0,
            started_at: SystemTime::UNIX_EPOCH,
            elapsed: Duration::from_secs(1),
            kernel_cpu_ns: None,
            threads_before: None,
            attach_took: Duration::ZERO,
            finish_took: Duration::ZERO,
        }
    }

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
    fn a_function_has_what_it_does_itself_and_what_it_calls_once() {
        let history = history(&[("a", &["leaf", "main"], 30), ("b", &["walk", "walk", "main"], 10)]);
        let found = named(&history, history.functions(SPAN, None));
        let row = |name: &str, own, total| (name.to_owned(), own, total);
        assert_eq!(found, [row("leaf", 30, 30), row("main", 0, 40), row("walk", 10, 10)]);
        assert_eq!(history.sum(SPAN, None).value, 40_000_000);
    }

    #[test]
    fn a_thread_has_its_own_functions_and_the_hottest_is_named() {
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
    fn callers_and_callees_are_told_apart_also_of_a_function_that_calls_itself() {
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
    fn what_is_older_than_the_span_is_not_shown_and_after_minutes_forgotten() {
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
    fn a_name_cannot_command_the_terminal() {
        let history = history(&[("\x1b[2J", &["a\x07b"], 5)]);
        assert_eq!(history.thread(0).name, "?[2J");
        assert_eq!(history.function(0).name, "a?b");
    }
}
