//! What happens while a profile is taken: libraries opened, children forked, programs replaced,
//! threads and processes that end, signals to rprof.

use std::{fs, process::Stdio, time::Duration};

use crate::{
    harness::{
        Fixture, Rprof, Skip, Stacks, Target, alone, cpu_time_of_ended_programs, is_alive, is_root,
        open_folder, pid_namespace, skip, wait_until,
    },
    shares::allowed_tiers,
};

#[test]
fn a_library_opened_during_the_profile_is_named_and_whole() {
    let _alone = alone();
    let plugin = Fixture::c(&["plugin.c"]).with(&["-shared", "-fPIC"]).build();
    let host = Fixture::c(&["loader.c"]).build();
    for tier in allowed_tiers() {
        let target = Target::start_with(&host, &[&plugin.to_string_lossy(), "1500"]);
        let profile = Rprof::attach(&target).sampler(tier).profile();
        assert!(profile.share_of("host_work") > 20.0, "{tier}\n{}", profile.summary());
        assert!(profile.share_of("plugin_work") > 20.0, "{tier}\n{}", profile.summary());
        profile.assert_nearly_all(99.5, "main > work", |stack| {
            stack.has_in_order(&["main", "plugin_entry"])
                || stack.has_in_order(&["main", "host_work"])
                || stack.has("main")
        });
        profile.assert_whole(&["_start"]);
    }
}

#[test]
fn children_forked_during_the_profile_are_in_it_when_asked_for() {
    let _alone = alone();
    let program = Fixture::c(&["forker.c"]).build();
    for tier in allowed_tiers() {
        let target = Target::start(&program);
        let profile = Rprof::attach(&target).sampler(tier).args(&["--children"]).profile();
        profile.assert_share("child_work", 80.0, 5.0);
        profile.assert_whole(&["_start"]);
        let alone = Rprof::attach(&target).sampler(tier).seconds(2).profile();
        assert_eq!(alone.share_of("child_work"), 0.0, "{tier}\n{}", alone.summary());
        assert!(alone.share_of("parent_work") > 90.0, "{tier}\n{}", alone.summary());
    }
}

#[test]
fn a_program_replaced_by_exec_is_seen_before_and_after() {
    let _alone = alone();
    let before = Fixture::c(&["execer.c"]).build();
    let after = Fixture::c(&["ratio.c"]).build();
    for tier in allowed_tiers() {
        let mut target = Target::start_with(&before, &["1500", &after.to_string_lossy()]);
        let profile = Rprof::attach(&target).sampler(tier).seconds(4).profile();
        assert!(profile.share_of("before_exec") > 15.0, "{tier}\n{}", profile.summary());
        assert!(profile.share_of("middle") > 40.0, "{tier}\n{}", profile.summary());
        assert_eq!(profile.count(|stack| stack.has("before_exec") && stack.has("middle")), 0);
        profile.assert_whole(&["_start"]);
        target.assert_unhurt();
    }
}

#[test]
fn a_target_that_ends_during_the_profile_leaves_a_whole_profile() {
    let _alone = alone();
    let program = Fixture::c(&["exits.c"]).build();
    for tier in allowed_tiers() {
        let mut target = Target::start_with(&program, &["1500"]);
        // It ends with the target, long before the time that was requested.
        let requested = 50;
        let outcome = Rprof::attach(&target).sampler(tier).seconds(requested).run();
        assert!(outcome.elapsed.as_secs() < u64::from(requested) / 2, "{tier}: {:?}", outcome.elapsed);
        let profile = outcome.profile();
        profile.assert_at_least(100);
        profile.assert_nearly_all(99.0, "main > last_work", |stack| stack.has("main"));
        profile.assert_whole(&["_start"]);
        assert!(profile.share_of("last_work") > 95.0, "{}", profile.summary());
        assert_eq!(target.exit_code(5), Some(7));
    }
}

