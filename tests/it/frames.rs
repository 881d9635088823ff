//! Frames that are hard to unwind: deep, realigned, by expressions, under signals, in prologues,
//! and one that cannot be unwound at all and must be told.

use crate::{
    harness::{Fixture, Rprof, Skip, Stack, Stacks, Target, alone, skip},
    shares::allowed_tiers,
};

#[track_caller]
fn profile_of(fixture: &Fixture, arguments: &[&str], tier: &str) -> Stacks {
    let mut target = Target::start_with(&fixture.build(), arguments);
    // 2,000 samples: what is checked here is true of nearly all of them.
    let profile = Rprof::attach(&target).sampler(tier).seconds(2).profile();
    target.assert_unhurt();
    profile.assert_at_least(300);
    profile
}

#[test]
fn a_thousand_frames_without_frame_pointers_reach_main_in_every_tier() {
    let _alone = alone();
    for tier in allowed_tiers() {
        let profile = profile_of(&Fixture::c(&["deep.c"]), &[], tier);
        let depth = |stack: &Stack| stack.names().filter(|name| *name == "descend").count();
        profile.assert_nearly_all(98.0, "main > 1,000 × descend > bottom", |stack| {
            stack.has_in_order(&["main", "descend", "bottom"]) && depth(stack) == 1000
        });
        profile.assert_whole(&["_start"]);
    }
}

#[test]
fn stacks_with_pages_that_were_never_touched_are_whole() {
    let _alone = alone();
    for tier in allowed_tiers() {
        let profile = profile_of(&Fixture::c(&["sparse.c"]).with(&["-pthread"]), &[], tier);
        // Without BPF the part above those pages is read late, while the frame below them comes and goes.
        let expected = if tier == "bpf" { 99.5 } else { 97.0 };
        profile.assert_nearly_all(expected, "main or threaded > roomy > churn", |stack| {
            ["main", "threaded"].iter().any(|root| stack.has_in_order(&[root, "roomy", "churn"]))
        });
        for root in ["main", "threaded"] {
            assert!(profile.share(|stack| stack.has(root)) > 25.0, "{root}\n{}", profile.summary());
        }
    }
}

#[test]
fn a_stack_above_the_limit_asked_for_is_completed_or_told_to_be_cut() {
    let _alone = alone();
    let program = Fixture::c(&["deep.c"]).build();
    for tier in allowed_tiers() {
        let target = Target::start(&program);
        let rprof = Rprof::attach(&target).sampler(tier).seconds(2);
        let profile = rprof.option("--max-stack-bytes", "32768").profile();
        let whole = profile.share(|stack| stack.has_in_order(&["_start", "main"]));
        assert!((profile.whole_as_stated() - whole).abs() < 0.1, "{whole} %\n{}", profile.summary());
        let cut = profile.share(|stack| stack.has("[truncated stack]"));
        assert!((whole + cut - 100.0).abs() < 0.1, "{whole} % and {cut} %\n{}", profile.summary());
    }
}

#[test]
fn functions_that_realign_their_stack_are_whole() {
    let _alone = alone();
    for flags in [&[][..], &["-mstackrealign"]] {
        let fixture = Fixture::cc("realign.cc").with(flags);
        let profile = profile_of(&fixture, &[], "auto");
        profile.assert_nearly_all(99.5, "main > many_arguments > variable_size > realigned_work", |stack| {
            stack.has_in_order(&["main", "many_arguments"])
        });
        assert!(
            profile.share(|stack| {
                stack.has_chain(&["main", "many_arguments", "variable_size", "realigned_work", "spin_unit"])
            }) > 95.0,
            "{}",
            profile.summary()
        );
        profile.assert_whole(&["_start"]);
    }
}

fn hand_written() -> Option<Fixture> {
    if std::env::consts::ARCH != "x86_64" {
        skip(Skip::OtherCpu);
        return None;
    }
    Some(Fixture::c(&["frames.c", "frames.s"]))
}

