//! The files rprof writes: permissions, owners, and what happens to the data if a file cannot be
//! written.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant, SystemTime},
};

use crate::harness::{Fixture, Skip, Stacks, Target, alone, is_root, open_folder, set_mode, skip};

/// The ordinary user's ID.
const USER: u32 = 65534;

fn ratio() -> Target {
    Target::start(&Fixture::c(&["ratio.c"]).build())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("written").permissions().mode() & 0o7777
}

/// `rprof attach --pid PID -d 300ms` with further arguments.
fn attach(target: &Target, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
    command.args(["attach", "--pid", &target.pid().to_string(), "-d", "300ms"]).args(arguments);
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_profile_is_private_and_a_replaced_one_keeps_its_permissions() {
    let _alone = alone();
    let target = ratio();
    let folder = open_folder();
    let path = folder.path().join("profile.pb.gz");
    let run = |arguments: &[&str]| {
        let output = attach(&target, arguments).arg("-o").arg(&path).output().expect("rprof runs");
        assert!(output.status.success(), "{}", stderr(&output));
        mode(&path)
    };
    assert_eq!(run(&[]), 0o600);
    set_mode(&path, 0o640);
    assert_eq!(run(&[]), 0o640);
    assert_eq!(run(&["--file-mode", "644"]), 0o644);
    let dump = folder.path().join("dump.txt");
    let status = Command::new(env!("CARGO_BIN_EXE_rprof"))
        .args(["dump", &target.pid().to_string(), "-q", "-o"])
        .arg(&dump)
        .status();
    assert!(status.expect("rprof runs").success());
    assert_eq!(mode(&dump), 0o600);
}

#[test]
fn under_sudo_a_profile_belongs_to_the_user_in_the_users_own_folder() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let target = ratio();
    for (owner, expected) in [(USER, USER), (0, 0)] {
        let folder = open_folder();
        chown(folder.path(), Some(owner), Some(owner)).expect("root may");
        let path = folder.path().join("profile.pb.gz");
        let mut command = attach(&target, &["-o", &path.to_string_lossy()]);
        let sudo = USER.to_string();
        let output = command.env("SUDO_UID", &sudo).env("SUDO_GID", &sudo).output().expect("rprof runs");
        assert!(output.status.success(), "{}", stderr(&output));
        let found = fs::metadata(&path).expect("written");
        assert_eq!((found.uid(), found.gid(), mode(&path)), (expected, expected, 0o600), "folder of {owner}");
    }
}

#[test]
fn temporary_files_of_a_killed_run_are_removed_by_the_next_run() {
    let _alone = alone();
    let target = ratio();
    let folder = open_folder();
    let (left, other) = (folder.path().join(".rprof-AbCdEf.part"), folder.path().join("mine.part"));
    fs::write(&left, "half a profile").expect("own folder");
    fs::write(&other, "not rprof's").expect("own folder");
    let path = folder.path().join("profile.pb.gz");
    let output = attach(&target, &["-o", &path.to_string_lossy()]).output().expect("rprof runs");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(path.exists() && other.exists() && !left.exists());
}

#[test]
fn the_limit_on_file_sizes_is_reported_and_the_old_file_kept() {
    let _alone = alone();
    let target = ratio();
    let folder = open_folder();
    let path = folder.path().join("profile.pb.gz");
    fs::write(&path, "old").expect("own folder");
    let output = Command::new("sh")
        .args(["-c", "ulimit -f 0; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_rprof"), "attach", "--pid"])
        .args([&target.pid().to_string(), "-d", "300ms", "-o", &path.to_string_lossy()])
        .output()
        .expect("sh runs");
    let words = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    for expected in ["error:", "limit on file sizes", "try", "ulimit -f"] {
        assert!(words.contains(expected), "{expected} is missing from:\n{words}");
    }
    assert_eq!(fs::read_to_string(&path).expect("still there"), "old");
}

