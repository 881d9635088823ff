//! `rprof top`, `list`, `tree`, `peek`, `tags`, `traces`, `diff`, `flame`: on files, as scripts use
//! them.

use serde_json::Value;

use crate::{fixture, printed, rprof};

fn json(arguments: &[&str]) -> Value {
    let text = printed(&[arguments, &["--format", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

#[test]
fn every_report_has_every_format() {
    let (labels, inlined) = (fixture("labels.pb.gz"), fixture("inlined.pb.gz"));
    let reports: [&[&str]; 7] = [
        &["top", &labels],
        &["tree", &labels],
        &["peek", "f3", &labels],
        &["list", "f1", &inlined],
        &["tags", &labels],
        &["traces", &labels],
        &["diff", &labels, &labels, "--all", "--sample-type", "cpu"],
    ];
    for report in reports {
        for format in ["text", "json", "markdown", "csv"] {
            let output = rprof(&[report, &["--format", format]].concat());
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{report:?} {format}: {errors}");
            assert!(!output.stdout.is_empty() && !output.stdout.contains(&0x1b), "{report:?} {format}");
        }
    }
}

#[test]
fn all_flats_together_are_the_total() {
    let file = fixture("labels.pb.gz");
    let top = json(&["top", &file, "-n", "3"]);
    let flat = |value: &Value| value["flat"].as_i64().unwrap();
    let shown: i64 = top["functions"].as_array().unwrap().iter().map(flat).sum();
    assert_eq!(top["functions"].as_array().unwrap().len(), 3);
    let all = json(&["top", &file, "-n", "0"]);
    let sum: i64 = all["functions"].as_array().unwrap().iter().map(flat).sum();
    assert_eq!(shown + flat(&top["more_functions"]), sum);
    assert!(all.get("more_functions").is_none());
    // No id stands for two rows.
    let ids: std::collections::BTreeSet<&str> =
        all["functions"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all["functions"].as_array().unwrap().len());
}

#[test]
fn options_may_stand_anywhere_and_several_files_are_put_together() {
    let file = fixture("labels.pb.gz");
    let once = json(&["top", &file]);
    let twice = json(&["top", "--cum", &file, "--unit", "ms", &file]);
    let total = |report: &Value| report["profile"]["total"].as_i64().unwrap();
    assert_eq!(total(&twice), 2 * total(&once));
    let focused = json(&["top", &file, "--focus", "f1", "--ignore", "f2"]);
    assert_eq!(focused["profile"]["filters"], serde_json::json!(["focus=f1", "ignore=f2"]));
}

#[test]
fn a_profile_does_not_differ_from_itself() {
    let file = fixture("labels.pb.gz");
    let diff = json(&["diff", &file, &file]);
    assert_eq!(diff["changes"], serde_json::json!([]));
    let all = json(&["diff", &file, &file, "--all", "-n", "0"]);
    let changes = all["changes"].as_array().unwrap();
    assert!(!changes.is_empty());
    assert!(changes.iter().all(|change| change["change"] == 0 && change["verdict"] == "not significant"));
}

#[test]
fn errors_say_what_and_why_with_the_exit_status_of_their_kind() {
    for (arguments, status, words) in [
        (&["top", "no/such/file"][..], 1, &["error: cannot read no/such/file", "no such file"][..]),
        (&["top", "Cargo.toml"], 1, &["cannot read Cargo.toml", "unrecognized profile format"]),
        (&["list", "nothing-like-it", &fixture("heap.pb.gz")], 1, &["no function matches `nothing-like-it`"]),
        (&["top", &fixture("heap.pb.gz"), "--focus", "("], 2, &["--focus", "missing closing )"]),
        (&["top", &fixture("heap.pb.gz"), "--sample-type", "cpu"], 1, &["cpu", "must be one of"]),
        (&["top"], 2, &["FILE"]),
        (&["flame", &fixture("heap.pb.gz"), "-o", "x.gif"], 1, &["x.gif", "html"]),
    ] {
        let output = rprof(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {errors}");
        for word in words {
            assert!(errors.contains(word), "{arguments:?}: {word:?} is missing from {errors}");
        }
    }
}

#[test]
fn flame_graphs_are_pictures_and_pages_that_load_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (file, svg, html) = (fixture("inlined.pb.gz"), path("a.svg"), path("a.html"));
    printed(&["flame", &file, "-o", &svg]);
    printed(&["flame", &file, "-o", &html, "--focus", "f1", "--diff", &file]);
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<?xml") && svg.ends_with("</svg>\n"));
    let html = std::fs::read_to_string(html).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("default-src 'none'"));
    assert!(html.contains("differential"), "the title says what it is");
    for page in [svg, html] {
        let links =
            page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xhtml", "");
        assert!(!links.contains("http://") && !links.contains("https://") && !links.contains(" src="));
        assert!(!page.contains("onload=") && !page.contains("onclick="));
    }
}

#[test]
fn pprofs_command_line_has_the_formats_too() {
    let file = fixture("labels.pb.gz");
    let text = printed(&["pprof", "-symbolize=none", "-top", "-format=json", "-nodecount=2", &file]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((report["report"].as_str(), report["functions"].as_array().unwrap().len()), (Some("top"), 2));
    for (command, list) in [("-dot", "functions"), ("-raw", "samples"), ("-comments", "comments")] {
        let text = printed(&["pprof", "-symbolize=none", command, "-format=json", &file]);
        let report: Value = serde_json::from_str(&text).unwrap();
        assert!(!report[list].as_array().unwrap().is_empty(), "{command}: {text}");
    }
    let refused = rprof(&["pprof", "-svg", "-format=json", &file]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("-format=json"));
}
