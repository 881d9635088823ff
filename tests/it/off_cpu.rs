//! `--kind offcpu`: where threads wait, and for how long.

use std::time::{Duration, Instant};

use crate::{
    harness::{Cgroup, Fixture, Rprof, Skip, Stacks, Target, alone, is_root, skip, wait_until},
    rights::{ordinary_user, readable_by_all},
};

/// Seconds waited by a thread below a function.
fn waited(profile: &Stacks, thread: &str, function: &str) -> f64 {
    let seen = |stack: &&crate::harness::Stack| stack.label("thread") == Some(thread) && stack.has(function);
    profile.stacks.iter().filter(seen).map(|stack| stack.cpu_ns as f64 / 1e9).sum()
}

#[test]
fn each_wait_is_charged_to_the_stack_that_waits_also_one_that_never_ends() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["sleeps.c"]).build());
    let outcome = Rprof::attach(&target).args(&["--kind", "offcpu"]).seconds(4).run();
    let words = outcome.printed();
    let profile = outcome.profile();
    let all = profile.profile.duration_nanos as f64 / 1e9;
    // They sleep from before the first moment to after the last.
    for (thread, function) in [("long", "sleeps_long"), ("sleeps", "main")] {
        let share = waited(&profile, thread, function) / all;
        assert!((0.98..1.05).contains(&share), "{function}: {share} of {all} s; {}", profile.summary());
    }
    // 80 ms of each 100 ms; on a machine where it waits for a CPU too, less or more.
    let share = waited(&profile, "works", "sleeps_80_ms") / all;
    assert!((0.6..0.95).contains(&share), "{share} of {all} s; {}", profile.summary());
    assert_eq!(waited(&profile, "works", "works_20_ms"), 0.0, "{}", profile.summary());
    // Each by chance: one for each 10 ms. A sleep lasts some 50 us longer than it should.
    let (short, longer) =
        (waited(&profile, "shorts", "sleeps_200_us"), waited(&profile, "shorts", "sleeps_600_us"));
    let share = (short + longer) / all;
    assert!((0.6..1.12).contains(&share), "{short} and {longer} of {all} s; {}", profile.summary());
    assert!(longer > 1.4 * short, "{short} and {longer} s; {}", profile.summary());
    profile.assert_nearly_all(99.0, "whole", |stack| stack.has("_start") || stack.has("__clone3"));
    assert!(words.contains(" waits) in "), "{words}");
    target.assert_unhurt();
}

#[test]
fn a_first_thread_that_has_ended_does_not_wait() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["leaderless.c"]).build());
    let is_zombie = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", target.pid())).expect("it runs");
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
    };
    assert!(wait_until(10, is_zombie), "the first thread does not end");
    let profile = Rprof::attach(&target).args(&["--kind", "offcpu"]).seconds(1).profile();
    // The other thread works all the time.
    let waited = profile.cpu_ns() as f64 / profile.profile.duration_nanos as f64;
    assert!(waited < 0.1, "{waited} of the time; {}", profile.summary());
    let of_worker = profile.count(|stack| stack.has("worker"));
    assert_eq!(of_worker, profile.samples(), "{}", profile.summary());
    assert!(target.exit_code(0).is_none(), "the target ended");
}

#[test]
fn without_the_rights_it_is_refused_with_what_to_do() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["sleeps.c"]).build());
    let target = Target::start_as(ordinary_user(), &program.path, &[]);
    let rprof = Rprof::attach(&target).run_by(ordinary_user()).args(&["--kind", "offcpu"]);
    rprof.seconds(1).run().assert_refused(1, &["BPF is not permitted", "--kind wall", "rprof doctor"]);
}

/// For how long the kernel has throttled a group, in nanoseconds (of version 2, or 1).
fn throttled_ns(group: &Cgroup) -> f64 {
    let text = std::fs::read_to_string(group.folder().join("cpu.stat")).expect("statistics");
    let number = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<f64>().ok());
    number("throttled_usec ").map(|us| us * 1e3).or_else(|| number("throttled_time ")).expect("a quota")
}

#[test]
fn the_share_of_the_time_that_a_quota_takes_is_stated() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let Some(group) = Cgroup::with_cpu_quota(target.pid(), 20_000) else {
        return skip(Skip::Forbidden("a control group"));
    };
    std::thread::sleep(Duration::from_millis(200));
    let (before, began) = (throttled_ns(&group), Instant::now());
    let outcome = Rprof::attach(&target).seconds(3).run();
    let truth = 100.0 * (throttled_ns(&group) - before) / began.elapsed().as_nanos() as f64;
    let stderr = outcome.stderr.clone();
    let profile = outcome.profile();
    let stated = profile.comment("throttled");
    let (percent, by) = stated.split_once("% of the time by cpu.").unwrap_or_else(|| panic!("{stated}"));
    let percent: f64 = percent.parse().expect("a number");
    assert!((percent - truth).abs() <= 5.0, "{stated}, but the kernel counted {truth:.1} %");
    assert!(by.ends_with("(20000 of every 100000 us)"), "{stated}");
    assert!(stderr.contains("throttled") && percent > 5.0, "{stderr}");
}
