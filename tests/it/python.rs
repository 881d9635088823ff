//! Python programs of known proportions, in the releases that are installed: the system's, pyenv's,
//! and those that `RPROF_PYTHONS` lists (scripts/pythons).
//!
//! `RPROF_PYTHON_MATRIX=all` runs every test in every release, and every kind of program for 6,000
//! samples; else the tests are spread over the releases.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Frame, Rprof, Skip, Stack, Stacks, Target, alone, skip};

const SCRIPT: &str = "tests/fixtures/programs/python_ratio.py";

/// An installed interpreter.
#[derive(Clone, Debug)]
struct Python {
    program: PathBuf,
    /// The 12 of 3.12.
    minor: u32,
}

/// The installed interpreters of Python 3, by release.
fn pythons() -> Vec<Python> {
    let root = std::env::var("PYENV_ROOT").or_else(|_| Ok(std::env::var("HOME")? + "/.pyenv"));
    let root = root.unwrap_or_else(|_: std::env::VarError| "/root/.pyenv".to_owned());
    let versions = std::fs::read_dir(Path::new(&root).join("versions")).into_iter().flatten().flatten();
    let of_pyenv = versions.map(|version| version.path().join("bin/python3"));
    let more = std::env::var("RPROF_PYTHONS").unwrap_or_default();
    let system = [PathBuf::from("/usr/bin/python3")];
    let all =
        of_pyenv.chain(system).chain(more.split(':').filter(|path| !path.is_empty()).map(PathBuf::from));
    let mut found: Vec<Python> = all.filter_map(python).collect();
    found.sort_by_key(|python| python.minor);
    found
}

fn python(program: PathBuf) -> Option<Python> {
    let output =
        Command::new(&program).args(["-c", "import sys; print(*sys.version_info[:2])"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let minor = text.strip_prefix("3 ")?.trim().parse().ok()?;
    Some(Python { program, minor })
}

/// The supported interpreters; skips the test if there is none.
fn supported() -> Vec<Python> {
    let found: Vec<Python> = pythons().into_iter().filter(|python| python.minor >= 8).collect();
    if found.is_empty() {
        skip(Skip::NotInstalled("python3"));
    }
    found
}

fn is_whole_matrix() -> bool {
    std::env::var("RPROF_PYTHON_MATRIX").is_ok_and(|matrix| matrix == "all")
}

/// The releases 3.`minors` that are installed, or the newest one; with the whole matrix all of
/// them.
fn some(minors: &[u32]) -> Vec<Python> {
    let mut all = supported();
    if is_whole_matrix() || all.is_empty() {
        return all;
    }
    let newest = all.split_off(all.len() - 1);
    let mut chosen: Vec<Python> = all.into_iter().filter(|python| minors.contains(&python.minor)).collect();
    if chosen.is_empty() || minors.contains(&newest[0].minor) {
        chosen.extend(newest);
    }
    // The system's and pyenv's may be of one release.
    chosen.dedup_by_key(|python| python.minor);
    chosen
}

impl Python {
    fn start(&self, kind: &str) -> Target {
        Target::spawn(Command::new(&self.program).args([SCRIPT, kind, "600"]))
    }

    /// The name of a method: qualified from 3.11 on.
    fn method<'a>(&self, qualified: &'a str) -> &'a str {
        if self.minor >= 11 { qualified } else { qualified.rsplit('.').next().unwrap_or(qualified) }
    }
}

fn is_ours(frame: &&Frame) -> bool {
    frame.file.ends_with("python_ratio.py")
}

/// The functions that may call a function of the program; `None`: any.
fn callers(name: &str) -> Option<&'static [&'static str]> {
    let plain = name.rsplit('.').next().unwrap_or(name);
    Some(match plain {
        "hot50" => &["parent_a"],
        "hot30" => &["parent_b"],
        "hot20" => &["parent_c"],
        "parent_a" | "parent_b" | "parent_c" => &["one_round"],
        "one_round" => &[
            "main",
            "deep",
            "raises",
            "worker",
            "leaf_work",
            "keyed",
            "generated",
            "brief_worker",
            "in_interpreter",
            "in_greenlet",
        ],
        "keyed" | "generated" => &["mixed_round"],
        "deep" => &["deep", "main"],
        "raises" => &["raises", "main"],
        "mixed_round" => &["main"],
        "main" => &["<module>"],
        _ => return None,
    })
}

