//! The data of a flame graph: arrays of numbers, and each name once.
//!
//! Not here: summing ([`super::tree`]), drawing (`assets/flame.js`).

use std::borrow::Cow;

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::{
    DataError,
    frames::{Frame, title},
    prepared::Prepared,
    query::Query,
    tree::{Direction, Source, Start, Tree, tree},
};
use crate::{profile::columns::Columns, report::names, text::path::base_name};

/// Boxes that are narrower than this share of the width are neither drawn nor sent.
const SHARE: f64 = 1.0 / 4000.0;

/// Responds with a flame graph. `root=1,2,3`: of the callees below this path; `around=7`: of a
/// frame, wherever it occurs; `up=1`: callers instead of callees.
///
/// # Errors
/// [`DataError`] when a frame number is invalid.
pub fn respond(prepared: &Prepared, query: &Query) -> Result<Value, DataError> {
    let direction = if query.get("up").is_empty() { Direction::Callees } else { Direction::Callers };
    let source =
        Source { columns: &prepared.columns, frames: &prepared.frames, value: prepared.value, direction };
    let start = start(query)?;
    let tree = tree(&source, &start, SHARE);
    let mut response = json!({
        "total": prepared.total,
        "kind": kind(prepared),
        "is_difference": prepared.is_difference,
        "messages": prepared.messages,
        "share": SHARE,
    });
    if prepared.is_difference {
        response["sides"] = prepared.sides.to_vec().into();
    }
    if let Start::Frame(number) = start {
        let frame = prepared.frames.all.get(number as usize);
        response["around"] = frame.map_or_else(String::new, |frame| title(&prepared.columns, frame)).into();
    }
    let numbers = number_frames(&tree);
    response["frames"] = names(prepared, &numbers);
    response["nodes"] = nodes(&tree, &numbers, prepared.is_difference);
    Ok(response)
}

fn start(query: &Query) -> Result<Start, DataError> {
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| DataError::bad_request("root= and around= must be frame numbers"))
    };
    match (query.get("around"), query.get("root")) {
        ("", "") => Ok(Start::Path(Vec::new())),
        ("", path) => Ok(Start::Path(path.split(',').map(number).collect::<Result<_, _>>()?)),
        (frame, _) => Ok(Start::Frame(number(frame)?)),
    }
}

fn kind(prepared: &Prepared) -> Value {
    let kind = prepared.columns.header.kinds.get(prepared.value).copied().unwrap_or_default();
    json!({ "name": prepared.columns.text(kind.name), "unit": prepared.columns.text(kind.unit) })
}

/// Frames in the order of their first occurrence in the tree.
struct Numbers {
    order: Vec<u32>,
    by_frame: FxHashMap<u32, usize>,
}

fn number_frames(tree: &Tree) -> Numbers {
    let mut numbers = Numbers { order: Vec::new(), by_frame: FxHashMap::default() };
    for node in tree.nodes.iter().skip(1) {
        numbers.by_frame.entry(node.frame).or_insert_with(|| {
            numbers.order.push(node.frame);
            numbers.order.len() - 1
        });
    }
    numbers
}

fn names(prepared: &Prepared, numbers: &Numbers) -> Value {
    let columns = &prepared.columns;
    let frames = || numbers.order.iter().map(|number| &prepared.frames.all[*number as usize]);
    let mut modules: Vec<u32> = frames().map(|frame| frame.module).collect();
    modules.sort_unstable();
    modules.dedup();
    let module = |id: &u32| modules.binary_search(id).unwrap_or(0);
    json!({
        "id": numbers.order,
        "name": frames().map(|frame| title(columns, frame)).collect::<Vec<_>>(),
        "short": frames().map(|frame| short_title(columns, frame)).collect::<Vec<_>>(),
        "file": frames().map(|frame| columns.text(frame.file)).collect::<Vec<_>>(),
        "module": frames().map(|frame| module(&frame.module)).collect::<Vec<_>>(),
        "modules": modules.iter().map(|id| short(columns.text(*id))).collect::<Vec<_>>(),
    })
}

/// The title with folded template arguments; `None` where that changes nothing.
fn short_title(columns: &Columns, frame: &Frame) -> Option<String> {
    let title = title(columns, frame);
    match names::short(&title) {
        Cow::Owned(short) => Some(short),
        Cow::Borrowed(_) => None,
    }
}

fn short(module: &str) -> &str {
    if module.is_empty() { "" } else { base_name(module) }
}

fn nodes(tree: &Tree, numbers: &Numbers, is_difference: bool) -> Value {
    let frame = |node: &super::tree::Node| numbers.by_frame.get(&node.frame).copied().unwrap_or(0);
    let nodes = &tree.nodes;
    let mut response = json!({
        "parent": nodes.iter().map(|node| node.parent).collect::<Vec<_>>(),
        "frame": nodes.iter().map(frame).collect::<Vec<_>>(),
        "weight": nodes.iter().map(|node| node.weight).collect::<Vec<_>>(),
        "own": nodes.iter().map(|node| node.own).collect::<Vec<_>>(),
        "hidden": nodes.iter().map(|node| node.hidden).collect::<Vec<_>>(),
        "inlined": nodes.iter().enumerate().filter(|(_, node)| node.inlined).map(|(at, _)| at).collect::<Vec<_>>(),
    });
    if is_difference {
        response["net"] = nodes.iter().map(|node| node.net).collect();
        response["own_net"] = nodes.iter().map(|node| node.own_net).collect();
    }
    response
}
