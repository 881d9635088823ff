//! The labels of the samples of a node, with their weights: the small boxes beside a node in a
//! drawing.
//!
//! Not here: how they are drawn.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{Measure, Weight, Weights, nodes::Places};
use crate::profile::{
    columns::{Columns, TextId, labels::BASE_KEY, labels::Units},
    unit,
};

/// A label with its weights.
#[derive(Clone, Debug, Default)]
pub struct Tag {
    /// The text to show.
    pub name: String,
    /// The unit of a numeric label.
    pub unit: String,
    /// The value of a numeric label.
    pub value: i64,
    /// The weights of its samples.
    pub weights: Weights,
}

/// Labels by name.
pub type Tags = BTreeMap<String, Tag>;

/// The labels of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeTags {
    /// Text labels: all labels of a sample are one entry.
    pub texts: Tags,
    /// Numeric labels, by the text labels of their samples.
    pub numbers: BTreeMap<String, Tags>,
}

impl NodeTags {
    /// Removes labels with a weight below `cutoff`.
    pub fn drop_light(&mut self, cutoff: i64) {
        let is_heavy = |_: &String, tag: &mut Tag| {
            let heavy = |weight: Weight| weight.sum.wrapping_abs() >= cutoff;
            heavy(tag.weights.flat) || heavy(tag.weights.cum)
        };
        self.texts.retain(is_heavy);
        self.numbers.values_mut().for_each(|numbers| numbers.retain(is_heavy));
    }

    /// The number of labels with a flat weight.
    pub fn count(&self) -> usize {
        let all = self.texts.values().chain(self.numbers.values().flat_map(Tags::values));
        all.filter(|tag| tag.weights.flat.sum != 0).count()
    }

    fn add(&mut self, labels: &SampleTags, weight: Weight, is_flat: bool) {
        let add = |tag: &mut Tag| {
            let weights = &mut tag.weights;
            if is_flat { weights.flat.add(weight) } else { weights.cum.add(weight) }
        };
        if !labels.texts.is_empty() {
            let name = || Tag { name: labels.texts.clone(), ..Tag::default() };
            add(self.texts.entry(labels.texts.clone()).or_insert_with(name));
        }
        if labels.numbers.is_empty() {
            return;
        }
        let numbers = self.numbers.entry(labels.texts.clone()).or_default();
        for (name, value) in &labels.numbers {
            let tag = || Tag {
                name: name.clone(),
                unit: labels.unit.clone(),
                value: *value,
                weights: Weights::default(),
            };
            add(numbers.entry(name.clone()).or_insert_with(tag));
        }
    }
}

/// The labels of a sample as shown in drawings.
#[derive(Clone, Debug, Default)]
struct SampleTags {
    texts: String,
    numbers: Vec<(String, i64)>,
    unit: String,
}

/// Formats labels: only numeric labels named `bytes` are drawn.
struct Namer<'a> {
    columns: &'a Columns,
    base: Option<TextId>,
    bytes: Option<TextId>,
    units: &'a Units,
    output_unit: &'a str,
}

impl Namer<'_> {
    fn name(&self, sample: usize) -> Option<SampleTags> {
        let labels = self.columns.labels(sample);
        if labels.is_empty() {
            return None;
        }
        let text = |id| self.columns.text(id);
        let mut texts: Vec<String> = labels
            .iter()
            .filter(|label| Some(label.key) != self.base)
            .filter_map(|label| Some(format!("{}:{}", text(label.key), text(label.as_text()?))))
            .collect();
        texts.sort();
        let unit = self.bytes.map_or("", |bytes| self.units.of(bytes));
        let numbers = labels.iter().filter(|label| Some(label.key) == self.bytes);
        let numbers = numbers.filter_map(|label| {
            let (number, _) = label.as_number()?;
            Some((unit::scaled_label(number, unit, self.output_unit), number))
        });
        Some(SampleTags { texts: texts.join("\\n"), numbers: numbers.collect(), unit: unit.into() })
    }
}

/// A pass over the frames of all samples.
pub struct Walk<'a> {
    /// The profile.
    pub columns: &'a Columns,
    /// How samples are weighed.
    pub measure: Measure,
    /// The units of numeric labels.
    pub units: &'a Units,
    /// The unit to show them in.
    pub output_unit: &'a str,
}

impl Walk<'_> {
    /// The labels of the nodes that `path` returns for each sample, root first: the graph's row of
    /// each frame, if it has one. `once`: a node counts once per sample.
    pub fn collect(
        &self,
        node_count: usize,
        once: bool,
        mut path: impl FnMut(usize, &mut Vec<Option<u32>>),
    ) -> Vec<NodeTags> {
        let mut tags = vec![NodeTags::default(); node_count];
        if !self.columns.has_labels() {
            return tags;
        }
        let namer = Namer {
            columns: self.columns,
            base: self.columns.texts.find(BASE_KEY),
            bytes: self.columns.texts.find("bytes"),
            units: self.units,
            output_unit: self.output_unit,
        };
        let mut seen: FxHashMap<u32, usize> = FxHashMap::default();
        let mut nodes = Vec::new();
        for sample in 0..self.columns.sample_count() {
            let Some(weight) = self.measure.weight(self.columns.values(sample)) else { continue };
            let Some(labels) = namer.name(sample) else { continue };
            nodes.clear();
            path(sample, &mut nodes);
            for node in nodes.iter().flatten() {
                if !once || seen.insert(*node, sample) != Some(sample) {
                    tags[*node as usize].add(&labels, weight, false);
                }
            }
            if let Some(Some(leaf)) = nodes.last() {
                tags[*leaf as usize].add(&labels, weight, true);
            }
        }
        tags
    }
}

/// The path of a stack in a graph that is not a tree.
pub fn graph_path(places: &Places, rows: &[u32], stack: &[u32], path: &mut Vec<Option<u32>>) {
    for location in stack.iter().rev() {
        for node in places.of(*location).iter().rev() {
            let row = rows[*node as usize];
            path.push((row != u32::MAX).then_some(row));
        }
    }
}

/// Sorts labels: the heaviest first, by flat or cumulative weight, then by name.
pub fn sort(tags: &mut [Tag], flat: bool) {
    tags.sort_by(|a, b| {
        let magnitude = |weight: Weight| weight.sum.wrapping_abs();
        let cum = magnitude(b.weights.cum).cmp(&magnitude(a.weights.cum));
        let own = magnitude(b.weights.flat).cmp(&magnitude(a.weights.flat));
        let by_weight = if flat { own } else { cum.then(own) };
        by_weight.then_with(|| a.name.cmp(&b.name))
    });
}
