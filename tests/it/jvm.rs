//! Java programs of known proportions, in the releases that are installed: `java` of PATH, those
//! in /usr/lib/jvm, and those that `RPROF_JAVAS` lists.
//!
//! `RPROF_JAVA_MATRIX=all` runs every test in every release; else the newest release runs all and
//! the others one.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{Rprof, Skip, Stack, Stacks, Target, alone, installed, skip};

const FOLDER: &str = "tests/fixtures/programs";

/// The options of the three ways to run code.
const MODES: [&[&str]; 3] = [&[], &["-Xint"], &["-XX:TieredStopAtLevel=1"]];

/// The installed releases; skips the test if there is none.
fn javas() -> Vec<PathBuf> {
    if !cfg!(target_arch = "x86_64") {
        skip(Skip::OtherCpu);
        return Vec::new();
    }
    let folders = std::fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let system = folders.map(|folder| folder.path().join("bin/java"));
    let more = std::env::var("RPROF_JAVAS").unwrap_or_default();
    let of_path = installed("java").into_iter().map(PathBuf::from);
    let all = system.chain(more.split(':').map(PathBuf::from)).chain(of_path);
    let found: BTreeSet<PathBuf> =
        all.filter_map(|path| path.canonicalize().ok()).filter(|path| path.is_file()).collect();
    if found.is_empty() {
        skip(Skip::NotInstalled("java"));
    }
    let mut found: Vec<PathBuf> = found.into_iter().collect();
    found.sort_by_key(|path| release(path));
    found
}

/// The number of a release: 17; 0: not known.
fn release(java: &Path) -> u32 {
    let file = java.parent().and_then(Path::parent).map(|home| home.join("release"));
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("JAVA_VERSION=\"")).unwrap_or_default();
    version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn start(java: &Path, options: &[&str], arguments: &[&str]) -> Target {
    let mut command = Command::new(java);
    Target::spawn(command.args(options).args(["-cp", FOLDER, "JavaRatio"]).args(arguments))
}

fn is_of_main(stack: &Stack) -> bool {
    stack.has("JavaRatio.main")
}

/// The chain of calls that leads to each of the three methods.
const CHAINS: [(&str, [&str; 5], f64); 3] = [
    ("hot50", ["main", "rounds", "oneRound", "parentA", "hot50"], 50.0),
    ("hot30", ["main", "rounds", "oneRound", "parentB", "hot30"], 30.0),
    ("hot20", ["main", "rounds", "oneRound", "parentC", "hot20"], 20.0),
];

fn assert_true(profile: &Stacks, what: &str) {
    for (hot, chain, percent) in CHAINS {
        let of_main = profile.count(is_of_main).max(1);
        let share =
            100.0 * profile.count(|stack| stack.has(&format!("JavaRatio.{hot}"))) as f64 / of_main as f64;
        let points = 2.6 * (6000.0 / of_main as f64).sqrt().max(1.0);
        assert!((share - percent).abs() <= points, "{what}: {hot} {share:.2} %\n{}", profile.summary());
        let chain = chain.map(|name| format!("JavaRatio.{name}"));
        let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
        profile.assert_nearly_all(99.5, what, |stack| !stack.has(chain[4]) || stack.has_chain(&chain));
    }
    let main = profile.share(is_of_main);
    assert!(main > 90.0, "{what}: main {main:.2} %\n{}", profile.summary());
    profile.assert_stated_whole();
}

fn matrix() -> Vec<(PathBuf, &'static [&'static str])> {
    let all = javas();
    let is_all = std::env::var("RPROF_JAVA_MATRIX").is_ok_and(|matrix| matrix == "all");
    let last = all.len().saturating_sub(1);
    let modes = |at: usize| if is_all || at == last { MODES.len() } else { 1 };
    let some = all
        .iter()
        .enumerate()
        .flat_map(|(at, java)| MODES[..modes(at)].iter().map(|mode| (java.clone(), *mode)));
    some.collect()
}

