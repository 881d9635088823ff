//! The timeline: one row per thread, for profiles whose samples have their time as a label.
//!
//! A sample with an end time and a value in nanoseconds lasted as long as its value; other samples
//! are points in time. If samples have a state (a trace: `runs`, `waits` …), each state is summed
//! separately. Not here: drawing.

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::{
    DataError,
    frames::title,
    prepared::Prepared,
    query::Query,
    threads::text_of,
    times::{Timed, Times},
};
use crate::{
    profile::columns::{Columns, Label, TextId},
    report::paths::sample_count,
};

/// The number of time steps in a response.
const STEPS: usize = 400;
/// The largest number of rows in a response: the threads with the largest values.
const MAX_ROWS: usize = 64;
/// The largest number of states that are distinguished; the rest are summed as [`OTHERS`].
const MAX_STATES: usize = 5;
const OTHERS: &str = "others";

/// The state that does not count when threads are ranked.
const IDLE: &str = "waits";

/// The values of one thread in each step.
struct Row {
    value: i64,
    /// By state, then by step.
    values: Vec<Vec<i64>>,
    /// By step: the largest contribution of one sample, and the index of that sample.
    largest: Vec<(i64, usize)>,
}

/// The requested time range, in nanoseconds since the first sample.
struct Window {
    from: i64,
    until: i64,
}

/// Responds with the rows; with a reason and no rows if samples have no times.
///
/// # Errors
/// [`DataError`] when the requested range is not numeric.
pub fn respond(prepared: &Prepared, query: &Query) -> Result<Value, DataError> {
    let columns = &prepared.columns;
    let Some(extent) = prepared.extent else { return Ok(json!({ "rows": [], "why": reason(columns) })) };
    let length = extent.last.saturating_sub(extent.first);
    let window = Window::requested(query, length)?;
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

/// A thread: the text of its name, and its TID.
type Thread = (Option<TextId>, Option<i64>);

fn thread_of(labels: &[Label], [thread, tid, _]: [Option<TextId>; 3]) -> Thread {
    let find = |key: Option<TextId>| labels.iter().find(|label| Some(label.key) == key);
    let number = find(tid).and_then(Label::as_number).map(|(number, _)| number);
    (find(thread).and_then(Label::as_text), number)
}

/// The [`MAX_ROWS`] threads with the largest values outside [`IDLE`], and the number of all
/// threads.
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
    (sums.into_iter().take(MAX_ROWS).map(|(thread, _)| thread).collect(), count)
}

/// The index of a state; states above the limit share the index of [`OTHERS`].
fn state_number<'a>(states: &mut Vec<&'a str>, state: &'a str) -> usize {
    if let Some(at) = states.iter().position(|known| *known == state) {
        return at;
    }
    match states.len() {
        0..MAX_STATES => states.push(state),
        MAX_STATES => states.push(OTHERS),
        _ => {}
    }
    states.len() - 1
}

impl Window {
    fn requested(query: &Query, length: i64) -> Result<Window, DataError> {
        let number = |name: &str, otherwise: i64| match query.get(name) {
            "" => Ok(otherwise),
            text => text
                .parse::<i64>()
                .map_err(|_| DataError::bad_request(&format!("{name}={text}: not a number of nanoseconds"))),
        };
        let whole = length.saturating_add(1);
        // At least one nanosecond, even at the largest time.
        let from = number("from", 0)?.clamp(0, whole - 1);
        let until = number("until", whole)?.clamp(from + 1, whole);
        Ok(Window { from, until })
    }

    fn step_of(&self, time: i64) -> usize {
        let part = i128::from(time.saturating_sub(self.from).max(0)) * STEPS as i128;
        ((part / i128::from(self.until - self.from)) as usize).min(STEPS - 1)
    }

    /// The start of a step.
    fn begin_of(&self, step: usize) -> i64 {
        let part = i128::from(self.until - self.from) * step as i128;
        self.from.saturating_add(((part + STEPS as i128 - 1) / STEPS as i128) as i64)
    }
}

