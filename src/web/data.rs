//! Responds to requests: pages, assets, and the data that the pages request, by path.
//!
//! Not here: the pages and scripts themselves (`assets`).

use serde_json::{Value, json};

use super::{
    DataError, Request, Response, Site, assets, configs, flame, query::Query, search, threads, timeline,
    times,
};
use crate::profile::columns::Columns;
use crate::report::{
    output::{self, ReportRequest, TextFormat},
    paths::{error_points, sample_count},
    pprof::{Command, Messages, OPTIONS, Settings, generate_with, greeting},
};

type DataResult = Result<Response, DataError>;

impl Site {
    /// Responds to a request. An invalid request gets a response that explains the error.
    pub fn respond(&self, request: Request) -> Response {
        if let Some(name) = request.path.strip_prefix("assets/") {
            return assets::find(name).unwrap_or_else(|| Response::failure(404, "file not found"));
        }
        if request.path.is_empty() {
            return Response { status: 302, location: Some("flamegraph"), ..Response::json("") };
        }
        if assets::VIEWS.contains(&request.path) {
            // The page itself reports other errors.
            let status = match self.profiles.requested(&Query::parse(request.query)) {
                Err(why) if why.status == 404 => 404,
                _ => 200,
            };
            return Response { status, ..assets::page() };
        }
        respond(self, request).unwrap_or_else(|why| why.response())
    }
}

/// Responds to a request for data.
///
/// # Errors
/// [`DataError`] when the request is invalid or the data are not available.
fn respond(site: &Site, request: Request) -> DataResult {
    let query = Query::parse(request.query);
    let json = |value: Value| Ok(Response::json(value.to_string()));
    match request.path {
        "api/info" => json(info(site, &query)?),
        "api/flame" => json(flame::respond(&*site.prepared(&query)?, &query)?),
        "api/search" => json(search::respond(&*site.prepared(&query)?, &query)?),
        "api/threads" => json(threads::respond(&*site.prepared(&query)?)),
        "api/timeline" => json(timeline::respond(&*site.prepared(&query)?, &query)?),
        "api/diff" => diff(site, &query),
        "api/configs" => json(configs::list(site.tools.configs.as_deref(), &query, &site.tools.settings)?),
        "saveconfig" | "deleteconfig" if !request.is_post => {
            Err(DataError { status: 405, why: "this needs POST".into() })
        }
        "saveconfig" => configs::save(site.tools.configs.as_deref(), &query, &site.tools.settings)
            .and_then(|()| json(json!({}))),
        "deleteconfig" => {
            configs::delete(site.tools.configs.as_deref(), &query).and_then(|()| json(json!({})))
        }
        "api/report" => report(site, &query),
        "api/graph" => graph(site, &query),
        "download" => download(site, &query),
        _ => Err(DataError { status: 404, why: "page not found".into() }),
    }
}

/// Facts about the profile, and the settings of the command line.
fn info(site: &Site, query: &Query) -> Result<Value, DataError> {
    let columns = site.profiles.columns(query)?;
    let kinds = &columns.header.kinds;
    let kinds: Vec<Value> = kinds
        .iter()
        .map(|kind| json!({ "name": columns.text(kind.name), "unit": columns.text(kind.unit) }))
        .collect();
    let value = columns.value_index(&site.tools.settings.sample_index).unwrap_or(0);
    let in_full = Settings { compact_labels: false, ..site.tools.settings.clone() };
    let lines = greeting(columns.clone(), &in_full, &mut Messages::new()).map(|(lines, _)| lines);
    let set = OPTIONS.iter().filter(|option| !option.url_name.is_empty());
    let set = set.map(|option| (option.url_name.to_string(), option.get(&site.tools.settings).into()));
    Ok(json!({
        "name": site.profiles.name(query)?,
        "profiles": site.profiles.list(),
        "number": site.profiles.requested(query)?.0,
        "made_at": site.profiles.made_at(query)?,
        "can_save": site.tools.configs.is_some(),
        "kinds": kinds,
        "default_kind": value,
        "lines": lines.unwrap_or_default(),
        "facts": facts(&columns, value),
        "has_times": times::has_times(&columns),
        "samples": sample_count(&columns),
        "stacks": columns.sample_count(),
        "duration_ns": columns.header.duration_ns,
        "doc_url": columns.text(columns.header.doc_url),
        "settings": set.collect::<serde_json::Map<_, _>>(),
    }))
}

/// What a reader must know of a profile before its content, and what makes it uncertain.
fn facts(columns: &Columns, value: usize) -> Value {
    let comments: Vec<&str> = columns.header.comments.iter().map(|comment| columns.text(*comment)).collect();
    let stated = |key: &str| {
        let found = comments.iter().filter_map(|comment| comment.strip_prefix(key)?.strip_prefix(": "));
        found.map(str::to_owned).collect::<Vec<_>>()
    };
    let unnamed = stated("unnamed").first().and_then(|text| text.split('%').next()?.parse::<f64>().ok());
    json!({
        "targets": stated("target"),
        "sampler": stated("sampler").first().cloned().unwrap_or_default(),
        "unnamed_percent": unnamed,
        "lost": stated("lost").first().cloned().unwrap_or_default(),
        "error_points": error_points(columns, value),
        "time_ns": columns.header.time_ns,
    })
}

