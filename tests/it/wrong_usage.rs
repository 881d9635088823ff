//! Wrong command lines: the exit status, and a message with what is wrong, why, and what to do.

use std::process::Command;

use crate::harness::{Fixture, Rprof, Target, alone, open_folder};

/// A command line, its exit status, and texts of its message.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

/// Runs rprof with these words in a folder of its own; its exit code and standard error.
fn run(words: &[&str]) -> (Option<i32>, String) {
    let folder = open_folder();
    let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
    rprof.args(words).current_dir(folder.path()).env_remove("DEBUGINFOD_URLS");
    let output = rprof.output().expect("rprof runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn check(cases: &[Case<'_>]) {
    for (words, code, texts) in cases {
        let (found, stderr) = run(words);
        assert_eq!(found, Some(*code), "{words:?}: {stderr}");
        assert!(stderr.contains("error:"), "{words:?}: {stderr}");
        for text in *texts {
            assert!(stderr.contains(text), "{words:?}: {text:?} is missing from\n{stderr}");
        }
    }
}

const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pprof/inlined.pb.gz");
const NO_PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

#[test]
fn unknown_words_and_options_suggest_known_ones() {
    check(&[
        (&["atach", "1"], 2, &["unrecognized subcommand 'atach'", "a similar subcommand exists: 'attach'"]),
        (&[PROFILE], 2, &["`rprof top ", "shows a profile"]),
        (&["help", "permision"], 2, &["did you mean 'permissions'?"]),
        (&["attach", "1", "--durration", "3"], 2, &["a similar argument exists: '--duration'"]),
        (&["attach", "1", "--kind", "offcpux"], 2, &["a similar value exists: 'offcpu'"]),
        (
            &["dump", "1", "-d", "5"],
            2,
            &["-d is an option of attach, heap, record, snapshot", "`rprof help dump`"],
        ),
        (&["tree", PROFILE, "--pid", "1"], 2, &["--pid is an option of attach, doctor, dump, heap, info"]),
        (&["-d", "5"], 2, &["unexpected argument '-d'", "-d is an option of attach"]),
    ]);
}

#[test]
fn missing_and_superfluous_processes_files_and_commands_are_answered_with_an_example() {
    check(&[
        (&["attach"], 2, &["required", "try      `rprof attach 1234`, or `rprof attach NAME`"]),
        (&["serve"], 2, &["try      `rprof serve 1234`"]),
        (&["top"], 2, &["try      `rprof top FILE`, or `rprof top NAME`"]),
        (&["tree"], 2, &["try      `rprof tree FILE`"]),
        (&["flame"], 2, &["try      `rprof flame FILE`"]),
        (&["record"], 2, &["try      `rprof record -- COMMAND`"]),
        (&["attach", "1", "2"], 2, &["unexpected argument '2'", "several: rprof attach --pid A --pid B"]),
        (&["attach", "1", "--pid", "2"], 2, &["cannot be used with"]),
    ]);
}

#[test]
fn wrong_values_are_answered_with_the_right_ones() {
    let me = std::process::id().to_string();
    check(&[
        (&["attach", "--pid", "redis"], 2, &["it is not a process ID; omit --pid to give a name: redis"]),
        (&["attach", "--name", ""], 2, &["it matches every process"]),
        (&["attach", "--name", "("], 2, &["regex parse error"]),
        (&["attach", "--cgroup", "/"], 2, &["it has every process: name a control group in it"]),
        (&["attach", "1", "-F", "0"], 2, &["must be a number of samples per second from 1 to 50000"]),
        (&["attach", "1", "-d", "0"], 2, &["must be greater than 0"]),
        (&["attach", "1", "--file-mode", "9"], 2, &["must be octal permissions such as 600 or 644"]),
        (&["attach", &me, "-o", "/tmp"], 1, &["/tmp is a directory"]),
        (
            &["attach", &me, "--debug-dir", "/no/such"],
            1,
            &["--debug-dir /no/such: there is no such directory"],
        ),
        (&["attach", &me, "--debuginfod"], 1, &["DEBUGINFOD_URLS is not set"]),
        (&["serve", &me, "--listen", "0.0.0.0:0"], 1, &["other machines can connect", "add --token-file"]),
        (&["top", PROFILE, "--focus", "("], 2, &["--focus", "missing closing )"]),
    ]);
    let (code, text) = run(&["pprof", "-http=:6379x", PROFILE]);
    assert!(code == Some(2) && text.contains("the port must be a number from 0 to 65535"), "{text}");
}

#[test]
fn what_does_not_exist_is_reported_with_why_and_what_to_do() {
    let nothing = "no-such-process-anywhere";
    check(&[
        // Above the largest PID that Linux gives out (2^22).
        (&["attach", "4194305"], 1, &["there is no process 4194305", "because  /proc/4194305", "try "]),
        (&["4194305"], 1, &["there is no process 4194305", "because", "try "]),
        (
            &["attach", nothing],
            1,
            &["no process matches `no-such", "because  it is not a process ID", "try "],
        ),
        (&["dump", "--name", nothing], 1, &["no process matches", "because  the regular expression", "try "]),
        (&["attach", "--unit", nothing], 1, &["--unit no-such", "because  no process is in", "try "]),
        (&["attach", "--container", "abc"], 1, &["at least 12 digits", "try "]),
        (&["attach", "--cgroup", "/no/such"], 1, &["--cgroup /no/such", "/proc/PID/cgroup"]),
        (
            &["top", "no-such.pb.gz"],
            1,
            &["cannot read no-such.pb.gz", "no such file", "try      check the path"],
        ),
        (&["flame", "no-such.pb.gz"], 1, &["cannot read no-such.pb.gz", "try      check the path"]),
        (&["top", NO_PROFILE], 1, &["unrecognized profile format", "try      profiles of pprof"]),
        (&["list", "nothing-like-it", PROFILE], 1, &["no function matches `nothing-like-it`"]),
        (
            &["record", "no-such-command"],
            1,
            &["cannot run no-such-command", "because", "try      check the name"],
        ),
    ]);
}

#[test]
fn options_of_the_other_use_of_a_verb_are_refused() {
    let me = std::process::id().to_string();
    check(&[
        (&["top", PROFILE, "--kind", "offcpu"], 1, &["apply to a running process only"]),
        (
            &["top", &me, "--focus", "x"],
            1,
            &["report options are for files", "rprof attach --pid PID -o FILE"],
        ),
        (&["top", &me], 1, &["a live view needs a terminal", &format!("`rprof attach --pid {me} -d 5s`")]),
        (
            &["attach", &me, "--kind", "allocs"],
            1,
            &["allocs profiles need a Go program", "try      --kind cpu"],
        ),
        (&["flame", PROFILE, "-o", "x.svg", "--depth", "3"], 2, &["cannot be used with"]),
    ]);
}

#[test]
fn the_exit_status_of_a_recorded_command_is_passed_on_without_dashes() {
    let _alone = alone();
    let (code, _) = run(&["record", "-q", "sh", "-c", "exit 3"]);
    assert_eq!(code, Some(3));
}

fn signal(signal: &str, pid: u32) {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn an_empty_profile_is_called_empty_with_the_reason() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["sleeper.c"]).build());
    let outcome = Rprof::attach(&target).seconds(1).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("warning: no samples: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the process slept"), "{}", outcome.stderr);
    let pid = target.pid();
    signal("-STOP", pid);
    let stopped = Rprof::attach(&target).seconds(1).run();
    signal("-CONT", pid);
    let why = format!("no samples: process {pid} is stopped (SIGSTOP or Ctrl-Z); `kill -CONT {pid}`");
    assert!(stopped.stderr.contains(&why), "{}", stopped.stderr);
    assert!(!stopped.stderr.contains("whole stacks"), "{}", stopped.stderr);
    let (code, stderr) = run(&["top", &outcome.output.to_string_lossy()]);
    assert!(code == Some(0) && stderr.contains("the profile is empty: it has no samples"), "{stderr}");
}

#[test]
fn doctor_says_first_whether_a_process_can_be_profiled() {
    let target = Target::start(&Fixture::c(&["sleeper.c"]).build());
    for words in [&["doctor"][..], &["doctor", &target.pid().to_string()]] {
        let output = Command::new(env!("CARGO_BIN_EXE_rprof")).args(words).output().expect("rprof runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("attach: yes, by ") || first.starts_with("attach: no: "), "{text}");
    }
}
