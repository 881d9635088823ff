//! Rights: what an ordinary user may do, what single capabilities add, and what is said when they
//! do not suffice.

use std::{fs, path::Path, path::PathBuf};

use crate::harness::{Fixture, Rprof, Skip, Target, User, alone, is_root, open_folder, set_mode, skip};

/// Whether the kernel gives ordinary users perf events for their own processes.
pub fn users_may_sample() -> bool {
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    level.trim().parse::<i32>().is_ok_and(|level| level <= 2)
}

/// The ordinary user of these tests: `nobody`, or who runs them.
pub fn ordinary_user() -> User {
    if is_root() { User::Nobody } else { User::Same }
}

/// A copy of a program where any user can run and read it; gone when dropped.
pub struct Copy {
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

pub fn readable_by_all(program: &Path) -> Copy {
    let folder = open_folder();
    let path = folder.path().join(program.file_name().expect("a program has a name"));
    fs::copy(program, &path).expect("room in /tmp");
    set_mode(&path, 0o755);
    Copy { path, _folder: folder }
}

#[test]
fn an_ordinary_user_may_not_profile_roots_process_and_is_told_why_and_what_to_do() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    for tier in ["auto", "bpf", "perf-cpu", "perf-thread"] {
        let outcome = Rprof::attach(&target).sampler(tier).run_by(User::Nobody).run();
        outcome.assert_refused(1, &["error:", "because", "try"]);
        assert!(!outcome.output.exists());
        assert!(outcome.elapsed.as_secs() < 3, "{tier}: refused only after {:?}", outcome.elapsed);
    }
    let outcome = Rprof::attach(&target).run_by(User::Nobody).run();
    outcome.assert_refused(1, &[&target.pid().to_string(), "root", "CAP_"]);
    target.assert_unhurt();
}

#[test]
fn root_may_profile_an_ordinary_users_process() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let program = readable_by_all(&Fixture::c(&["ratio.c"]).build());
    let mut target = Target::start_as(User::Nobody, &program.path, &[]);
    let profile = Rprof::attach(&target).profile();
    profile.assert_share("sixty", 60.0, 2.0);
    profile.assert_whole(&["_start"]);
    target.assert_unhurt();
}

#[test]
fn capabilities_for_bpf_and_perf_suffice_for_the_best_tier() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let program = readable_by_all(&Fixture::c(&["ratio.c"]).build());
    let user = User::NobodyWith("+perfmon,+bpf");
    let mut target = Target::start_as(User::Nobody, &program.path, &[]);
    let profile = Rprof::attach(&target).run_by(user).profile();
    assert!(profile.comment("sampler").starts_with("bpf"), "{:?}", profile.comments);
    profile.assert_share("sixty", 60.0, 2.0);
    profile.assert_whole(&["_start"]);
    target.assert_unhurt();
}

#[test]
fn the_capability_for_perf_alone_suffices_for_the_tiers_of_perf() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let program = readable_by_all(&Fixture::c(&["ratio.c"]).build());
    let mut target = Target::start_as(User::Nobody, &program.path, &[]);
    let profile = Rprof::attach(&target).run_by(User::NobodyWith("+perfmon")).profile();
    assert!(profile.comment("sampler").starts_with("perf-"), "{:?}", profile.comments);
    profile.assert_share("sixty", 60.0, 2.0);
    profile.assert_whole(&["_start"]);
    target.assert_unhurt();
}

#[test]
fn an_ordinary_user_gets_whole_deep_stacks_of_his_own_process() {
    let _alone = alone();
    if !users_may_sample() {
        return skip(Skip::NoPerfForUsers);
    }
    let program = readable_by_all(&Fixture::c(&["deep.c"]).build());
    let mut target = Target::start_as(ordinary_user(), &program.path, &[]);
    let profile = Rprof::attach(&target).run_by(ordinary_user()).profile();
    profile.assert_nearly_all(98.0, "main > 1,000 × descend", |stack| {
        stack.has("main") && stack.names().filter(|name| *name == "descend").count() == 1000
    });
    target.assert_unhurt();
}

#[test]
fn an_ordinary_user_sees_threads_that_come_and_go() {
    let _alone = alone();
    if !users_may_sample() {
        return skip(Skip::NoPerfForUsers);
    }
    let program = readable_by_all(&Fixture::c(&["churn.c"]).build());
    let mut target = Target::start_as(ordinary_user(), &program.path, &[]);
    let profile = Rprof::attach(&target).run_by(ordinary_user()).profile();
    // Events of a thread begin with a full period, so the shortest threads stay unseen here; a
    // profile says so by what it counts, and the 2 ms threads are there.
    assert!(profile.share_of("long_thread") > 40.0, "{}", profile.summary());
    profile.assert_stated_whole();
    target.assert_unhurt();
}

#[test]
fn an_ordinary_user_may_record_a_command() {
    let _alone = alone();
    if !users_may_sample() {
        return skip(Skip::NoPerfForUsers);
    }
    let program = readable_by_all(&Fixture::c(&["exits.c"]).build());
    let outcome = Rprof::record(&[&program.path.to_string_lossy(), "1500"]).run_by(ordinary_user()).run();
    assert_eq!(outcome.code, Some(7), "the command's own status: {}", outcome.stderr);
    let profile = outcome.profile_whatever_the_code();
    profile.assert_at_least(100);
    assert!(profile.share_of("last_work") > 90.0, "{}", profile.summary());
}
