//! What was measured when, a row a thread: of profiles whose samples carry their times as a label.
//!
//! A sample with the time of its end (and nanoseconds as its value) lasted as long as its value says; others are of
//! one moment. Where samples tell a state (a trace: runs, waits …), each state is told apart. Not here: drawing.

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::{data::DataError, frames::title, prepared::Prepared, query::Query, threads::text_of};
use crate::profile::columns::{Columns, Label, TextId};

/// Labels that hold the time of a sample's end, as profilers write them,
const ENDS: [&str; 1] = ["end_timestamp_ns"];
/// and of a moment.
const MOMENTS: [&str; 3] = ["timestamp_ns", "timestamp", "time_ns"];
/// Steps of time that are sent.
const STEPS: usize = 400;
/// Most rows that are sent: those with most.
const MOST_ROWS: usize = 64;
/// Most states that are told apart, and what all others are together.
const MOST_STATES: usize = 5;
const OTHERS: &str = "others";

/// The state that makes no thread worth to be seen first.
const IDLE: &str = "waits";

/// A sample in time: nanoseconds since the profile's first one, from and until; and its value.
struct Timed {
    sample: usize,
    from: i64,
    until: i64,
    value: i64,
}

/// From when to when a profile's samples are, all of them, in nanoseconds of its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    first: i64,
    last: i64,
}

/// What one thread has in each step.
struct Row {
    value: i64,
    /// By state, then by step.
    values: Vec<Vec<i64>>,
    /// By step: the largest part of one sample, and which sample that is.
    most: Vec<(i64, usize)>,
}

/// The part of time that is asked for, in nanoseconds since the first sample.
struct Window {
    from: i64,
    until: i64,
}

/// Makes the answer; without rows, and with a reason, where samples have no times.
pub fn answer(prepared: &Prepared, query: &Query) -> Result<Value, DataError> {
    let columns = &prepared.columns;
    let Some(extent) = prepared.extent else { return Ok(json!({ "rows": [], "why": why(columns) })) };
    let length = extent.last.saturating_sub(extent.first);
    let window = Window::asked(query, length)?;
    let times = Times::of(columns, prepared.value);
    let timed = (0..columns.sample_count()).filter_map(|sample| times.timed(columns, sample, extent.first));
    let timed: Vec<Timed> = timed.filter(|one| one.from < window.until && one.until >= window.from).collect();
    let keys = ["thread", "tid", "state"].map(|name| columns.texts.find(name));
    let (shown, thread_count) = shown(columns, &timed, &window, keys);
    let mut states: Vec<&str> = Vec::new();
    let mut rows: Vec<Row> = shown.iter().map(|_| Row::new()).collect();
    for one in &timed {
        let labels = columns.labels(one.sample);
        let Some(row) = shown.iter().position(|thread| *thread == thread_of(labels, keys)) else { continue };
        let state = text_of(columns, labels, keys[2]).unwrap_or_default();
        rows[row].add(one, state_number(&mut states, state), &window);
    }
    let kind = columns.header.kinds.get(prepared.value).copied().unwrap_or_default();
    let mut names = Names::default();
    let named = shown.iter().map(|thread| name_of(columns, *thread)).zip(&rows);
    let rows: Vec<Value> = named.map(|(name, row)| row.json(&name, prepared, &mut names)).collect();
    Ok(json!({
        "rows": rows,
        "row_count": thread_count,
        "states": states,
        "names": names.list,
        "length_ns": length,
        "from_ns": window.from,
        "until_ns": window.until,
        "columns": STEPS,
        "unit": columns.text(kind.unit),
    }))
}

/// A thread: its name's text, and its number.
type Thread = (Option<TextId>, Option<i64>);

fn thread_of(labels: &[Label], [thread, tid, _]: [Option<TextId>; 3]) -> Thread {
    let find = |key: Option<TextId>| labels.iter().find(|label| Some(label.key) == key);
    let number = find(tid).and_then(Label::as_number).map(|(number, _)| number);
    (find(thread).and_then(Label::as_text), number)
}

/// The threads that have most besides waiting, [`MOST_ROWS`] of them; and how many there are.
fn shown(
    columns: &Columns,
    timed: &[Timed],
    window: &Window,
    keys: [Option<TextId>; 3],
) -> (Vec<Thread>, usize) {
    let mut sums: HashMap<Thread, (i64, i64)> = HashMap::default();
    for one in timed {
        let labels = columns.labels(one.sample);
        let part = one.part(window.from, window.until);
        let sum = sums.entry(thread_of(labels, keys)).or_default();
        sum.1 = sum.1.saturating_add(part);
        if text_of(columns, labels, keys[2]) != Some(IDLE) {
            sum.0 = sum.0.saturating_add(part);
        }
    }
    let count = sums.len();
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_unstable_by_key(|(thread, sums)| (std::cmp::Reverse(*sums), *thread));
    (sums.into_iter().take(MOST_ROWS).map(|(thread, _)| thread).collect(), count)
}

