//! `top`, `tree` and `peek`: the hottest functions; `tree` and `peek` with callers and callees.
//!
//! Not here: source lines ([`super::list`]).

use std::cmp::Reverse;

use hashbrown::HashMap;

use super::{
    super::pprof::{
        graph::{Graph, Info, order, weigh::weigh},
        prepare::Report,
    },
    Cell, Entry, List, Shape,
    rows::{Inlined, Named, percent},
};

/// Rows of `top` by default.
const TOP_COUNT: usize = 20;
/// Functions of `tree` by default.
const TREE_COUNT: usize = 80;

const FUNCTION: &[&str] =
    &["id", "name", "file", "line", "address", "flat", "flat_percent", "cum", "cum_percent", "inlined"];
const CALL: &[&str] = &["id", "name", "file", "line", "address", "value", "percent", "inlined", "residual"];

const TOP: Shape = Shape {
    name: "functions",
    one: "function",
    columns: FUNCTION,
    groups: &[],
    sums: &["flat", "flat_percent"],
};

const TREE: Shape = Shape {
    name: "functions",
    one: "function",
    columns: FUNCTION,
    groups: &[&CALLERS, &CALLEES],
    sums: &["flat", "flat_percent"],
};

const CALLERS: Shape =
    Shape { name: "callers", one: "caller", columns: CALL, groups: &[], sums: &["value", "percent"] };
const CALLEES: Shape =
    Shape { name: "callees", one: "callee", columns: CALL, groups: &[], sums: &["value", "percent"] };

/// The hottest functions. All others are summed in the list's `more`; small ones are not dropped.
pub(super) fn top(report: &mut Report, marks: &Inlined, count: Option<usize>) -> List {
    let places = report.places();
    let inlined = marks.of_nodes(&report.columns, &places);
    let weights = weigh(&report.columns, &places, report.measure);
    let by_cum = report.settings.sort == "cum";
    let mut rows: Vec<(i64, i64, String, usize)> = Vec::new();
    for (at, weights) in weights.iter().enumerate() {
        let (flat, cum) = (weights.flat.value(), weights.cum.value());
        let is_negative = flat < 0 || flat == 0 && cum < 0;
        if (flat, cum) != (0, 0) && !(report.settings.drop_negative && is_negative) {
            rows.push((flat, cum, places.infos[at].printable(&report.columns), at));
        }
    }
    rows.sort_by_cached_key(|(flat, cum, name, _)| {
        let (flat, cum) = (flat.unsigned_abs(), cum.unsigned_abs());
        let main = if by_cum { (cum, flat) } else { (flat, cum) };
        (Reverse(main), name.clone())
    });
    let count = count.unwrap_or(TOP_COUNT);
    choose_unit(report, rows.iter().take(count).map(|(flat, cum, ..)| (*flat, *cum)));
    let entry = |(flat, cum, _, at): &(i64, i64, String, usize)| {
        let named = Named::new(&places.infos[*at], &report.columns);
        let mut cells = named.cells().to_vec();
        cells.extend(weight_cells(*flat, *cum, report.total));
        cells.push(Cell::Word(inlined[*at]));
        Entry { cells, groups: Vec::new() }
    };
    let mut list = List::new(&TOP, rows.iter().map(entry).collect());
    list.truncate(count);
    list
}

/// Chooses the unit of the text, as the reference does for a graph.
fn choose_unit(report: &mut Report, weights: impl Iterator<Item = (i64, i64)>) {
    if report.settings.unit == "minimum" {
        let values = weights.map(|(flat, cum)| if flat == 0 { cum } else { flat }.wrapping_abs());
        let smallest = values.filter(|value| *value > 0).min().unwrap_or(0);
        report.format.choose_unit(smallest, report.total, false);
    }
}

fn weight_cells(flat: i64, cum: i64, total: i64) -> [Cell; 4] {
    [Cell::Value(flat), percent(flat, total), Cell::Value(cum), percent(cum, total)]
}

/// Functions with their callers and callees; with an argument, those whose names match. Errors:
/// none matches.
pub(super) fn tree(report: &mut Report, marks: &Inlined, count: Option<usize>) -> Result<List, String> {
    if report.argument.is_none() {
        report.settings.nodecount = count.unwrap_or(TREE_COUNT) as i64;
    }
    let places = report.places();
    let inlined = marks.of_nodes(&report.columns, &places);
    let trimmed = report.graph();
    let graph = &trimmed.graph;
    let words: HashMap<Info, &str> = places.infos.iter().copied().zip(inlined).collect();
    let mut entries = Vec::new();
    for (_, node) in graph.shown() {
        let name = node.info.printable(&report.columns);
        if report.argument.as_ref().is_some_and(|argument| !argument.is_match(&name)) {
            continue;
        }
        let (flat, cum) = (node.weights.flat.value(), node.weights.cum.value());
        let mut cells = Named::new(&node.info, &report.columns).cells().to_vec();
        cells.extend(weight_cells(flat, cum, report.total));
        cells.push(Cell::Word(words.get(&node.info).copied().unwrap_or("no")));
        let callers = List::new(&CALLERS, calls(report, graph, &node.ins, cum, true));
        let callees = List::new(&CALLEES, calls(report, graph, &node.outs, cum, false));
        entries.push(Entry { cells, groups: vec![callers, callees] });
    }
    if let Some(argument) = report.argument.as_ref().filter(|_| entries.is_empty()) {
        return Err(format!("no function matches `{}`", argument.as_str()));
    }
    let mut list = List::new(&TREE, entries);
    if report.argument.is_none() {
        // The nodes that the graph left out, for whatever reason.
        list.more = trimmed.full_count + trimmed.dropped_nodes - list.entries.len();
    } else if let Some(count) = count {
        list.truncate(count);
    }
    Ok(list)
}

/// The calls to or from a function. `percent` is the share of the function's cumulative value.
fn calls(report: &Report, graph: &Graph, edges: &[u32], cum: i64, callers: bool) -> Vec<Entry> {
    let sorted = order::sorted_edges(graph, &report.columns, edges);
    let entry = |edge: u32| {
        let edge = graph.edges[edge as usize];
        let other = if callers { edge.source } else { edge.target };
        let named = Named::new(&graph.nodes[other as usize].info, &report.columns);
        let mut cells = named.cells().to_vec();
        cells.extend([Cell::Value(edge.weight.value()), percent(edge.weight.value(), cum)]);
        let yes_or_no = |is: bool| Cell::Word(if is { "yes" } else { "no" });
        cells.extend([yes_or_no(edge.inline), yes_or_no(edge.residual)]);
        Entry { cells, groups: Vec::new() }
    };
    sorted.into_iter().map(entry).collect()
}
