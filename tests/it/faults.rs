//! `--kind faults`: which code touches memory for the first time.

use crate::{
    harness::{Fixture, Rprof, Stacks, Target, alone, is_root},
    rights::{ordinary_user, readable_by_all},
};

/// The page faults below a function, in per cent of all.
fn share(profile: &Stacks, name: &str) -> f64 {
    let below: i64 = profile.stacks.iter().filter(|stack| stack.has(name)).map(|stack| stack.cpu_ns).sum();
    100.0 * below as f64 / profile.cpu_ns() as f64
}

fn assert_told(rprof: Rprof, sampler: &str) {
    let outcome = rprof.args(&["--kind", "faults"]).run();
    let profile = outcome.profile();
    let stated = profile.comment("sampler");
    assert!(stated.starts_with(&format!("{sampler} (page-faults")), "{stated}");
    profile.assert_at_least(300);
    let (thrice, once) = (share(&profile, "thrice"), share(&profile, "once"));
    assert!(
        (thrice - 75.0).abs() < 3.0 && (once - 25.0).abs() < 3.0,
        "{thrice} {once}\n{}",
        profile.summary()
    );
    assert_eq!(profile.cpu_ns(), 31 * profile.samples(), "each sample stands for as many");
    // Memory grows in bursts, and the buffer of an ordinary user is small: on a busy machine it may
    // overflow. Samples that are lost then are counted and have no stack.
    let lost = profile.count(|stack| stack.has("[lost samples]"));
    assert_eq!(profile.comment("lost"), format!("{lost} samples"));
    assert!(lost == 0 || sampler != "bpf", "{}", profile.summary());
    profile.assert_nearly_all(99.5, "begin at the root, or are lost", |stack| {
        let first = stack.names().next().unwrap_or_default();
        ["_start", "_start_c", "main", "__libc_start_main", "[lost samples]"].contains(&first)
    });
    profile.assert_stated_whole();
}

#[test]
fn memory_that_grows_is_told_by_the_code_that_touches_it() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["grows.c"]).build());
    if is_root() {
        let mut target = Target::start(&program.path);
        assert_told(Rprof::attach(&target), "bpf");
        target.assert_unhurt();
    }
    let mut target = Target::start_as(ordinary_user(), &program.path, &[]);
    assert_told(Rprof::attach(&target).run_by(ordinary_user()).without(&["bpf"]), "perf-thread");
    target.assert_unhurt();
}