#[test]
fn shares_callers_and_lines_of_methods_are_true_interpreted_and_compiled() {
    let _alone = alone();
    let source = std::fs::read_to_string(format!("{FOLDER}/JavaRatio.java")).expect("a fixture");
    let line_of =
        |text: &str| source.lines().position(|line| line.contains(text)).map_or(0, |at| at as i64 + 1);
    let (first, last) = (line_of("static long spin"), line_of("static long parentA"));
    let calls = line_of("return hot50(seed");
    for (java, mode) in matrix() {
        let mut target = start(&java, mode, &["spins", "100"]);
        let profile = Rprof::attach(&target).hertz(499).seconds(4).profile();
        target.assert_unhurt();
        assert_true(&profile, &format!("{java:?} {mode:?}"));
        for frame in profile.stacks.iter().flat_map(|stack| &stack.frames) {
            match frame.name.as_str() {
                "JavaRatio.spin" => {
                    assert!((first..last).contains(&frame.line), "{frame:?}");
                    assert_eq!(frame.file, "JavaRatio.java");
                }
                "JavaRatio.parentA" => assert_eq!(frame.line, calls, "{java:?} {mode:?}"),
                _ => {}
            }
        }
    }
}

#[test]
fn a_dump_has_the_frames_that_the_thread_itself_prints() {
    let _alone = alone();
    for java in javas() {
        let mut target = start(&java, &[], &["sleeps", "40"]);
        let pid = target.pid().to_string();
        let read = || {
            let dump = Rprof::verb("dump").args(&["--pid", &pid, "--format", "json"]).run();
            serde_json::from_slice::<Value>(&dump.stdout).expect("JSON")
        };
        // The thread sleeps soon after it has printed.
        let mut dump = read();
        for _ in 0..50 {
            if frames(&dump).iter().any(|(name, _)| name == "JavaRatio.sleeps") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
            dump = read();
        }
        target.assert_unhurt();
        let found = frames(&dump);
        let text = target.end_and_read_output();
        let printed: Vec<(String, i64)> = text
            .lines()
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, line)| (name.to_owned(), line.parse().expect("a line")))
            .collect();
        assert_eq!(printed.len(), 44, "{text}");
        let after = found.iter().position(|(name, _)| name == "JavaRatio.sleeps").map_or(0, |at| at + 1);
        // Classes of lambdas and the frame that starts a thread are hidden from programs.
        let is_shown = |(name, _): &&(String, i64)| printed.iter().any(|(known, _)| known == name);
        let callers: Vec<(String, i64)> = found[after..].iter().filter(is_shown).cloned().collect();
        assert_eq!(callers, printed, "{java:?}");
    }
}

/// Functions and lines of the thread that sleeps, leaf first.
fn frames(dump: &Value) -> Vec<(String, i64)> {
    let threads = dump["threads"].as_array().into_iter().flatten();
    let stacks = threads.map(|thread| {
        let frames = thread["stack"].as_array().into_iter().flatten();
        let frame = |frame: &Value| {
            let name = frame["function"].as_str().unwrap_or_default().to_owned();
            (name, frame["line"].as_i64().unwrap_or(0))
        };
        frames.map(frame).collect::<Vec<_>>()
    });
    stacks
        .into_iter()
        .find(|stack| stack.iter().any(|(name, _)| name == "JavaRatio.deep"))
        .unwrap_or_default()
}

#[test]
fn info_and_the_doctor_name_the_release_and_threads_have_their_java_names() {
    let _alone = alone();
    for java in javas() {
        let target = start(&java, &["-Xmx64m"], &["sleeps", "3"]);
        let pid = target.pid().to_string();
        let info = Rprof::verb("info").args(&["--pid", &pid]).run();
        let text = String::from_utf8_lossy(&info.stdout).into_owned();
        assert!(text.contains(&format!("Java {}", release(&java))), "{text}");
        assert!(text.contains("64 MiB") && text.contains("-XX:MaxHeapSize=67108864"), "{text}");
        let doctor = Rprof::verb("doctor").args(&["--pid", &pid]).run();
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(text.contains(&format!("Java {}", release(&java))), "{text}");
        let dump = Rprof::verb("dump").args(&["--pid", &pid]).run();
        let text = String::from_utf8_lossy(&dump.stdout).into_owned();
        assert!(text.contains("a thread with a long name \u{fc}"), "{text}");
    }
}
