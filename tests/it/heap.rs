//! `rprof heap` and `--kind heap`: the heaps of native programs, which count themselves.

use serde_json::Value;

use crate::harness::{Fixture, Rprof, Target, alone};

/// A report as JSON.
fn report(pid: u32, options: &[&str]) -> Value {
    let outcome = Rprof::verb("heap").args(&[&pid.to_string(), "--format", "json"]).args(options).run();
    assert_eq!(outcome.code, Some(0), "rprof failed; it said:\n{}", outcome.stderr);
    serde_json::from_slice(&outcome.stdout).expect("JSON")
}

/// The census of a process, of its only allocator.
fn census(pid: u32) -> Value {
    let all = report(pid, &[]);
    let allocators = all["allocators"].as_array().expect("allocators");
    assert_eq!(allocators.len(), 1, "{all}");
    allocators[0].clone()
}

fn state(census: &Value, name: &str, key: &str) -> u64 {
    census["states"][name][key].as_u64().unwrap_or_else(|| panic!("no {name} in {census}"))
}

/// The number behind a word that the program printed.
fn printed(text: &str, name: &str) -> u64 {
    let mut words = text.split_whitespace().skip_while(|word| *word != name).skip(1);
    words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text:?}"))
}

/// Compares a census with what the program's malloc counts itself (mallinfo2(3)).
fn assert_equal(census: &Value, truth: &str) {
    let bytes = |name| state(census, name, "bytes");
    // Of its own structures, malloc counts as used what is in its heaps.
    let used = bytes("in use") + bytes("thread cache") + bytes("overhead");
    assert_eq!(used, printed(truth, "used"), "{truth}\n{census}");
    assert_eq!(
        bytes("free") + bytes("fast list") + bytes("top"),
        printed(truth, "free"),
        "{truth}\n{census}"
    );
    assert_eq!(bytes("in use, own mapping"), printed(truth, "mapped_bytes"), "{truth}\n{census}");
    assert_eq!(state(census, "in use, own mapping", "count"), printed(truth, "mapped"));
    assert_eq!(census["coverage"]["breaks"], 0, "{census}");
    assert_eq!(census["coverage"]["share"], 1.0, "{census}");
    // The program has a few chunks that it did not allocate itself.
    let (found, live) = (census["in_use"]["count"].as_u64().expect("a number"), printed(truth, "live"));
    assert!(live <= found && found <= live + 30, "{found} chunks found, {live} allocated");
}

#[test]
fn a_census_equals_what_malloc_counts_itself() {
    let _alone = alone();
    let program = Fixture::c(&["heap.c"]).with(&["-pthread"]).build();
    let mut target = Target::start_with(&program, &["60000", "3"]);
    let census = census(target.pid());
    assert_eq!(census["coverage"]["arenas"], 4, "{census}");
    assert_eq!(census["coverage"]["thread_caches"], 4, "{census}");
    target.assert_unhurt();
    assert_equal(&census, &target.end_and_read_output());
}

#[test]
fn a_static_stripped_program_is_read_by_the_shape_of_its_arenas() {
    let _alone = alone();
    let program = Fixture::c(&["heap.c"]).with(&["-pthread", "-static", "-s"]).build();
    let mut target = Target::start_with(&program, &["20000", "2"]);
    let census = census(target.pid());
    target.assert_unhurt();
    assert_equal(&census, &target.end_and_read_output());
}

/// The number of objects in rows with this type.
fn objects(rows: &Value, name: &str) -> u64 {
    let rows = rows.as_array().expect("rows").iter().filter(|row| row["type"] == name);
    rows.map(|row| row["count"].as_u64().expect("a number")).sum()
}

#[test]
fn classes_are_counted_and_leaks_found_in_a_stripped_program_that_goes_on_allocating() {
    let _alone = alone();
    let program = Fixture::cc("heap.cc").with(&["-pthread", "-s"]).build();
    let mut target = Target::start_with(&program, &["churn"]);
    let report = report(target.pid(), &["--leaks", "--holders"]);
    let rows = &report["allocators"][0]["rows"];
    for (name, count) in [("BigOrder", 200), ("shop::Lost", 300), ("Cache<int>", 1)] {
        assert_eq!(objects(rows, name), count, "{name}: {report}");
    }
    // The thread has up to 5000 more.
    assert!((800..=5900).contains(&objects(rows, "Order")), "{report}");
    let held = report["holders"].as_array().expect("holders").iter();
    let big: Vec<&Value> = held.filter(|row| row["type"] == "BigOrder").collect();
    assert!(
        big.len() == 1 && big[0]["holder"].as_str().is_some_and(|name| name.starts_with("data of ")),
        "{big:?}"
    );
    let leaks = &report["leaks"];
    assert_eq!(leaks["passes"], 3);
    assert_eq!(objects(&leaks["rows"], "shop::Lost"), 300, "{leaks}");
    let found = leaks["sum"]["count"].as_u64().expect("a number");
    assert!((900..=909).contains(&found), "900 chunks are leaked, at most 1 % more may be reported: {leaks}");
    target.assert_unhurt();
}
