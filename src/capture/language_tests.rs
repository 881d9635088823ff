//! A language needs nothing outside its folder: profiles, dumps, labels, tasks and facts of
//! programs in the invented language (`runtime::fixture`), whose frames are on the native stack in
//! memory without a file, in the heap, or on other stacks; and of two languages in one process.
//!
//! The programs run x86-64 machine code: elsewhere these tests do nothing.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{
    Capture, Request, Response, SamplerChoice,
    dump::{DumpRequest, dump},
    once,
};
use crate::{
    process::ProcessError,
    profile::proto::{Profile, Sample},
    runtime::{self, RunningThread, TaskForm, TaskRequest, ThreadStack, ThreadStacks},
};

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs")
}

fn can_run() -> bool {
    std::env::consts::ARCH == "x86_64"
}

/// A running program; killed when dropped.
struct Program {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(build: impl FnOnce(&Path), arguments: &[&str]) -> Program {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("program");
        build(&path);
        let mut command = Command::new(&path);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("the program");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("its first line");
        assert_eq!(line, "ready\n");
        Program { child, _folder: folder }
    }

    fn invented(arguments: &[&str]) -> Program {
        let build = |path: &Path| {
            let source = programs().join("invented.c");
            let built = Command::new("cc").arg("-O1").arg("-o").arg(path).arg(source).status();
            assert!(built.expect("a C compiler").success());
        };
        Program::start(build, arguments)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn capture(&self, sampler: SamplerChoice) -> Capture {
        let request = Request {
            pids: vec![self.pid()],
            children: true,
            duration: Some(Duration::from_millis(1500)),
            frequency_hz: 199,
            sampler,
            kernel: false,
            ..Request::default()
        };
        match once(&request, &mut |_| {}).expect("a profile") {
            Response::Sampled(capture) => *capture,
            other => panic!("{other:?}"),
        }
    }

    fn dump(&self) -> Profile {
        let request = DumpRequest { pids: vec![self.pid()], ..DumpRequest::default() };
        dump(&request).expect("a dump").profile
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[usize::try_from(index).expect("an index")]
}

/// The functions of a sample, root first.
fn names<'p>(profile: &'p Profile, sample: &Sample) -> Vec<&'p str> {
    let mut names = Vec::new();
    for id in &sample.location_id {
        let location = &profile.location[*id as usize - 1];
        let functions = location.line.iter().map(|line| &profile.function[line.function_id as usize - 1]);
        names.extend(functions.map(|function| text(profile, function.name)));
    }
    names.reverse();
    names
}

/// Whether `wanted` occur in `names` in this order.
fn in_order(names: &[&str], wanted: &[&str]) -> bool {
    let mut rest = names.iter();
    wanted.iter().all(|name| rest.any(|found| found == name))
}

/// The share of the samples, by the first value, whose functions are in this order.
fn share(profile: &Profile, wanted: &[&str]) -> f64 {
    let weight = |sample: &Sample| sample.value[0] as f64;
    let all: f64 = profile.sample.iter().map(weight).sum();
    let some = profile.sample.iter().filter(|sample| in_order(&names(profile, sample), wanted));
    some.map(weight).sum::<f64>() / all
}

fn assert_share(profile: &Profile, wanted: &[&str], least: f64) {
    let found = share(profile, wanted);
    let example = profile.sample.first().map(|sample| names(profile, sample));
    assert!(found >= least, "{found} of the samples have {wanted:?}; the first is {example:?}");
}

fn label<'p>(profile: &'p Profile, sample: &Sample, key: &str) -> Option<&'p str> {
    let found = sample.label.iter().find(|label| text(profile, label.key) == key);
    found.map(|label| text(profile, label.str))
}

const ON_STACK: [&str; 7] =
    ["main", "invented_native", "outer", "invented_glue", "inner", "invented_work", "spin_unit"];
const IN_HEAP: [&str; 8] =
    ["main", "script", "render", "invented_builtin", "each", "compute", "invented_work", "spin_unit"];
const ON_TASKS: [&str; 10] = [
    "main",
    "invented_switching",
    "task first",
    "invented_in_first",
    "task second",
    "invented_in_second",
    "invented_native",
    "outer",
    "inner",
    "spin_unit",
];

#[test]
fn frames_of_generated_code_on_the_native_stack_are_in_a_profile() {
    if !can_run() {
        return;
    }
    let program = Program::invented(&["native"]);
    for sampler in [SamplerChoice::Auto, SamplerChoice::PerfThread, SamplerChoice::Ptrace] {
        let capture = program.capture(sampler);
        assert_share(&capture.profile, &ON_STACK, 0.95);
        assert!(capture.tally.whole_share() > 0.98, "{sampler:?}: {}", capture.tally.whole_share());
        let inner = capture.profile.function.iter().find(|one| text(&capture.profile, one.name) == "inner");
        let inner = inner.expect("asserted above");
        assert_eq!((text(&capture.profile, inner.filename), inner.start_line), ("shop.inv", 20));
    }
}

#[test]
fn frames_in_the_heap_replace_those_of_their_interpreter_where_the_thread_is_at_rest() {
    if !can_run() {
        return;
    }
    let program = Program::invented(&["heap"]);
    let capture = program.capture(SamplerChoice::Ptrace);
    assert_share(&capture.profile, &IN_HEAP, 0.9);
    assert!(share(&capture.profile, &["invented_evaluate"]) < 0.1);
}

