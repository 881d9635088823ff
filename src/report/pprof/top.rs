//! `top`: the hottest functions, one per line.
//!
//! Not here: callers and callees ([`super::tree`]).

use std::io::Write;

use super::{
    graph::{Graph, Node},
    header,
    prepare::Report,
};

pub(super) fn print(report: &mut Report) -> Vec<u8> {
    let trimmed = report.graph();
    let mut out = Vec::new();
    let lines = header::of_report(report, &trimmed, false);
    // Writing to memory does not fail.
    let _ = writeln!(out, "{}", lines.join("\n"));
    let _ = writeln!(out, "{:>10} {:>5}% {:>5}% {:>10} {:>5}%", "flat", "flat", "sum", "cum", "cum");
    let mut sum = 0i64;
    for (_, node) in trimmed.graph.shown() {
        let (flat, cum) = (node.weights.flat.value(), node.weights.cum.value());
        sum = sum.wrapping_add(flat);
        let _ = writeln!(
            out,
            "{}  {}{}",
            report.format.weights([flat, sum, cum], report.total),
            node.info.printable(&report.columns),
            inlining(&trimmed.graph, node),
        );
    }
    out
}

/// The marker of a node whose calls are all, or partly, inlined.
fn inlining(graph: &Graph, node: &Node) -> &'static str {
    let inline = |edge: &u32| graph.edges[*edge as usize].inline;
    match (node.ins.iter().any(inline), node.ins.iter().all(inline)) {
        (true, true) => " (inline)",
        (true, false) => " (partial-inline)",
        _ => "",
    }
}
