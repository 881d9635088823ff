//! The order of nodes and edges.
//!
//! Not here: which ones are kept.

use std::cmp::{Ordering, Reverse};

use super::{Graph, Node};
use crate::{profile::columns::Columns, text::go::truncate};

/// The order of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeOrder {
    /// By flat value.
    Flat,
    /// By cumulative value.
    Cum,
    /// By importance in a drawing.
    Interest,
}

/// Sorts the shown nodes.
pub fn sort(graph: &mut Graph, columns: &Columns, by: NodeOrder) {
    let key = |graph: &Graph, node: &Node| match by {
        NodeOrder::Flat => node.weights.flat.sum,
        NodeOrder::Cum => node.weights.cum.sum,
        NodeOrder::Interest => interest(graph, node),
    };
    let second = |node: &Node| match by {
        NodeOrder::Flat => node.weights.cum.sum,
        NodeOrder::Cum | NodeOrder::Interest => node.weights.flat.sum,
    };
    let mut rows: Vec<(u64, String, u64, u32)> = graph
        .shown()
        .map(|(row, node)| {
            let magnitude = |value: i64| value.wrapping_abs();
            // Signed, so that the minimum integer, which has no absolute value, stays the smallest.
            let order = |value: i64| (magnitude(value) as u64) ^ (1 << 63);
            (order(key(graph, node)), node.info.printable(columns), order(second(node)), row)
        })
        .collect();
    rows.sort_unstable_by(|a, b| {
        let main = Reverse(a.0).cmp(&Reverse(b.0)).then_with(|| a.1.cmp(&b.1));
        let main = main.then_with(|| Reverse(a.2).cmp(&Reverse(b.2)));
        main.then_with(|| {
            let info = |row: u32| &graph.nodes[row as usize].info;
            info(a.3).compare(info(b.3), columns).then(a.3.cmp(&b.3))
        })
    });
    graph.shown = rows.into_iter().map(|(_, _, _, row)| row).collect();
}

/// The edges sorted: the heaviest first, then by the names of their nodes.
pub fn sorted_edges(graph: &Graph, columns: &Columns, edges: &[u32]) -> Vec<u32> {
    let name = |node: u32| graph.nodes[node as usize].info.printable(columns);
    let mut sorted = edges.to_vec();
    let compare = |a: &u32, b: &u32| -> Ordering {
        let (one, other) = (&graph.edges[*a as usize], &graph.edges[*b as usize]);
        let weight = |edge: &super::Edge| edge.weight.sum;
        let by_weight = weight(other).wrapping_abs().cmp(&weight(one).wrapping_abs());
        let by_weight = by_weight.then(weight(other).cmp(&weight(one)));
        by_weight
            .then_with(|| name(one.source).cmp(&name(other.source)))
            .then_with(|| name(one.target).cmp(&name(other.target)))
            .then(a.cmp(b))
    };
    sorted.sort_by(compare);
    sorted
}

/// The importance of a node: low if only one path leads through it.
fn interest(graph: &Graph, node: &Node) -> i64 {
    let side = |edges: &[u32], own: i64| {
        if edges.is_empty() {
            1.0
        } else {
            entropy(edges.iter().map(|edge| graph.edges[*edge as usize].weight.sum), own)
        }
    };
    let score = side(&node.ins, 0) + side(&node.outs, node.weights.flat.sum);
    truncate(score * node.weights.cum.sum as f64).wrapping_add(node.weights.flat.sum)
}

fn entropy(weights: impl Iterator<Item = i64> + Clone, own: i64) -> f64 {
    let total = weights.clone().filter(|weight| *weight > 0).fold(own, i64::wrapping_add);
    if total == 0 {
        return 0.0;
    }
    let part = |weight: i64| {
        let share = weight.wrapping_abs() as f64 / total as f64;
        -share * share.log2()
    };
    let edges: f64 = weights.map(part).sum();
    if own > 0 { edges + part(own) } else { edges }
}
