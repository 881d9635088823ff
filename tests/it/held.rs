//! The sampler that holds threads one by one, and `rprof doctor`: what works where perf and BPF are
//! forbidden, as in a container.

use std::process::Command;

use serde_json::Value;

use crate::{
    harness::{Fixture, Rprof, Skip, Target, User, alone, is_root, skip},
    rights::{ordinary_user, readable_by_all},
};

/// What container runtimes forbid by default.
const CONTAINER: &[&str] = &["perf_event_open", "bpf", "process_vm_readv"];

#[test]
fn where_perf_and_bpf_are_forbidden_threads_are_held_for_moments_and_that_is_said() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["ratio.c"]).build());
    let mut target = Target::start_as(ordinary_user(), &program.path, &[]);
    let run = Rprof::attach(&target).run_by(ordinary_user()).without(CONTAINER).args(&["--stats"]).seconds(4);
    let outcome = run.run();
    let words = outcome.stderr.clone();
    let profile = outcome.profile();
    assert!(words.contains("sampling by ptrace instead") && words.contains("seccomp"), "{words}");
    assert!(profile.comment("sampler").starts_with("ptrace"), "{:?}", profile.comments);
    profile.assert_at_least(100);
    profile.assert_share("sixty", 60.0, 4.0);
    profile.assert_whole(&["_start"]);
    // The weights are the kernel's own account.
    let (sampled, share) = (profile.cpu_ns() as f64 / 1e9, held_share(profile.comment("how")));
    assert!((0.5..4.5).contains(&sampled), "{sampled} s sampled\n{words}");
    assert!(share <= 1.5, "{share} % of the time held: {words}");
    target.assert_unhurt();
}

/// `…, at most 0.11 % of a thread's time`
fn held_share(how: &str) -> f64 {
    let words = how.split("at most ").last().and_then(|rest| rest.split(' ').next());
    words.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no share in {how:?}"))
}

#[test]
fn held_again_and_again_no_thread_sees_its_system_call_fail_or_loses_a_signal() {
    let _alone = alone();
    let program = Fixture::c(&["waits.c"]).build();
    for kind in ["cpu", "wall"] {
        let mut target = Target::start(&program);
        let run = Rprof::attach(&target).sampler("ptrace").args(&["--kind", kind]).seconds(3).run();
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        target.assert_unhurt();
        assert_eq!(target.end_and_read_output(), "", "{kind}");
    }
}

#[test]
fn a_wall_clock_profile_has_all_time_of_threads_that_sleep() {
    let _alone = alone();
    let mut target = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["10"]);
    let outcome = Rprof::attach(&target).args(&["--kind", "wall"]).seconds(2).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let bytes = std::fs::read(&outcome.output).expect("written");
    let profile = rprof::profile::decode::decode(&bytes).expect("a profile");
    assert_eq!(profile.string(profile.sample_type[1].r#type), "wall");
    let all_ns: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
    // 13 threads for 2 seconds.
    assert!((22e9..30e9).contains(&(all_ns as f64)), "{all_ns} ns\n{}", outcome.stderr);
    target.assert_unhurt();
}

#[test]
fn killed_while_it_holds_threads_the_sampler_leaves_none_stopped() {
    let _alone = alone();
    const KILLS: u64 = 25;
    // It ends at a signal that was lost or doubled; an EINTR it only tells: killed in the
    // microseconds between a stop and the mending of a call that it broke off, rprof can mend
    // nothing (docs/DUMP.md).
    let mut target = Target::start_with(&Fixture::c(&["waits.c"]).build(), &["goes-on"]);
    for round in 0..KILLS {
        let pid = target.pid().to_string();
        let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"))
            .args(["attach", &pid, "--sampler", "ptrace", "-F", "5000", "-d", "5s", "-q", "-o", "/dev/null"])
            .args(["--format", "folded"])
            .spawn()
            .expect("rprof starts");
        std::thread::sleep(std::time::Duration::from_micros(30_000 + round * 1_777));
        rprof.kill().expect("own child");
        rprof.wait().expect("own child");
        target.assert_unhurt();
    }
    let told = target.end_and_read_output();
    assert!(told.lines().all(|line| line.ends_with("failed with EINTR")), "{told}");
    assert!(told.lines().count() as u64 <= KILLS / 5, "{told}");
}

/// `rprof doctor --json` of a process: whether each source works, and what it says.
fn doctor(rprof: Rprof) -> Value {
    let outcome = rprof.run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    serde_json::from_slice(&outcome.stdout).expect("JSON")
}

#[track_caller]
fn check<'v>(answer: &'v Value, source: &str) -> &'v Value {
    let checks = answer["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["source"] == source).unwrap_or_else(|| panic!("no {source}: {answer}"))
}

#[test]
fn the_doctor_says_what_works_and_what_a_container_forbids() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["waits.c"]).build());
    let mut target = Target::start_as(ordinary_user(), &program.path, &[]);
    let pid = target.pid().to_string();
    let ask = || Rprof::verb("doctor").args(&["--pid", &pid, "--json"]).run_by(ordinary_user());
    let answer = doctor(ask().without(CONTAINER));
    for source in ["ptrace", "memory: /proc/PID/mem", "/proc/PID/maps", "/proc/PID/task/TID/syscall"] {
        assert_eq!(check(&answer, source)["works"], true, "{answer:#}");
    }
    for source in ["perf: CPU samples of the process", "BPF: waits (off-CPU)", "memory: process_vm_readv"] {
        let check = check(&answer, source);
        assert_eq!(check["works"], false, "{check:#}");
        assert!(check["unlock"].as_array().is_some_and(|ways| !ways.is_empty()), "{check:#}");
    }
    assert!(
        check(&answer, "perf: CPU samples of the process")["detail"]
            .as_str()
            .is_some_and(|why| why.contains("seccomp"))
    );
    assert_eq!(answer["host"]["seccomp filter"], "yes");
    target.assert_unhurt();
    assert_eq!(target.end_and_read_output(), "", "nothing of it is noticed");
}

#[test]
fn the_doctor_tells_an_ordinary_user_what_unlocks_roots_process() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let target = Target::start(&Fixture::c(&["sleeper.c"]).build());
    let outcome = Rprof::verb("doctor").args(&[&target.pid().to_string()]).run_by(User::Nobody).run();
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    for words in ["kernel.perf_event_paranoid", "sudo -u '#0' rprof", "CAP_SYS_PTRACE", "not possible"] {
        assert!(text.contains(words), "{words} is missing from\n{text}");
    }
    let answer = doctor(Rprof::verb("doctor").args(&[&target.pid().to_string(), "--json"]));
    for check in answer["checks"].as_array().expect("checks") {
        assert!(check["works"] == true || check["source"] == "debug files", "{check:#}");
    }
}

#[test]
fn threads_by_attach_are_the_dump_as_a_profile() {
    let _alone = alone();
    let target = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["10"]);
    for kind in ["threads", "goroutine"] {
        let outcome = Rprof::attach(&target).args(&["--kind", kind]).run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let bytes = std::fs::read(&outcome.output).expect("written");
        let profile = rprof::profile::decode::decode(&bytes).expect("a profile");
        assert_eq!((profile.string(profile.sample_type[0].r#type), profile.sample.len()), ("threads", 13));
    }
}