/// Whether a function of the program is called by one that never calls it, or by none.
fn is_impossible(stack: &Stack) -> bool {
    let names: Vec<&str> = stack.frames.iter().filter(is_ours).map(|frame| frame.name.as_str()).collect();
    let plain = |name: &'static str, found: &str| found.rsplit('.').next() == Some(name);
    let is_called_by = |name: &str, caller: &str| {
        callers(name).is_none_or(|callers| callers.iter().any(|one| plain(one, caller)))
    };
    let has_wrong_caller = names.windows(2).any(|pair| !is_called_by(pair[1], pair[0]));
    has_wrong_caller || names.first().is_some_and(|first| callers(first).is_some())
}

fn has_python(stack: &Stack) -> bool {
    stack.frames.iter().any(|frame| is_ours(&frame))
}

/// Shares of the functions, callers, and how many stacks have the program's functions.
#[track_caller]
fn assert_true(profile: &Stacks, what: &str, impossible_percent: f64, python_percent: f64) {
    let impossible = profile.share(is_impossible);
    assert!(impossible <= impossible_percent, "{what}: {impossible:.2} % impossible\n{}", profile.summary());
    let python = profile.share(has_python);
    assert!(python >= python_percent, "{what}: {python:.2} % with Python\n{}", profile.summary());
    profile.assert_hot_parts(what);
}

#[test]
fn functions_have_their_shares_and_callers_in_every_release() {
    let _alone = alone();
    for python in supported() {
        let mut target = python.start("short");
        let profile = Rprof::attach(&target).seconds(2).profile();
        target.assert_unhurt();
        profile.assert_at_least(300);
        assert_true(&profile, &format!("{python:?}"), 0.1, 98.0);
        let comment = profile.comment("python");
        assert!(comment.contains(&format!("Python 3.{}", python.minor)), "{comment}");
    }
}

#[test]
fn every_kind_of_program_has_its_shares() {
    let _alone = alone();
    // The other kinds have tests of their own, with fewer samples.
    const KINDS: [&str; 7] = ["long", "exceptions", "asyncio", "deep100", "short", "mixed", "threads"];
    let is_whole = is_whole_matrix();
    let pairs: Vec<(Python, &str)> = match is_whole {
        true => supported().iter().flat_map(|python| KINDS.map(|kind| (python.clone(), kind))).collect(),
        false => supported().into_iter().rev().cycle().zip(KINDS).take(4).collect(),
    };
    let (mut all, mut impossible) = (0, 0);
    for (python, kind) in pairs {
        let mut target = python.start(kind);
        let profile = Rprof::attach(&target).seconds(if is_whole { 7 } else { 2 }).profile();
        target.assert_unhurt();
        // Some of asyncio's own functions run between those of the program.
        let least = if kind == "asyncio" { 80.0 } else { 97.0 };
        assert_true(&profile, &format!("{kind}, {python:?}"), 0.3, least);
        all += profile.samples();
        impossible += profile.count(is_impossible);
        if is_whole {
            eprintln!("{kind} 3.{}: {}", python.minor, profile.summary().lines().next().unwrap_or_default());
        }
    }
    assert!(1000 * impossible <= all, "{impossible} of {all} stacks are impossible");
}

