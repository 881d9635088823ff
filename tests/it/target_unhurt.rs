//! What rprof must never do: interrupt a system call, stop a thread, slow a target down noticeably.

use std::time::Duration;

use rprof::process::identity::monotonic_ns;

use crate::{
    harness::{Fixture, Rprof, Target, alone},
    shares::allowed_tiers,
};

#[test]
fn no_system_call_of_the_target_is_interrupted_in_any_tier() {
    let _alone = alone();
    let program = Fixture::c(&["eintr.c"]).build();
    for tier in allowed_tiers() {
        let mut target = Target::start(&program);
        let profile = Rprof::attach(&target).sampler(tier).seconds(2).profile();
        profile.assert_at_least(100);
        target.assert_unhurt();
        assert_eq!(target.end_and_read_output(), "", "{tier}");
    }
}

/// What the fixture `switcher.c` reports: its rounds, its CPU time, and when, in nanoseconds of
/// CLOCK_MONOTONIC.
struct Report {
    rounds: f64,
    cpu_ns: f64,
    at_ns: u64,
}

fn reports(text: &str) -> Vec<Report> {
    let report = |line: &str| {
        let mut words = line.strip_prefix("units ")?.split(' ');
        let (rounds, cpu_ns) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Report { rounds, cpu_ns, at_ns: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(report).collect()
}

/// The median CPU time of a round, in nanoseconds, over the reports between two times.
fn cpu_ns_of_a_round(reports: &[Report], from_ns: u64, until_ns: u64) -> f64 {
    let within = |report: &&Report| (from_ns..until_ns).contains(&report.at_ns);
    let within: Vec<&Report> = reports.iter().filter(within).collect();
    let mut costs: Vec<f64> = within
        .windows(2)
        .map(|pair| (pair[1].cpu_ns - pair[0].cpu_ns) / (pair[1].rounds - pair[0].rounds))
        .collect();
    assert!(costs.len() >= 5, "{} reports", costs.len());
    costs.sort_by(f64::total_cmp);
    costs[costs.len() / 2]
}

/// Profiles taken one after the other, with pauses between them in which nothing is sampled.
const PAIRS: usize = 6;
const PAUSE: Duration = Duration::from_millis(700);
/// Until then a profile of a second samples; before, it may still be attaching.
const ATTACHED: Duration = Duration::from_millis(400);

#[test]
fn a_target_that_switches_contexts_all_the_time_is_hardly_slowed_down() {
    let _alone = alone();
    if !crate::harness::is_root() {
        return crate::harness::skip(crate::harness::Skip::NeedsRoot);
    }
    let target = Target::start_with(&Fixture::c(&["switcher.c"]).build(), &["report"]);
    let mut pauses = Vec::new();
    let mut sampled = Vec::new();
    for _ in 0..PAIRS {
        let paused = monotonic_ns();
        std::thread::sleep(PAUSE);
        let began = monotonic_ns();
        pauses.push((paused, began));
        Rprof::attach(&target).sampler("bpf").hertz(99).seconds(1).profile();
        sampled.push((began + ATTACHED.as_nanos() as u64, began + 1_000_000_000));
    }
    let reports = reports(&target.end_and_read_output());
    // CPU time, which does not depend on what else runs on the CPU; what samples cost is part of it.
    let cost = |(from, until): &(u64, u64)| cpu_ns_of_a_round(&reports, *from, *until);
    let mut ratios: Vec<f64> =
        pauses.iter().zip(&sampled).map(|(without, with)| cost(with) / cost(without)).collect();
    ratios.sort_by(f64::total_cmp);
    // Events that follow a thread cost 39 % here; what rprof uses, less than 1 %.
    let median = (ratios[PAIRS / 2 - 1] + ratios[PAIRS / 2]) / 2.0;
    assert!(median < 1.05, "a round takes {median} times the CPU time: {ratios:?}");
    let rounds_per_s = 1e9 / cost(&pauses[0]);
    assert!(rounds_per_s > 50_000.0, "the fixture makes only {rounds_per_s} rounds in a second of CPU time");
}
