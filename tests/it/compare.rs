//! Comparisons: `diff` with its exit code, `compare` of two commands, and Go's profile-guided
//! optimisation with profiles of rprof.

use std::{fs, process::Command};

use serde_json::Value;

use crate::harness::{Fixture, Outcome, Rprof, Skip, Target, alone, go_cache, installed, open_folder, skip};

/// `rprof diff` of two profiles with 10000 samples each, of which so many are in `grower`.
fn diff(base: u32, new: u32, arguments: &[&str]) -> Outcome {
    let folder = open_folder();
    let file = |name: &str, grower: u32| {
        let path = folder.path().join(name);
        let text = format!("main;steady {}\nmain;grower {grower}\n", 10_000 - grower);
        fs::write(&path, text).expect("own folder");
        path.to_string_lossy().into_owned()
    };
    let (base, new) = (file("base.folded", base), file("new.folded", new));
    Rprof::verb("diff").args(&[&base, &new]).args(arguments).run()
}

#[test]
fn diff_exits_with_3_if_and_only_if_a_function_grew_significantly_by_the_limit() {
    let grew = diff(1000, 2000, &["--fail-on", "+3pp"]);
    assert_eq!(grew.code, Some(3), "{}", grew.stderr);
    assert!(grew.stderr.contains("failed: grower grew by 10.00 points"), "{}", grew.stderr);
    assert!(grew.printed().contains("grew: grower"), "{}", grew.printed());
    // Below the limit; significant, but without a limit; shrunk; and not significant.
    for (base, new, arguments) in [
        (1000, 2000, &["--fail-on", "+11pp"][..]),
        (1000, 2000, &[]),
        (2000, 1000, &["--fail-on", "+11pp"]),
        (1000, 1001, &["--fail-on", "0"]),
    ] {
        let outcome = diff(base, new, arguments);
        assert_eq!(outcome.code, Some(0), "{arguments:?}: {}{}", outcome.printed(), outcome.stderr);
    }
    assert_eq!(diff(1000, 2000, &["--fail-on", "much"]).code, Some(2));
    // The report has one entry only; the other one is what grew.
    assert_eq!(diff(1000, 2000, &["--fail-on", "+3pp", "-n", "1"]).code, Some(3));
}

#[test]
fn a_comparison_is_markdown_and_per_request_if_requested() {
    let outcome = diff(1000, 2000, &["--markdown", "--per", "requests=100,200"]);
    let printed = outcome.printed();
    assert!(printed.contains("| `grower` |") || printed.contains("`grower`"), "{printed}");
    assert!(printed.contains("per requests: total: 100"), "{printed}");
    assert!(printed.contains("-> 50"), "{printed}");
}

/// `rprof compare` of two ways to run `work.c`, and its changes by name, in points.
fn compare(arguments: &[&str], old: [&str; 2], new: [&str; 2]) -> (Outcome, Vec<(String, f64)>) {
    let work = Fixture::c(&["work.c"]).build().to_string_lossy().into_owned();
    let mut line = vec!["-n", "5", "-F", "999", "--no-kernel", "--format", "json"];
    line.extend(arguments);
    line.extend(["--", &work, old[0], old[1], "--", &work, new[0], new[1]]);
    let outcome = Rprof::verb("compare").args(&line).run();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}\n{}", outcome.printed(), outcome.stderr);
    });
    let changes = report["changes"].as_array().expect("changes").iter();
    let change = |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["change"].as_f64()?));
    let changes = changes.filter_map(change).collect();
    (outcome, changes)
}

#[test]
fn compare_finds_a_planted_change_of_ten_points_and_fails_with_3() {
    let _alone = alone();
    // steady and planted have 75 and 25 % of the time, then 65 and 35 %.
    let (outcome, changes) = compare(&["--cum", "--fail-on", "+3pp"], ["150", "50"], ["130", "70"]);
    assert_eq!(outcome.code, Some(3), "{}{}", outcome.printed(), outcome.stderr);
    let planted = changes.iter().find(|(name, _)| name == "planted");
    let (_, points) = planted.unwrap_or_else(|| panic!("{changes:?}\n{}", outcome.printed()));
    assert!((5.0..15.0).contains(points), "{points} points");
    assert!(outcome.stderr.contains("run 5 of 5: "), "{}", outcome.stderr);
    // What the commands print does not disturb the report.
    assert_eq!(outcome.stderr.lines().filter(|line| *line == "done").count(), 10, "{}", outcome.stderr);
}

#[test]
fn compare_of_a_command_with_itself_succeeds() {
    let _alone = alone();
    let (outcome, _) = compare(&["--cum", "--fail-on", "+5pp"], ["100", "50"], ["100", "50"]);
    assert_eq!(outcome.code, Some(0), "{}{}", outcome.printed(), outcome.stderr);
    assert!(outcome.printed().contains("the total of a run is "), "{}", outcome.printed());
}

#[test]
fn compare_refuses_runs_that_fail_and_a_single_command() {
    let failed = Rprof::verb("compare").args(&["-n", "2", "-q", "--", "true", "--", "false"]).run();
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(failed.stderr.contains("run 1 of `false` failed"), "{}", failed.stderr);
    let one = Rprof::verb("compare").args(&["--", "true"]).run();
    assert!(one.stderr.contains("two commands are needed"), "{}", one.stderr);
}

/// Go builds a program with a profile as its guide. Returns what the compiler decided.
fn go_build(go: &str, profile: &str) -> String {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/programs/virtual.go");
    let folder = open_folder();
    let mut command = Command::new(go);
    command.args(["build", "-o", "program", &format!("-pgo={profile}"), "-gcflags=-m=2", source]);
    command.current_dir(folder.path());
    command.env("GOCACHE", go_cache()).env("GO111MODULE", "off");
    command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
    let output = command.output().expect("go");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn go_makes_a_hot_interface_call_direct_by_a_profile_of_rprof() {
    const DIRECT: &str = "PGO devirtualizing interface call s.step to (*mix).step";
    let _alone = alone();
    let Some(go) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    let target = Target::start(&Fixture::go("virtual.go").build());
    let outcome = Rprof::attach(&target).seconds(2).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let decided = go_build(&go, &outcome.output.to_string_lossy());
    assert!(decided.contains(DIRECT), "{decided}");
    assert!(!go_build(&go, "off").contains(DIRECT));
}