#[test]
fn python_functions_and_c_functions_are_in_the_order_of_calls() {
    let _alone = alone();
    for python in some(&[8, 11, 15]) {
        let mut target = python.start("mixed");
        let profile = Rprof::attach(&target).profile();
        target.assert_unhurt();
        assert_true(&profile, &format!("{python:?}"), 0.1, 98.0);
        let keyed = ["<module>", "main", "mixed_round", python.method("Key.keyed"), "one_round"];
        let generated = ["<module>", "main", "mixed_round", "generated", "one_round"];
        let is_either = |stack: &Stack| stack.has_in_order(&keyed) || stack.has_in_order(&generated);
        profile.assert_nearly_all(95.0, "sorted() or sum() in between", is_either);
        // C code is between the two functions: the call came from sorted() or sum().
        let is_through_c = |stack: &Stack| {
            let at = |name: &str| stack.frames.iter().position(|frame| frame.name == name);
            let inner = at(python.method("Key.keyed")).or_else(|| at("generated"));
            at("mixed_round").zip(inner).is_none_or(|(outer, inner)| inner > outer + 1)
        };
        profile.assert_nearly_all(99.5, "C functions between mixed_round and its callback", is_through_c);
        // The evaluator stays only while it is entered.
        let evaluator = profile.share(|stack| stack.has("_PyEval_EvalFrameDefault"));
        assert!(evaluator <= 4.0, "{python:?}: {evaluator:.2} %\n{}", profile.summary());
        profile.assert_stated_whole();
    }
}

#[test]
fn lines_are_those_of_the_source() {
    let _alone = alone();
    let source = std::fs::read_to_string(SCRIPT).expect("a fixture");
    let line_of = |text: &str| source.lines().position(|line| line == text).map_or(0, |at| at as i64 + 1);
    for python in some(&[9, 10, 11, 15]) {
        let target = python.start("long");
        let profile = Rprof::attach(&target).seconds(1).profile();
        for name in ["hot50", "hot30", "hot20"] {
            let first = line_of(&format!("def {name}(turns):"));
            let frames =
                profile.stacks.iter().flat_map(|stack| &stack.frames).filter(|frame| frame.name == name);
            for frame in frames {
                assert_eq!(frame.start_line, first, "{python:?}: {frame:?}");
                // The loop and its body; the first line while the function is entered.
                assert!((first..first + 6).contains(&frame.line), "{python:?}: {frame:?}");
            }
        }
        let calls = line_of("    return hot50(turns * 5)");
        let callers =
            profile.stacks.iter().filter(|stack| stack.has("hot50")).flat_map(|stack| &stack.frames);
        for frame in callers.filter(|frame| frame.name == "parent_a") {
            assert_eq!(frame.line, calls, "{python:?}");
        }
    }
}

#[test]
fn a_recursion_of_800_functions_is_whole() {
    let _alone = alone();
    for python in some(&[9, 14]) {
        let target = python.start("deep800");
        let profile = Rprof::attach(&target).seconds(2).profile();
        let depth = |stack: &Stack| stack.frames.iter().filter(|frame| frame.name == "deep").count();
        let bottom = |stack: &Stack| ["hot50", "hot30", "hot20"].iter().any(|name| stack.has(name));
        assert!(profile.count(bottom) > 100, "{}", profile.summary());
        profile.assert_nearly_all(99.5, "801 calls of deep", |stack| !bottom(stack) || depth(stack) == 801);
    }
}

#[test]
fn threads_have_the_names_that_python_gave_them_and_one_holds_the_lock() {
    let _alone = alone();
    for python in some(&[10, 13]) {
        let target = python.start("threads");
        let profile = Rprof::attach(&target).seconds(2).profile();
        for name in ["worker-0", "worker-1", "worker-2"] {
            let share = profile.share(|stack| stack.label("python_thread") == Some(name));
            assert!((15.0..55.0).contains(&share), "{python:?}: {name} {share:.1} %\n{}", profile.summary());
        }
        let held = profile.share(|stack| stack.label("gil") == Some("held"));
        assert!(held > 80.0, "{python:?}: the lock is held in {held:.1} %");
    }
}

#[test]
fn frames_of_the_language_or_of_the_machine_alone() {
    let _alone = alone();
    for python in some(&[8, 12]) {
        let target = python.start("mixed");
        let of = |frames: &str| Rprof::attach(&target).seconds(1).option("--frames", frames).profile();
        let language = of("language");
        // (A sample may interrupt the kernel.)
        let is_allowed = |frame: &Frame| frame.file.ends_with(".py") || frame.mapping.starts_with("[kernel");
        language.assert_nearly_all(99.5, "Python alone", |stack| stack.frames.iter().all(is_allowed));
        assert_eq!(language.comment("frames"), "language");
        let native = of("native");
        assert_eq!(native.count(has_python), 0, "{}", native.summary());
        assert_eq!(native.comment("frames"), "native");
    }
}

