//! `--kind threadcreate`: which code makes threads.

use std::{process::Command, time::Duration};

use crate::{
    harness::{Fixture, Rprof, Skip, Stacks, Target, alone, is_root, skip},
    rights::{ordinary_user, readable_by_all},
};

/// Profiles makes_threads.c while it makes its threads once; what rprof said.
fn profile(target: &Target, rprof: Rprof) -> (Stacks, String) {
    let running = rprof.args(&["--kind", "threadcreate"]).seconds(4).start();
    // Attaching takes milliseconds.
    std::thread::sleep(Duration::from_secs(2));
    let sent = Command::new("kill").args(["-s", "USR1", &target.pid().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let outcome = running.wait();
    let words = outcome.printed() + &outcome.stderr;
    (outcome.profile(), words)
}

fn assert_there_before(profile: &Stacks) {
    let before = |name: &'static str| {
        profile.count(|stack| stack.label("created") == Some("before the profile") && stack.has(name))
    };
    assert_eq!((before("waiting_in_pool"), before("main")), (5, 1), "{}", profile.summary());
}

/// Each thread created meanwhile, by the stack that created it.
fn assert_created_during(profile: &Stacks) {
    let during = |name: &'static str| {
        profile.count(|stack| {
            stack.label("created") == Some("during the profile")
                && stack.has_in_order(&["_start", "main", name, "make"])
        })
    };
    assert_eq!((during("serve_request"), during("grow_pool")), (60, 20), "{}", profile.summary());
}

#[test]
fn each_thread_is_counted_once_by_the_stack_that_made_it_or_by_its_start_function() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["makes_threads.c"]).build());
    let (profile, words) = profile(&target, Rprof::attach(&target));
    assert_there_before(&profile);
    assert_created_during(&profile);
    assert_eq!(profile.samples(), 86);
    assert!(words.contains("80 threads created (6 existed before) in 4."), "{words}");
    target.assert_unhurt();
}

#[test]
fn without_bpf_a_perf_tracepoint_sees_each_new_thread_with_its_stack() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["makes_threads.c"]).build());
    let (profile, words) = profile(&target, Rprof::attach(&target).without(&["bpf"]));
    assert_there_before(&profile);
    assert_created_during(&profile);
    let sampler = profile.comment("sampler");
    assert!(sampler.contains("(task_newtask") && sampler.starts_with("perf-"), "{sampler}\n{words}");
    target.assert_unhurt();
}

#[test]
fn without_bpf_new_threads_go_by_their_start_functions_and_that_is_said() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["makes_threads.c"]).build());
    let mut target = Target::start_as(ordinary_user(), &program.path, &[]);
    let rprof = Rprof::attach(&target).run_by(ordinary_user()).without(&["bpf"]);
    let (profile, words) = profile(&target, rprof);
    assert_there_before(&profile);
    let new = profile
        .count(|stack| stack.label("created") == Some("during the profile") && stack.has("waiting_in_pool"));
    assert_eq!(new, 20, "{}", profile.summary());
    assert!(words.contains("`bpf` is not available") && words.contains("by look instead"), "{words}");
    assert!(profile.comment("how").contains("with their start functions"), "{:?}", profile.comments);
    target.assert_unhurt();
}
