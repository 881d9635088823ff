//! `rprof redact`: no private data is left in profiles, dumps and snapshots.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use flate2::read::MultiGzDecoder;
use rprof::profile;

use crate::harness::{Fixture, Target, alone, open_folder};

const ARGUMENT: &str = "canary-argument";
const ENVIRONMENT: &str = "canary-environment";
const FOLDER: &str = "canary-folder";
/// The names of the threads of the program.
const THREADS: [&str; 2] = ["alpha-worker", "beta-worker"];

/// A program with canaries in its path, arguments, environment and thread names.
fn start(home: &Path) -> Target {
    let folder = home.join(FOLDER);
    fs::create_dir_all(&folder).expect("own folder");
    let program = folder.join("names");
    fs::copy(Fixture::c(&["names.c"]).build(), &program).expect("own folder");
    let mut command = Command::new(program);
    Target::spawn(command.arg(format!("--password={ARGUMENT}")).env("PASSWORD", ENVIRONMENT))
}

fn rprof(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_rprof")).args(arguments).output().expect("rprof runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    MultiGzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
    out
}

/// All files in a profile or an archive, uncompressed, with their names.
fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = fs::read(path).expect("written");
    if !path.to_string_lossy().ends_with(".tar.gz") {
        return vec![("profile".into(), unpacked(&bytes))];
    }
    let mut archive = tar::Archive::new(MultiGzDecoder::new(&bytes[..]));
    let entries = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("content");
        let bytes = if name.ends_with(".gz") { unpacked(&bytes) } else { bytes };
        (name, bytes)
    });
    entries.collect()
}

/// The files that contain a text, in their name or in their content.
fn hits(path: &Path, text: &str) -> Vec<String> {
    let is_in = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let all = files(path).into_iter();
    all.filter(|(name, bytes)| is_in(name.as_bytes()) || is_in(bytes)).map(|(name, _)| name).collect()
}

#[test]
fn redacted_files_have_no_arguments_private_paths_and_thread_names() {
    let _alone = alone();
    let home = open_folder();
    let target = start(home.path());
    let pid = target.pid().to_string();
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name);
    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let [cpu, dump, snapshot] = ["cpu.pb.gz", "dump.pb.gz", "incident.tar.gz"].map(path);
    rprof(&["attach", "--pid", &pid, "-d", "1s", "-F", "500", "-o", &text(&cpu)]);
    rprof(&["dump", "--pid", &pid, "-o", &text(&dump)]);
    rprof(&["snapshot", "--pid", &pid, "-d", "1s", "--show-arguments", "-o", &text(&snapshot)]);
    let home = text(&home.path().to_owned());
    for input in [&cpu, &dump, &snapshot] {
        let output = path("redacted").with_extension(if input == &snapshot { "tar.gz" } else { "pb.gz" });
        rprof(&["redact", &text(input), "--label", "thread", "--home", &home, "-o", &text(&output)]);
        for canary in [ARGUMENT, ENVIRONMENT, FOLDER, THREADS[0], THREADS[1]] {
            // The test would prove nothing about what was not there before.
            let before = hits(input, canary);
            let was_there = canary != ENVIRONMENT && (canary != ARGUMENT || input == &snapshot);
            assert_eq!(!before.is_empty(), was_there, "{canary} in {}: {before:?}", input.display());
            let after = hits(&output, canary);
            assert!(after.is_empty(), "{canary} in redacted {}: {after:?}", input.display());
        }
        let (before, after) = (files(input), files(&output));
        assert_eq!(before.len(), after.len());
        if input != &snapshot {
            let [before, after] =
                [&before, &after].map(|files| profile::decode(&files[0].1).expect("a profile"));
            profile::check(&after).expect("a valid profile");
            let values = |profile: &profile::Profile| {
                profile.sample.iter().map(|s| s.value.clone()).collect::<Vec<_>>()
            };
            assert_eq!(values(&before), values(&after), "the numbers stay");
            assert!(after.string_table.iter().any(|name| name == "alpha_thread"), "function names stay");
        }
    }
}

#[test]
fn a_snapshot_has_arguments_only_if_they_are_requested() {
    let _alone = alone();
    let home = open_folder();
    let target = start(home.path());
    let path = home.path().join("incident.tar.gz");
    let (pid, output) = (target.pid().to_string(), path.to_string_lossy().into_owned());
    rprof(&["snapshot", "--pid", &pid, "-d", "500ms", "-o", &output]);
    assert_eq!(hits(&path, ARGUMENT), Vec::<String>::new());
    assert!(
        hits(&path, "names").iter().any(|name| name.ends_with("proc/cmdline.txt")),
        "the program is there"
    );
}

#[test]
fn a_file_that_is_no_profile_is_refused_and_nothing_is_written() {
    let folder = open_folder();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "no profile").expect("own folder");
    let output =
        Command::new(env!("CARGO_BIN_EXE_rprof")).arg("redact").arg(&path).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a profile"), "{output:?}");
    assert_eq!(fs::read_dir(folder.path()).expect("own folder").count(), 1);
}
