//! The weighted call graph: nodes are functions, lines or addresses, by the granularity of the
//! report; edges are calls between them.
//!
//! A graph is built in two steps: first the weights of all nodes ([`weigh`]), then the edges
//! between the nodes that the report keeps ([`build`]). Weights do not depend on the kept nodes, so
//! nothing is built twice. Not here: how a graph is printed.

use std::cmp::Ordering;

use crate::profile::columns::{Columns, TextId};

pub mod build;
pub mod nodes;
pub mod order;
pub mod tags;
pub mod tree;
pub mod trim;
pub mod weigh;

/// The identity of a node; fields that the report's granularity ignores are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Info {
    /// The function's name.
    pub name: TextId,
    /// The address.
    pub address: u64,
    /// The source file.
    pub file: TextId,
    /// The first line of the function.
    pub start_line: i64,
    /// The line.
    pub line: i64,
    /// The column.
    pub column: i64,
    /// The file of the mapping.
    pub object: TextId,
}

impl Info {
    /// The part that is the same for all nodes of a function. A node without address and line
    /// represents the whole function, regardless of its column.
    pub fn function(&self) -> Info {
        if self.address == 0 && self.line == 0 {
            return *self;
        }
        Info { address: 0, line: 0, column: 0, ..*self }
    }

    /// The printed text.
    pub fn printable(&self, columns: &Columns) -> String {
        self.components(columns).join(" ")
    }

    /// The parts of the printed text.
    pub fn components(&self, columns: &Columns) -> Vec<String> {
        self.parts(columns.text(self.name), columns.text(self.file), columns.text(self.object))
    }

    /// The parts of the printed text, with the given texts instead of its own.
    pub fn parts(&self, name: &str, file: &str, object: &str) -> Vec<String> {
        let mut parts = Vec::new();
        if self.address != 0 {
            parts.push(format!("{:016x}", self.address));
        }
        if !name.is_empty() {
            parts.push(name.to_string());
        }
        if self.line != 0 {
            let column = if self.column == 0 { String::new() } else { format!(":{}", self.column) };
            parts.push(format!("{file}:{}{column}", self.line));
        } else if !file.is_empty() {
            parts.push(file.to_string());
        } else if !name.is_empty() {
            // Printed already.
        } else if !object.is_empty() {
            parts.push(format!("[{}]", crate::text::path::base_name(object)));
        } else {
            parts.push("<unknown>".into());
        }
        parts
    }

    /// The tie-breaking order: that of the concatenated fields.
    pub fn compare(&self, other: &Info, columns: &Columns) -> Ordering {
        let text = |info: &Info| {
            format!(
                "{{{}  {} {} {} {} {} {}}}",
                columns.text(info.name),
                info.address,
                columns.text(info.file),
                info.start_line,
                info.line,
                info.column,
                columns.text(info.object)
            )
        };
        text(self).cmp(&text(other))
    }
}

/// A sum, and its divisor for a mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// The sum of values.
    pub sum: i64,
    /// The divisor of the mean; 0: there is no mean.
    pub divisor: i64,
}

impl Weight {
    /// Adds another weight.
    pub fn add(&mut self, other: Weight) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.divisor = self.divisor.wrapping_add(other.divisor);
    }

    /// The mean, or the sum if there is no divisor.
    pub fn value(self) -> i64 {
        if self.divisor == 0 { self.sum } else { self.sum.wrapping_div(self.divisor) }
    }

    /// Whether the value is 0.
    pub fn is_zero(self) -> bool {
        self == Weight::default()
    }
}

/// The weights of a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weights {
    /// Without callees.
    pub flat: Weight,
    /// With callees.
    pub cum: Weight,
}

/// A node of a finished graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its identity.
    pub info: Info,
    /// Its weights.
    pub weights: Weights,
    /// Distinguishes functions whose nodes have the same name.
    pub function: u64,
    /// Edges from callers that have not been removed, as rows of [`Graph::edges`].
    pub ins: Vec<u32>,
    /// Edges to callees that have not been removed, as rows of [`Graph::edges`].
    pub outs: Vec<u32>,
    /// The labels of its samples.
    pub labels: tags::NodeTags,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// The row of the caller.
    pub source: u32,
    /// The row of the callee.
    pub target: u32,
    /// The weight.
    pub weight: Weight,
    /// Whether nodes between the two are hidden.
    pub residual: bool,
    /// Whether the callee is always inlined into the caller.
    pub inline: bool,
}

/// A call graph.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All nodes.
    pub nodes: Vec<Node>,
    /// All edges.
    pub edges: Vec<Edge>,
    /// The rows of the shown nodes, in order.
    pub shown: Vec<u32>,
}

impl Graph {
    /// The shown nodes with their rows, in order.
    pub fn shown(&self) -> impl ExactSizeIterator<Item = (u32, &Node)> {
        self.shown.iter().map(|row| (*row, &self.nodes[*row as usize]))
    }

    /// The sum of the shown nodes' flat values.
    pub fn flat_sum_of_values(&self) -> i64 {
        self.shown().fold(0i64, |sum, (_, node)| sum.wrapping_add(node.weights.flat.value()))
    }

    /// Removes an edge.
    fn remove_edge(&mut self, edge: u32) {
        let Edge { source, target, .. } = self.edges[edge as usize];
        self.nodes[source as usize].outs.retain(|other| *other != edge);
        self.nodes[target as usize].ins.retain(|other| *other != edge);
    }

    /// Removes edges to shown nodes with a weight below `cutoff`. Returns their number.
    pub fn drop_light_edges(&mut self, cutoff: i64) -> usize {
        let mut dropped = 0;
        for at in 0..self.shown.len() {
            let node = self.shown[at] as usize;
            let light = |edge: &&u32| self.edges[**edge as usize].weight.sum.wrapping_abs() < cutoff;
            let edges: Vec<u32> = self.nodes[node].ins.iter().filter(light).copied().collect();
            dropped += edges.len();
            edges.into_iter().for_each(|edge| self.remove_edge(edge));
        }
        dropped
    }
}

/// How samples are weighed.
#[derive(Clone, Copy, Debug)]
pub struct Measure {
    /// The index of the value.
    pub value: usize,
    /// Whether to compute means: values divided by the first value.
    pub mean: bool,
}

impl Measure {
    /// The weight of a sample; `None` if it has none.
    #[inline]
    pub fn weight(self, values: &[i64]) -> Option<Weight> {
        let weight = Weight { sum: values[self.value], divisor: if self.mean { values[0] } else { 0 } };
        (!weight.is_zero()).then_some(weight)
    }
}
