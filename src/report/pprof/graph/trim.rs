//! Selects the nodes and edges that a report shows.
//!
//! Not here: their order ([`super::order`]).

use super::{
    Graph, Measure, Weights,
    build::{EdgeFilter, build},
    nodes::Places,
    order::{self, NodeOrder},
    tags::{Walk, graph_path},
    tree::Tree,
    weigh::weigh,
};
use crate::{
    profile::columns::{Columns, NONE, labels::Units},
    text::go::truncate,
};

/// Limits of a report.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Nodes below this share of the total are dropped.
    pub node_fraction: f64,
    /// Edges below this share of the total are dropped.
    pub edge_fraction: f64,
    /// Maximum number of nodes; 0: all.
    pub node_count: i64,
    /// Drop nodes with negative values.
    pub drop_negative: bool,
    /// The order of nodes.
    pub by: NodeOrder,
}

/// Which edges a report needs.
#[derive(Clone, Copy, Debug)]
pub enum Edges<'a> {
    /// Only those needed to recognize inlined nodes.
    ForInlining,
    /// Those of nodes whose printed names match.
    Around(&'a crate::profile::go_regexp::GoRegexp),
    /// All edges.
    All,
}

/// How labels are drawn beside nodes.
#[derive(Clone, Copy, Debug)]
pub struct Labelling<'a> {
    /// The units of numeric labels.
    pub units: &'a Units,
    /// The unit to show them in.
    pub output_unit: &'a str,
}

/// A graph, and the counts of dropped nodes and edges.
#[derive(Debug, Default)]
pub struct Trimmed {
    /// The graph.
    pub graph: Graph,
    /// The number of nodes before it was limited.
    pub full_count: usize,
    /// Nodes dropped because they are small.
    pub dropped_nodes: usize,
    /// Edges dropped because they are small.
    pub dropped_edges: usize,
}

/// Up to this many labels beside a node count as nodes.
pub const MAX_NODE_TAGS: usize = 4;

struct Cutoffs {
    node: i64,
    edge: i64,
}

impl Cutoffs {
    fn new(total: i64, limits: &Limits) -> Cutoffs {
        let cutoff = |fraction: f64| truncate(total as f64 * fraction).wrapping_abs();
        Cutoffs { node: cutoff(limits.node_fraction), edge: cutoff(limits.edge_fraction) }
    }
}

/// The number of marked nodes.
fn count(nodes: &[bool]) -> usize {
    nodes.iter().filter(|node| **node).count()
}

/// The sum over all candidates.
fn total(weights: &[Weights], candidate: &[bool]) -> i64 {
    let candidates = weights.iter().zip(candidate).filter(|(_, candidate)| **candidate);
    candidates.fold(0i64, |sum, (weights, _)| sum.wrapping_add(weights.flat.sum))
}

fn is_candidate(weights: &Weights, limits: &Limits) -> bool {
    let (flat, cum) = (weights.flat.sum, weights.cum.sum);
    let is_negative = flat < 0 || (flat == 0 && cum < 0);
    (flat != 0 || cum != 0) && !(limits.drop_negative && is_negative)
}

