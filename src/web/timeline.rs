//! What was measured when, a row a thread: of profiles whose samples carry their times as a label.
//!
//! A sample with the time of its end (and nanoseconds as its value) lasted as long as its value says; others are of
//! one moment. Where samples tell a state (a trace: runs, waits …), each state is told apart. Not here: drawing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{data::Unanswered, frames::title, prepared::Prepared, query::Query};
use crate::profile::columns::{Columns, Label, TextId};

/// Labels that hold the time of a sample's end, as profilers write them,
const ENDS: [&str; 1] = ["end_timestamp_ns"];
/// and of a moment.
const MOMENTS: [&str; 3] = ["timestamp_ns", "timestamp", "time_ns"];
/// Steps of time that are sent.
const STEPS: usize = 400;
/// Most rows that are sent: those with most.
const MOST_ROWS: usize = 64;
/// Most states that are told apart; samples of others count for the last.
const MOST_STATES: usize = 6;

/// The state that makes no thread worth to be seen first.
const IDLE: &str = "waits";

/// A sample in time: nanoseconds since the first one, from and until; and its value.
struct Timed {
    sample: usize,
    from: i64,
    until: i64,
    value: i64,
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
pub fn answer(prepared: &Prepared, query: &Query) -> Result<Value, Unanswered> {
    let columns = &prepared.columns;
    let timed = timed(prepared);
    let Some(length) = timed.iter().map(|timed| timed.until).max() else {
        return Ok(json!({ "rows": [], "why": why(columns) }));
    };
    let window = Window::asked(query, length)?;
    let keys = ["thread", "tid", "state"].map(|name| columns.texts.find(name));
    let [thread, tid, state] = keys;
    let mut states: Vec<String> = Vec::new();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for one in timed.iter().filter(|one| one.from < window.until && one.until >= window.from) {
        let labels = columns.labels(one.sample);
        let state = text_of(columns, labels, state).unwrap_or_default();
        let at = states.iter().position(|known| *known == state).unwrap_or_else(|| {
            if states.len() < MOST_STATES {
                states.push(state.to_owned());
            }
            states.len() - 1
        });
        let row = rows.entry(name_of(columns, labels, thread, tid)).or_insert_with(Row::new);
        row.add(one, at, &window);
    }
    let mut rows: Vec<(String, Row)> = rows.into_iter().collect();
    let idle = states.iter().position(|state| state == IDLE);
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.value.saturating_sub(row.of_state(idle))));
    let row_count = rows.len();
    rows.truncate(MOST_ROWS);
    let kind = columns.header.kinds.get(prepared.value).copied().unwrap_or_default();
    let mut names = Names::default();
    let rows: Vec<Value> = rows.iter().map(|(name, row)| row.json(name, prepared, &mut names)).collect();
    Ok(json!({
        "rows": rows,
        "row_count": row_count,
        "states": states,
        "names": names.list,
        "length_ns": length,
        "from_ns": window.from,
        "until_ns": window.until,
        "columns": STEPS,
        "unit": columns.text(kind.unit),
    }))
}

/// The samples that have a time.
fn timed(prepared: &Prepared) -> Vec<Timed> {
    let columns = &prepared.columns;
    let find = |names: &[&str]| -> Vec<TextId> {
        names.iter().filter_map(|name| columns.texts.find(name)).collect()
    };
    let (ends, moments) = (find(&ENDS), find(&MOMENTS));
    let kind = columns.header.kinds.get(prepared.value).copied().unwrap_or_default();
    let is_time = columns.text(kind.unit) == "nanoseconds";
    let mut all: Vec<Timed> = (0..columns.sample_count())
        .filter_map(|sample| {
            let labels = columns.labels(sample);
            let value = columns.values(sample).get(prepared.value).copied().unwrap_or(0);
            let end = time_of(labels, &ends);
            let until = end.or_else(|| time_of(labels, &moments))?;
            let took = if is_time && end.is_some() { value.max(0) } else { 0 };
            Some(Timed { sample, from: until.saturating_sub(took), until, value })
        })
        .collect();
    let first = all.iter().map(|one| one.from).min().unwrap_or_default();
    for one in &mut all {
        one.from = one.from.saturating_sub(first);
        one.until = one.until.saturating_sub(first);
    }
    all
}

impl Window {
    fn asked(query: &Query, length: i64) -> Result<Window, Unanswered> {
        let number = |name: &str, otherwise: i64| match query.get(name) {
            "" => Ok(otherwise),
            text => text.parse::<i64>().map_err(|_| {
                Unanswered::asked_wrongly(&format!("{name}={text}: not a number of nanoseconds"))
            }),
        };
        let whole = length.saturating_add(1);
        let from = number("from", 0)?.clamp(0, length);
        let until = number("until", whole)?.clamp(from.saturating_add(1), whole.max(from.saturating_add(1)));
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
            let part = match one.until - one.from {
                0 => one.value,
                // What lasted has its length as its value.
                _ => {
                    let until = if step == STEPS - 1 { window.until } else { window.begin_of(step + 1) };
                    one.until.min(until).saturating_sub(one.from.max(window.begin_of(step))).max(0)
                }
            };
            self.value = self.value.saturating_add(part);
            self.values[state][step] = self.values[state][step].saturating_add(part);
            if part > self.most[step].0 {
                self.most[step] = (part, one.sample);
            }
        }
    }

    /// What it has in one state.
    fn of_state(&self, state: Option<usize>) -> i64 {
        let values = state.and_then(|state| self.values.get(state));
        values.map_or(0, |values| values.iter().fold(0, |sum: i64, value| sum.saturating_add(*value)))
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
    known: hashbrown::HashMap<String, i64>,
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

fn text_of<'a>(columns: &'a Columns, labels: &[Label], key: Option<TextId>) -> Option<&'a str> {
    let label = labels.iter().find(|label| Some(label.key) == key)?;
    label.as_text().map(|text| columns.text(text))
}

/// A thread's name and number, as far as they are known.
fn name_of(columns: &Columns, labels: &[Label], thread: Option<TextId>, tid: Option<TextId>) -> String {
    let name = text_of(columns, labels, thread);
    let tid = labels.iter().find(|label| Some(label.key) == tid).and_then(Label::as_number);
    match (name, tid) {
        (None, None) => "all".into(),
        (Some(name), None) => name.into(),
        (name, Some((tid, _))) => format!("{} ({tid})", name.unwrap_or_default()),
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
        assert!(asked("from=x").is_err());
        let longest = Window::asked(&Query::parse(""), i64::MAX).unwrap();
        assert_eq!(longest.step_of(i64::MAX), STEPS - 1);
    }
}
