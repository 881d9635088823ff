//! `tree` and `peek`: functions with their callers above and their callees below.
//!
//! Not here: source lines ([`super::list`]).

use std::io::Write;

use super::{
    graph::{Graph, order},
    header,
    prepare::Report,
};
use crate::profile::unit::percentage;

const SEPARATOR: &str = "----------------------------------------------------------+-------------";
const LEGEND: &str = "      flat  flat%   sum%        cum   cum%   calls calls% + context \t \t ";

pub(super) fn print(report: &mut Report) -> Result<Vec<u8>, String> {
    let trimmed = report.graph();
    let graph = &trimmed.graph;
    let mut out = Vec::new();
    let lines = header::of_report(report, &trimmed, false);
    // Writing to memory does not fail.
    let _ = writeln!(out, "{}\n{SEPARATOR}\n{LEGEND}", lines.join("\n"));
    let (mut sum, mut matched) = (0i64, false);
    for (_, node) in graph.shown() {
        let name = node.info.printable(&report.columns);
        if report.argument.as_ref().is_some_and(|argument| !argument.is_match(&name)) {
            continue;
        }
        matched = true;
        let (flat, cum) = (node.weights.flat.value(), node.weights.cum.value());
        let _ = writeln!(out, "{SEPARATOR}");
        edges(report, graph, &node.ins, cum, true, &mut out);
        sum = sum.wrapping_add(flat);
        let weights = report.format.weights([flat, sum, cum], report.total);
        let _ = writeln!(out, "{weights}                | {name}");
        edges(report, graph, &node.outs, cum, false, &mut out);
    }
    if !graph.shown.is_empty() {
        let _ = writeln!(out, "{SEPARATOR}");
    }
    match &report.argument {
        Some(argument) if !matched => Err(format!("no matches found for regexp: {}", argument.as_str())),
        _ => Ok(out),
    }
}

fn edges(report: &Report, graph: &Graph, edges: &[u32], cum: i64, callers: bool, out: &mut Vec<u8>) {
    for edge in order::sorted_edges(graph, &report.columns, edges) {
        let edge = graph.edges[edge as usize];
        let other = if callers { edge.source } else { edge.target };
        let weight = edge.weight.sum;
        let _ = writeln!(
            out,
            "{:>50} {} |   {}{}",
            report.format.value(weight),
            percentage(weight, cum),
            graph.nodes[other as usize].info.printable(&report.columns),
            if edge.inline { " (inline)" } else { "" },
        );
    }
}