#[test]
fn a_cfa_by_any_register_or_expression_is_followed() {
    let _alone = alone();
    let Some(fixture) = hand_written() else { return };
    let profile = profile_of(&fixture, &[], "auto");
    for name in ["cfa_by_rbx", "cfa_by_expression", "register_by_expression", "frame_pointer_only"] {
        profile.assert_share(name, 25.0, 3.0);
        let through = profile.count(|stack| stack.has_chain(&["main", name, "work", "spin_unit"]));
        let all = profile.count(|stack| stack.has(name));
        assert!(through as f64 >= 0.98 * all as f64, "{name}: {through} of {all}\n{}", profile.summary());
    }
    profile.assert_whole(&["_start"]);
}

#[test]
fn prologues_and_epilogues_are_unwound_at_every_instruction() {
    let _alone = alone();
    let Some(fixture) = hand_written() else { return };
    let profile = profile_of(&fixture, &["prologues"], "auto");
    profile.assert_nearly_all(99.5, "main > prologues > pushes_and_pops", |stack| {
        stack.has_chain(&["main", "prologues"])
    });
    let stepping = profile.share_of("pushes_and_pops");
    assert!(stepping > 60.0, "only {stepping:.1} % in the function of pushes and pops");
    profile.assert_whole(&["_start"]);
}

#[test]
fn what_an_epilogue_has_popped_is_known_though_the_rules_place_it_below_the_stack_pointer() {
    let _alone = alone();
    let Some(fixture) = hand_written() else { return };
    for tier in allowed_tiers() {
        let profile = profile_of(&fixture, &["compiled-prologues"], tier);
        profile.assert_nearly_all(99.5, "main > compiled_prologues", |stack| {
            stack.has_chain(&["main", "compiled_prologues"])
        });
        profile.assert_whole(&["_start"]);
    }
}

#[test]
fn a_frame_that_nothing_describes_is_not_called_whole() {
    let _alone = alone();
    let Some(fixture) = hand_written() else { return };
    let profile = profile_of(&fixture, &["blind"], "auto");
    let reaches_root = profile.share(|stack| stack.has_in_order(&["_start", "main", "work"]));
    let stated = profile.whole_as_stated();
    assert!(
        stated <= reaches_root + 1.0,
        "the file states {stated} % whole stacks, but {reaches_root:.1} % begin at the root\n{}",
        profile.summary()
    );
    // What is below the blind frame is known all the same.
    profile.assert_nearly_all(98.0, "work > spin_unit", |stack| stack.has("work"));
}

#[track_caller]
fn assert_signal(profile: &Stacks, at_least: f64) {
    let handled = profile.share_of("handler_work");
    assert!((25.0..=75.0).contains(&handled), "{handled:.1} % in the handler\n{}", profile.summary());
    let through =
        profile.count(|stack| stack.has_in_order(&["main", "interrupted_work", "handler", "handler_work"]));
    let cut = profile.count(|stack| stack.has_in_order(&["[truncated stack]", "handler", "handler_work"]));
    let all = profile.count(|stack| stack.has("handler_work"));
    assert!(through as f64 >= at_least * all as f64, "{through} of {all}\n{}", profile.summary());
    assert_eq!(through + cut, all, "neither whole nor told to be cut\n{}", profile.summary());
}

#[test]
fn a_signal_handler_stands_on_what_it_interrupted() {
    let _alone = alone();
    for tier in allowed_tiers() {
        let profile = profile_of(&Fixture::c(&["signal.c"]), &[], tier);
        assert_signal(&profile, 0.99);
        profile.assert_whole(&["_start"]);
    }
}

#[test]
fn a_signal_handler_on_its_own_stack_stands_on_what_it_interrupted() {
    let _alone = alone();
    for tier in allowed_tiers() {
        let fixture = Fixture::c(&["signal.c"]);
        let profile = profile_of(&fixture, &["altstack"], tier);
        if tier == "bpf" {
            // Both stacks are copied at the sample.
            assert_signal(&profile, 0.99);
            profile.assert_whole(&["_start"]);
        } else {
            // The interrupted stack is read later: handlers of 2 ms may have ended by then, of 150 ms
            // few. Stacks that are read too late are cut, and reported as cut.
            assert_signal(&profile, 0.0);
            assert_signal(&profile_of(&fixture, &["altstack", "long"], tier), 0.9);
        }
    }
}