/// The graph that a report shows.
pub fn trimmed(
    columns: &Columns,
    places: &Places,
    measure: Measure,
    limits: Limits,
    edges: Edges,
    labelling: Option<Labelling>,
) -> Trimmed {
    let weights = weigh(columns, places, measure);
    let candidate: Vec<bool> = weights.iter().map(|weights| is_candidate(weights, &limits)).collect();
    let cutoffs = Cutoffs::new(total(&weights, &candidate), &limits);
    let mut out = Trimmed { full_count: count(&candidate), ..Trimmed::default() };
    let mut kept: Option<Vec<bool>> = None;
    if cutoffs.node > 0 {
        let heavy = |(weights, candidate): (&Weights, &bool)| {
            *candidate && weights.cum.sum.wrapping_abs() >= cutoffs.node
        };
        let heavy: Vec<bool> = weights.iter().zip(&candidate).map(heavy).collect();
        if count(&heavy) != out.full_count {
            out.dropped_nodes = out.full_count - count(&heavy);
            out.full_count = count(&heavy);
            kept = Some(heavy);
        }
    }
    let matching = match edges {
        Edges::ForInlining => places.inlined(),
        Edges::Around(regexp) => {
            places.infos.iter().map(|info| regexp.is_match(&info.printable(columns))).collect()
        }
        Edges::All => Vec::new(),
    };
    let wanted = match edges {
        Edges::ForInlining => EdgeFilter::Into(&matching),
        Edges::Around(_) => EdgeFilter::Around(&matching),
        Edges::All => EdgeFilter::All,
    };
    let make = |kept: Option<&[bool]>, wanted: EdgeFilter| {
        let shown = |node: u32| candidate[node as usize] && kept.is_none_or(|kept| kept[node as usize]);
        let mut graph = build(columns, places, &weights, measure, kept, shown, wanted);
        if let Some(labelling) = labelling {
            label(&mut graph, columns, places, measure, kept, labelling);
        }
        graph
    };
    let visual = limits.by == NodeOrder::Interest;
    // Without a drawing, edges do not influence the selection of nodes: they are built once, at the
    // end.
    let is_limited = limits.node_count > 0 && out.full_count as i64 > limits.node_count;
    let first_wanted = if is_limited && !visual { EdgeFilter::Nothing } else { wanted };
    let graph = make(kept.as_deref(), first_wanted);
    let only = |graph: Graph, chosen: usize| {
        let numbers = numbers(places, kept.as_deref());
        let mut chosen_nodes = vec![false; places.infos.len()];
        for row in &graph.shown[..chosen] {
            chosen_nodes[numbers[*row as usize] as usize] = true;
        }
        make(Some(&chosen_nodes), wanted)
    };
    (out.graph, out.dropped_edges) = limited(graph, columns, &limits, &cutoffs, only);
    out
}

/// Sorts the graph and applies the limits. `only` builds the graph of the first shown nodes.
/// Returns the graph, and the number of edges dropped because they are light.
fn limited(
    mut graph: Graph,
    columns: &Columns,
    limits: &Limits,
    cutoffs: &Cutoffs,
    only: impl FnOnce(Graph, usize) -> Graph,
) -> (Graph, usize) {
    let visual = limits.by == NodeOrder::Interest;
    order::sort(&mut graph, columns, limits.by);
    if limits.node_count > 0 {
        drop_light_tags(&mut graph, cutoffs.node);
        graph.drop_light_edges(cutoffs.edge);
        let chosen = choose(&graph, limits, visual);
        if chosen != graph.shown.len() {
            graph = only(graph, chosen);
            order::sort(&mut graph, columns, limits.by);
        }
    }
    drop_light_tags(&mut graph, cutoffs.node);
    let dropped_edges = graph.drop_light_edges(cutoffs.edge);
    if visual {
        remove_redundant_edges(&mut graph, columns);
    }
    (graph, dropped_edges)
}

/// For each row of the graph built from `kept`, its number in `places`.
fn numbers(places: &Places, kept: Option<&[bool]>) -> Vec<u32> {
    let all = 0..places.infos.len() as u32;
    all.filter(|number| kept.is_none_or(|kept| kept[*number as usize])).collect()
}

fn label(
    graph: &mut Graph,
    columns: &Columns,
    places: &Places,
    measure: Measure,
    kept: Option<&[bool]>,
    labelling: Labelling,
) {
    let mut rows = vec![NONE; places.infos.len()];
    for (row, number) in numbers(places, kept).into_iter().enumerate() {
        rows[number as usize] = row as u32;
    }
    let Labelling { units, output_unit } = labelling;
    let walk = Walk { columns, measure, units, output_unit };
    let tags = walk.collect(graph.nodes.len(), true, |sample, path| {
        graph_path(places, &rows, columns.stack(sample), path);
    });
    for (node, tags) in graph.nodes.iter_mut().zip(tags) {
        node.labels = tags;
    }
}

