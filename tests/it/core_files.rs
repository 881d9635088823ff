//! `rprof dump --core`: the threads of programs that crashed, as their sources have them and as gdb
//! shows them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    dump::{Thread, threads},
    harness::{Fixture, Rprof, Skip, installed, open_folder, skip},
};

/// A program that has crashed, and its core.
struct Crash {
    folder: tempfile::TempDir,
    program: PathBuf,
    core: PathBuf,
}

/// Lets a program crash. `None`: the kernel passes cores to a program of this machine, or the limit
/// forbids them.
fn crash(program: &Path) -> Option<Crash> {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with(['|', '/', '@']) {
        return None;
    }
    let folder = open_folder();
    let status = Command::new("sh")
        .args(["-c", "ulimit -c unlimited || exit 99; exec \"$0\""])
        .arg(program)
        .current_dir(folder.path())
        .env("GOTRACEBACK", "crash")
        .stderr(std::process::Stdio::null())
        .status()
        .expect("sh runs");
    assert!(!status.success());
    if status.code() == Some(99) {
        return None;
    }
    let mut files = fs::read_dir(folder.path()).expect("readable").flatten();
    let core = files.find(|file| file.file_name().to_string_lossy().starts_with("core"));
    let core = core.expect("a core file").path();
    Some(Crash { program: program.to_owned(), core, folder })
}

impl Crash {
    fn dump(&self, more: &[&str]) -> Rprof {
        Rprof::verb("dump").args(&["--core", &self.core.to_string_lossy()]).args(more)
    }

    fn threads(&self) -> Vec<Thread> {
        let (threads, stderr) = threads(self.dump(&["--format", "json", "--threads"]));
        assert!(stderr.contains("100.0% whole stacks"), "{stderr}");
        threads
    }
}

fn no_cores() {
    skip(Skip::Forbidden("a core file in the working directory"));
}

#[track_caller]
fn assert_chain(thread: &Thread, chain: &[&str]) {
    let functions = thread.functions();
    let is_chain = functions.windows(chain.len()).any(|part| part == chain);
    assert!(is_chain, "{chain:?} is not in {functions:?}");
}

#[test]
fn the_threads_of_a_crashed_c_program_are_read_with_its_signal() {
    for fixture in
        [Fixture::c(&["crash.c"]).with(&["-O2", "-pthread"]), Fixture::musl("crash.c").with(&["-O2"])]
    {
        let Some(crash) = crash(&fixture.build()) else { return no_cores() };
        let all = crash.threads();
        assert_eq!(all.len(), 3);
        assert_chain(&all[0], &["reads_nothing", "outer", "main"]);
        assert_eq!(all[0].text("wait"), "SIGSEGV at address 0x10");
        for waiting in &all[1..] {
            assert!(waiting.has("waits") && waiting.is_whole(), "{waiting:?}");
            assert_eq!(waiting.text("wait"), "signal wait");
        }
        let text = crash.dump(&[]).run();
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("\nsignal: SIGSEGV at address 0x10, in thread "), "{text}");
    }
}

#[test]
fn the_threads_of_a_core_are_those_that_gdb_shows() {
    let Some(gdb) = installed("gdb") else { return skip(Skip::NotInstalled("gdb")) };
    let program = Fixture::c(&["crash.c"]).with(&["-O2", "-pthread"]).build();
    let Some(crash) = crash(&program) else { return no_cores() };
    let output = Command::new(gdb)
        .args(["-batch", "-nx", "-ex", "thread apply all bt"])
        .args([&crash.program, &crash.core])
        .output()
        .expect("gdb runs");
    let expected = stacks_of_gdb(&String::from_utf8_lossy(&output.stdout));
    assert_eq!(expected.len(), 3);
    for thread in crash.threads() {
        let functions: Vec<&str> = thread.functions();
        let tid = thread.number("tid");
        // gdb ends at main, and prefers other aliases of the C library's functions.
        let own = |name: &&str| !name.contains("libc");
        let plain = |name: &str| name.trim_start_matches('_').to_owned();
        let ours: Vec<String> = functions.into_iter().filter(own).map(plain).collect();
        let theirs = expected[&tid].iter().map(String::as_str).filter(own);
        let theirs: Vec<String> = theirs.map(plain).collect();
        assert_eq!(ours[..theirs.len()], theirs[..], "thread {tid}");
    }
}