/// The number of a state; of those that are too many, that of the rest.
fn state_number<'a>(states: &mut Vec<&'a str>, state: &'a str) -> usize {
    if let Some(at) = states.iter().position(|known| *known == state) {
        return at;
    }
    match states.len() {
        0..MOST_STATES => states.push(state),
        MOST_STATES => states.push(OTHERS),
        _ => {}
    }
    states.len() - 1
}

/// Where a profile's samples have their times.
struct Times {
    ends: Vec<TextId>,
    moments: Vec<TextId>,
    value: usize,
    /// Whether values are nanoseconds.
    is_time: bool,
}

impl Times {
    fn of(columns: &Columns, value: usize) -> Times {
        let find = |names: &[&str]| names.iter().filter_map(|name| columns.texts.find(name)).collect();
        let kind = columns.header.kinds.get(value).copied().unwrap_or_default();
        let is_time = columns.text(kind.unit) == "nanoseconds";
        Times { ends: find(&ENDS), moments: find(&MOMENTS), value, is_time }
    }

    /// A sample that has a time, which is counted from `first`.
    fn timed(&self, columns: &Columns, sample: usize, first: i64) -> Option<Timed> {
        let labels = columns.labels(sample);
        let value = columns.values(sample).get(self.value).copied().unwrap_or(0);
        let end = time_of(labels, &self.ends);
        let until = end.or_else(|| time_of(labels, &self.moments))?;
        let took = if self.is_time && end.is_some() { value.max(0) } else { 0 };
        let from = until.saturating_sub(took);
        Some(Timed { sample, from: from.saturating_sub(first), until: until.saturating_sub(first), value })
    }
}

/// Over which time a profile's samples are; `None`: they do not say.
pub fn extent(columns: &Columns, value: usize) -> Option<Extent> {
    let times = Times::of(columns, value);
    if times.ends.is_empty() && times.moments.is_empty() {
        return None;
    }
    let mut found: Option<Extent> = None;
    for one in (0..columns.sample_count()).filter_map(|sample| times.timed(columns, sample, 0)) {
        let known = found.unwrap_or(Extent { first: one.from, last: one.until });
        found = Some(Extent { first: known.first.min(one.from), last: known.last.max(one.until) });
    }
    found
}

impl Timed {
    /// What of its value belongs between two times: what lasted has its length as its value.
    fn part(&self, from: i64, until: i64) -> i64 {
        match self.until - self.from {
            0 => self.value,
            _ => self.until.min(until).saturating_sub(self.from.max(from)).max(0),
        }
    }
}

impl Window {
    fn asked(query: &Query, length: i64) -> Result<Window, DataError> {
        let number = |name: &str, otherwise: i64| match query.get(name) {
            "" => Ok(otherwise),
            text => text
                .parse::<i64>()
                .map_err(|_| DataError::bad_request(&format!("{name}={text}: not a number of nanoseconds"))),
        };
        let whole = length.saturating_add(1);
        // At least a nanosecond, also of the longest time there can be.
        let from = number("from", 0)?.clamp(0, whole - 1);
        let until = number("until", whole)?.clamp(from + 1, whole);
        Ok(Window { from, until })
    }

    fn step_of(&self, time: i64) -> usize {
        let part = i128::from(time.saturating_sub(self.from).max(0)) * STEPS as i128;
        ((part / i128::from(self.until - self.from)) as usize).min(STEPS - 1)
    }

    /// When a step begins.
    fn begin_of(&self, step: usize) -> i64 {
        let part = i128::from(self.until - self.from) * step as i128;
        self.from.saturating_add(((part + STEPS as i128 - 1) / STEPS as i128) as i64)
    }
}

impl Row {
    fn new() -> Row {
        Row { value: 0, values: Vec::new(), most: vec![(0, usize::MAX); STEPS] }
    }

