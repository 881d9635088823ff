//! Shares of CPU time, sample counts and losses, held against programs that know what they do.

use crate::harness::{Fixture, Outcome, Rprof, Skip, Stacks, TIERS, Target, User, alone, is_root, skip};

/// The tiers that the tests' user may force on a process of his own; of these, those that the
/// variable `RPROF_TEST_TIERS` (names with commas between) leaves.
pub fn allowed_tiers() -> Vec<&'static str> {
    if !is_root() {
        skip(Skip::NeedsRoot);
        return vec!["perf-thread"];
    }
    let chosen = std::env::var("RPROF_TEST_TIERS").unwrap_or_default();
    let is_chosen = |tier: &&str| chosen.is_empty() || chosen.split(',').any(|name| name == *tier);
    let tiers: Vec<_> = TIERS.into_iter().filter(is_chosen).collect();
    if tiers.len() < TIERS.len() {
        skip(Skip::TiersChosen);
    }
    tiers
}

#[track_caller]
fn assert_ratio(profile: &Stacks) {
    profile.assert_at_least(300);
    profile.assert_share("sixty", 60.0, 2.0);
    profile.assert_share("thirty", 30.0, 2.0);
    profile.assert_share("ten", 10.0, 2.0);
    profile.assert_nearly_all(99.5, "main > outer > middle > a portion", |stack| {
        ["sixty", "thirty", "ten"].iter().any(|leaf| stack.has_chain(&["main", "outer", "middle", leaf]))
            || stack.has_chain(&["main", "outer", "middle"])
    });
    profile.assert_whole(&["_start"]);
}

#[test]
fn the_shares_of_a_c_program_are_right_in_every_tier() {
    let _alone = alone();
    let program = Fixture::c(&["ratio.c"]).build();
    for tier in allowed_tiers() {
        let mut target = Target::start(&program);
        let profile = Rprof::attach(&target).sampler(tier).profile();
        assert!(profile.comment("sampler").starts_with(tier), "{:?}", profile.comments);
        assert_ratio(&profile);
        target.assert_unhurt();
    }
}

#[test]
fn an_ordinary_user_gets_right_shares_of_his_own_process() {
    let _alone = alone();
    if !super::rights::users_may_sample() {
        return skip(Skip::NoPerfForUsers);
    }
    let program = super::rights::readable_by_all(&Fixture::c(&["ratio.c"]).build());
    let user = super::rights::ordinary_user();
    let mut target = Target::start_as(user, &program.path, &[]);
    assert_ratio(&Rprof::attach(&target).run_by(user).profile());
    target.assert_unhurt();
}

#[test]
fn the_best_tier_for_root_is_found_without_asking() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let profile = Rprof::attach(&target).seconds(1).profile();
    assert!(profile.comment("sampler").starts_with("bpf"), "{:?}", profile.comments);
}

#[test]
fn two_busy_threads_on_two_cores_lose_nothing_at_999_hertz() {
    let _alone = alone();
    let program = Fixture::c(&["names.c"]).build();
    for tier in allowed_tiers() {
        let mut target = Target::start(&program);
        let profile = Rprof::attach(&target).sampler(tier).profile();
        assert_eq!(profile.comment("lost"), "0 samples", "{tier}");
        profile.assert_at_least(300);
        target.assert_unhurt();
    }
}

/// The CPU time, in seconds, that the kernel accounts to a process and its dead threads.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live target");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    // utime and stime, fields 14 and 15 of proc(5), in ticks of 1/100 s.
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

