//! `dot`: the call graph in Graphviz's language.
//!
//! Not here: drawing it.

use std::{collections::BTreeMap, io::Write};

use super::{
    graph::{
        Graph, Node, order,
        tags::{self, Tag, Tags},
        trim::MAX_NODE_TAGS,
    },
    header,
    prepare::Report,
    short_name::shorten,
};
use crate::{
    profile::unit,
    text::{go::truncate, path::base_name},
};

pub(super) fn print(report: &mut Report) -> Vec<u8> {
    let trimmed = report.graph();
    let lines = header::of_report(report, &trimmed, true);
    let mut drawing = Drawing { report, graph: &trimmed.graph, out: Vec::new() };
    drawing.begin(&lines);
    drawing.graph();
    drawing.line("}");
    drawing.out
}

struct Drawing<'a> {
    report: &'a Report,
    graph: &'a Graph,
    out: Vec<u8>,
}

/// The numbers of nodes; 0: the node is not shown.
type Numbers = Vec<usize>;

impl Drawing<'_> {
    fn line(&mut self, line: &str) {
        // Writing to memory does not fail.
        let _ = writeln!(self.out, "{line}");
    }

    fn begin(&mut self, lines: &[String]) {
        let title = &self.report.title;
        let name = if title.is_empty() { "unnamed" } else { title };
        self.line(&format!("digraph \"{name}\" {{"));
        self.line("node [style=filled fillcolor=\"#f8f8f8\"]");
        let Some(first) = lines.first() else { return };
        let first = escape(first);
        let label: Vec<_> = lines.iter().map(|line| escape(line)).collect();
        let label = label.join("\\l");
        let mut legend =
            format!("subgraph cluster_L {{ \"{first}\" [shape=box fontsize=16 label=\"{label}\\l\"");
        if !title.is_empty() {
            legend += &format!(" tooltip=\"{title}\"");
        }
        self.line(&(legend + "] }"));
    }

    fn graph(&mut self) {
        if self.graph.shown.is_empty() {
            return;
        }
        let flat = |node: &Node| node.weights.flat.value().wrapping_abs() as f64;
        let max_flat = self.graph.shown().map(|(_, node)| flat(node)).fold(f64::MIN, f64::max);
        let mut numbers: Numbers = vec![0; self.graph.nodes.len()];
        for (at, row) in self.graph.shown.iter().enumerate() {
            numbers[*row as usize] = at + 1;
        }
        let mut has_tags = vec![false; self.graph.nodes.len()];
        let mut edges = Vec::new();
        for (row, node) in self.graph.shown() {
            let number = numbers[row as usize];
            self.node(node, number, max_flat);
            let tags = self.tags(node, number);
            has_tags[row as usize] = !tags.is_empty();
            self.out.extend_from_slice(tags.as_bytes());
            edges.extend_from_slice(&node.outs);
        }
        for edge in order::sorted_edges(self.graph, &self.report.columns, &edges) {
            self.edge(edge, &numbers, &has_tags);
        }
    }

    fn node(&mut self, node: &Node, number: usize, max_flat: f64) {
        let (flat, cum) = (node.weights.flat.value(), node.weights.cum.value());
        let total = self.report.total;
        let format = &self.report.format;
        let share = |value: i64| unit::percentage(value, total).trim().to_string();
        let mut label = self.name(node);
        let mut cum_text = format.value(flat);
        label += &if flat == 0 { "0".into() } else { format!("{cum_text} ({})", share(flat)) };
        if cum != flat {
            label += if flat == 0 { " " } else { "\\n" };
            cum_text = format.value(cum);
            label += &format!("of {cum_text} ({})", share(cum));
        }
        let magnitude = flat.wrapping_abs() as f64;
        let mut font = 8;
        if max_flat != 0.0 && flat != 0 && magnitude <= max_flat {
            font += (16.0 * (magnitude / max_flat).sqrt()).ceil() as i64;
        }
        let score = cum as f64 / total.wrapping_abs() as f64;
        let (color, fill) = (color(score, false), color(score, true));
        let tooltip = escape(&node.info.printable(&self.report.columns));
        self.line(&format!(
            "N{number} [label=\"{label}\" id=\"node{number}\" fontsize={font} shape=box \
             tooltip=\"{tooltip} ({cum_text})\" color=\"{color}\" fillcolor=\"{fill}\"]"
        ));
    }

    /// The name, broken into lines.
    fn name(&self, node: &Node) -> String {
        let columns = &self.report.columns;
        let name = columns.text(node.info.name);
        let name =
            if self.report.settings.folded_labels { crate::report::names::short(name) } else { name.into() };
        let name = escape(&shorten(&name));
        // Go's omitted type arguments are three dots, which are not separators.
        let name = name.replace("::", "\\n").replace("[...]", "[…]").replace('.', "\\n");
        let file = columns.text(node.info.file);
        let file = if file.is_empty() { "" } else { base_name(file) };
        node.info.parts(&name, file, columns.text(node.info.object)).join("\\n") + "\\n"
    }

    /// Writes the boxes of a node's labels, and the edges to them.
    fn tags(&self, node: &Node, number: usize) -> String {
        let flat = !node.outs.is_empty();
        let mut texts: Vec<Tag> = node.labels.texts.values().cloned().collect();
        tags::sort(&mut texts, flat);
        texts.truncate(MAX_NODE_TAGS);
        let numbers: BTreeMap<&str, &Tags> = node
            .labels
            .numbers
            .iter()
            .filter(|(_, numbers)| !numbers.is_empty())
            .map(|(name, numbers)| (name.as_str(), numbers))
            .collect();
        let mut out = String::new();
        for (at, tag) in texts.iter().enumerate() {
            let weight = if flat { tag.weights.flat } else { tag.weights.cum }.value();
            if weight == 0 {
                continue;
            }
            let weight = self.report.format.value(weight);
            let (name, source) = (&tag.name, format!("N{number}"));
            let target = format!("{source}_{at}");
            out += &tag_box(&source, &target, &target, name, &weight, "");
            if let Some(numbers) = numbers.get(name.as_str()) {
                out += &self.number_tags(numbers, flat, &target);
            }
        }
        if let Some(numbers) = numbers.get("") {
            out += &self.number_tags(numbers, flat, &format!("N{number}"));
        }
        out
    }

    fn number_tags(&self, numbers: &Tags, flat: bool, source: &str) -> String {
        let mut out = String::new();
        for (at, tag) in collapse(numbers.values().cloned().collect(), flat).iter().enumerate() {
            let (own, all) = (tag.weights.flat.value(), tag.weights.cum.value());
            let (weight, style) = if flat || own == all { (own, "") } else { (all, " style=\"dotted\"") };
            if weight != 0 {
                let weight = self.report.format.value(weight);
                let target = format!("N{source}_{at}");
                out += &tag_box(source, &target, &target, &tag.name, &weight, style);
            }
        }
        out
    }

    fn edge(&mut self, edge: u32, numbers: &Numbers, has_tags: &[bool]) {
        let edge = self.graph.edges[edge as usize];
        let total = self.report.total;
        let value = edge.weight.value();
        let weight = self.report.format.value(value);
        let inline = if edge.inline { "\\n (inline)" } else { "" };
        let mut attributes = format!("label=\" {weight}{inline}\"");
        if total != 0 {
            let share =
                |factor: i64| 1 + value.wrapping_mul(factor).wrapping_div(total).wrapping_abs().min(factor);
            if share(100) > 1 {
                attributes += &format!(" weight={}", share(100));
            }
            if share(5) > 1 {
                attributes += &format!(" penwidth={}", share(5));
            }
            let score = value as f64 / total.wrapping_abs() as f64;
            attributes += &format!(" color=\"{}\"", color(score, false));
        }
        let name = |row: u32| escape(&self.graph.nodes[row as usize].info.printable(&self.report.columns));
        let arrow = if edge.residual { "..." } else { "->" };
        let tooltip = format!("\"{} {arrow} {} ({weight})\"", name(edge.source), name(edge.target));
        attributes += &format!(" tooltip={tooltip} labeltooltip={tooltip}");
        if edge.residual {
            attributes += " style=\"dotted\"";
        }
        if has_tags[edge.source as usize] {
            attributes += " minlen=2";
        }
        let (source, target) = (numbers[edge.source as usize], numbers[edge.target as usize]);
        self.line(&format!("N{source} -> N{target} [{attributes}]"));
    }
}