/// The reports that are shown as tables, and the default number of entries of each.
const REPORTS: [(&str, usize); 6] =
    [("top", 500), ("peek", 500), ("list", 50), ("disasm", 50), ("tags", 200), ("traces", 200)];

fn report(site: &Site, query: &Query) -> DataResult {
    let name = query.get("report");
    let row = REPORTS.iter().find(|(known, _)| *known == name);
    let Some((_, count)) = row else {
        return Err(DataError::bad_request("report= must be one of top, peek, list, disasm, tags, traces"));
    };
    let settings = query.settings(&site.tools.settings)?;
    let command = Command::find(name).ok_or_else(|| DataError::bad_request("unknown report"))?;
    let count = usize::try_from(settings.nodecount).ok().filter(|count| *count > 0).unwrap_or(*count);
    // Links in the reference's format name the function in `f`.
    let expression = [query.get("re"), query.get("f")].into_iter().find(|text| !text.is_empty());
    let argument = command.has_argument.then(|| expression.unwrap_or("."));
    let request = ReportRequest { argument, count: Some(count), tool: Some(&*site.tools.objects) };
    let columns = site.profiles.displayed(query)?;
    let mut messages = Vec::new();
    let report = output::build_report(columns, command, request, &settings, &mut messages);
    let mut report = report.map_err(|why| DataError::bad_request(&why))?;
    report.notes.extend(messages);
    Ok(Response::json(report.print(TextFormat::Json, None, false)))
}

/// The changes between two profiles; with `all`, also those within noise.
fn diff(site: &Site, query: &Query) -> DataResult {
    let settings = query.settings(&site.tools.settings)?;
    let (both, names) = site.profiles.both(query)?;
    let count = usize::try_from(settings.nodecount).ok().filter(|count| *count > 0).unwrap_or(500);
    let request = ReportRequest { count: Some(count), ..ReportRequest::default() };
    let mut messages = Vec::new();
    let report = output::diff(both, names, &settings, request, !query.get("all").is_empty(), &mut messages);
    let mut report = report.map_err(|why| DataError::bad_request(&why))?;
    // The page has a button for it, not an option.
    report.notes.retain(|note| !note.contains("--all"));
    report.notes.extend(messages);
    Ok(Response::json(report.print(TextFormat::Json, None, false)))
}

/// Most nodes of a graph that is drawn: the time to lay a graph out grows faster than its size.
const MAX_GRAPH_NODES: usize = 500;

/// A line of DOT that begins a node: `N17 [label=…`. Edges are `N1 -> N2 […`.
fn is_node(line: &[u8]) -> bool {
    let number = line.strip_prefix(b"N").unwrap_or_default();
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    number[digits..].starts_with(b" [")
}

/// The call graph, drawn.
fn graph(site: &Site, query: &Query) -> DataResult {
    let settings = Settings { folded_labels: true, ..query.settings(&site.tools.settings)? };
    let dot = Command::find("dot").ok_or_else(|| DataError::bad_request("unknown report"))?;
    let columns = site.profiles.displayed(query)?;
    let graph = generate_with(&*site.tools.objects, columns, dot, None, &settings, &mut Messages::new());
    let graph = graph.map_err(|why| DataError::bad_request(&why))?;
    let nodes = graph.split(|byte| *byte == b'\n').filter(|line| is_node(line)).count();
    if nodes > MAX_GRAPH_NODES {
        return Err(DataError::bad_request(&format!(
            "the graph has {nodes} nodes, and at most {MAX_GRAPH_NODES} are drawn: choose fewer (n=) or focus it (f=)"
        )));
    }
    let drawn = (site.tools.draw)(&without_legend(&graph)).map_err(|why| DataError { status: 501, why })?;
    Ok(Response::new("image/svg+xml", drawn))
}

/// The graph without its legend, a node that repeats what the page shows beside the graph. The
/// reference writes it on one line.
fn without_legend(graph: &[u8]) -> Vec<u8> {
    let lines = graph.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"subgraph cluster_L")).collect::<Vec<_>>().concat()
}

/// The profile itself, without filters.
fn download(site: &Site, query: &Query) -> DataResult {
    let (name, bytes) = match site.profiles.encoded(query)? {
        Some((number, bytes)) => (format!("profile{number}.pb.gz"), bytes.to_vec()),
        None => {
            let mut bytes = Vec::new();
            let written = site.profiles.columns(query)?.write_gzip(&mut bytes);
            written.map_err(|error| DataError { status: 500, why: error.to_string() })?;
            ("profile.pb.gz".into(), bytes)
        }
    };
    let response = Response::new("application/vnd.google.protobuf+gzip", bytes);
    Ok(Response { save_as: Some(name), ..response })
}