#[test]
fn interrupt_and_terminate_finish_early_and_keep_the_data() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    for signal in ["INT", "TERM"] {
        let requested = 50;
        let running = Rprof::attach(&target).seconds(requested).start();
        let sampled = Duration::from_secs(1);
        running.wait_until_sampled(target.pid(), sampled);
        running.signal(signal);
        let outcome = running.wait();
        let elapsed = outcome.elapsed;
        assert!(elapsed.as_secs() < u64::from(requested) / 2, "{signal}: {elapsed:?}");
        assert_eq!(outcome.leftovers(), Vec::<String>::new());
        let profile = outcome.profile();
        profile.assert_at_least(100);
        profile.assert_share("sixty", 60.0, 4.0);
        // What the target used since then is sampled, to a tick; rprof has run longer than it sampled.
        let stated = Duration::from_nanos(profile.profile.duration_nanos as u64);
        assert!((sampled * 9 / 10..elapsed).contains(&stated), "{stated:?} of {elapsed:?}");
        target.assert_unhurt();
    }
}

#[test]
fn rprof_killed_outright_leaves_the_target_as_it_was() {
    let _alone = alone();
    let program = Fixture::c(&["eintr.c"]).build();
    for tier in allowed_tiers() {
        let mut target = Target::start(&program);
        let running = Rprof::attach(&target).sampler(tier).seconds(50).start();
        running.wait_until_sampled(target.pid(), Duration::from_millis(200));
        running.signal("KILL");
        let outcome = running.wait();
        assert_eq!(outcome.code, None);
        assert!(!outcome.output.exists(), "a partial profile is left");
        target.assert_unhurt();
        assert_eq!(target.end_and_read_output(), "");
    }
}

#[test]
fn record_profiles_a_command_from_its_start_with_its_children() {
    let _alone = alone();
    let program = Fixture::c(&["exits.c"]).build();
    let program = program.to_string_lossy();
    let script = format!("{program} 700; {program} 700 & {program} 700; wait; exit 0");
    let outcome = Rprof::record(&["sh", "-c", &script]).run();
    let profile = outcome.profile();
    profile.assert_at_least(300);
    assert!(profile.share_of("last_work") > 90.0, "{}", profile.summary());
    // A process has no stack to speak of in its first instructions, nor while exec runs.
    profile.assert_nearly_all(97.0, "_start > main", |stack| stack.has_in_order(&["_start", "main"]));
}

#[test]
fn record_passes_on_the_status_and_the_output_of_the_command() {
    let _alone = alone();
    let outcome = Rprof::record(&[
        "sh",
        "-c",
        "echo to the world; i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exit 5",
    ])
    .run();
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("to the world"));
    assert!(outcome.stderr.contains("sh exited with status 5"), "{}", outcome.stderr);
    outcome.profile_whatever_the_code().assert_at_least(50);
}

#[test]
fn record_exits_with_the_status_of_the_command_or_1_if_only_the_profile_failed() {
    let _alone = alone();
    let full = ["-o", "/dev/full", "--format", "pprof"];
    for (script, options, code) in [
        ("exit 0", &[][..], 0),
        ("exit 3", &[][..], 3),
        ("exit 255", &[][..], 255),
        ("kill -9 $$", &[][..], 128 + 9),
        ("kill -TERM $$", &[][..], 128 + 15),
        ("exit 0", &full[..], 1),
        ("exit 3", &full[..], 3),
    ] {
        let folder = crate::harness::open_folder();
        // With and without `--` before the command.
        for dashes in [&["--"][..], &[]] {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_rprof"))
                .arg("record")
                .args(options)
                .args(dashes)
                .args(["sh", "-c", script])
                .current_dir(folder.path())
                .env("TMPDIR", folder.path())
                .output()
                .expect("rprof runs");
            let words = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{script} {options:?} {dashes:?}:\n{words}");
            assert_eq!(words.contains("error:"), !options.is_empty(), "{script} {options:?}:\n{words}");
        }
    }
}

#[test]
fn record_of_a_command_that_does_not_exist_is_an_error() {
    let outcome = Rprof::record(&["/no/such/program"]).run();
    outcome.assert_refused(1, &["error:", "/no/such/program"]);
    assert!(!outcome.output.exists());
}