fn tag_box(source: &str, target: &str, id: &str, name: &str, weight: &str, style: &str) -> String {
    format!(
        "{target} [label = \"{name}\" id=\"{id}\" fontsize=8 shape=box3d tooltip=\"{weight}\"]\n\
         {source} -> {target} [label=\" {weight}\" weight=100 tooltip=\"{weight}\" \
         labeltooltip=\"{weight}\"{style}]\n"
    )
}

/// Reduces numeric labels to [`MAX_NODE_TAGS`]: each is merged with the nearest of the heaviest
/// ones.
fn collapse(mut all: Vec<Tag>, flat: bool) -> Vec<Tag> {
    tags::sort(&mut all, flat);
    if all.len() <= MAX_NODE_TAGS {
        return all;
    }
    let rest = all.split_off(MAX_NODE_TAGS);
    let mut groups: Vec<Vec<Tag>> = all.into_iter().map(|tag| vec![tag]).collect();
    for tag in rest {
        let distance = |group: &Vec<Tag>| {
            let (other, _) = unit::scale(group[0].value, &group[0].unit, &tag.unit);
            (tag.value as f64 - other).abs()
        };
        let mut nearest = 0;
        for at in 1..groups.len() {
            if distance(&groups[at]) < distance(&groups[nearest]) {
                nearest = at;
            }
        }
        groups[nearest].push(tag);
    }
    let mut joined: Vec<Tag> = groups.iter().map(|group| join(group)).collect();
    tags::sort(&mut joined, flat);
    joined
}

