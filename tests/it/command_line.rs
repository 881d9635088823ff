//! What the command line accepts and refuses, with which exit code and which words.

use std::fs;

use crate::harness::{Fixture, Rprof, Target, alone, is_root, set_mode};

#[test]
fn wrong_usage_is_reported_and_exits_with_2() {
    for arguments in [
        &["--pid", "not-a-number"][..],
        &["--no-such-option"],
        &["--pid", "1", "--duration", "soon"],
        &["--pid", "1", "--frequency", "0"],
        &["--pid", "1", "--sampler", "crystal-ball"],
        &["--pid", "1", "--format", "gif"],
        &["--name", "("],
        &[],
    ] {
        let outcome = Rprof::verb("attach").args(arguments).run();
        assert_eq!(outcome.code, Some(2), "{arguments:?}:\n{}", outcome.stderr);
        assert!(outcome.stderr.contains("error:"), "{arguments:?}:\n{}", outcome.stderr);
        assert!(outcome.stdout.is_empty() && !outcome.output.exists());
    }
    Rprof::verb("no-such-verb").run().assert_refused(2, &["error:"]);
    Rprof::verb("record").run().assert_refused(2, &["error:"]);
}

#[test]
fn help_and_version_are_printed_to_standard_output() {
    for arguments in [&["--help"][..], &["attach", "--help"], &["record", "--help"], &["--version"]] {
        let outcome = Rprof::verb(arguments[0]).args(&arguments[1..]).run();
        assert_eq!(outcome.code, Some(0), "{arguments:?}");
        let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert!(text.contains("rprof"), "{arguments:?}: {text}");
    }
    let attach = Rprof::verb("attach").args(&["--help"]).run();
    let text = String::from_utf8_lossy(&attach.stdout).into_owned();
    for option in ["--pid", "--name", "--children", "--duration", "--frequency", "--sampler", "--debug-dir"] {
        assert!(text.contains(option), "{option} is missing from:\n{text}");
    }
}

#[test]
fn a_process_that_does_not_exist_is_reported_with_why_and_what_to_try() {
    // Above the largest PID that Linux gives out (2^22).
    let outcome = Rprof::attach_to(4_194_305).run();
    outcome.assert_refused(1, &["error:", "4194305", "because", "try"]);
    assert!(!outcome.output.exists());
    assert!(outcome.elapsed.as_secs() < 2, "{:?}", outcome.elapsed);
}

#[test]
fn a_name_that_no_process_has_is_reported() {
    let outcome = Rprof::verb("attach").args(&["--name", "^no-such-program-anywhere$"]).run();
    outcome.assert_refused(1, &["error:", "no-such-program-anywhere"]);
}

#[test]
fn an_output_that_cannot_be_written_is_reported_before_the_time_is_spent() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let outcome = Rprof::attach(&target).seconds(20).to("no/such/folder/profile.pb.gz").run();
    outcome.assert_refused(1, &["error:", "no/such/folder", "because", "try"]);
    assert!(outcome.elapsed.as_secs() < 3, "reported only after {:?}", outcome.elapsed);
    if !is_root() {
        let folder = crate::harness::open_folder();
        set_mode(folder.path(), 0o555);
        let path = folder.path().join("profile.pb.gz");
        let outcome = Rprof::attach(&target).seconds(20).option("-o", &path.to_string_lossy()).run();
        outcome.assert_refused(1, &["error:", "profile.pb.gz"]);
        set_mode(folder.path(), 0o755);
    }
    target.assert_unhurt();
}

#[test]
fn a_kernel_thread_is_not_taken_for_a_process_with_a_program() {
    let _alone = alone();
    let name = fs::read_to_string("/proc/2/comm").unwrap_or_default();
    if name.trim() != "kthreadd" {
        // In a container there are no kernel threads to be seen.
        return;
    }
    let outcome = Rprof::attach_to(2).seconds(1).run();
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    match outcome.code {
        Some(0) => assert!(outcome.stderr.contains("warning:"), "{}", outcome.stderr),
        code => assert_eq!(code, Some(1), "{}", outcome.stderr),
    }
}

#[test]
fn quiet_prints_nothing_on_success() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let outcome = Rprof::attach(&target).seconds(1).args(&["--quiet"]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "");
    assert!(outcome.stdout.is_empty());
}

#[test]
fn no_progress_is_drawn_where_standard_error_is_no_terminal() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let outcome = Rprof::attach(&target).seconds(1).run();
    assert!(!outcome.stderr.contains(['\r', '\u{1b}']), "{:?}", outcome.stderr);
    assert!(!outcome.printed().contains(['\r', '\u{1b}']), "{:?}", outcome.printed());
}
