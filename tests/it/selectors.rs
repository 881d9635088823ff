//! Which processes the command line selects: by PID, name, container, control group and unit; the
//! same for every verb.

use std::{fs, path::PathBuf, process::Command};

use crate::harness::{Cgroup, Fixture, Skip, Target, Terminal, installed, open_folder, skip};

/// Runs rprof with these words in a folder of its own; its exit code, standard output and error.
fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let folder = open_folder();
    let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
    let output = rprof.args(words).current_dir(folder.path()).output().expect("rprof runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A program under a name that no other process has.
struct Named {
    name: String,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Named {
    fn new(prefix: &str) -> Named {
        let folder = open_folder();
        let name = format!("{prefix}{}", std::process::id());
        let path = folder.path().join(&name);
        fs::copy(Fixture::c(&["sleeper.c"]).build(), &path).expect("space in /tmp");
        Named { name, path, _folder: folder }
    }

    fn start(&self) -> Target {
        Target::start(&self.path)
    }
}

#[test]
fn a_name_in_place_of_a_pid_selects_the_process_in_every_verb() {
    let program = Named::new("word");
    let name = &*program.name;
    let mut target = program.start();
    let pid = target.pid().to_string();
    let part = &name[1..];
    for words in [
        &["info", name][..],
        &["info", part],
        &["info", &pid],
        &["info", &program.path.to_string_lossy()],
        &["dump", name],
        &["doctor", name],
        &["attach", name, "-d", "100ms"],
        // Without a verb.
        &[name, "-d", "100ms"],
        &[&pid, "-d", "100ms"],
        &["snapshot", name, "-d", "100ms"],
    ] {
        let (code, stdout, stderr) = run(words);
        let all = format!("{words:?}:\n{stdout}{stderr}");
        assert_eq!(code, Some(0), "{all}");
        assert!(all.contains(&pid) && all.contains(name), "{all}");
    }
    // The live view needs a terminal; which process it would watch is in the message.
    let (code, _, stderr) = run(&["top", name]);
    assert!(code == Some(1) && stderr.contains(&format!("--pid {pid}")), "{stderr}");
    target.assert_unhurt();
}

#[test]
fn several_processes_of_a_name_are_listed_with_the_commands_to_run() {
    let program = Named::new("both");
    let name = &*program.name;
    let targets = [program.start(), program.start()];
    for words in [&["attach", name, "-d", "100ms"][..], &["dump", name], &["serve", name], &["top", name]] {
        let (code, _, stderr) = run(words);
        assert_eq!(code, Some(1), "{words:?}: {stderr}");
        assert!(stderr.contains(&format!("{name} matches 2 processes, and one is needed")), "{stderr}");
        for target in &targets {
            assert!(stderr.contains(&format!("{:>7}  {name}", target.pid())), "{stderr}");
        }
        let rest = if words.len() > 2 { " -d 100ms" } else { "" };
        assert!(stderr.contains(&format!("rprof {} PID{rest} (one of", words[0])), "{stderr}");
        assert!(stderr.contains(&format!("rprof {} --name {name}{rest} (all", words[0])), "{stderr}");
    }
    let (code, _, stderr) = run(&["doctor", name]);
    assert!(code == Some(1) && !stderr.contains("--name"), "{stderr}");
    // Options select all.
    let (code, stdout, stderr) = run(&["info", "--name", name, "--json"]);
    let all: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, all.as_array().map(Vec::len)), (Some(0), Some(2)), "{stderr}");
}

#[test]
fn a_name_that_no_process_has_suggests_similar_ones() {
    let program = Named::new("similar-");
    let _target = program.start();
    let wrong = program.name.replace("similar", "simmilar");
    let (code, _, stderr) = run(&["attach", &wrong]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(&format!("no process matches `{wrong}`")), "{stderr}");
    assert!(stderr.contains(&format!("a similar name: {}", program.name)), "{stderr}");
    let (code, _, stderr) = run(&["top", "no-such-file.pb.gz"]);
    assert!(code == Some(1) && stderr.contains("cannot read no-such-file.pb.gz"), "{stderr}");
    let (code, _, stderr) = run(&["top", &wrong]);
    assert!(code == Some(1) && stderr.contains("there is no such file; it is not a process ID"), "{stderr}");
}

