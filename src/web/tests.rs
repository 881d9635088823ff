//! The responses of a site with a small profile.

use serde_json::Value;

use super::*;
use crate::{
    profile::{
        Builder, LineSpec,
        builder::LabelValue,
        columns::{Columns, aggregate::Detail, decode, parse},
        encode_gzip,
    },
    report::pprof::{Settings, objects::NoObjects},
};

/// `main` (100) calls `work` (90) and `idle` (10); `tight` (60) is inlined into `work`, which also
/// (30) calls `main` again and that `work`.
pub(super) fn profile() -> Columns {
    let mut columns = decoded(["main", "work", "idle", "tight"]);
    let by_function = Detail {
        inlines: true,
        functions: true,
        files: true,
        lines: false,
        columns: false,
        addresses: false,
    };
    columns.aggregate(by_function);
    columns
}

fn decoded(names: [&str; 4]) -> Columns {
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    let [main, work, idle, tight] = names.map(|name| builder.function(name, name, "a.c", 3));
    let line = |function| LineSpec { function, line: 7, column: 0 };
    let main = builder.location(None, 0x10, &[line(main)]);
    let worked = builder.location(None, 0x20, &[line(work)]);
    let inlined = builder.location(None, 0x30, &[line(tight), line(work)]);
    let idle = builder.location(None, 0x40, &[line(idle)]);
    builder.sample(&[inlined, main], &[6, 60], &[]);
    builder.sample(&[worked, main, worked, main], &[3, 30], &[]);
    builder.sample(&[idle, main], &[1, 10], &[]);
    decode::read(encode_gzip(&builder.finish())).expect("a profile")
}

fn site(columns: Columns) -> Site {
    let offered = Offered::loaded("cpu.pb.gz", columns);
    Site::new(vec![offered], tools(Box::new(|graph| Ok([b"drawn: ", graph].concat()))))
}

fn tools(draw: Box<Draw>) -> Tools {
    Tools { settings: Settings::default(), configs: None, objects: Box::new(NoObjects), draw }
}