/// The name of a rescued profile that is saved at this time.
fn predicted(folder: &Path, seconds_from_now: u64) -> PathBuf {
    let time = SystemTime::now() + Duration::from_secs(seconds_from_now);
    let time = humantime::format_rfc3339_seconds(time).to_string().replace(['-', ':'], "");
    folder.join(format!("rprof-profile-0-{time}.pb.gz"))
}

#[test]
fn a_rescued_profile_is_in_a_private_folder_and_never_in_a_file_that_others_prepared() {
    let _alone = alone();
    let target = ratio();
    let temporary = open_folder();
    // Another user prepares files under all names that rprof might choose.
    let prepared: Vec<PathBuf> = (0..60).map(|seconds| predicted(temporary.path(), seconds)).collect();
    for path in &prepared {
        fs::write(path, "").expect("own folder");
    }
    let output = attach(&target, &["-F", "4999", "-o", "/dev/full", "--format", "pprof"])
        .env("TMPDIR", temporary.path())
        .output()
        .expect("rprof runs");
    let words = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{words}");
    for path in &prepared {
        assert_eq!(fs::metadata(path).expect("still there").len(), 0, "{}", path.display());
    }
    let entries = fs::read_dir(temporary.path()).expect("own folder").flatten();
    let folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    let [folder] = &folders[..] else { panic!("{folders:?}\n{words}") };
    assert_eq!(mode(folder), 0o700);
    let saved = fs::read_dir(folder).expect("own folder").flatten().next().expect("a profile").path();
    assert_eq!(mode(&saved), 0o600);
    assert!(words.contains(&*saved.to_string_lossy()), "{words}");
    Stacks::read(&saved).expect("a profile").assert_at_least(1);
}

#[test]
fn a_bad_output_path_is_reported_before_the_time_is_spent() {
    let _alone = alone();
    let target = ratio();
    let folder = open_folder();
    fs::write(folder.path().join("file"), "").expect("own folder");
    for (path, expected) in [
        (".", "is a directory"),
        ("no/such/x.pb.gz", "does not exist"),
        ("file/x.pb.gz", "Not a directory"),
        ("/proc/self/x.pb.gz", "cannot open"),
        ("x.unknown", "x.unknown"),
    ] {
        for (verb, seconds) in [("attach", "30s"), ("snapshot", "30s")] {
            if verb == "snapshot" && path == "x.unknown" {
                // Any name is an archive.
                continue;
            }
            let began = Instant::now();
            let output = Command::new(env!("CARGO_BIN_EXE_rprof"))
                .args([verb, &target.pid().to_string(), "-d", seconds, "-o", path])
                .current_dir(folder.path())
                .output()
                .expect("rprof runs");
            let words = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{verb} {path}: {words}");
            assert!(words.contains(expected), "{verb} {path}: {words}");
            assert!(began.elapsed() < Duration::from_secs(20), "{verb} {path}: {:?}", began.elapsed());
        }
    }
    assert_eq!(fs::read_dir(folder.path()).expect("own folder").count(), 1, "nothing is left");
}

#[test]
fn the_command_that_opens_a_file_can_be_pasted_into_a_shell() {
    let _alone = alone();
    let target = ratio();
    let folder = open_folder();
    let name = "it's a $(profile).pb.gz";
    let output =
        attach(&target, &["-F", "4999", "-o", name]).current_dir(folder.path()).output().expect("rprof runs");
    let words = String::from_utf8_lossy(&output.stdout);
    let command = words.lines().find_map(|line| line.strip_prefix("open it with: ")).expect("a command");
    let report = Command::new("sh")
        .args(["-c", &command.replacen("rprof", "\"$0\"", 1), env!("CARGO_BIN_EXE_rprof")])
        .current_dir(folder.path())
        .output()
        .expect("sh runs");
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(report.status.success() && text.contains("spin_unit"), "{command}\n{text}{}", stderr(&report));
}