/// The functions of each thread, by the number of its LWP.
fn stacks_of_gdb(text: &str) -> BTreeMap<i64, Vec<String>> {
    let mut stacks: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let mut tid = 0;
    for line in text.lines() {
        if let Some((_, rest)) = line.strip_prefix("Thread ").and_then(|rest| rest.split_once("(LWP ")) {
            tid = rest.split(')').next().and_then(|tid| tid.parse().ok()).expect("a number");
            stacks.insert(tid, Vec::new());
        } else if line.starts_with('#')
            && let Some(stack) = stacks.get_mut(&tid)
        {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = if words.get(2) == Some(&"in") { words[3] } else { words[1] };
            // A frame that the signal interrupted names its function only.
            stack.push(name.trim_start_matches("0x").to_owned());
        }
    }
    stacks
}

#[test]
fn the_threads_of_a_crashed_rust_program_are_whole_and_have_inlined_functions() {
    let Some(crash) = crash(&Fixture::rust("crash.rs").build()) else { return no_cores() };
    let all = crash.threads();
    assert_eq!(all.len(), 2);
    assert!(all[0].text("wait").starts_with("SIGABRT"), "{:?}", all[0]);
    assert_chain(&all[0], &["crash::aborts", "crash::outer", "crash::main"]);
    assert!(all[1].has("crash::waits"), "{:?}", all[1]);
}

#[test]
fn the_goroutines_of_a_crashed_go_program_are_read_also_the_one_that_failed() {
    let Some(crash) = crash(&Fixture::go("crash.go").build()) else { return no_cores() };
    let outcome = crash.dump(&[]).run();
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for part in [
        "\nsignal: SIGABRT",
        "\n3 goroutines [chan receive]: ",
        "main.waits(",
        "[sync.Mutex.Lock]:\n",
        "main.locks(",
        "\ngoroutine 1 [running",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    let first = &text[text.find("\ngoroutine 1 [").expect("found above")..];
    let order = ["main.fails(", "main.outer(", "main.main("].map(|name| first.find(name));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{first}");
}

#[test]
fn missing_and_replaced_files_and_a_truncated_core_are_reported() {
    let built = Fixture::c(&["crash.c"]).with(&["-O2", "-pthread"]).build();
    let folder = open_folder();
    let program = folder.path().join("crash");
    fs::copy(&built, &program).expect("copied");
    let Some(crash) = crash(&program) else { return no_cores() };
    let moved = crash.folder.path().join("moved");
    fs::rename(&program, &moved).expect("renamed");
    let stderr = crash.dump(&[]).run().stderr;
    assert!(stderr.contains("crash could not be read: No such file"), "{stderr}");
    let other = Fixture::rust("crash.rs").build();
    fs::copy(&other, &program).expect("copied");
    let stderr = crash.dump(&[]).run().stderr;
    assert!(stderr.contains("it was replaced since the core was written: its build ID is"), "{stderr}");
    crash.dump(&[&other.to_string_lossy()]).run().assert_refused(1, &["is not the program of this core"]);
    let given = crash.dump(&["--format", "json", &moved.to_string_lossy()]);
    assert_chain(&threads(given).0[0], &["reads_nothing", "outer", "main"]);
    fs::rename(&moved, &program).expect("renamed");
    let file = fs::OpenOptions::new().write(true).open(&crash.core).expect("writable");
    file.set_len(file.metadata().expect("open").len() / 2).expect("shorter");
    let outcome = crash.dump(&[]).run();
    assert!(outcome.stderr.contains("bytes are missing at its end"), "{}", outcome.stderr);
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("reads_nothing"));
    Rprof::verb("dump")
        .args(&["--core", &program.to_string_lossy()])
        .run()
        .assert_refused(1, &["is not a core file"]);
}