/// The tree that a report shows.
pub fn trimmed_tree(
    columns: &Columns,
    places: &Places,
    measure: Measure,
    limits: Limits,
    labelling: Option<Labelling>,
) -> Trimmed {
    let labelling = labelling.filter(|_| columns.has_labels());
    let mut tree = Tree::new(columns, places, measure);
    let weights: Vec<Weights> = tree.weights().collect();
    let candidate: Vec<bool> = weights.iter().map(|weights| is_candidate(weights, &limits)).collect();
    let cutoffs = Cutoffs::new(total(&weights, &candidate), &limits);
    let mut removed = vec![false; weights.len()];
    if cutoffs.node > 0 {
        for (row, weights) in weights.iter().enumerate() {
            removed[row] = candidate[row] && weights.cum.sum.wrapping_abs() < cutoffs.node;
        }
    }
    let dropped_nodes = count(&removed);
    tree.remove(|row| removed[row as usize]);
    let make = |tree: &Tree, removed: &[bool]| {
        let is_removed = |row: u32| removed[row as usize];
        let shown = |row: u32| candidate[row as usize];
        let (mut graph, rows) = tree.graph(places, is_removed, shown);
        if let Some(labelling) = labelling {
            let Labelling { units, output_unit } = labelling;
            let walk = Walk { columns, measure, units, output_unit };
            let tags = walk.collect(graph.nodes.len(), false, |sample, path| {
                let nodes = tree.path(sample).into_iter();
                path.extend(nodes.map(|node| Some(rows[node as usize]).filter(|row| *row != NONE)));
            });
            for (node, tags) in graph.nodes.iter_mut().zip(tags) {
                node.labels = tags;
            }
        }
        graph
    };
    let graph = make(&tree, &removed);
    let (graph, dropped_edges) = limited(graph, columns, &limits, &cutoffs, keep_of_tree);
    Trimmed { graph, full_count: count(&candidate) - dropped_nodes, dropped_nodes, dropped_edges }
}

/// Removes all but the first `chosen` shown nodes from a tree; their children move to their
/// parents.
fn keep_of_tree(mut graph: Graph, chosen: usize) -> Graph {
    let removed = graph.shown.split_off(chosen);
    for row in removed {
        let node = &mut graph.nodes[row as usize];
        let (ins, outs) = (std::mem::take(&mut node.ins), std::mem::take(&mut node.outs));
        let Some(into) = ins.first().copied() else {
            for edge in outs {
                let child = graph.edges[edge as usize].target;
                graph.nodes[child as usize].ins.retain(|other| *other != edge);
            }
            continue;
        };
        let (parent, inline) = (graph.edges[into as usize].source, graph.edges[into as usize].inline);
        graph.nodes[parent as usize].outs.retain(|other| *other != into);
        for edge in outs {
            let out = &mut graph.edges[edge as usize];
            out.source = parent;
            out.residual = true;
            out.inline &= inline;
            graph.nodes[parent as usize].outs.push(edge);
        }
    }
    graph
}

fn drop_light_tags(graph: &mut Graph, cutoff: i64) {
    for at in 0..graph.shown.len() {
        let row = graph.shown[at] as usize;
        graph.nodes[row].labels.drop_light(cutoff);
    }
}

/// How many shown nodes are kept.
fn choose(graph: &Graph, limits: &Limits, visual: bool) -> usize {
    let most = usize::try_from(limits.node_count).unwrap_or(usize::MAX);
    let mut chosen = most;
    if visual {
        let mut count = 0;
        for (at, (_, node)) in graph.shown().enumerate() {
            count += node.labels.count().min(MAX_NODE_TAGS) + 1;
            if count >= most {
                chosen = at + 1;
                break;
            }
        }
    }
    chosen.min(graph.shown.len())
}

/// Removes residual edges between nodes that are also connected otherwise, the lightest first, up
/// to the first edge of a node that is not residual.
fn remove_redundant_edges(graph: &mut Graph, columns: &Columns) {
    for at in (0..graph.shown.len()).rev() {
        let node = graph.shown[at] as usize;
        let ins = order::sorted_edges(graph, columns, &graph.nodes[node].ins);
        for edge in ins.into_iter().rev() {
            if !graph.edges[edge as usize].residual {
                break;
            }
            if is_redundant(graph, edge) {
                graph.remove_edge(edge);
            }
        }
    }
}

fn is_redundant(graph: &Graph, edge: u32) -> bool {
    let (source, target) = (graph.edges[edge as usize].source, graph.edges[edge as usize].target);
    let mut seen = vec![false; graph.nodes.len()];
    seen[target as usize] = true;
    let mut queue = std::collections::VecDeque::from([target]);
    while let Some(node) = queue.pop_front() {
        for other in &graph.nodes[node as usize].ins {
            let caller = graph.edges[*other as usize].source;
            if *other == edge || seen[caller as usize] {
                continue;
            }
            if caller == source {
                return true;
            }
            seen[caller as usize] = true;
            queue.push_back(caller);
        }
    }
    false
}
