//! Frames that no unwind information describes as compilers write it: assembly of common libraries,
//! coroutines, code in memory without a file.

use crate::harness::{Fixture, Rprof, Skip, Target, alone, skip};

#[test]
fn assembly_coroutines_and_trampolines_are_whole_in_every_tier() {
    let _alone = alone();
    if std::env::consts::ARCH != "x86_64" {
        return skip(Skip::OtherCpu);
    }
    let program = Fixture::c(&["assembly.c", "assembly.s"]).build();
    for tier in super::shares::allowed_tiers() {
        let mut target = Target::start(&program);
        let profile = Rprof::attach(&target).sampler(tier).seconds(2).profile();
        target.assert_unhurt();
        profile.assert_at_least(60);
        let ways: [(&str, &[&str]); 6] = [
            ("keeps_rax", &["main", "calls_rax", "frame_in_rax", "keeps_rax"]),
            ("frame_in_red_zone", &["main", "calls_red_zone", "frame_in_red_zone"]),
            ("calls_undescribed", &["main", "calls_undescribed"]),
            ("calls_generated", &["main", "calls_generated"]),
            ("coroutine", &["coroutine", "work", "spin_unit"]),
            ("other_coroutine", &["other_coroutine", "work", "spin_unit"]),
        ];
        for (function, way) in ways {
            let (all, right) =
                (profile.count(|stack| stack.has(function)), profile.count(|stack| stack.has_chain(way)));
            assert!(all > 0 && right as f64 >= 0.97 * all as f64, "{function} by {tier}: {right} of {all}");
        }
        // Between the caller and the work is one frame of the code that has no file.
        let generated = profile.count(|stack| stack.has("calls_generated") && stack.has("work"));
        let direct = profile.count(|stack| stack.has_chain(&["calls_generated", "work"]));
        assert!(generated > 0 && direct == 0, "{direct} of {generated} by {tier}");
        assert!(profile.whole_as_stated() >= 99.0, "{tier}\n{}", profile.summary());
    }
}

#[test]
fn code_that_was_moved_to_anonymous_memory_is_the_files() {
    let _alone = alone();
    if std::env::consts::ARCH != "x86_64" {
        return skip(Skip::OtherCpu);
    }
    let target = Target::start(&Fixture::c(&["moved.c"]).build());
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("maps");
    let moved = |line: &str| line.contains(" r-xp 00000000 00:00 0") && line.split_whitespace().count() == 5;
    assert!(maps.lines().any(moved), "nothing was moved:\n{maps}");
    let profile = Rprof::attach(&target).seconds(1).profile();
    profile.assert_nearly_all(99.0, "main > outer > leaf > spin_unit", |stack| {
        stack.has_chain(&["main", "outer", "leaf", "spin_unit"])
    });
    profile.assert_whole(&["_start"]);
}
