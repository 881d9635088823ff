//! Draws graphs with an installed `dot`, as `go tool pprof` does, or with the embedded Graphviz
//! (SVG and PostScript, see `report::graphviz`).

use std::{
    io::{self, Write},
    process::{Command as Process, Stdio},
};

use crate::report::{
    graphviz::{self, page},
    pprof::readable,
};

/// Draws a graph. An installed `dot` is preferred: it is several times faster than the embedded
/// one, and its output equals that of `go tool pprof` on this machine.
pub(super) fn draw(graph: Vec<u8>, format: &str, say: &mut dyn FnMut(&str)) -> Result<Vec<u8>, String> {
    let graph = readable(&String::from_utf8_lossy(&graph)).into_bytes();
    let drawn = match by_dot(&graph, format) {
        Err(NoDot::Missing(_)) if graphviz::FORMATS.contains(&format) => {
            graphviz::draw(&graph, format).map_err(|error| format!("cannot draw the graph: {error}"))?
        }
        Err(NoDot::Missing(why)) => {
            say(&format!("-{format} requires an installed Graphviz; -svg and -ps need none"));
            return Err(failed(&why));
        }
        Err(NoDot::Failed(why)) => return Err(failed(&why)),
        Ok(drawn) => drawn,
    };
    Ok(match format {
        "svg" => page::movable(&String::from_utf8_lossy(&drawn)).into_bytes(),
        _ => drawn,
    })
}

/// Draws a graph as SVG without scripts.
pub(super) fn draw_plain(graph: &[u8]) -> Result<Vec<u8>, String> {
    let readable = readable(&String::from_utf8_lossy(graph)).into_bytes();
    match by_dot(&readable, "svg") {
        Ok(drawn) => Ok(page::repaired(&String::from_utf8_lossy(&drawn)).into_bytes()),
        Err(NoDot::Missing(_)) => draw_inside(graph),
        Err(NoDot::Failed(why)) => Err(failed(&why)),
    }
}

/// Draws a graph as SVG with the embedded Graphviz only, which cannot access files: the names in
/// the graph come from the target, and rprof may have more permissions than the target.
pub(super) fn draw_inside(graph: &[u8]) -> Result<Vec<u8>, String> {
    let readable = readable(&String::from_utf8_lossy(graph)).into_bytes();
    let drawn =
        graphviz::draw(&readable, "svg").map_err(|error| format!("cannot draw the graph: {error}"))?;
    Ok(page::repaired(&String::from_utf8_lossy(&drawn)).into_bytes())
}

enum NoDot {
    /// It is not installed.
    Missing(String),
    Failed(String),
}

fn failed(why: &str) -> String {
    format!("failed to execute dot. Is Graphviz installed? Error: {why}")
}

fn by_dot(graph: &[u8], format: &str) -> Result<Vec<u8>, NoDot> {
    let mut dot = Process::new("dot");
    dot.arg(format!("-T{format}")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = dot.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NoDot::Missing("exec: \"dot\": executable file not found in $PATH".into()),
        _ => NoDot::Failed(error.to_string()),
    })?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // If `dot` does not read everything, its exit status gives the reason.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(graph)));
        child.wait_with_output()
    });
    let output = output.map_err(|error| NoDot::Failed(error.to_string()))?;
    match output.status.code() {
        Some(0) => Ok(output.stdout),
        Some(code) => Err(NoDot::Failed(format!("exit status {code}"))),
        None => Err(NoDot::Failed("it was killed by a signal".into())),
    }
}
