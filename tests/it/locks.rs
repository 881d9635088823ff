//! `rprof dump`: what threads wait for, who holds it, and deadlocks.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rprof::capture::{self, Finding, Request, Response, kinds};
use serde_json::Value;

use crate::harness::{Fixture, Rprof, Skip, Stack, Stacks, Target, alone, is_root, open_folder, skip};

/// The graph of a dump, and the exit status with `--fail-on deadlock`.
struct Graph {
    value: Value,
    code: Option<i32>,
}

#[track_caller]
fn graph(pid: u32) -> Graph {
    let pid = pid.to_string();
    let outcome =
        Rprof::verb("dump").args(&[&pid, "--threads", "--graph=json", "--fail-on", "deadlock"]).run();
    let value = serde_json::from_slice(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.stderr));
    Graph { value, code: outcome.code }
}

impl Graph {
    fn list(&self, key: &str) -> &[Value] {
        self.value[key].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn findings(&self) -> Vec<&str> {
        self.list("verdicts").iter().filter_map(|verdict| verdict["finding"].as_str()).collect()
    }

    /// The names of the members of a finding.
    #[track_caller]
    fn members(&self, finding: &str) -> Vec<&str> {
        let verdict = self.list("verdicts").iter().find(|verdict| verdict["finding"] == finding);
        let verdict = verdict.unwrap_or_else(|| panic!("no {finding}: {:#}", self.value));
        let members = verdict["members"].as_array().expect("a list");
        let name = |id: &Value| self.list("nodes")[id.as_u64().expect("a number") as usize]["name"].as_str();
        members.iter().filter_map(name).collect()
    }

    /// What each thread waits for, and the name of its only holder, by the thread's name.
    fn waits(&self) -> BTreeMap<&str, (String, Option<&str>)> {
        let nodes = self.list("nodes");
        let wait = |id: usize| {
            let to: Vec<usize> = (self.list("edges").iter())
                .filter(|edge| edge["from"] == id)
                .filter_map(|edge| edge["to"].as_u64().map(|to| to as usize))
                .collect();
            let holder = if let [one] = to[..] { nodes[one]["name"].as_str() } else { None };
            let kind = nodes[id]["wait"]["kind"].as_str()?;
            let note = nodes[id]["wait"]["note"].as_str().unwrap_or_default();
            let what = format!("{kind} {note}").trim_end().to_owned();
            Some((nodes[id]["name"].as_str()?, (what, holder)))
        };
        (0..nodes.len()).filter_map(wait).collect()
    }
}

#[test]
fn two_threads_that_wait_for_each_other_are_a_deadlock_and_their_locks_have_names() {
    let _alone = alone();
    let mut target = Target::start_with(&Fixture::c(&["locks.c"]).build(), &["abba"]);
    let found = graph(target.pid());
    assert_eq!(found.members("deadlock"), ["one", "other"]);
    assert_eq!(found.code, Some(3), "--fail-on deadlock");
    let pid = target.pid().to_string();
    let outcome = Rprof::verb("dump").args(&[&pid]).run();
    let text = outcome.printed();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for part in [
        "DEADLOCK: 2 threads wait for each other",
        "1 more thread waits, directly or not, for them",
        "in transfer (locks.c:",
        "`g_index_lock` in locks, held by thread",
        "`g_cache_lock` in locks, held by thread",
        "...waits for mutex 0x",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let dot = Rprof::verb("dump").args(&[&pid, "--graph=dot"]).run().printed();
    let svg = Rprof::verb("dump").args(&[&pid, "--graph=svg"]).run().printed();
    assert!(svg.contains("<svg") && svg.contains("g_index_lock") && svg.contains("</svg>"), "{svg}");
    assert!(dot.starts_with("digraph waits {") && dot.contains(" -> ") && dot.contains("color=red"), "{dot}");
    target.assert_unhurt();
}

#[test]
fn each_kind_of_pthread_lock_is_named_with_its_holder() {
    let _alone = alone();
    let target = Target::start_with(&Fixture::c(&["locks.c"]).build(), &["kinds"]);
    let found = graph(target.pid());
    let waits = found.waits();
    let expected = [
        ("recursive", "mutex recursive", Some("holder")),
        ("checking", "mutex error-checking", Some("holder")),
        ("robust", "mutex robust, shared", Some("holder")),
        ("inheriting", "mutex priority inheritance", Some("holder")),
        ("adaptive", "mutex adaptive", Some("holder")),
        ("shared", "mutex shared", Some("holder")),
        ("timed", "mutex recursive", Some("holder")),
        ("reads", "read lock", Some("holder")),
        ("writes", "write lock", Some("holder")),
        ("joins", "end of a thread", Some("holder")),
        ("condition", "condition variable", None),
        ("semaphore", "semaphore", None),
    ];
    for (thread, what, holder) in expected {
        assert_eq!(waits.get(thread), Some(&(what.to_owned(), holder)), "{thread}");
    }
    assert!(waits["behind-reader"].0.starts_with("write lock held by 1 reader,"), "{waits:?}");
    assert_eq!(found.findings(), ["waiters"], "a holder in pause(2) is no deadlock");
    assert_eq!(found.code, Some(0));
}

#[test]
fn threads_behind_one_lock_are_counted_and_an_owner_that_has_ended_is_reported() {
    let _alone = alone();
    let program = Fixture::c(&["locks.c"]).build();
    let convoy = Target::start_with(&program, &["convoy"]);
    let text = Rprof::verb("dump").args(&[&convoy.pid().to_string()]).run().printed();
    assert!(text.contains("40 threads wait, directly or not, for thread"), "{text}");
    assert!(text.contains(", which is in signal wait in ready (locks.c:"), "{text}");
    drop(convoy);
    let ended = Target::start_with(&program, &["ended"]);
    let found = graph(ended.pid());
    assert_eq!(found.members("owner ended"), ["waits"]);
    assert!(!found.findings().contains(&"deadlock"));
}

#[test]
fn a_futex_that_changed_without_a_wake_up_is_reported() {
    let _alone = alone();
    let target = Target::start_with(&Fixture::c(&["locks.c"]).build(), &["lost"]);
    assert_eq!(graph(target.pid()).members("lost wake-up"), ["misses"]);
}

#[test]
fn two_processes_that_fill_each_others_pipes_are_a_deadlock() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let program = Fixture::c(&["locks.c"]).build();
    let target = Target::start_with(&program, &["pipes"]);
    std::thread::sleep(Duration::from_millis(300));
    let found = graph(target.pid());
    assert_eq!(found.members("deadlock"), ["locks"; 4], "two threads and their processes: {:#}", found.value);
    drop(target);
    let own = Target::start_with(&program, &["own_pipe"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(graph(own.pid()).findings(), ["own pipe"]);
}

#[test]
fn std_mutexes_of_cpp_are_a_deadlock_and_those_of_rust_a_probable_one() {
    let _alone = alone();
    let target = Target::start(&Fixture::cc("locks.cc").build());
    assert_eq!(graph(target.pid()).members("deadlock").len(), 2);
    drop(target);
    let target = Target::start(&Fixture::rust("locks.rs").build());
    let found = graph(target.pid());
    assert_eq!(found.members("probable deadlock"), ["takes", "takes"]);
    assert_eq!(found.code, Some(0), "--fail-on deadlock is for recorded owners");
    let outcome =
        Rprof::verb("dump").args(&[&target.pid().to_string(), "--fail-on", "probable-deadlock"]).run();
    let text = outcome.printed();
    assert_eq!(outcome.code, Some(3), "{text}");
    assert!(text.contains("mutex (Rust std)") && text.contains("probably held by thread"), "{text}");
    assert!(text.contains("1 pointer to it on the stack, in "), "{text}");
}

/// What contention.c has measured itself so far, nanoseconds: waits for the lock, for the
/// condition, and for the lock while `hold_long` and `hold_short` held it.
fn measured(file: &Path) -> [f64; 4] {
    let bytes = std::fs::read(file).expect("the program has written it");
    std::array::from_fn(|at| u64::from_le_bytes(*bytes[8 * at..].first_chunk().expect("8 bytes")) as f64)
}

/// A profile of a kind of contention.c, and what the program measured meanwhile, per nanosecond.
fn contention(kind: &str) -> (Stacks, [f64; 4]) {
    let folder = open_folder();
    let file = folder.path().join("sums");
    let program = Fixture::c(&["contention.c"]).build();
    let mut target = Target::start_with(&program, &[file.to_str().expect("UTF-8")]);
    std::thread::sleep(Duration::from_millis(100));
    let running = Rprof::attach(&target).args(&["--kind", kind]).hertz(999).seconds(3).start();
    let is_over = AtomicBool::new(false);
    let (mut readings, mut outcome) = (Vec::new(), None);
    std::thread::scope(|scope| {
        let readings = &mut readings;
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                readings.push((SystemTime::now(), measured(&file)));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        outcome = Some(running.wait());
        is_over.store(true, Ordering::Relaxed);
    });
    let profile = outcome.expect("it has ended").profile();
    target.assert_unhurt();
    let from_ns = profile.profile.time_nanos.cast_unsigned();
    let until_ns = from_ns + profile.profile.duration_nanos.cast_unsigned();
    let at = |ns: u64| readings.partition_point(|(time, _)| *time < UNIX_EPOCH + Duration::from_nanos(ns));
    let ((began, before), (ended, after)) = (readings[at(from_ns)], readings[at(until_ns)]);
    let took = ended.duration_since(began).expect("later").as_nanos() as f64;
    (profile, std::array::from_fn(|at| (after[at] - before[at]) / took))
}

/// The delay of the stacks that `wanted` selects, per nanosecond of the profile.
fn delay(profile: &Stacks, wanted: impl Fn(&Stack) -> bool) -> f64 {
    let sum: i64 = profile.stacks.iter().filter(|stack| wanted(stack)).map(|stack| stack.cpu_ns).sum();
    sum as f64 / profile.profile.duration_nanos as f64
}

#[track_caller]
fn assert_near(mine: f64, truth: f64, part: f64, what: &str) {
    assert!((mine / truth - 1.0).abs() <= part, "{what}: {mine:.4}, but the program measured {truth:.4}");
}

#[test]
fn waits_of_threads_for_each_other_are_those_that_the_program_measures() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let (profile, truth) = contention("block");
    let of_mutex = delay(&profile, |stack| stack.label("waits_for") == Some("mutex") && stack.has("take"));
    assert_near(of_mutex, truth[0], 0.05, "mutex");
    let waits_for_condition = |stack: &Stack| stack.label("waits_for") == Some("condition variable");
    assert_near(delay(&profile, waits_for_condition), truth[1], 0.05, "condition");
    let lock = |stack: &Stack| {
        stack.label("lock").is_some_and(|lock| lock.ends_with("`g_table_lock` in contention"))
    };
    assert_near(delay(&profile, lock), of_mutex, 0.01, "the lock has its name");
    assert!(!profile.stacks.iter().any(|stack| stack.has("usleep")), "a timer is no wait for another thread");
}

#[test]
fn a_lock_is_charged_to_the_code_that_released_it() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let (profile, truth) = contention("mutex");
    assert_near(delay(&profile, |_| true), truth[0], 0.05, "all waits for the lock");
    let long = delay(&profile, |stack| stack.has("hold_long"));
    assert_near(long, truth[2] * truth[0] / (truth[2] + truth[3]), 0.1, "the long holder");
    assert!(!profile.stacks.iter().any(|stack| stack.has("produce")), "a signal holds nothing");
    assert!(profile.stacks.iter().all(|stack| stack.label("waits_for") == Some("mutex")));
}

/// How many looks at each healthy program; RPROF_LOOKS for a longer run.
fn looks() -> usize {
    std::env::var("RPROF_LOOKS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// Reads the threads of a process once: whether a thread waits for another one, and the findings.
fn look(pid: u32) -> (bool, Vec<Finding>) {
    let kind = kinds::ALL.iter().find(|kind| kind.name == "threads").copied().expect("a kind");
    let duration = Some(Duration::ZERO);
    let request = Request { pids: vec![pid], kinds: vec![kind], duration, ..Request::default() };
    let Response::Read(reading) = capture::once(&request, &mut |_| {}).expect("a dump") else {
        panic!("an instant kind")
    };
    let graph = reading.content.waits().expect("a graph");
    let waits =
        graph.vertices.iter().any(|one| one.wait.as_ref().is_some_and(|wait| !wait.holders.is_empty()));
    (waits, graph.verdicts.iter().map(|verdict| verdict.finding).collect())
}

#[test]
fn healthy_programs_that_contend_for_locks_have_no_verdict() {
    let _alone = alone();
    let programs = [Fixture::c(&["locks.c"]).build(), Fixture::rust("locks.rs").build()];
    for program in programs {
        let mut target = Target::start_with(&program, &["healthy"]);
        let mut contended = 0;
        for _ in 0..looks() {
            let (waits, findings) = look(target.pid());
            contended += usize::from(waits);
            let wrong =
                [Finding::Deadlock, Finding::ProbableDeadlock, Finding::OwnerEnded, Finding::LostWakeUp];
            let wrong = findings.iter().find(|finding| wrong.contains(finding));
            assert_eq!(wrong, None, "{program:?}");
        }
        assert!(contended > 0, "no thread waited for another one in {program:?}");
        target.assert_unhurt();
    }
}
