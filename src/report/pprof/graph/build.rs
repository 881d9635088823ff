//! Builds the edges between the kept nodes of a report, and the graph.
//!
//! Not here: which nodes are kept ([`super::trim`]).

use std::ops::Range;

use hashbrown::HashMap;

use super::{Edge, Graph, Info, Measure, Node, Weight, Weights, nodes::Places, tags::NodeTags, weigh};
use crate::profile::columns::{Columns, parallel::in_parallel};

/// Which edges are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeFilter<'a> {
    /// None.
    Nothing,
    /// Edges to these nodes.
    Into(&'a [bool]),
    /// Edges to or from these nodes.
    Around(&'a [bool]),
    /// All edges.
    All,
}

impl EdgeFilter<'_> {
    #[inline]
    fn holds(self, source: u32, target: u32) -> bool {
        match self {
            EdgeFilter::Nothing => false,
            EdgeFilter::Into(nodes) => nodes[target as usize],
            EdgeFilter::Around(nodes) => nodes[source as usize] || nodes[target as usize],
            EdgeFilter::All => true,
        }
    }
}

struct Sum {
    weight: Weight,
    /// The last sample that contained it.
    last: u32,
    residual: bool,
    inline: bool,
}

/// The graph of the nodes in `is_kept` (`None`: all). `is_shown`: which of them are shown; the
/// others still have edges.
pub fn build(
    columns: &Columns,
    places: &Places,
    weights: &[Weights],
    measure: Measure,
    kept: Option<&[bool]>,
    shown: impl Fn(u32) -> bool,
    wanted: EdgeFilter,
) -> Graph {
    let mut edges: Vec<(u64, Sum)> = if wanted == EdgeFilter::Nothing {
        Vec::new()
    } else {
        let jobs = weigh::parts(columns).into_iter();
        let jobs = jobs.map(|part| move || edges_of(columns, places, measure, kept, wanted, part));
        let mut parts = in_parallel(jobs.collect()).into_iter();
        let mut edges = parts.next().unwrap_or_default();
        for part in parts {
            for (pair, sum) in part {
                edges
                    .entry(pair)
                    .and_modify(|edge| {
                        edge.weight.add(sum.weight);
                        edge.residual |= sum.residual;
                        edge.inline &= sum.inline;
                    })
                    .or_insert(sum);
            }
        }
        edges.into_iter().collect()
    };
    edges.sort_unstable_by_key(|(pair, _)| *pair);
    assemble(places, weights, kept, shown, edges)
}

fn assemble(
    places: &Places,
    weights: &[Weights],
    kept: Option<&[bool]>,
    shown: impl Fn(u32) -> bool,
    edges: Vec<(u64, Sum)>,
) -> Graph {
    let mut graph = Graph::default();
    let mut rows = vec![u32::MAX; places.infos.len()];
    let mut functions: HashMap<Info, u64> = HashMap::new();
    for (number, info) in places.infos.iter().enumerate() {
        if kept.is_some_and(|kept| !kept[number]) {
            continue;
        }
        let row = graph.nodes.len() as u32;
        rows[number] = row;
        let next = functions.len() as u64;
        let function = *functions.entry(info.function()).or_insert(next);
        graph.nodes.push(Node {
            info: *info,
            weights: weights[number],
            function,
            ins: Vec::new(),
            outs: Vec::new(),
            labels: NodeTags::default(),
        });
        if shown(number as u32) {
            graph.shown.push(row);
        }
    }
    for (pair, sum) in edges {
        let (source, target) = (rows[(pair >> 32) as usize], rows[pair as u32 as usize]);
        let row = graph.edges.len() as u32;
        let Sum { weight, residual, inline, .. } = sum;
        graph.edges.push(Edge { source, target, weight, residual, inline });
        graph.nodes[source as usize].outs.push(row);
        graph.nodes[target as usize].ins.push(row);
    }
    graph
}

fn edges_of(
    columns: &Columns,
    places: &Places,
    measure: Measure,
    kept: Option<&[bool]>,
    wanted: EdgeFilter,
    samples: Range<usize>,
) -> HashMap<u64, Sum> {
    let mut edges: HashMap<u64, Sum> = HashMap::new();
    let is_kept = |node: u32| kept.is_none_or(|kept| kept[node as usize]);
    // Usually few nodes are kept: most locations can be skipped quickly.
    let is_any_kept: Vec<bool> = (0..columns.locations.len() as u32)
        .map(|location| places.of(location).iter().any(|node| is_kept(*node)))
        .collect();
    for sample in samples {
        let Some(weight) = measure.weight(columns.values(sample)) else { continue };
        let mut parent = None;
        let mut residual = false;
        for location in columns.stack(sample).iter().rev() {
            if !is_any_kept[*location as usize] {
                residual = true;
                continue;
            }
            let nodes = places.of(*location);
            for (at, node) in nodes.iter().enumerate().rev() {
                if !is_kept(*node) {
                    residual = true;
                    continue;
                }
                let Some(source) = parent.replace(*node) else {
                    residual = false;
                    continue;
                };
                if source != *node && wanted.holds(source, *node) {
                    let is_inline = at + 1 < nodes.len();
                    let pair = u64::from(source) << 32 | u64::from(*node);
                    let sum = edges.entry(pair).or_insert(Sum {
                        weight: Weight::default(),
                        last: u32::MAX,
                        residual: false,
                        inline: true,
                    });
                    // An edge counts once per sample; its first occurrence determines its
                    // properties.
                    if sum.last != sample as u32 {
                        sum.last = sample as u32;
                        sum.weight.add(weight);
                        sum.residual |= residual;
                        sum.inline &= is_inline;
                    }
                }
                residual = false;
            }
        }
    }
    edges
}