#[test]
fn a_thread_that_is_stopped_for_its_sample_has_true_stacks() {
    let _alone = alone();
    for python in some(&[8, 12]) {
        let mut target = python.start("short");
        let profile = Rprof::attach(&target).sampler("ptrace").profile();
        target.assert_unhurt();
        assert_true(&profile, &format!("{python:?}"), 0.2, 97.0);
    }
}

#[test]
fn without_bpf_stacks_of_3_11_and_newer_are_python_alone_and_marked() {
    let _alone = alone();
    let (mut all, mut impossible) = (0, 0);
    for python in some(&[11]).into_iter().filter(|python| python.minor >= 11) {
        let mut target = python.start("long");
        let profile = Rprof::attach(&target).sampler("perf-thread").profile();
        target.assert_unhurt();
        assert!(profile.comment("python").contains("unsynchronised"), "{}", profile.comment("python"));
        assert_true(&profile, &format!("{python:?}"), 3.0, 90.0);

        // Calls of 2 us: they have returned when they are read.
        let short = Rprof::attach(&python.start("short")).sampler("perf-thread").profile();
        all += short.count(|_| true);
        impossible += short.count(is_impossible);
    }
    assert!(100 * impossible <= 3 * all, "{impossible} of {all} stacks are impossible");
}

#[test]
fn older_releases_are_named_and_their_native_functions_shown() {
    let _alone = alone();
    for python in pythons().into_iter().filter(|python| python.minor < 8) {
        let target = python.start("short");
        let profile = Rprof::attach(&target).seconds(1).profile();
        assert!(profile.share_of("_PyEval_EvalFrameDefault") > 90.0, "{}", profile.summary());
        let info = Rprof::verb("info").args(&["--pid", &target.pid().to_string()]).run();
        let text = String::from_utf8_lossy(&info.stdout).into_owned() + &info.stderr;
        let wanted = format!("Python 3.{} is not supported", python.minor);
        assert!(text.contains(&wanted), "{text}");
    }
}

#[test]
fn a_dump_shows_the_functions_of_a_sleeping_thread_and_its_line() {
    let _alone = alone();
    let source = std::fs::read_to_string(SCRIPT).expect("a fixture");
    let line =
        source.lines().position(|line| line.contains("# the line where it sleeps")).map_or(0, |at| at + 1);
    for python in supported() {
        let mut target = python.start("sleep");
        let dump = Rprof::verb("dump").args(&["--pid", &target.pid().to_string()]).run();
        target.assert_unhurt();
        let text = String::from_utf8_lossy(&dump.stdout);
        assert!(text.contains(&format!("python_ratio.py:{line}")), "{python:?}: {text}{}", dump.stderr);
        let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("{python:?}: no {name} in {text}"));
        assert!(at("sleeps") < at("main") && at("main") < at("<module>"), "{text}");
    }
}