#[test]
fn frames_that_were_read_late_are_not_combined_with_the_native_stack() {
    if !can_run() {
        return;
    }
    let program = Program::invented(&["heap"]);
    let capture = program.capture(SamplerChoice::PerfThread);
    assert_share(&capture.profile, &["script", "render", "each", "compute"], 0.8);
    assert!(share(&capture.profile, &["main", "script"]) < 0.01);
    let comments: Vec<&str> =
        capture.profile.comment.iter().map(|comment| text(&capture.profile, *comment)).collect();
    assert!(comments.iter().any(|comment| comment.contains("read while the thread ran")), "{comments:?}");
    assert!(comments.contains(&"category: interpreter function invented_evaluate"), "{comments:?}");
}

#[test]
fn a_stack_that_continues_on_other_stacks_is_followed_to_its_root() {
    if !can_run() {
        return;
    }
    let program = Program::invented(&["switch"]);
    for sampler in [SamplerChoice::Auto, SamplerChoice::Ptrace] {
        let capture = program.capture(sampler);
        assert_share(&capture.profile, &ON_TASKS, 0.9);
    }
}

#[test]
fn a_dump_has_the_frames_of_every_kind_and_the_state_that_the_runtime_knows() {
    if !can_run() {
        return;
    }
    for (mode, wanted) in [("native", &ON_STACK[..6]), ("heap", &IN_HEAP[..7]), ("switch", &ON_TASKS[..9])] {
        let program = Program::invented(&[mode, "sleeps"]);
        let at_work = || {
            std::thread::sleep(Duration::from_millis(20));
            Some(program.dump()).filter(|profile| share(profile, wanted) == 1.0)
        };
        let found = (0..50).find_map(|_| at_work());
        let profile = found.unwrap_or_else(|| {
            let profile = program.dump();
            panic!("{mode}: {:?}", names(&profile, &profile.sample[0]))
        });
        assert_eq!(label(&profile, &profile.sample[0], "runtime"), Some("waits for an event"), "{mode}");
        assert_eq!(label(&profile, &profile.sample[0], "request"), Some("checkout"), "{mode}");
    }
}

#[test]
fn samples_have_the_labels_that_the_program_has_set() {
    if !can_run() {
        return;
    }
    let program = Program::invented(&["native"]);
    let profile = program.capture(SamplerChoice::Auto).profile;
    let labelled = profile.sample.iter().filter(|one| label(&profile, one, "request") == Some("checkout"));
    assert_eq!(labelled.count(), profile.sample.len());
}

#[test]
fn a_runtime_that_is_ready_later_is_found_then() {
    if !can_run() {
        return;
    }
    let program = Program::invented(&["native", "late"]);
    assert_share(&program.capture(SamplerChoice::Auto).profile, &ON_STACK, 0.3);
}

#[test]
fn the_child_of_a_fork_has_a_runtime_of_its_own() {
    if !can_run() {
        return;
    }
    let program = Program::invented(&["native", "forks"]);
    assert_share(&program.capture(SamplerChoice::Auto).profile, &ON_STACK, 0.9);
}

/// For runtimes that need no threads.
struct NoThreads;

impl ThreadStacks for NoThreads {
    fn running(&mut self, _tid: u32) -> RunningThread {
        RunningThread::NotRunning
    }

    fn stopped(&mut self, read: &mut (dyn FnMut() + Send)) -> Result<Vec<ThreadStack>, ProcessError> {
        read();
        Ok(Vec::new())
    }
}

#[test]
fn tasks_facts_and_accounts_are_those_of_the_runtime() {
    if !can_run() {
        return;
    }
    let program = Program::invented(&["native"]);
    let attached = runtime::attach(program.pid()).expect("alive");
    let [instance] = &attached.instances[..] else { panic!("{attached:?}") };
    let info = instance.info().expect("facts");
    assert_eq!((info.runtime.as_str(), info.json["allocations"].as_u64()), ("invented 1.0", Some(3)));
    let tasks = instance.tasks(&TaskRequest::default(), &mut NoThreads).expect("tasks");
    let mut printed = Vec::new();
    tasks.write(TaskForm::Each, false, &mut printed).expect("to memory");
    assert_eq!(String::from_utf8_lossy(&printed), "task second: runs\ntask first: waits\n");
    assert_eq!(tasks.samples(false)[0].frames[0].lines[0].function, "task second");
    let account = instance.account("allocs").expect("an account");
    assert_eq!(account.samples[0].values, [3, 4096]);
    assert_eq!(account.samples[0].frames[0].lines[0].function, "render");
    assert!(instance.account("heap").is_err());
}

#[test]
fn two_languages_in_one_process_share_a_stack() {
    let go = ["go", "/usr/local/go/bin/go"]
        .into_iter()
        .find(|go| Command::new(go).arg("version").output().is_ok_and(|output| output.status.success()));
    let (Some(go), true) = (go, can_run()) else {
        assert!(std::env::var_os("CI").is_none() || !can_run(), "there is no Go");
        return;
    };
    let build = |path: &Path| {
        let mut command = Command::new(go);
        command.args(["build", "-o"]).arg(path).arg(programs().join("invented_cgo.go"));
        command.env("CGO_CFLAGS", format!("-I{}", programs().display()));
        command.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
        assert!(command.status().expect("go").success());
    };
    let program = Program::start(build, &[]);
    let attached = runtime::attach(program.pid()).expect("alive");
    let languages: Vec<_> = attached.instances.iter().map(|one| one.language().name()).collect();
    assert_eq!(languages, ["Go", "Invented"]);
    let profile = program.capture(SamplerChoice::Auto).profile;
    let wanted = ["main.main", "main.callsInvented", "outer", "invented_glue", "inner", "spin_unit"];
    assert_share(&profile, &wanted, 0.9);
    let both = profile.sample.iter().filter(|one| {
        label(&profile, one, "request") == Some("checkout") && label(&profile, one, "handler") == Some("buy")
    });
    assert!(both.count() > 0);
}
