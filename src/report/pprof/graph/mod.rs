//! Who calls whom, and how much: nodes are what a report tells apart (functions, lines, addresses),
//! edges are calls between them.
//!
//! Not here: how a graph is printed. It is built in two steps: the weights of all nodes ([`weigh`]),
//! then, once it is known which nodes a report keeps, the edges among those ([`build`]). The weights
//! of nodes do not depend on which others are kept, so nothing is built twice.

use std::cmp::Ordering;

use crate::profile::columns::{Columns, TextId};

pub mod build;
pub mod nodes;
pub mod order;
pub mod tags;
pub mod tree;
pub mod trim;
pub mod weigh;

/// What tells nodes apart; parts a report does not look at are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Info {
    pub name: TextId,
    pub address: u64,
    pub file: TextId,
    pub start_line: i64,
    pub line: i64,
    pub column: i64,
    pub object: TextId,
}

impl Info {
    /// What is the same for all nodes of a function. A node without address and line is taken for
    /// the whole function, whatever its column.
    pub fn function(&self) -> Info {
        if self.address == 0 && self.line == 0 {
            return *self;
        }
        Info { address: 0, line: 0, column: 0, ..*self }
    }

    /// What is printed for it.
    pub fn printable(&self, columns: &Columns) -> String {
        self.components(columns).join(" ")
    }

    /// The parts of what is printed for it.
    pub fn components(&self, columns: &Columns) -> Vec<String> {
        self.parts(columns.text(self.name), columns.text(self.file), columns.text(self.object))
    }

    /// The parts of what is printed, with these texts for its own.
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
            // Said already.
        } else if !object.is_empty() {
            parts.push(format!("[{}]", crate::text::path::base_name(object)));
        } else {
            parts.push("<unknown>".into());
        }
        parts
    }

    /// The order of last resort, which is that of all fields written one behind the other.
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

/// A sum, and the count to divide it by where a mean is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub sum: i64,
    pub divisor: i64,
}

impl Weight {
    pub fn add(&mut self, other: Weight) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.divisor = self.divisor.wrapping_add(other.divisor);
    }

    /// The mean, or the sum where there is no divisor.
    pub fn value(self) -> i64 {
        if self.divisor == 0 { self.sum } else { self.sum.wrapping_div(self.divisor) }
    }

    pub fn is_zero(self) -> bool {
        self == Weight::default()
    }
}

/// A node's weights: its own, and with all it calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weights {
    pub flat: Weight,
    pub cum: Weight,
}

/// A node of a finished graph.
#[derive(Clone, Debug)]
pub struct Node {
    pub info: Info,
    pub weights: Weights,
    /// Tells functions apart whose nodes have the same name.
    pub function: u64,
    /// Edges to and from it that have not been removed (rows of [`Graph::edges`]).
    pub ins: Vec<u32>,
    pub outs: Vec<u32>,
    pub labels: tags::NodeTags,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    pub source: u32,
    pub target: u32,
    pub weight: Weight,
    /// Nodes between the two are not shown.
    pub residual: bool,
    /// The callee is always inlined into the caller.
    pub inline: bool,
}

/// A graph. Of the nodes, those in `shown` are shown, in that order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub edges: Vec<Edge>,
    pub shown: Vec<u32>,
}

impl Graph {
    /// The shown nodes in order.
    pub fn shown(&self) -> impl ExactSizeIterator<Item = (u32, &Node)> {
        self.shown.iter().map(|row| (*row, &self.nodes[*row as usize]))
    }

    /// Sum of the shown nodes' own values.
    pub fn flat_sum_of_values(&self) -> i64 {
        self.shown().fold(0i64, |sum, (_, node)| sum.wrapping_add(node.weights.flat.value()))
    }

    /// Takes an edge out.
    fn remove_edge(&mut self, edge: u32) {
        let Edge { source, target, .. } = self.edges[edge as usize];
        self.nodes[source as usize].outs.retain(|other| *other != edge);
        self.nodes[target as usize].ins.retain(|other| *other != edge);
    }

    /// Takes out edges to shown nodes that weigh less than `cutoff`; says how many.
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
    /// Which value counts.
    pub value: usize,
    /// Whether means are asked for: values divided by the first.
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
