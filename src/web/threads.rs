//! Threads and goroutines: grouped by stack, with their names, states and waits. For a profile that
//! is not a dump but names threads, the value of each thread.
//!
//! Not here: capturing dumps.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::{frames::title, prepared::Prepared};
use crate::profile::columns::{Columns, Label, TextId};

/// The largest number of groups in a response: those with the largest values.
const MAX_GROUPS: usize = 500;
/// The largest number of names of a group.
const MAX_NAMES: usize = 50;
/// The sample types of dumps.
const DUMPS: [&str; 5] = ["threads", "thread", "goroutine", "goroutines", "goroutineleak"];

/// The text IDs of the labels that are read here.
struct Keys {
    thread: Option<TextId>,
    state: Option<TextId>,
    wait: Option<TextId>,
    waited: Option<TextId>,
}

#[derive(Default)]
struct Group {
    value: i64,
    names: BTreeSet<String>,
    states: BTreeSet<String>,
    waited_ns: i64,
}

/// Responds with the groups; with none if the profile has no thread labels.
pub fn respond(prepared: &Prepared) -> Value {
    let columns = &prepared.columns;
    let key = |name: &str| columns.texts.find(name);
    let keys = Keys { thread: key("thread"), state: key("state"), wait: key("wait"), waited: key("waited") };
    let kind = columns.header.kinds.get(prepared.value).copied().unwrap_or_default();
    let is_dump = keys.state.is_some() || DUMPS.contains(&columns.text(kind.name));
    let mut groups: HashMap<(Vec<u32>, String), Group> = HashMap::default();
    for sample in 0..columns.sample_count() {
        let value = columns.values(sample).get(prepared.value).copied().unwrap_or(0);
        let labels = columns.labels(sample);
        let name = text_of(columns, labels, keys.thread).unwrap_or_default().to_owned();
        if value == 0 || (!is_dump && name.is_empty()) {
            continue;
        }
        let key =
            if is_dump { (frames_of(prepared, sample), String::new()) } else { (Vec::new(), name.clone()) };
        let group = groups.entry(key).or_default();
        group.value = group.value.saturating_add(value);
        group.add(columns, labels, &keys, name);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(a, one), (b, other)| other.value.cmp(&one.value).then_with(|| a.cmp(b)));
    let states = states(&groups);
    groups.truncate(MAX_GROUPS);
    let groups: Vec<Value> = groups.iter().map(|((frames, _), group)| group.json(prepared, frames)).collect();
    json!({ "groups": groups, "states": states, "total": prepared.total, "unit": columns.text(kind.unit) })
}

impl Group {
    fn add(&mut self, columns: &Columns, labels: &[Label], keys: &Keys, name: String) {
        let state = text_of(columns, labels, keys.state);
        let wait = text_of(columns, labels, keys.wait);
        let words: Vec<&str> = state.into_iter().chain(wait).collect();
        if !words.is_empty() {
            self.states.insert(words.join(": "));
        }
        if !name.is_empty() && self.names.len() < MAX_NAMES {
            self.names.insert(name);
        }
        let waited = labels.iter().find(|label| Some(label.key) == keys.waited);
        let waited = waited.and_then(Label::as_number).map_or(0, |(number, _)| number);
        self.waited_ns = self.waited_ns.max(waited);
    }

    fn json(&self, prepared: &Prepared, frames: &[u32]) -> Value {
        let title = |frame: &u32| title(&prepared.columns, &prepared.frames.all[*frame as usize]);
        json!({
            "value": self.value,
            "names": self.names,
            "states": self.states,
            "waited_ns": self.waited_ns,
            "frames": frames.iter().map(title).collect::<Vec<_>>(),
        })
    }
}

/// The sum of each state, the largest first.
fn states(groups: &[((Vec<u32>, String), Group)]) -> Value {
    let mut sums: HashMap<String, i64> = HashMap::default();
    for (_, group) in groups.iter().filter(|(_, group)| !group.states.is_empty()) {
        let name: Vec<&str> = group.states.iter().map(String::as_str).collect();
        let sum = sums.entry(name.join(", ")).or_default();
        *sum = sum.saturating_add(group.value);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by(|(a, one), (b, other)| other.cmp(one).then_with(|| a.cmp(b)));
    sums.truncate(12);
    sums.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// The frames of a sample, leaf first.
fn frames_of(prepared: &Prepared, sample: usize) -> Vec<u32> {
    let stack = prepared.columns.stack(sample).iter();
    stack.flat_map(|location| prepared.frames.of(*location).iter().rev().map(|used| used.frame())).collect()
}

/// The text of a sample's label.
pub fn text_of<'a>(columns: &'a Columns, labels: &[Label], key: Option<TextId>) -> Option<&'a str> {
    let label = labels.iter().find(|label| Some(label.key) == key)?;
    label.as_text().map(|text| columns.text(text))
}