#[test]
fn the_cpu_time_seen_is_what_the_kernel_accounts() {
    let _alone = alone();
    for fixture in ["ratio.c", "churn.c"] {
        let program = Fixture::c(&[fixture]).build();
        for tier in allowed_tiers() {
            if fixture == "churn.c" && tier == "perf-thread" {
                // Events that follow threads see none of those shorter than a period.
                continue;
            }
            let target = Target::start(&program);
            let before = cpu_seconds(target.pid());
            let profile = Rprof::attach(&target).seconds(4).sampler(tier).profile();
            let around = cpu_seconds(target.pid()) - before;
            let seen = profile.cpu_ns() as f64 / 1e9;
            // rprof reads the kernel's account where its window begins and ends, and states both.
            let words = profile.comment("cpu");
            let stated: f64 = (words.split("accounts ").nth(1))
                .and_then(|rest| rest.split(' ').next()?.parse().ok())
                .unwrap_or_else(|| panic!("{words}"));
            let ratio = seen / stated;
            assert!((0.97..=1.03).contains(&ratio), "{fixture} by {tier}: {ratio:.3}\n{}", profile.summary());
            // Our own reading includes the time in which rprof starts and writes.
            assert!(
                stated <= around + 0.05 && stated >= 0.8 * around - 0.1,
                "{words}, but {around:.2} s from start to end\n{}",
                profile.summary()
            );
        }
    }
}

#[test]
fn threads_shorter_than_a_period_are_seen_by_what_they_use() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let program = Fixture::c(&["churn.c"]).build();
    for tier in allowed_tiers().into_iter().filter(|tier| *tier != "perf-thread") {
        let mut target = Target::start(&program);
        let profile = Rprof::attach(&target).seconds(4).sampler(tier).profile();
        let (short, long) = (profile.share_of("short_thread"), profile.share_of("long_thread"));
        let share = 100.0 * short / (short + long);
        assert!((share - 50.0).abs() <= 3.0, "{tier}: {share:.1} %\n{}", profile.summary());
        // A thread that is ending has given its memory back before the kernel is done with it: nobody can
        // read its stack then.
        profile.assert_nearly_all(99.5, "whole stacks, or threads that end", |stack| {
            !stack.has("[truncated stack]") || stack.has("do_exit")
        });
        target.assert_unhurt();
    }
}

#[test]
fn the_rate_asked_for_is_the_rate_achieved() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    for rate in [99, 499] {
        let profile = Rprof::attach(&target).hertz(rate).profile();
        let words = profile.comment("rate");
        assert!(words.starts_with(&format!("asked {rate} Hz")), "{words}");
        if profile.cpu_ns() > 1_000_000_000 {
            // Of less time it would say little.
            assert!(words.contains(", achieved "), "{words}");
        }
        let expected = profile.cpu_ns() as f64 / 1e9 * f64::from(rate);
        let ratio = profile.samples() as f64 / expected;
        assert!((0.95..=1.05).contains(&ratio), "{} samples, not {expected}", profile.samples());
        let period = profile.profile.period as f64 / (1e9 / f64::from(rate));
        assert!((0.99..=1.01).contains(&period), "a period of {} ns", profile.profile.period);
    }
}

#[test]
fn five_thousand_threads_are_attached_to_at_once() {
    let _alone = alone();
    let program = Fixture::c(&["many_threads.c"]).build();
    for tier in allowed_tiers() {
        // The perf-thread tier needs threads × CPUs file descriptors.
        let threads = if tier == "perf-thread" { "1000" } else { "5000" };
        let mut target = Target::start_with(&program, &[threads]);
        let outcome: Outcome = Rprof::attach(&target).seconds(2).sampler(tier).run();
        assert!(outcome.elapsed.as_secs_f64() < 6.0, "{tier}: {:?}", outcome.elapsed);
        let profile = outcome.profile();
        profile.assert_nearly_all(99.0, "stacks of busy_thread", |stack| stack.has("busy_thread"));
        profile.assert_at_least(300);
        target.assert_unhurt();
    }
}

#[test]
fn a_user_without_rights_is_told_the_tier_he_got() {
    let _alone = alone();
    if !super::rights::users_may_sample() {
        return skip(Skip::NoPerfForUsers);
    }
    let program = super::rights::readable_by_all(&Fixture::c(&["ratio.c"]).build());
    let user = if is_root() { User::Nobody } else { User::Same };
    let target = Target::start_as(user, &program.path, &[]);
    let profile = Rprof::attach(&target).seconds(1).run_by(user).profile();
    assert!(profile.comment("sampler").starts_with("perf-thread"), "{:?}", profile.comments);
}