impl Row {
    fn new() -> Row {
        Row { value: 0, values: Vec::new(), largest: vec![(0, usize::MAX); STEPS] }
    }

    /// Adds a sample's value to its step, or spreads it over the steps that it covers.
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
            if part > self.largest[step].0 {
                self.largest[step] = (part, one.sample);
            }
        }
    }

    fn json(&self, name: &str, prepared: &Prepared, names: &mut Names) -> Value {
        let names_by_step: Vec<i64> = (self.largest.iter())
            .map(|(_, sample)| match *sample {
                usize::MAX => -1,
                sample => names.of(leaf(prepared, sample)),
            })
            .collect();
        json!({ "name": name, "value": self.value, "values": self.values, "most": names_by_step })
    }
}

/// A table of names, so that each is sent once.
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

/// The leaf function of a sample.
fn leaf(prepared: &Prepared, sample: usize) -> String {
    let mut stack = prepared.columns.stack(sample).iter();
    let frame = stack.find_map(|location| prepared.frames.of(*location).last());
    frame.map_or_else(String::new, |used| {
        title(&prepared.columns, &prepared.frames.all[used.frame() as usize])
    })
}

/// A thread's name and TID, as far as they are known.
fn name_of(columns: &Columns, (name, tid): Thread) -> String {
    let name = name.map(|name| columns.text(name));
    match (name, tid) {
        (None, None) => "all".into(),
        (Some(name), None) => name.into(),
        (name, Some(tid)) => format!("{} ({tid})", name.unwrap_or_default()),
    }
}

/// The reason why there is no timeline.
fn reason(columns: &Columns) -> String {
    let samples = sample_count(columns);
    format!(
        "The {samples} samples of this profile have no times: samples with equal stacks were added up. \
         A timeline needs samples with a label timestamp_ns or end_timestamp_ns, for example from \
         rprof attach --kind trace -o FILE.pb.gz."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(from: i64, until: i64, value: i64) -> Timed {
        Timed { sample: 0, from, until, value }
    }

    #[test]
    fn a_duration_is_spread_over_its_steps_and_a_point_is_not() {
        let window = Window { from: 0, until: 4000 };
        let mut row = Row::new();
        row.add(&timed(5, 25, 20), 0, &window);
        assert_eq!(row.values[0][..4], [5, 10, 5, 0]);
        row.add(&timed(35, 35, 7), 1, &window);
        assert_eq!((row.values[1][3], row.value), (7, 27));
        assert_eq!((row.largest[0], row.largest[3]), ((5, 0), (7, 0)));
    }

    #[test]
    fn only_the_requested_range_counts() {
        let window = Window { from: 1000, until: 1400 };
        let mut row = Row::new();
        row.add(&timed(0, 5000, 5000), 0, &window);
        assert_eq!(row.value, 400);
        assert!(row.values[0].iter().all(|value| *value == 1), "{:?}", row.values);
    }

    #[test]
    fn a_window_is_clamped_to_the_extent_of_the_samples() {
        let window = |text: &str| {
            Window::requested(&Query::parse(text), 1000).map(|window| (window.from, window.until))
        };
        assert_eq!(window("").unwrap(), (0, 1001));
        assert_eq!(window("from=10&until=20").unwrap(), (10, 20));
        assert_eq!(window("from=-5&until=9999999").unwrap(), (0, 1001));
        assert_eq!(window("from=20&until=10").unwrap(), (20, 21));
        assert_eq!(window("from=5000").unwrap(), (1000, 1001));
        let mut states = Vec::new();
        let numbers: Vec<usize> =
            ["a", "b", "c", "d", "e", "f", "g", "b"].map(|state| state_number(&mut states, state)).into();
        assert_eq!((numbers, states[5]), (vec![0, 1, 2, 3, 4, 5, 5, 1], OTHERS));
        assert!(window("from=x").is_err());
        for query in ["", "from=9223372036854775807", "until=1"] {
            let longest = Window::requested(&Query::parse(query), i64::MAX).unwrap();
            assert_eq!(longest.step_of(i64::MAX), STEPS - 1, "{query}");
        }
    }
}
