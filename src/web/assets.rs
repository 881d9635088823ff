//! The pages' scripts and styles: the files of `assets/`, embedded as they are.
//!
//! Not here: the data that they request ([`super::data`]).

use super::Response;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The views. All have the same HTML; its script shows the view that the URL names.
pub const VIEWS: &[&str] =
    &["flamegraph", "top", "graph", "peek", "source", "disasm", "tags", "threads", "timeline", "diff"];

const PAGE: &str = include_str!("assets/index.html");

macro_rules! asset {
    ($name:literal, $kind:ident) => {
        ($name, $kind, include_str!(concat!("assets/", $name)))
    };
}

const ASSETS: &[(&str, &str, &str)] = &[
    asset!("style.css", STYLE),
    asset!("flame.css", STYLE),
    asset!("capture.css", STYLE),
    asset!("spool.css", STYLE),
    asset!("about.js", SCRIPT),
    asset!("app.js", SCRIPT),
    asset!("bar.js", SCRIPT),
    asset!("capture.js", SCRIPT),
    asset!("colors.js", SCRIPT),
    asset!("data.js", SCRIPT),
    asset!("diff.js", SCRIPT),
    asset!("dom.js", SCRIPT),
    asset!("expression.js", SCRIPT),
    asset!("flame.js", SCRIPT),
    asset!("flame_export.js", SCRIPT),
    asset!("flame_more.js", SCRIPT),
    asset!("flame_tree.js", SCRIPT),
    asset!("flame_view.js", SCRIPT),
    asset!("graph.js", SCRIPT),
    asset!("menus.js", SCRIPT),
    asset!("navigate.js", SCRIPT),
    asset!("peek.js", SCRIPT),
    asset!("selection.js", SCRIPT),
    asset!("source.js", SCRIPT),
    asset!("spool.js", SCRIPT),
    asset!("tags.js", SCRIPT),
    asset!("theme.js", SCRIPT),
    asset!("threads.js", SCRIPT),
    asset!("timeline.js", SCRIPT),
    asset!("top.js", SCRIPT),
    asset!("units.js", SCRIPT),
];

/// The HTML of every view.
pub fn page() -> Response {
    Response::new(HTML, PAGE)
}

/// The asset of this name.
pub fn find(name: &str) -> Option<Response> {
    let (_, kind, text) = ASSETS.iter().find(|(known, _, _)| *known == name)?;
    Some(Response::new(kind, *text))
}

/// All scripts, by name.
#[cfg(test)]
pub fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    ASSETS.iter().filter(|(_, kind, _)| *kind == SCRIPT).map(|(name, _, text)| (*name, *text))
}