#[test]
fn a_dump_shows_local_variables_only_on_request_and_escaped() {
    let _alone = alone();
    for python in some(&[8, 11, 12, 14, 15]) {
        let mut target = python.start("locals");
        let pid = target.pid().to_string();
        let plain = Rprof::verb("dump").args(&["--pid", &pid]).run();
        let text = String::from_utf8_lossy(&plain.stdout);
        assert!(text.contains("holds_values") && !text.contains("1234567890123"), "{python:?}: {text}");
        let dump = Rprof::verb("dump").args(&["--pid", &pid, "--locals"]).run();
        let json = Rprof::verb("dump").args(&["--pid", &pid, "--locals", "--format", "json"]).run();
        target.assert_unhurt();
        let text = String::from_utf8_lossy(&dump.stdout);
        let long = format!("\"caf\u{e9} \\u{{1b}}[2J\\n{}\"… (510 characters)", "x".repeat(70));
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        let frames =
            json["threads"].as_array().into_iter().flatten().flat_map(|thread| thread["stack"].as_array());
        let locals = frames.flatten().filter(|frame| frame["function"] == "holds_values");
        let locals: Vec<_> = locals.flat_map(|frame| frame["locals"].as_array()).flatten().collect();
        for (name, value) in [
            ("number", "1234567890123"),
            ("text", &long),
            ("negative", "-36893488147419103232"),
            ("nothing", "None"),
            ("yes", "True"),
            ("ratio", "0.25"),
            ("raw", "b\"\\x00\\x1b[31mraw\""),
            ("items", "list of 3"),
            ("pairs", "dict of 1"),
            ("both", "tuple of 2"),
            ("several", "set of 4"),
            ("thing", "<Event>"),
        ] {
            assert!(text.contains(&format!("\t\t{name} = {value}\n")), "{python:?}: {name}: {text}");
            let is_it = |one: &&&serde_json::Value| one["name"] == name && one["value"] == value;
            assert_eq!(locals.iter().filter(is_it).count(), 1, "{python:?}: {name}: {locals:?}");
        }
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}

/// The line of `rprof doctor` on the process's interpreter: whether it can be read, and how.
fn doctors_line(pid: &str, python: &Python, forbidden: &[&'static str]) -> (bool, String) {
    let outcome = Rprof::verb("doctor").args(&["--pid", pid, "--json"]).without(forbidden).run();
    let all: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let release = format!("Python 3.{}", python.minor);
    let is_it =
        |line: &&serde_json::Value| line["source"].as_str().is_some_and(|what| what.starts_with(&release));
    let line =
        all["checks"].as_array().into_iter().flatten().find(is_it).expect("a line for the interpreter");
    (line["works"] == true, line["detail"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_doctor_says_how_frames_are_read_with_and_without_bpf() {
    let _alone = alone();
    if !crate::harness::is_root() {
        return skip(Skip::NeedsRoot);
    }
    for python in some(&[9, 11]) {
        let target = python.start("sleep");
        let pid = target.pid().to_string();
        let (works, how) = doctors_line(&pid, &python, &[]);
        assert!(works && how.contains("at the sample, by BPF"), "{python:?}: {how}");
        let (works, how) = doctors_line(&pid, &python, &["bpf"]);
        let (expected, word) = if python.minor >= 11 { (true, "unsynchronised") } else { (false, "ptrace") };
        assert!(works == expected && how.contains(word), "{python:?}: {how}");
    }
}

#[test]
fn functions_of_a_sub_interpreter_have_their_shares() {
    let _alone = alone();
    for python in some(&[10, 15]) {
        let mut target = python.start("interpreter");
        let profile = Rprof::attach(&target).seconds(2).profile();
        target.assert_unhurt();
        assert_true(&profile, &format!("{python:?}"), 0.1, 95.0);
        let inner = profile.share(|stack| stack.has("in_interpreter"));
        assert!(inner > 95.0, "{python:?}: {inner:.1} %\n{}", profile.summary());
    }
}

#[test]
fn threads_that_live_for_5_ms_have_their_functions() {
    let _alone = alone();
    for python in some(&[14]) {
        let mut target = python.start("brief");
        let profile = Rprof::attach(&target).seconds(2).profile();
        target.assert_unhurt();
        assert_true(&profile, &format!("{python:?}"), 0.1, 90.0);
    }
}

#[test]
fn processes_that_multiprocessing_started_are_profiled_with_their_parent() {
    let _alone = alone();
    for python in some(&[9]) {
        let mut target = python.start("processes");
        std::thread::sleep(std::time::Duration::from_millis(700));
        let profile = Rprof::attach(&target).args(&["--children", "--label", "pid"]).profile();
        target.assert_unhurt();
        assert_true(&profile, &format!("{python:?}"), 0.1, 95.0);
        let workers = profile.stacks.iter().filter(|stack| stack.has("worker"));
        let pids: HashSet<&str> = workers.filter_map(|stack| stack.label("pid")).collect();
        assert_eq!(pids.len(), 2, "{}", profile.summary());
    }
}

/// A C program with an interpreter in it.
const EMBEDDING: &str = r#"
#include <Python.h>
__attribute__((noinline)) int run_script(const char *path) {
    char source[4096];
    snprintf(source, sizeof source,
        "import sys; sys.path.insert(0, %c%s%c); import python_ratio; print('ready', flush=True); "
        "python_ratio.in_interpreter(python_ratio.time.monotonic() + 600)", 34, path, 34);
    return PyRun_SimpleString(source);
}
int main(int argc, char **argv) {
    Py_Initialize();
    int result = run_script(argv[1]);
    return result + argc * 0;
}
"#;

/// Builds [`EMBEDDING`] with the headers and the library of an interpreter; `None`: it has none.
fn embedding(python: &Python, folder: &Path) -> Option<PathBuf> {
    let config = python.program.with_file_name(format!("python3.{}-config", python.minor));
    let flags = Command::new(config).args(["--includes", "--ldflags", "--embed"]).output().ok()?;
    let flags = String::from_utf8(flags.stdout).ok()?;
    let (source, program) = (folder.join("embedding.c"), folder.join("embedding"));
    std::fs::write(&source, EMBEDDING).ok()?;
    let library = python.program.parent()?.with_file_name("lib");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-g", "-rdynamic", "-o"]).arg(&program).arg(&source);
    compiler.arg(format!("-Wl,-rpath,{}", library.display())).args(flags.split_whitespace());
    compiler.output().ok()?.status.success().then_some(program)
}

#[test]
fn a_c_program_with_an_interpreter_in_it_has_its_functions_and_pythons() {
    let _alone = alone();
    let folder = crate::harness::open_folder();
    let built = supported().into_iter().rev().find_map(|python| {
        let program = embedding(&python, folder.path())?;
        Some((python, program))
    });
    let Some((python, program)) = built else { return skip(Skip::NotInstalled("libpython")) };
    let scripts = std::fs::canonicalize(SCRIPT).expect("a fixture");
    let scripts = scripts.parent().expect("its folder");
    let home = python.program.parent().and_then(Path::parent).expect("bin is in a folder");
    let mut command = Command::new(program);
    let mut target = Target::spawn(command.arg(scripts).env("PYTHONHOME", home));
    let profile = Rprof::attach(&target).seconds(2).profile();
    target.assert_unhurt();
    assert_true(&profile, &format!("{python:?}"), 0.1, 98.0);
    let order = ["main", "run_script", "<module>", "in_interpreter", "one_round"];
    profile
        .assert_nearly_all(95.0, "C calls Python", |stack| !has_python(stack) || stack.has_in_order(&order));
}

#[test]
fn an_interpreter_that_was_deleted_and_runs_in_another_pid_namespace_is_read() {
    let _alone = alone();
    if !crate::harness::is_root() {
        return skip(Skip::NeedsRoot);
    }
    let of_system = |python: &Python| python.program.starts_with("/usr");
    let Some(python) = supported().into_iter().find(of_system) else {
        return skip(Skip::NotInstalled("python3"));
    };
    let folder = crate::harness::open_folder();
    let copy = folder.path().join(format!("python3.{}", python.minor));
    std::fs::copy(&python.program, &copy).expect("a copy");
    let Some(mut command) = crate::harness::pid_namespace() else { return skip(Skip::NoNamespaces) };
    command.arg(&copy);
    let mut target =
        Target::spawn(command.args([SCRIPT, "threads", "600"]).env("PYTHONHOME", "/usr")).descendant();
    std::fs::remove_file(&copy).expect("removed");
    let profile = Rprof::attach(&target).seconds(2).profile();
    target.assert_unhurt();
    assert_true(&profile, &format!("{python:?}"), 0.1, 95.0);
    let named =
        profile.share(|stack| stack.label("python_thread").is_some_and(|name| name.starts_with("worker")));
    assert!(named > 90.0, "{named:.1} %\n{}", profile.summary());
}

#[test]
fn a_recorded_program_has_its_functions() {
    let _alone = alone();
    let script = std::fs::canonicalize(SCRIPT).expect("a fixture");
    for python in some(&[13]) {
        let command = [&*python.program.to_string_lossy(), &*script.to_string_lossy(), "long", "3"];
        let profile = Rprof::record(&command).run().profile();
        // The start of the interpreter has none of the program's functions.
        assert_true(&profile, &format!("{python:?}"), 0.1, 50.0);
    }
}
