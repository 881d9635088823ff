//! `rprof snapshot`: an incident bundle in one file.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use crate::{
    harness::{Fixture, Rprof, Skip, Target, User, alone, installed, is_root, open_folder, skip},
    rights::{ordinary_user, readable_by_all},
};

/// Takes a snapshot of two seconds into `folder`, and unpacks it there; what was said.
fn take(target: &Target, folder: &Path, user: User) -> String {
    let program = readable_by_all(Path::new(env!("CARGO_BIN_EXE_rprof")));
    let file = folder.join("incident.tar.gz");
    let mut command = user.command(&program.path);
    command.args(["snapshot", "--pid", &target.pid().to_string(), "-d", "2s", "-o"]).arg(&file);
    let output = command.output().expect("rprof runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let mode = std::fs::metadata(&file).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    unpack(folder);
    said
}

fn unpack(folder: &Path) {
    let tar = installed("tar").expect("tar is part of every system");
    let file = folder.join("incident.tar.gz");
    let unpacked = Command::new(tar).arg("-C").arg(folder).arg("-xzf").arg(file).status();
    assert!(unpacked.expect("tar runs").success());
}

fn read(folder: &Path, name: &str) -> String {
    let path = folder.join("incident").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn an_incident_file_has_stacks_profiles_facts_and_findings() {
    let _alone = alone();
    let mut target = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["10"]);
    let folder = open_folder();
    let said = take(&target, folder.path(), User::Same);
    let readme = read(folder.path(), "README.md");
    assert!(said.contains(readme.trim_end()), "it says what it found");
    assert!(
        readme.contains("13 threads, 100.0 % of the stacks whole") && readme.contains("busy_thread"),
        "{readme}"
    );
    assert!(read(folder.path(), "threads.txt").contains("sleeping_thread(...)"));
    if is_root() {
        assert!(readme.contains("## Off-CPU time"), "{readme}");
        assert!(folder.path().join("incident/offcpu.pb.gz").exists(), "{readme}");
    }
    assert!(read(folder.path(), "proc/status.txt").contains("VmRSS"));
    assert!(read(folder.path(), "doctor.json").contains("\"checks\""));
    assert!(!folder.path().join("incident/proc/environ.txt").exists());
    let top = Command::new(env!("CARGO_BIN_EXE_rprof"))
        .args(["top"])
        .arg(folder.path().join("incident/cpu.pb.gz"))
        .output();
    assert!(String::from_utf8_lossy(&top.expect("rprof runs").stdout).contains("busy_thread"));
    target.assert_unhurt();
}

#[test]
fn a_snapshot_of_several_processes_and_their_children_has_all_of_them() {
    let _alone = alone();
    let mut forks = Target::start(&Fixture::c(&["forker.c"]).build());
    let mut works = Target::start(&Fixture::c(&["ratio.c"]).build());
    let folder = open_folder();
    let file = folder.path().join("incident.tar.gz");
    let pids = [forks.pid().to_string(), works.pid().to_string()];
    let outcome = Rprof::verb("snapshot")
        .args(&["--pid", &pids[0], "--pid", &pids[1], "--children", "-d", "2s", "-o"])
        .args(&[file.to_str().expect("UTF-8")])
        .run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    unpack(folder.path());
    let readme = read(folder.path(), "README.md");
    assert!(readme.lines().next().expect("a heading").contains("more process"), "{readme}");
    let profile = folder.path().join("incident/cpu.pb.gz");
    let report = |verb: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_rprof")).arg(verb).arg(&profile).output();
        String::from_utf8_lossy(&output.expect("rprof runs").stdout).into_owned()
    };
    let (top, tags) = (report("top"), report("tags"));
    for function in ["sixty", "parent_work", "child_work"] {
        assert!(top.contains(function), "{function}: {top}");
    }
    for pid in &pids {
        assert!(tags.contains(pid), "{pid}: {tags}");
        assert!(read(folder.path(), &format!("proc/{pid}/status.txt")).contains("VmRSS"));
        assert!(!read(folder.path(), &format!("proc/{pid}/cmdline.txt")).is_empty());
    }
    forks.assert_unhurt();
    works.assert_unhurt();
}

#[test]
fn what_an_ordinary_user_lacks_permission_for_is_listed_with_the_reason() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["many_threads.c"]).build());
    let mut target = Target::start_as(ordinary_user(), &program.path, &["10"]);
    let folder = open_folder();
    crate::harness::set_mode(folder.path(), 0o777);
    take(&target, folder.path(), ordinary_user());
    let readme = read(folder.path(), "README.md");
    assert!(readme.contains("the kernel part of stacks") || readme.contains("bpf"), "{readme}");
    assert!(readme.contains("busy_thread") && folder.path().join("incident/cpu.pb.gz").exists(), "{readme}");
    target.assert_unhurt();
}

#[test]
fn a_snapshot_that_is_interrupted_keeps_what_it_has() {
    let _alone = alone();
    let mut target = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["10"]);
    let folder = open_folder();
    let running = Rprof::verb("snapshot")
        .args(&["--pid", &target.pid().to_string(), "-d", "50s", "-o"])
        .args(&[folder.path().join("incident.tar.gz").to_str().expect("UTF-8")])
        .start();
    running.wait_until_sampled(target.pid(), Duration::from_secs(1));
    running.signal("INT");
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.elapsed.as_secs() < 25, "half of what was requested: {:?}", outcome.elapsed);
    unpack(folder.path());
    assert!(read(folder.path(), "README.md").contains("busy_thread"), "{}", outcome.stderr);
    assert!(folder.path().join("incident/cpu.pb.gz").exists());
    // After the signal nothing more is collected.
    let readme = read(folder.path(), "README.md");
    assert!(readme.contains("- doctor: not collected: a signal ended the snapshot first"), "{readme}");
    assert!(!folder.path().join("incident/doctor.txt").exists());
    target.assert_unhurt();
}

#[test]
fn data_that_does_not_fit_on_the_disk_is_saved_elsewhere() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["10"]);
    let folder = open_folder();
    // A mount namespace of its own, with a disk that is full.
    for (verb, name, beginning) in
        [("snapshot", "x.tar.gz", "many_threads-"), ("attach", "x.pb.gz", "rprof-profile-")]
    {
        let script = format!(
            "mount -t tmpfs -o size=4k none /mnt && head -c 4096 /dev/zero >/mnt/full && exec \"$0\" {verb} --pid {} -d 1s -o /mnt/{name}",
            target.pid()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_rprof")]);
        let output = command.env("TMPDIR", folder.path()).output().expect("unshare runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("No space left on device"), "{said}");
        // Each in a private directory.
        let folders = std::fs::read_dir(folder.path()).expect("a folder").flatten();
        let saved = folders
            .flat_map(|entry| std::fs::read_dir(entry.path()).expect("a folder").flatten())
            .map(|entry| entry.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning)));
        let saved = saved.unwrap_or_else(|| panic!("nothing was saved: {said}"));
        assert!(said.contains(saved.to_str().expect("UTF-8")), "{said}");
        assert!(std::fs::metadata(&saved).expect("there").len() > 500, "{said}");
    }
    target.assert_unhurt();
}
