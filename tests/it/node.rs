//! A JavaScript program of known proportions, in the system's Node.js and in those that
//! `RPROF_NODES` lists, separated by colons.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    dump::{dump, threads},
    harness::{Frame, Rprof, Skip, Stack, Stacks, Target, alone, installed, skip},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/programs/node_ratio.js");

/// The interpreters to test; skips the test if there is none.
fn nodes() -> Vec<PathBuf> {
    let more = std::env::var("RPROF_NODES").unwrap_or_default();
    let more = more.split(':').filter(|path| !path.is_empty()).map(PathBuf::from);
    let found: Vec<PathBuf> = installed("node").into_iter().map(PathBuf::from).chain(more).collect();
    if found.is_empty() {
        skip(Skip::NotInstalled("node"));
    }
    found
}

fn start(node: &Path, options: &[&str], kind: &str) -> Target {
    Target::spawn(Command::new(node).args(options).args([SCRIPT, kind, "600"]))
}

fn is_ours(frame: &&Frame) -> bool {
    frame.file.ends_with("node_ratio.js")
}

/// The functions that may call a function of the program; `None`: any.
fn callers(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "spin" => &["hot50", "hot30", "hot20"],
        "hot50" => &["Parent.methodA"],
        "hot30" => &["Parent.methodB"],
        "hot20" => &["get Parent.valueC"],
        "Parent.methodA" | "Parent.methodB" | "get Parent.valueC" | "Parent" => &["oneRound"],
        _ => return None,
    })
}

/// Whether a function of the program is called by one that never calls it.
fn is_impossible(stack: &Stack) -> bool {
    let names: Vec<&str> = stack.frames.iter().filter(is_ours).map(|frame| frame.name.as_str()).collect();
    names.windows(2).any(|pair| callers(pair[1]).is_some_and(|callers| !callers.contains(&pair[0])))
        || names.first().is_some_and(|first| callers(first).is_some())
}

fn is_anonymous(frame: &Frame) -> bool {
    let is_memory = ["[jit code", "[anon executable"].iter().any(|start| frame.name.starts_with(start));
    is_memory || frame.name.is_empty() && (frame.mapping.is_empty() || frame.mapping.contains("anon"))
}

/// Shares, callers, and whole stacks without unnamed memory.
#[track_caller]
fn assert_true(profile: &Stacks, what: &str) {
    let summary = || profile.summary();
    profile.assert_hot_parts(what);
    let impossible = profile.share(is_impossible);
    assert!(impossible <= 0.5, "{what}: {impossible:.2} % impossible\n{}", summary());
    let unnamed = profile.share(|stack| stack.frames.iter().any(is_anonymous));
    assert!(unnamed <= 0.1, "{what}: {unnamed:.2} % with unnamed memory\n{}", summary());
    profile.assert_stated_whole();
}

#[test]
fn javascript_functions_have_their_shares_callers_and_lines() {
    let _alone = alone();
    let source = std::fs::read_to_string(SCRIPT).expect("a fixture");
    let line_of = |text: &str| source.lines().position(|line| line == text).map_or(0, |at| at as i64 + 1);
    let spin = line_of("function spin(turns) {");
    let call = line_of("  return spin(n * 5);");
    for node in nodes() {
        let mut target = start(&node, &[], "long");
        let profile = Rprof::attach(&target).profile();
        target.assert_unhurt();
        let what = format!("{}", node.display());
        assert_true(&profile, &what);
        let chain = ["main", "oneRound", "Parent.methodA", "hot50", "spin"];
        profile.assert_nearly_all(98.0, "main to spin", |stack| {
            !stack.has("hot50") || stack.has_in_order(&chain)
        });
        for stack in &profile.stacks {
            let frames: Vec<&Frame> = stack.frames.iter().filter(is_ours).collect();
            for pair in frames.windows(2).filter(|pair| pair[0].name == "hot50" && pair[1].name == "spin") {
                assert_eq!((pair[0].line, pair[1].start_line), (call, spin), "{what}: {pair:?}");
                assert!((spin..spin + 65).contains(&pair[1].line), "{what}: {pair:?}");
            }
        }
    }
}

