//! The call tree: one node per path from the root, instead of one per function.
//!
//! Not here: which nodes are removed ([`super::trim`]).

use hashbrown::HashMap;

use super::{Edge, Graph, Measure, Node, Weights, nodes::Places, tags::NodeTags};
use crate::profile::columns::{Columns, NONE};

/// A node before the graph is built.
struct Branch {
    place: u32,
    parent: u32,
    weights: Weights,
    /// Whether it is always inlined into its parent.
    inline: bool,
    /// Whether nodes between it and its parent have been removed.
    residual: bool,
}

/// The tree of all samples.
pub struct Tree {
    branches: Vec<Branch>,
    /// The parents before any node was removed.
    parents: Vec<u32>,
    /// The leaf of each sample with a weight and a stack.
    leaves: Vec<u32>,
}

impl Tree {
    /// The tree of all samples.
    pub fn new(columns: &Columns, places: &Places, measure: Measure) -> Tree {
        let mut tree =
            Tree { branches: Vec::new(), parents: Vec::new(), leaves: vec![NONE; columns.sample_count()] };
        // In sorted order each path shares its beginning with the previous one, which saves
        // look-ups.
        let mut samples: Vec<u32> = (0..columns.sample_count() as u32).collect();
        let stack = |sample: &u32| columns.stack(*sample as usize).iter().rev();
        samples.sort_unstable_by(|a, b| stack(a).cmp(stack(b)));
        // Different locations may be the same node: then a later path begins like an earlier one.
        let mut same: HashMap<(u32, u32), u32> = HashMap::new();
        let (mut path, mut last): (Vec<u32>, Option<u32>) = (Vec::new(), None);
        let mut depths: Vec<usize> = Vec::new();
        for sample in samples {
            let Some(weight) = measure.weight(columns.values(sample as usize)) else { continue };
            let common =
                last.map_or(0, |last| stack(&last).zip(stack(&sample)).take_while(|(a, b)| a == b).count());
            depths.truncate(common);
            path.truncate(depths.last().copied().unwrap_or(0));
            for row in &path {
                tree.branches[*row as usize].weights.cum.add(weight);
            }
            for location in stack(&sample).skip(common) {
                let nodes = places.of(*location);
                for (at, place) in nodes.iter().enumerate().rev() {
                    let parent = path.last().copied().unwrap_or(NONE);
                    let row = tree.child(&mut same, parent, *place);
                    let branch = &mut tree.branches[row as usize];
                    branch.weights.cum.add(weight);
                    branch.inline &= at + 1 < nodes.len();
                    path.push(row);
                }
                depths.push(path.len());
            }
            if let Some(leaf) = path.last() {
                tree.branches[*leaf as usize].weights.flat.add(weight);
                tree.leaves[sample as usize] = *leaf;
            }
            last = Some(sample);
        }
        tree.parents = tree.branches.iter().map(|branch| branch.parent).collect();
        tree
    }

    fn child(&mut self, same: &mut HashMap<(u32, u32), u32>, parent: u32, place: u32) -> u32 {
        let new = self.branches.len() as u32;
        let row = *same.entry((parent, place)).or_insert(new);
        if row == new {
            let weights = Weights::default();
            self.branches.push(Branch { place, parent, weights, inline: true, residual: false });
        }
        row
    }

    /// The nodes of a sample, root first, before any node was removed.
    pub fn path(&self, sample: usize) -> Vec<u32> {
        let mut path = Vec::new();
        let mut row = self.leaves[sample];
        while row != NONE {
            path.push(row);
            row = self.parents[row as usize];
        }
        path.reverse();
        path
    }

    /// The weights of all nodes.
    pub fn weights(&self) -> impl Iterator<Item = Weights> {
        self.branches.iter().map(|branch| branch.weights)
    }

    /// Removes nodes; their children move to their parents.
    pub fn remove(&mut self, is_removed: impl Fn(u32) -> bool) {
        // Parents come before their children.
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

    /// The graph of the remaining nodes.
    pub fn graph(
        &self,
        places: &Places,
        is_removed: impl Fn(u32) -> bool,
        is_shown: impl Fn(u32) -> bool,
    ) -> (Graph, Vec<u32>) {
        let mut graph = Graph::default();
        let mut rows = vec![NONE; self.branches.len()];
        let mut functions = HashMap::new();
        for (at, branch) in (0..).zip(&self.branches) {
            if is_removed(at) {
                continue;
            }
            let row = graph.nodes.len() as u32;
            rows[at as usize] = row;
            let info = places.infos[branch.place as usize];
            // Functions are distinguished by caller, even if nodes between have been removed.
            let next = functions.len() as u64;
            let key = (self.parents[at as usize], info.function());
            let function = *functions.entry(key).or_insert(next);
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
                    weight: branch.weights.cum,
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