fn get(path: &str, query: &str) -> (u16, Value) {
    let response = site(profile()).respond(Request { path, query, is_post: false });
    let text = String::from_utf8(response.body).expect("text");
    (response.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[test]
fn a_flame_graph_is_sent_as_arrays() {
    let (status, flame) = get("api/flame", "");
    assert_eq!(status, 200, "{flame}");
    assert_eq!(flame["total"], 100);
    assert_eq!(flame["frames"]["name"], serde_json::json!(["main", "work", "idle", "tight"]));
    assert_eq!(flame["nodes"]["weight"], serde_json::json!([100, 100, 90, 10, 60, 30, 30]));
    assert_eq!(flame["nodes"]["inlined"], serde_json::json!([4]));
}

#[test]
fn every_page_and_every_file_that_it_names_exists() {
    let site = site(profile());
    let get = |path: &str| site.respond(Request { path, query: "", is_post: false });
    for view in assets::VIEWS {
        assert_eq!((get(view).status, get(view).content_type), (200, "text/html; charset=utf-8"), "{view}");
    }
    let page = String::from_utf8(get("top").body).expect("text");
    for named in page.split('"').filter(|text| text.starts_with("assets/")) {
        assert_eq!(get(named).status, 200, "{named}");
    }
    assert!(!page.contains("style=") && !page.contains("<script>") && !page.contains("onclick"));
    assert_eq!(get("").location, Some("flamegraph"));
    assert_eq!(get("assets/nothing.js").status, 404);
    assert_eq!(get("nothing").status, 404);
}

#[test]
fn modules_import_only_embedded_files() {
    let site = site(profile());
    for (name, text) in assets::scripts() {
        let imports = text.split(['"']).filter(|part| part.starts_with("./"));
        for import in imports {
            let path = format!("assets/{}", import.trim_start_matches("./"));
            let response = site.respond(Request { path: &path, query: "", is_post: false });
            assert_eq!(response.status, 200, "{name} imports {import}");
        }
        for forbidden in ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://cdn"] {
            assert!(!text.contains(forbidden), "{name} has {forbidden}");
        }
    }
}

#[test]
fn a_search_counts_the_whole_profile() {
    let (status, found) = get("api/search", "q=%5E(tight%7Cidle)$");
    assert_eq!(
        (status, &found["frames"], &found["weight"], &found["total"]),
        (200, &2.into(), &70.into(), &100.into())
    );
    assert_eq!(get("api/search", "q=(").0, 400);
}

#[test]
fn filters_and_zooms_can_be_combined() {
    let (_, flame) = get("api/flame", "i=tight");
    assert_eq!(flame["nodes"]["weight"][0], 40);
    let (_, below) = get("api/flame", "root=0,1");
    assert_eq!(below["nodes"]["weight"], serde_json::json!([90, 60, 30, 30]));
    let (_, around) = get("api/flame", "around=1&up=1");
    assert_eq!(
        (&around["around"], &around["nodes"]["weight"]),
        (&"work".into(), &serde_json::json!([90, 90]))
    );
    let (status, why) = get("api/flame", "f=(");
    assert_eq!(status, 400);
    assert!(why["error"].as_str().is_some_and(|why| why.starts_with("parsing focus regexp")), "{why}");
    assert_eq!(get("api/flame", "root=x").0, 400);
    assert_eq!((get("api/flame", "in=7").0, get("api/flame", "in=x").0), (404, 400));
    assert_eq!(get("api/flame", "around=4000000000").1["nodes"]["weight"], serde_json::json!([0]));
}

#[test]
fn reports_graphs_and_downloads_are_the_same_as_on_the_command_line() {
    let (_, top) = get("api/report", "report=top&sort=cum");
    assert_eq!(top["functions"][0]["name"], "main");
    let (_, peek) = get("api/report", "report=peek&re=tight");
    assert_eq!(peek["functions"][0]["callers"][0]["name"], "work");
    assert_eq!(get("api/report", "report=web").0, 400);
    let (status, graph) = get("api/graph", "");
    assert!(
        status == 200 && graph.as_str().is_some_and(|text| text.starts_with("drawn: digraph")),
        "{graph}"
    );
    assert!(!graph.to_string().contains("cluster_L"), "a graph without a legend: {graph}");
    let download = site(profile()).respond(Request { path: "download", query: "f=tight", is_post: false });
    assert_eq!(decode::read(download.body).expect("a profile").sample_count(), 3);
}

#[test]
fn without_threads_and_times_the_response_says_why() {
    assert_eq!(get("api/threads", "").1["groups"], serde_json::json!([]));
    let (_, timeline) = get("api/timeline", "");
    assert!(timeline["why"].as_str().is_some_and(|why| why.contains("have no times")), "{timeline}");
    assert_eq!(get("api/diff", "").0, 400);
}

/// Two threads: one runs in the first second of ten, the other in the sixth.
fn trace() -> Columns {
    let mut builder = Builder::new(&[("spans", "count"), ("time", "nanoseconds")]);
    for (tid, seconds, took) in [(1, 1, 1), (2, 6, 1), (1, 10, 4)] {
        let labels = [
            ("tid", LabelValue::Number(tid, "")),
            ("state", LabelValue::Text(if took == 1 { "runs" } else { "waits" })),
            ("end_timestamp_ns", LabelValue::Number(seconds * 1_000_000_000, "nanoseconds")),
        ];
        builder.sample(&[], &[1, took * 1_000_000_000], &labels);
    }
    parse::of_profile(&builder.finish()).expect("a profile")
}

#[test]
fn filters_do_not_change_the_times_of_a_timeline() {
    let site = site(trace());
    let get = |query: &str| -> Value {
        let response = site.respond(Request { path: "api/timeline", query, is_post: false });
        serde_json::from_slice(&response.body).expect("JSON")
    };
    let seconds = |timeline: &Value| timeline["rows"][0]["value"].as_f64().expect("a number") / 1e9;
    let whole = get("");
    assert_eq!((whole["row_count"].as_u64(), whole["length_ns"].as_i64()), (Some(2), Some(10_000_000_000)));
    // Both run for a second; the one that also waits comes first.
    assert_eq!((&whole["rows"][0]["name"], &whole["states"][1]), (&" (1)".into(), &"waits".into()));
    for query in ["from=5000000000&until=6000000000", "from=5000000000&until=6000000000&tf=tid=2"] {
        let part = get(query);
        assert_eq!((part["rows"].as_array().map(Vec::len), seconds(&part)), (Some(1), 1.0), "{query}");
    }
    assert_eq!(get("tf=tid=2&until=5000000000")["rows"], serde_json::json!([]));
}

#[test]
fn two_profiles_are_compared_whichever_comes_first() {
    let offered = || [Offered::loaded("a", profile()), Offered::loaded("b", profile())];
    let site = Site::new(offered().into(), tools(Box::new(|_| Err("no graph".into()))));
    let get = |path: &str, query: &str| site.respond(Request { path, query, is_post: false });
    let flame: Value = serde_json::from_slice(&get("api/flame", "in=1&vs=0").body).expect("JSON");
    assert_eq!(flame["is_difference"], true);
    assert_eq!((&flame["nodes"]["weight"][0], &flame["nodes"]["net"][0]), (&200.into(), &0.into()));
    assert_eq!(get("api/diff", "in=1&vs=0&all=1").status, 200);
    assert_eq!(get("api/graph", "").status, 501);
    assert_eq!(get("saveconfig", "config=x").status, 405);
}

#[test]
fn profiles_that_come_and_go_keep_their_numbers() {
    let site = Site::growing(tools(Box::new(|_| Err("no graph".into()))));
    let get = |path: &str, query: &str| {
        let response = site.respond(Request { path, query, is_post: false });
        (response.status, String::from_utf8_lossy(&response.body).into_owned())
    };
    assert_eq!(get("api/info", "").0, 404);
    let mut bytes = Vec::new();
    profile().write_gzip(&mut bytes).expect("into memory");
    let add = |name: &str| site.add(Offered::encoded(name, bytes.clone(), "./?pid=7"));
    assert_eq!(["one", "two", "three"].map(add), [1, 2, 3]);
    let info: Value = serde_json::from_str(&get("api/info", "").1).expect("JSON");
    assert_eq!(
        (&info["name"], &info["number"], &info["made_at"]),
        (&"three".into(), &3.into(), &"./?pid=7".into())
    );
    assert_eq!(get("api/flame", "in=3&vs=1").0, 200);
    assert_eq!(get("flamegraph", "in=1").0, 200);
    site.remove_oldest();
    for (path, query) in
        [("api/flame", "in=1"), ("api/flame", "in=3&vs=1"), ("api/diff", "in=1&vs=2"), ("download", "in=1")]
    {
        let (status, why) = get(path, query);
        assert!(
            status == 404 && why.contains("profile 1 is not kept any more"),
            "{path}?{query}: {status} {why}"
        );
    }
    assert_eq!(get("flamegraph", "in=1").0, 404, "the status reports it");
    assert!(get("api/info", "in=9").1.contains("profile 9 not found"));
    assert_eq!((get("api/flame", "in=2&vs=3").0, add("four")), (200, 4));
    let download = site.respond(Request { path: "download", query: "in=2", is_post: false });
    assert_eq!((download.body == bytes, download.save_as.as_deref()), (true, Some("profile2.pb.gz")));
    assert_eq!(site.respond(Request { path: "saveconfig", query: "config=x", is_post: true }).status, 400);
}
