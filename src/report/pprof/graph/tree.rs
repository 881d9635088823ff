//! The call tree: a node for each path from the root, instead of one for each function.
//!
//! Not here: trimming it to a number of nodes ([`super::trim`]), which this only carries out.

use rustc_hash::FxHashMap;

use super::{Edge, Graph, Measure, Node, Weight, Weights, nodes::Places, tags::NodeTags};
use crate::profile::columns::{Columns, NONE};

/// A node before its graph is made.
struct Branch {
    place: u32,
    parent: u32,
    weights: Weights,
    /// Whether it was inlined into its parent each time.
    inline: bool,
    /// Whether what was between it and its parent has been removed.
    residual: bool,
}

/// The tree of all samples.
pub struct Tree {
    branches: Vec<Branch>,
}

impl Tree {
    pub fn new(columns: &Columns, places: &Places, measure: Measure) -> Tree {
        let mut branches: Vec<Branch> = Vec::new();
        let mut children: FxHashMap<u64, u32> = FxHashMap::default();
        for sample in 0..columns.sample_count() {
            let Some(weight) = measure.weight(columns.values(sample)) else { continue };
            let mut parent = NONE;
            for location in columns.stack(sample).iter().rev() {
                let nodes = places.of(*location);
                for (at, place) in nodes.iter().enumerate().rev() {
                    let new = branches.len() as u32;
                    let key = u64::from(parent) << 32 | u64::from(*place);
                    let row = *children.entry(key).or_insert(new);
                    if row == new {
                        let weights = Weights::default();
                        branches.push(Branch { place: *place, parent, weights, inline: true, residual: false });
                    }
                    let branch = &mut branches[row as usize];
                    branch.weights.cum.add(weight);
                    branch.inline &= at + 1 < nodes.len();
                    parent = row;
                }
            }
            if let Some(leaf) = branches.get_mut(parent as usize) {
                leaf.weights.flat.add(weight);
            }
        }
        Tree { branches }
    }

    /// The weights of all nodes.
    pub fn weights(&self) -> impl Iterator<Item = Weights> {
        self.branches.iter().map(|branch| branch.weights)
    }

    /// The node that each frame of a sample is, with the same walk that made them; the last is the
    /// leaf's.
    pub fn path(&self, children: &FxHashMap<u64, u32>, places: &Places, stack: &[u32]) -> Vec<u32> {
        let mut path = Vec::new();
        let mut parent = NONE;
        for location in stack.iter().rev() {
            for place in places.of(*location).iter().rev() {
                let key = u64::from(parent) << 32 | u64::from(*place);
                let Some(row) = children.get(&key) else { return path };
                path.push(*row);
                parent = *row;
            }
        }
        path
    }

    /// Nodes by parent and place.
    pub fn children(&self) -> FxHashMap<u64, u32> {
        let key = |branch: &Branch| u64::from(branch.parent) << 32 | u64::from(branch.place);
        (0..).zip(&self.branches).map(|(row, branch)| (key(branch), row)).collect()
    }

    /// Takes nodes out: their children become their parents'.
    pub fn remove(&mut self, is_removed: impl Fn(u32) -> bool) {
        // Parents stand before their children.
        for row in 0..self.branches.len() {
            let parent = self.branches[row].parent;
            if parent == NONE || !is_removed(parent) {
                continue;
            }
            let (grandparent, inline) = {
                let parent = &self.branches[parent as usize];
                (parent.parent, parent.inline)
            };
            let branch = &mut self.branches[row];
            branch.parent = grandparent;
            if grandparent != NONE {
                branch.residual = true;
                branch.inline &= inline;
            }
        }
    }

    /// The graph of the nodes that are left.
    pub fn graph(
        &self,
        places: &Places,
        is_removed: impl Fn(u32) -> bool,
        is_shown: impl Fn(u32) -> bool,
    ) -> (Graph, Vec<u32>) {
        let mut graph = Graph::default();
        let mut rows = vec![NONE; self.branches.len()];
        for (at, branch) in (0..).zip(&self.branches) {
            if is_removed(at) {
                continue;
            }
            let row = graph.nodes.len() as u32;
            rows[at as usize] = row;
            let info = places.infos[branch.place as usize];
            // In a tree each node is a function of its own, as far as names go.
            let function = u64::from(row);
            let node = Node {
                info,
                weights: branch.weights,
                function,
                ins: Vec::new(),
                outs: Vec::new(),
                labels: NodeTags::default(),
            };
            graph.nodes.push(node);
            if is_shown(at) {
                graph.shown.push(row);
            }
            if branch.parent != NONE {
                let source = rows[branch.parent as usize];
                let edge = graph.edges.len() as u32;
                graph.edges.push(Edge {
                    source,
                    target: row,
                    weight: Weight { ..branch.weights.cum },
                    residual: branch.residual,
                    inline: branch.inline,
                });
                graph.nodes[source as usize].outs.push(edge);
                graph.nodes[row as usize].ins.push(edge);
            }
        }
        (graph, rows)
    }
}
