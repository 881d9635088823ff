//! `callgrind`: the call graph in the format of Valgrind's tool, for KCachegrind.
//!
//! The format: <https://valgrind.org/docs/manual/cl-format.html>.

use std::io::Write;

use rustc_hash::FxHashMap;

use super::{
    graph::{Graph, Info, order},
    prepare::Report,
};
use crate::{
    profile::{columns::TextId, unit},
    text::go::truncate,
};

pub(super) fn print(report: &mut Report) -> Vec<u8> {
    let trimmed = report.graph();
    let graph = &trimmed.graph;
    let columns = &report.columns;
    let names = names(graph, report);
    let mut out = Vec::new();
    // Writing to memory does not fail, here and below.
    let _ = writeln!(out, "positions: instr line\nevents: {}({})", report.measured, report.format.to);
    let (mut objects, mut files, mut functions) = (Names::default(), Names::default(), Names::default());
    let cost = |value: i64| truncate(unit::scale(value, &report.format.from, &report.format.to).0);
    let mut previous: Option<Info> = None;
    for (_, node) in graph.shown() {
        let info = node.info;
        let group = |info: &Info| (info.object, info.file, info.name);
        if previous.as_ref().map(group) != Some(group(&info)) {
            let _ = writeln!(out, "\nob={}", objects.get(columns.text(info.object)));
            let _ = writeln!(out, "fl={}", files.get(columns.text(info.file)));
            let _ = writeln!(out, "fn={}", functions.get(columns.text(info.name)));
        }
        let address = address(previous, info.address);
        let _ = writeln!(out, "{address} {} {}", info.line, cost(node.weights.flat.value()));
        for edge in order::sorted_edges(graph, columns, &node.outs) {
            let edge = graph.edges[edge as usize];
            let callee = graph.nodes[edge.target as usize].info;
            let _ = writeln!(out, "cfl={}", files.get(columns.text(callee.file)));
            let name = names.get(&edge.target).map_or("", String::as_str);
            let _ = writeln!(out, "cfn={}", functions.get(name));
            let _ = writeln!(out, "calls=0 {} {}", self::address(previous, callee.address), callee.line);
            let _ = writeln!(out, "* * {}", cost(edge.weight.sum));
        }
        previous = Some(info);
    }
    out
}

/// The names of the shown nodes; numbered where different functions have the same name.
fn names(graph: &Graph, report: &Report) -> FxHashMap<u32, String> {
    let mut functions: FxHashMap<(TextId, TextId), Vec<u64>> = FxHashMap::default();
    for (_, node) in graph.shown() {
        let same = functions.entry((node.info.file, node.info.name)).or_default();
        if !same.contains(&node.function) {
            same.push(node.function);
        }
    }
    let positions: FxHashMap<(TextId, TextId), FxHashMap<u64, usize>> = functions
        .iter()
        .map(|(key, same)| (*key, same.iter().enumerate().map(|(at, function)| (*function, at)).collect()))
        .collect();
    let name = |(row, node): (u32, &super::graph::Node)| {
        let name = report.columns.text(node.info.name);
        let same = &positions[&(node.info.file, node.info.name)];
        let name = match same.len() {
            1 => name.to_string(),
            count => format!("{name} [{}/{count}]", same[&node.function] + 1),
        };
        (row, name)
    };
    graph.shown().map(name).collect()
}

/// A name is written once and then referred to by number.
#[derive(Default)]
struct Names {
    numbers: FxHashMap<String, usize>,
}

impl Names {
    fn get(&mut self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        if let Some(number) = self.numbers.get(name) {
            return format!("({number})");
        }
        let number = self.numbers.len() + 1;
        self.numbers.insert(name.into(), number);
        format!("({number}) {name}")
    }
}

/// An address, relative to the previous one where that is shorter.
fn address(previous: Option<Info>, address: u64) -> String {
    let absolute = format!("{address:#x}");
    let Some(previous) = previous else { return absolute };
    if previous.address == address {
        return "*".into();
    }
    let relative = format!("{:+}", address.wrapping_sub(previous.address) as i64);
    if relative.len() < absolute.len() { relative } else { absolute }
}
