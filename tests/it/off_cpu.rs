//! `--kind offcpu`: where threads wait, and for how long.

use crate::{
    harness::{Fixture, Rprof, Skip, Stacks, Target, alone, is_root, skip},
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
    let words = outcome.stderr.clone();
    let profile = outcome.profile();
    // They sleep from before the first moment to after the last.
    for (thread, function) in [("long", "sleeps_long"), ("sleeps", "main")] {
        let seconds = waited(&profile, thread, function);
        assert!((3.9..4.3).contains(&seconds), "{function}: {seconds} s; {}", profile.summary());
    }
    // 80 ms of each 100 ms, less on a machine where it waits for a CPU too.
    let seconds = waited(&profile, "works", "sleeps_80_ms");
    assert!((2.4..3.5).contains(&seconds), "{seconds} s; {}", profile.summary());
    assert_eq!(waited(&profile, "works", "works_20_ms"), 0.0, "{}", profile.summary());
    // Each by chance: one for each 10 ms. A sleep lasts some 50 us longer than it should.
    let (short, longer) =
        (waited(&profile, "shorts", "sleeps_200_us"), waited(&profile, "shorts", "sleeps_600_us"));
    assert!((2.5..4.5).contains(&(short + longer)), "{short} and {longer} s; {}", profile.summary());
    assert!(longer > 1.4 * short, "{short} and {longer} s; {}", profile.summary());
    profile.assert_nearly_all(99.0, "whole", |stack| stack.has("_start") || stack.has("__clone3"));
    assert!(words.contains(" waits ("), "{words}");
    target.assert_unhurt();
}

#[test]
fn without_the_rights_it_is_refused_with_what_to_do() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["sleeps.c"]).build());
    let target = Target::start_as(ordinary_user(), &program.path, &[]);
    let rprof = Rprof::attach(&target).run_by(ordinary_user()).args(&["--kind", "offcpu"]);
    rprof.seconds(1).run().assert_refused(1, &["BPF is not permitted", "--kind wall", "rprof doctor"]);
}