    /// Adds a sample's value where it belongs: to one step, or spread over those that it lasted in.
    fn add(&mut self, one: &Timed, state: usize, window: &Window) {
        while self.values.len() <= state {
            self.values.push(vec![0; STEPS]);
        }
        let (first, last) = (window.step_of(one.from.max(window.from)), window.step_of(one.until));
        for step in first..=last {
            let until = if step == STEPS - 1 { window.until } else { window.begin_of(step + 1) };
            let part = one.part(window.begin_of(step), until);
            self.value = self.value.saturating_add(part);
            self.values[state][step] = self.values[state][step].saturating_add(part);
            if part > self.most[step].0 {
                self.most[step] = (part, one.sample);
            }
        }
    }

    fn json(&self, name: &str, prepared: &Prepared, names: &mut Names) -> Value {
        let most: Vec<i64> = (self.most.iter())
            .map(|(_, sample)| match *sample {
                usize::MAX => -1,
                sample => names.of(leaf(prepared, sample)),
            })
            .collect();
        json!({ "name": name, "value": self.value, "values": self.values, "most": most })
    }
}

/// Names, each sent once.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    known: HashMap<String, i64>,
}

impl Names {
    fn of(&mut self, name: String) -> i64 {
        let next = self.list.len() as i64;
        *self.known.entry(name).or_insert_with_key(|name| {
            self.list.push(name.clone());
            next
        })
    }
}

/// The function that a sample is in.
fn leaf(prepared: &Prepared, sample: usize) -> String {
    let mut stack = prepared.columns.stack(sample).iter();
    let frame = stack.find_map(|location| prepared.frames.of(*location).last());
    frame.map_or_else(String::new, |used| {
        title(&prepared.columns, &prepared.frames.all[used.frame() as usize])
    })
}

fn time_of(labels: &[Label], keys: &[TextId]) -> Option<i64> {
    labels.iter().find(|label| keys.contains(&label.key)).and_then(Label::as_number).map(|(time, _)| time)
}

/// A thread's name and number, as far as they are known.
fn name_of(columns: &Columns, (name, tid): Thread) -> String {
    let name = name.map(|name| columns.text(name));
    match (name, tid) {
        (None, None) => "all".into(),
        (Some(name), None) => name.into(),
        (name, Some(tid)) => format!("{} ({tid})", name.unwrap_or_default()),
    }
}

/// Why there is no timeline.
fn why(columns: &Columns) -> String {
    let samples = columns.sample_count();
    format!(
        "The {samples} samples of this profile do not say when they were taken: equal stacks are counted together. \
         A timeline is drawn of profiles whose samples have a label timestamp_ns or end_timestamp_ns, as those of \
         rprof attach --kind trace -o FILE.pb.gz have."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(from: i64, until: i64, value: i64) -> Timed {
        Timed { sample: 0, from, until, value }
    }

    #[test]
    fn what_lasts_is_spread_over_its_time_and_a_moment_is_not() {
        let window = Window { from: 0, until: 4000 };
        let mut row = Row::new();
        row.add(&timed(5, 25, 20), 0, &window);
        assert_eq!(row.values[0][..4], [5, 10, 5, 0]);
        row.add(&timed(35, 35, 7), 1, &window);
        assert_eq!((row.values[1][3], row.value), (7, 27));
        assert_eq!((row.most[0], row.most[3]), ((5, 0), (7, 0)));
    }

    #[test]
    fn only_the_time_asked_for_counts() {
        let window = Window { from: 1000, until: 1400 };
        let mut row = Row::new();
        row.add(&timed(0, 5000, 5000), 0, &window);
        assert_eq!(row.value, 400);
        assert!(row.values[0].iter().all(|value| *value == 1), "{:?}", row.values);
    }

    #[test]
    fn a_window_lies_within_what_there_is() {
        let asked =
            |text: &str| Window::asked(&Query::parse(text), 1000).map(|window| (window.from, window.until));
        assert_eq!(asked("").unwrap(), (0, 1001));
        assert_eq!(asked("from=10&until=20").unwrap(), (10, 20));
        assert_eq!(asked("from=-5&until=9999999").unwrap(), (0, 1001));
        assert_eq!(asked("from=20&until=10").unwrap(), (20, 21));
        assert_eq!(asked("from=5000").unwrap(), (1000, 1001));
        let mut states = Vec::new();
        let numbers: Vec<usize> =
            ["a", "b", "c", "d", "e", "f", "g", "b"].map(|state| state_number(&mut states, state)).into();
        assert_eq!((numbers, states[5]), (vec![0, 1, 2, 3, 4, 5, 5, 1], OTHERS));
        assert!(asked("from=x").is_err());
        for query in ["", "from=9223372036854775807", "until=1"] {
            let longest = Window::asked(&Query::parse(query), i64::MAX).unwrap();
            assert_eq!(longest.step_of(i64::MAX), STEPS - 1, "{query}");
        }
    }
}