#[test]
fn interpreted_and_baseline_code_has_the_same_shares() {
    let _alone = alone();
    for (node, options) in nodes()
        .iter()
        .zip([&["--no-opt", "--no-sparkplug"][..], &["--no-opt", "--always-sparkplug"]].iter().cycle())
    {
        let target = start(node, options, "long");
        let profile = Rprof::attach(&target).seconds(2).profile();
        assert_true(&profile, &format!("{} {options:?}", node.display()));
    }
}

#[test]
fn functions_keep_their_names_while_the_collector_moves_objects() {
    let _alone = alone();
    for node in nodes() {
        let mut target = start(&node, &[], "young");
        let profile = Rprof::attach(&target).seconds(2).profile();
        target.assert_unhurt();
        assert_true(&profile, &format!("{}", node.display()));
    }
}

#[test]
fn a_builtin_that_calls_back_is_in_the_stack() {
    let _alone = alone();
    for node in nodes() {
        let target = start(&node, &[], "sorted");
        let profile = Rprof::attach(&target).seconds(2).profile();
        assert_true(&profile, &format!("{}", node.display()));
        let chain = ["main", "sort", "compare", "oneRound"];
        profile.assert_nearly_all(97.0, "sort() in between", |stack| {
            !stack.has("oneRound") || stack.has_in_order(&chain)
        });
    }
}

#[test]
fn worker_threads_have_javascript_stacks_and_a_dump_shows_those_that_wait() {
    let _alone = alone();
    for node in nodes() {
        let target = start(&node, &[], "workers");
        let profile = Rprof::attach(&target).seconds(2).args(&["--label", "tid"]).profile();
        assert_true(&profile, &format!("{}", node.display()));
        let mut tids: Vec<&str> = profile
            .stacks
            .iter()
            .filter(|stack| stack.has("spin"))
            .filter_map(|stack| stack.label("tid"))
            .collect();
        tids.sort_unstable();
        tids.dedup();
        assert_eq!(tids.len(), 2, "{}", profile.summary());

        let waiting = start(&node, &[], "waits");
        let (threads, said) = threads(dump(waiting.pid()));
        let main = threads.iter().find(|thread| thread.has("waitsForever"));
        let main = main.unwrap_or_else(|| panic!("no waitsForever in {threads:#?}\n{said}"));
        assert!(main.is_whole(), "{main:?}");
    }
}

/// The part of a function's name that V8 keeps itself, without the class: `methodA` of
/// `Parent.methodA`.
fn last_part(name: &str) -> &str {
    name.rsplit(['.', ' ']).next().unwrap_or(name)
}

#[test]
fn names_and_lines_are_those_that_v8_writes_itself() {
    let _alone = alone();
    for node in nodes() {
        // V8 also writes a log, into the current directory.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(&node);
        command.args(["--perf-basic-prof", SCRIPT, "long", "600"]).current_dir(folder.path());
        let mut target = Target::spawn(&mut command);
        let profile = Rprof::attach(&target).seconds(1).profile();
        let path = format!("/tmp/perf-{}.map", target.pid());
        let map = std::fs::read_to_string(&path).expect("a map");
        std::fs::remove_file(&path).expect("the target's map");
        target.assert_unhurt();
        // `7f10 a4 JS:*hot50 /tests/node_ratio.js:12:15`
        let entry = |line: &str| {
            let (_, function) = line.split_once("JS:").or_else(|| line.split_once("LazyCompile:"))?;
            let (name, place) = function.trim_start_matches(['*', '~', '^', '+']).rsplit_once(' ')?;
            let line = place.split_once("node_ratio.js:")?.1.split(':').next()?.parse::<i64>().ok()?;
            Some((last_part(name).to_owned(), line))
        };
        let written: std::collections::BTreeSet<_> = map.lines().filter_map(entry).collect();
        let frames = profile.stacks.iter().flat_map(|stack| &stack.frames).filter(is_ours);
        let known = frames.filter(|frame| !frame.name.starts_with('('));
        let mut compared = 0;
        for frame in known {
            let ours = (last_part(&frame.name).to_owned(), frame.start_line);
            assert!(written.contains(&ours), "{}: {frame:?} is not in {written:?}", node.display());
            compared += 1;
        }
        assert!(compared > 100, "{compared} frames");
    }
}