#[test]
fn an_interrupted_record_keeps_the_data() {
    let _alone = alone();
    let program = Fixture::c(&["ratio.c"]).build();
    let running = Rprof::record(&[&program.to_string_lossy()]).start();
    let commands = || processes_running(&program.to_string_lossy());
    assert!(wait_until(20, || !commands().is_empty()), "the command does not start");
    running.wait_until_sampled(commands()[0], Duration::from_secs(1));
    running.signal("INT");
    let outcome = running.wait();
    // The command got the signal too.
    assert_eq!(outcome.code, Some(128 + 2), "{}", outcome.stderr);
    let profile = outcome.profile_whatever_the_code();
    profile.assert_at_least(100);
    profile.assert_share("sixty", 60.0, 4.0);
    // What rprof started does not outlive it for long.
    assert!(wait_until(20, || commands().is_empty()), "still running: {:?}", commands());
}

fn processes_running(program: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    (entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()))
        .filter(|pid| is_alive(*pid))
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.to_string_lossy() == program)
        })
        .collect()
}

#[test]
fn several_processes_are_profiled_at_once() {
    let _alone = alone();
    let first = Target::start(&Fixture::c(&["ratio.c"]).build());
    let second = Target::start(&Fixture::cc("ratio.cc").build());
    for tier in allowed_tiers() {
        let profile =
            Rprof::attach(&first).sampler(tier).args(&["--pid", &second.pid().to_string()]).profile();
        let (c, cpp) = (profile.share_of("middle"), profile.share_of("shapes::drive"));
        assert!(
            c > 25.0 && cpp > 25.0 && c + cpp > 99.0,
            "{tier}: {c:.1} and {cpp:.1}\n{}",
            profile.summary()
        );
        profile.assert_whole(&["_start"]);
    }
}

#[test]
fn processes_are_found_by_name() {
    let _alone = alone();
    let folder = crate::harness::open_folder();
    // A name that no other process has.
    let name = format!("by-name-{}", std::process::id());
    let copy = folder.path().join(&name);
    std::fs::copy(Fixture::c(&["ratio.c"]).build(), &copy).expect("room in /tmp");
    let _first = Target::start(&copy);
    let _second = Target::start(&copy);
    let profile =
        Rprof::verb("attach").args(&["--name", &name, "--label", "pid"]).seconds(2).hertz(999).profile();
    let pids: std::collections::BTreeSet<&str> =
        profile.stacks.iter().filter_map(|stack| stack.label("pid")).collect();
    assert_eq!(pids.len(), 2, "{}", profile.summary());
}

/// Runs `rprof attach --name NAME` in a folder; returns what it printed and the name of the file.
fn attach_by_name(name: &str, options: &[&str]) -> (String, tempfile::TempDir, String) {
    let folder = crate::harness::open_folder();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_rprof"))
        .args(["attach", "--name", name, "-d", "1s", "-F", "999"])
        .args(options)
        .current_dir(folder.path())
        .output()
        .expect("rprof runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}");
    let file = std::fs::read_dir(folder.path()).expect("own folder").flatten().next().expect("a profile");
    (words, folder, file.file_name().to_string_lossy().into_owned())
}

#[test]
fn a_name_matches_arguments_only_if_asked_and_several_processes_are_listed_and_labelled() {
    let _alone = alone();
    let folder = crate::harness::open_folder();
    let name = format!("named-{}", std::process::id());
    let copy = folder.path().join(&name);
    std::fs::copy(Fixture::c(&["ratio.c"]).build(), &copy).expect("room in /tmp");
    let program = Target::start(&copy);
    // As `vim redis.conf` beside redis-server: the name is an argument only.
    let other = Target::start_with(&Fixture::cc("ratio.cc").build(), &[&format!("{name}.conf")]);
    let (words, folder, file) = attach_by_name(&name, &[]);
    let line = format!("--name {name} matches: {} {name}\n", program.pid());
    assert!(words.starts_with(&line), "{words}");
    assert!(file.starts_with(&format!("rprof-{name}-{}-2", program.pid())), "{file}");
    let profile = crate::harness::Stacks::read(&folder.path().join(&file)).expect("a profile");
    assert_eq!(profile.share_of("shapes::drive"), 0.0, "{}", profile.summary());

    let (words, folder, file) = attach_by_name(&name, &["--match-args"]);
    let mut pids = [program.pid(), other.pid()];
    pids.sort_unstable();
    let list = format!("--name {name} matches 2 processes:\n  {} ", pids[0]);
    assert!(words.starts_with(&list) && words.contains(&format!("\n  {} ", pids[1])), "{words}");
    assert!(file.contains(&format!("-{}-and-1-more-2", pids[0])), "{file}");
    let profile = crate::harness::Stacks::read(&folder.path().join(&file)).expect("a profile");
    for (function, pid, process) in
        [("middle", program.pid(), &*name), ("shapes::drive", other.pid(), "ratio")]
    {
        let pid = pid.to_string();
        let mut stacks = profile.stacks.iter().filter(|stack| stack.has(function)).peekable();
        assert!(stacks.peek().is_some(), "{function} is missing: {}", profile.summary());
        assert!(
            stacks.all(|stack| stack.label("pid") == Some(&pid)
                && stack.label("process").is_some_and(|label| label.starts_with(process))),
            "{}",
            profile.summary()
        );
    }
}