#[test]
fn a_file_is_read_although_a_process_has_its_name() {
    let folder = open_folder();
    let profile = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pprof/inlined.pb.gz");
    let pid = std::process::id().to_string();
    fs::copy(profile, folder.path().join(&pid)).expect("space in /tmp");
    let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"));
    let output = rprof.args(["top", &pid]).current_dir(folder.path()).output().expect("rprof runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !output.stdout.is_empty(), "{stderr}");
    assert!(stderr.contains(&format!("{pid} is read as a file")), "{stderr}");
    assert!(stderr.contains(&format!("rprof top --pid {pid}")), "{stderr}");
}

#[test]
fn the_processes_of_a_container_a_control_group_and_a_unit_are_selected() {
    let program = Named::new("grouped");
    let (inside, outside) = (program.start(), program.start());
    // An ID that begins with the PID, so that no other test has it.
    let id = format!("{:7<64}", format!("{:x}", u64::from(inside.pid()) << 32 | 0xabcd_ef12));
    let Some(container) = Cgroup::named(inside.pid(), &format!("docker-{id}.scope")) else {
        return skip(Skip::NeedsRoot);
    };
    let pid = inside.pid().to_string();
    let folder = container.folder().to_string_lossy().into_owned();
    let path = format!("/docker-{id}.scope");
    let unit = format!("docker-{id}.scope");
    for option in [
        &["--container", &id][..],
        &["--cgroup", &folder],
        &["--cgroup", &path],
        &["--unit", &unit],
        &["--unit", &unit, "--name", "grouped"],
    ] {
        let (code, stdout, stderr) = run(&[&["dump"], option].concat());
        assert_eq!(code, Some(0), "{option:?}: {stderr}");
        assert!(
            stdout.contains(&pid) && !stdout.contains(&outside.pid().to_string()),
            "{option:?}: {stdout}"
        );
    }
    let (code, _, stderr) = run(&["dump", "--container", &id, "--name", "no-such-name"]);
    assert!(
        code == Some(1) && stderr.contains("no process matches --name no-such-name --container"),
        "{stderr}"
    );
    let wrong = format!("{}0", &id[..12]);
    let (code, _, stderr) = run(&["dump", "--container", &wrong]);
    let known = format!("one of these containers: {}", &id[..12]);
    assert!(code == Some(1) && stderr.contains(&known), "{stderr}");
    let (code, _, stderr) = run(&["dump", "--unit", "no-such-unit"]);
    assert!(code == Some(1) && stderr.contains("no process is in a control group of this unit"), "{stderr}");
}

#[test]
fn on_a_terminal_one_of_several_processes_is_chosen_by_its_number() {
    if installed("tmux").is_none() {
        return skip(Skip::NotInstalled("tmux"));
    }
    let program = Named::new("pick");
    let mut pids = [program.start(), program.start()].map(|target| (target.pid(), target));
    pids.sort_by_key(|(pid, _)| *pid);
    let terminal = Terminal::start("picker", &["info", &program.name]);
    let screen = terminal.shows("which? (1 to 2, a: all of them, Enter: none)");
    assert!(screen.contains(&format!("  1 {:>7}  {}", pids[0].0, program.name)), "{screen}");
    terminal.press(&["7", "Enter"]);
    terminal.shows("\"7\" is not one of the numbers");
    terminal.press(&["2", "Enter"]);
    let screen = terminal.shows("command line");
    assert!(screen.contains(&format!("{} (pid {})", program.name, pids[1].0)), "{screen}");
    terminal.assert_ended(0);
}