/// A group as one label: `1MB..2MB`.
fn join(group: &[Tag]) -> Tag {
    let label = |tag: &Tag| unit::label(tag.value, &tag.unit);
    let (mut low, mut high) = (&group[0], &group[0]);
    let mut sums = group[0].weights;
    for tag in &group[1..] {
        let in_unit_of = |other: &Tag| truncate(unit::scale(tag.value, &tag.unit, &other.unit).0);
        if in_unit_of(low) < low.value {
            low = tag;
        }
        if in_unit_of(high) > high.value {
            high = tag;
        }
        sums.flat.add(tag.weights.flat);
        sums.cum.add(tag.weights.cum);
    }
    let name = if group.len() == 1 { label(low) } else { format!("{}..{}", label(low), label(high)) };
    let mut joined = Tag { name, ..Tag::default() };
    // Means are computed here, because a group has no divisor.
    joined.weights.flat.sum = sums.flat.value();
    joined.weights.cum.sum = sums.cum.value();
    joined
}

/// Repairs a graph so that it can be drawn. The reference does not escape the values of labels: a
/// value with a quote makes the graph invalid. `-dot` prints the graph as the reference does.
pub fn readable(graph: &str) -> String {
    const BEFORE: &str = " [label = \"";
    const BEHIND: &str = "\" id=\"N";
    let mut out = String::with_capacity(graph.len());
    let mut rest = graph;
    while let Some((before, from_name)) = rest.split_once(BEFORE)
        && let Some((name, behind)) = from_name.split_once(BEHIND)
    {
        out.extend([before, BEFORE, &tag_text(name), BEHIND]);
        rest = behind;
    }
    out + rest
}

/// A label's text with escaped quotes.
fn tag_text(name: &str) -> String {
    if !name.contains('"') && !name.ends_with('\\') {
        return name.into();
    }
    // Values of one key are joined with `\n`, which stays.
    name.split("\\n")
        .map(|part| part.replace('\\', "\\\\").replace('"', "\\\""))
        .collect::<Vec<_>>()
        .join("\\n")
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\l")
}

/// A colour from green (-1) over grey (0) to red (1); pale for backgrounds.
fn color(score: f64, is_background: bool) -> String {
    let (mut saturation, value) = if is_background { (0.1, 0.93) } else { (1.0, 0.7) };
    let mut score = if score.is_nan() { score } else { score.clamp(-1.0, 1.0) };
    if score.abs() < 0.2 {
        saturation *= score.abs() / 0.2;
    }
    const SHIFT: f64 = 0.7;
    if score > 0.0 {
        score = score.powf(1.0 - SHIFT);
    }
    if score < 0.0 {
        score = -(-score).powf(1.0 - SHIFT);
    }
    let (red, green) = if score < 0.0 {
        (value * (1.0 + saturation * score), value)
    } else {
        (value, value * (1.0 - saturation * score))
    };
    let blue = value * (1.0 - saturation);
    let [red, green, blue] = [red, green, blue].map(|part| (part * 255.0) as u8);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_in_labels_are_escaped() {
        assert_eq!(tag_text("key:plain\\nkey:other"), "key:plain\\nkey:other");
        assert_eq!(tag_text("key:a\"b\\nk:c\\"), "key:a\\\"b\\nk:c\\\\");
        let graph = tag_box("N1", "N1_0", "N1_0", "key:a\"b", "1s", "") + "N2 [label=\"f\"]\n";
        let mended = readable(&graph);
        assert!(
            mended.contains("[label = \"key:a\\\"b\" id=\"N1_0\"") && mended.ends_with("N2 [label=\"f\"]\n")
        );
    }
}