#[test]
fn rprof_and_its_parent_processes_are_never_matched() {
    let _alone = alone();
    // A shell that waits for rprof, and rprof itself, both with the name in their arguments.
    let name = format!("only-in-arguments-{}", std::process::id());
    let script = format!("\"$0\" attach --name {name} --match-args -d 1s; exit $?");
    let output = std::process::Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_rprof")])
        .output()
        .expect("sh runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains(&format!("no process matches `{name}`")), "{words}");
}

#[test]
fn attaching_and_finishing_take_little_time_beyond_the_duration() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    // In CPU time of rprof: how long it waits for a CPU does not count.
    let before = cpu_time_of_ended_programs();
    let outcome = Rprof::attach(&target).seconds(2).run();
    let used = cpu_time_of_ended_programs() - before;
    let sampled = Duration::from_nanos(outcome.profile().profile.duration_nanos as u64);
    assert!(used < sampled / 4, "{used:?} of CPU time for {sampled:?} of sampling");
}

/// Profiles two processes in a PID namespace. When the file `kill` appears, ends the first one and
/// gives its PID to another program.
const REUSE_PID: &str = r#"
cd "$0"
"$1" > /dev/null & target=$!
"$1" > /dev/null & other=$!
"$2" attach --pid $target --pid $other -d 5s -F 999 -q -o profile.pb.gz 2> errors & attach=$!
touch started
while [ ! -e kill ]; do sleep 0.05; done
kill -9 $target; wait $target
for attempt in $(seq 500); do
    echo $((target - 1)) > /proc/sys/kernel/ns_last_pid
    "$3" 0 > /dev/null &
    [ $! = $target ] && touch reused && break
    kill -9 $!; wait $!
done
wait $attach
touch done
"#;

#[test]
fn a_process_that_gets_the_pid_of_an_ended_one_is_not_in_the_profile() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let Some(mut command) = pid_namespace() else { return skip(Skip::NoNamespaces) };
    let (ratio, other) = (Fixture::c(&["ratio.c"]).build(), Fixture::c(&["many_threads.c"]).build());
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name);
    command.args(["sh", "-c", REUSE_PID]).arg(folder.path()).arg(ratio);
    command.arg(env!("CARGO_BIN_EXE_rprof")).arg(other).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("unshare runs");
    assert!(wait_until(20, || path("started").exists()), "it starts");
    std::thread::sleep(Duration::from_millis(2500));
    fs::write(path("kill"), "").expect("own folder");
    assert!(wait_until(20, || path("reused").exists()), "the PID is reused");
    assert!(wait_until(60, || path("done").exists()), "rprof ends");
    let _ = (child.kill(), child.wait());
    let errors = fs::read_to_string(path("errors")).unwrap_or_default();
    let profile = Stacks::read(&path("profile.pb.gz")).unwrap_or_else(|error| panic!("{error}: {errors}"));
    assert!(profile.share_of("sixty") > 50.0, "{}", profile.summary());
    assert_eq!(profile.share_of("busy_thread"), 0.0, "{}", profile.summary());
}
