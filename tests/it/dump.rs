//! `rprof dump`: what every thread does, and that no thread notices.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    harness::{Fixture, Redis, Rprof, Skip, Target, User, alone, installed, is_root, skip, wait_until},
    rights::{ordinary_user, readable_by_all},
};

/// A thread of a dump, as its JSON tells.
#[derive(Debug)]
pub struct Thread(Value);

impl Thread {
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// Functions, leaf first.
    pub fn functions(&self) -> Vec<&str> {
        let stack = self.0["stack"].as_array().expect("a stack");
        stack.iter().map(|frame| frame["function"].as_str().unwrap_or_default()).collect()
    }

    pub fn number(&self, key: &str) -> i64 {
        self.0[key].as_i64().unwrap_or_default()
    }

    pub fn has(&self, function: &str) -> bool {
        self.functions().contains(&function)
    }

    pub fn is_whole(&self) -> bool {
        self.0["whole"] == true
    }
}

/// A run of `rprof dump PID --format json`.
pub fn dump(pid: u32) -> Rprof {
    Rprof::verb("dump").args(&[&pid.to_string(), "--format", "json", "--stats"])
}

#[track_caller]
pub fn threads(rprof: Rprof) -> (Vec<Thread>, String) {
    let outcome = rprof.run();
    assert_eq!(outcome.code, Some(0), "rprof failed; it said:\n{}", outcome.stderr);
    let value: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let threads = value["threads"].as_array().expect("threads").iter().cloned().map(Thread).collect();
    (threads, outcome.stderr)
}

/// By thread name.
fn by_name(threads: Vec<Thread>) -> BTreeMap<String, Thread> {
    threads.into_iter().map(|thread| (thread.text("name").to_owned(), thread)).collect()
}

/// Each thread of waits.c that sleeps: its name, what it waits in, its function.
const WAITS: [(&str, &str, &str); 14] = [
    ("in-epoll", "epoll wait", "in_epoll"),
    ("in-recv", "socket receive", "in_recv"),
    ("in-read-socket", "read socket", "in_read_of_socket"),
    ("in-accept", "accept", "in_accept"),
    ("in-sigtimedwait", "signal wait", "in_sigtimedwait"),
    ("in-semtimedop", "semaphore wait", "in_semtimedop"),
    ("in-io_getevents", "aio wait", "in_io_getevents"),
    ("in-io_uring", "io_uring wait", "in_io_uring"),
    ("in-poll", "poll", "in_poll"),
    ("in-nanosleep", "sleep", "in_nanosleep"),
    ("in-futex", "futex wait", "in_futex"),
    ("in-read-pipe", "read pipe", "in_read_of_pipe"),
    ("in-read-timer", "read timer", "in_read_of_timer"),
    ("waits", "sleep", "main"),
];

/// The threads wake up five times a second: which of them wait is seen in several dumps together.
#[track_caller]
fn dump_waits(make: impl Fn() -> Rprof) -> BTreeMap<String, Thread> {
    let mut waiting = BTreeMap::new();
    for _ in 0..8 {
        let (seen, _) = threads(make());
        for (name, thread) in by_name(seen) {
            let kept = waiting.contains_key(&name) && thread.text("wait").is_empty() && name != "receiving";
            if !kept {
                waiting.insert(name, thread);
            }
        }
        let is_seen = |(name, wait, _): &(&str, &str, &str)| {
            waiting.get(*name).is_some_and(|thread: &Thread| thread.text("wait") == *wait)
                || is_without_io_uring(&waiting, name)
        };
        if WAITS.iter().all(is_seen) {
            break;
        }
    }
    assert_waits(&waiting);
    waiting
}

/// The thread that was to wait in io_uring says that it must not.
fn is_without_io_uring(threads: &BTreeMap<String, Thread>, name: &str) -> bool {
    name == "in-io_uring" && threads.contains_key("no-io_uring")
}

#[track_caller]
fn assert_waits(threads: &BTreeMap<String, Thread>) {
    for (name, wait, function) in WAITS {
        if is_without_io_uring(threads, name) {
            skip(Skip::Forbidden("io_uring"));
            continue;
        }
        let thread = threads.get(name).unwrap_or_else(|| panic!("no thread {name}"));
        assert_eq!((thread.text("state"), thread.text("wait")), ("sleeping", wait), "{name}");
        assert!(thread.has(function) && thread.is_whole(), "{name}: {thread:?}");
        let root = thread.functions().last().copied().unwrap_or_default();
        assert!(root.ends_with("clone3") || root == "_start", "{name}: {root}");
    }
    let busy = &threads["receiving"];
    assert_eq!(busy.text("state"), "running");
    assert!(busy.has("receiving"), "{busy:?}");
}

#[test]
fn every_thread_is_shown_with_what_it_waits_in_and_its_whole_stack_and_none_is_stopped() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["waits.c"]).build());
    let seen = dump_waits(|| dump(target.pid()));
    // Others of its threads are about to run: for them alone it may take a stop.
    for (name, ..) in WAITS.iter().filter(|(name, ..)| !is_without_io_uring(&seen, name)) {
        assert_eq!(seen[*name].text("look"), "bpf", "{name}: {:?}", seen[*name]);
    }
    target.assert_unhurt();
}

#[test]
fn where_in_the_kernel_threads_sleep_is_shown_when_asked_for() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["waits.c"]).build());
    let (seen, words) = threads(dump(target.pid()).args(&["--kernel"]));
    let pipe = &by_name(seen)["in-read-pipe"];
    let functions = pipe.functions();
    let at = |name: &str| functions.iter().position(|function| function.ends_with(name));
    let (kernel, user) = (at("pipe_read"), at("in_read_of_pipe"));
    assert!(kernel.is_some() && kernel < user && pipe.is_whole(), "{functions:?}\n{words}");
    let (seen, words) = threads(dump(target.pid()).args(&["--kernel"]).without(&["bpf"]));
    assert!(words.contains("the kernel part of stacks is not in the profile"), "{words}");
    assert!(!by_name(seen)["in-read-pipe"].has("pipe_read"));
    target.assert_unhurt();
}

#[test]
fn an_ordinary_user_dumps_his_own_process_with_no_more_rights_than_that() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["waits.c"]).build());
    for forbidden in [&[][..], &["process_vm_readv"], &["process_vm_readv", "perf_event_open", "bpf"]] {
        let mut target = Target::start_as(ordinary_user(), &program.path, &[]);
        dump_waits(|| dump(target.pid()).run_by(ordinary_user()).without(forbidden));
        target.assert_unhurt();
        assert_eq!(target.end_and_read_output(), "", "without {forbidden:?}");
    }
}

#[test]
fn an_ordinary_user_may_not_dump_roots_process_and_is_told_why() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let target = Target::start(&Fixture::c(&["sleeper.c"]).build());
    let outcome = dump(target.pid()).run_by(User::Nobody).run();
    outcome.assert_refused(1, &["error: not permitted to read", "try", "CAP_SYS_PTRACE", "doctor"]);
}

#[test]
fn no_system_call_fails_and_no_signal_is_lost_however_often_and_in_whatever_way_is_looked() {
    let _alone = alone();
    let program = Fixture::c(&["waits.c"]).build();
    let mut target = Target::start(&program);
    for way in ["auto", "proc", "ptrace", "perf"] {
        for _ in 0..15 {
            threads(dump(target.pid()).args(&["--look", way]));
        }
    }
    for _ in 0..15 {
        threads(dump(target.pid()).args(&["--consistent"]));
    }
    target.assert_unhurt();
    assert_eq!(target.end_and_read_output(), "");
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn killed_at_two_hundred_random_instants_rprof_leaves_no_thread_stopped_or_traced() {
    let _alone = alone();
    // It ends at a signal that was lost or doubled; an EINTR it only tells: killed in the microseconds between a
    // stop and the mending of a call that it broke off, rprof can mend nothing (docs/DUMP.md).
    let mut target = Target::start_with(&Fixture::c(&["waits.c"]).build(), &["goes-on"]);
    let mut random = Random(88_172_645_463_325_252);
    let how = [&["--look", "ptrace"][..], &["--consistent"]];
    for round in 0..200 {
        let mut rprof = Command::new(env!("CARGO_BIN_EXE_rprof"))
            .args(["dump", &target.pid().to_string(), "--format", "json"])
            .args(how[round % 2])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("rprof starts");
        // Looking takes the first 3 to 10 ms.
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        rprof.kill().expect("own child");
        rprof.wait().expect("own child");
        target.assert_unhurt();
    }
    // A thread that was to be stopped is not when it notices later, either.
    std::thread::sleep(Duration::from_millis(300));
    target.assert_unhurt();
    let told = target.end_and_read_output();
    assert!(told.lines().all(|line| line.ends_with("failed with EINTR")), "{told}");
    assert!(told.lines().count() <= 2, "more than one of a hundred kills: {told}");
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

/// The letters of all threads' states.
fn states(pid: u32) -> String {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a live target");
    let stat = |path: std::path::PathBuf| std::fs::read_to_string(path.join("stat")).ok();
    let stats = entries.filter_map(|entry| stat(entry.ok()?.path()));
    stats.filter_map(|stat| stat.rsplit(')').next()?.trim().chars().next()).collect()
}

#[test]
fn a_process_that_is_stopped_and_continued_all_the_while_is_in_the_state_last_asked_for() {
    let _alone = alone();
    let target = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["8"]);
    let pid = target.pid();
    let until = Instant::now() + Duration::from_secs(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < until {
                signal(pid, "STOP");
                std::thread::sleep(Duration::from_millis(3));
                signal(pid, "CONT");
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        while Instant::now() < until {
            for how in [&["--look", "ptrace"][..], &["--consistent"], &[]] {
                assert_eq!(threads(dump(pid).args(how)).0.len(), 11);
            }
        }
    });
    assert!(wait_until(2, || !states(pid).contains(['T', 't'])), "{}", states(pid));
    signal(pid, "STOP");
    assert!(wait_until(2, || states(pid).chars().all(|state| state == 'T')), "{}", states(pid));
    for how in [&["--look", "ptrace"][..], &["--consistent"], &[]] {
        let (stopped, _) = threads(dump(pid).args(how));
        assert!(stopped.iter().all(|thread| thread.text("state") == "stopped"), "{stopped:?}");
        assert!(wait_until(2, || states(pid).chars().all(|state| state == 'T')), "{how:?}: {}", states(pid));
    }
    signal(pid, "CONT");
    assert!(wait_until(2, || !states(pid).contains(['T', 't'])), "{}", states(pid));
}

#[test]
fn a_process_that_another_debugger_holds_is_dumped_all_the_same() {
    let _alone = alone();
    let tracer = Fixture::c(&["tracer.c"]).build();
    let target = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["4"]);
    let pid = target.pid().to_string();
    for how in [&[][..], &["stop"]] {
        let debugger = Target::start_with(&tracer, &[&[pid.as_str()], how].concat());
        let (threads, _) = threads(dump(target.pid()));
        assert_eq!(threads.iter().filter(|thread| thread.has("sleeping_thread")).count(), 4, "{threads:?}");
        assert_eq!(threads.iter().filter(|thread| thread.has("busy_thread")).count(), 2, "{threads:?}");
        let outcome = dump(target.pid()).args(&["--look", "ptrace"]).run();
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        drop(debugger);
    }
}

#[test]
fn a_first_thread_that_has_ended_is_shown_as_a_zombie_and_the_others_with_their_stacks() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["leaderless.c"]).build());
    assert!(wait_until(2, || states(target.pid()).contains('Z')));
    for way in ["auto", "ptrace"] {
        let (threads, words) = threads(dump(target.pid()).args(&["--look", way]));
        assert_eq!(threads.len(), 2);
        assert_eq!(threads[0].text("state"), "zombie");
        assert!(threads[1].has("worker"), "{threads:?}");
        assert!(words.contains("100.0% whole"), "{words}");
    }
}

#[test]
fn a_thousand_threads_are_one_block_of_text_and_one_sample_each_in_the_profile() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["many_threads.c"]).build());
    let pid = target.pid().to_string();
    let outcome = Rprof::verb("dump").args(&[&pid, "--stats"]).run();
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert!(outcome.elapsed < Duration::from_secs(3), "{:?}\n{}", outcome.elapsed, outcome.stderr);
    assert!(text.contains("and 984 more (1000) [signal wait"), "{}", &text[..text.len().min(3000)]);
    assert_eq!(text.matches("sleeping_thread(...)\n").count(), 1);
    assert!(text.contains("tests/fixtures/programs/many_threads.c:"), "{text}");

    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("threads.pb.gz");
    let outcome = Rprof::verb("dump").args(&[&pid, "-o", &path.to_string_lossy()]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let bytes = std::fs::read(&path).expect("written");
    let profile = rprof::profile::decode::decode(&bytes).expect("a profile");
    assert_eq!((profile.string(profile.sample_type[0].r#type), profile.sample.len()), ("threads", 1003));
    assert!(profile.sample.iter().all(|sample| sample.value == [1]));
    target.assert_unhurt();
}

#[test]
fn a_process_in_other_pid_and_mount_namespaces_is_dumped_with_names() {
    let _alone = alone();
    let program = Fixture::c(&["many_threads.c"]).build();
    let Some(mut target) = crate::containers::start_inside(&program) else { return };
    for how in ["auto", "ptrace"] {
        let (threads, words) = threads(dump(target.pid()).args(&["--look", how]));
        let sleeping = threads.iter().filter(|thread| thread.has("sleeping_thread"));
        if how == "auto" {
            assert_eq!(sleeping.clone().count(), 1000, "{words}");
            assert!(sleeping.clone().all(|thread| thread.text("wait") == "signal wait" && thread.is_whole()));
        }
        assert_eq!(threads.iter().filter(|thread| thread.has("busy_thread")).count(), 2, "{words}");
    }
    target.assert_unhurt();
}

/// Dumps a program that nobody wrote for these tests; at least `percent` of its threads' stacks are
/// whole, and these functions are among them.
#[track_caller]
pub fn assert_dumps(target: &mut Target, percent: usize, functions: &[&str]) {
    for how in [&["--look", "auto", "--threads"], &["--look", "proc", "--threads"]] {
        let (threads, words) = threads(dump(target.pid()).args(how));
        let whole = threads.iter().filter(|thread| thread.is_whole()).count();
        let cut: Vec<&Thread> = threads.iter().filter(|thread| !thread.is_whole()).collect();
        // A thread that runs cannot be seen by `proc`.
        if how[1] == "auto" {
            assert!(whole * 100 >= percent * threads.len(), "{whole} of {}: {cut:?}\n{words}", threads.len());
            for function in functions {
                assert!(threads.iter().any(|thread| thread.has(function)), "{function}: {threads:?}");
            }
        }
    }
    target.assert_unhurt();
}

#[test]
fn python_node_and_a_jvm_are_dumped_whole() {
    let _alone = alone();
    if let Some(python) = installed("python3") {
        let script = "import threading, time\nfor i in range(3): threading.Thread(target=time.sleep, \
                      args=(60,), daemon=True).start()\nprint('ready', flush=True)\ntime.sleep(60)";
        assert_dumps(&mut Target::spawn(Command::new(python).args(["-c", script])), 100, &["time_sleep"]);
    } else {
        skip(Skip::NotInstalled("python3"));
    }
    if let Some(node) = installed("node") {
        let script = "console.log('ready'); setTimeout(() => {}, 60000)";
        assert_dumps(&mut Target::spawn(Command::new(node).args(["-e", script])), 80, &["uv_run"]);
    } else {
        skip(Skip::NotInstalled("node"));
    }
    if let Some(java) = installed("java") {
        let folder = crate::harness::open_folder();
        let source = folder.path().join("Sleeper.java");
        let code = "public class Sleeper { public static void main(String[] a) throws Exception { \
                    System.out.println(\"ready\"); Thread.sleep(60000); } }";
        std::fs::write(&source, code).expect("own folder");
        let mut target = Target::spawn(Command::new(java).args(["-Xint", "-Xshare:auto"]).arg(&source));
        assert_dumps(&mut target, 70, &[]);
    } else {
        skip(Skip::NotInstalled("java"));
    }
}

#[test]
fn a_go_program_is_dumped_whole() {
    let _alone = alone();
    if installed("go").is_none() {
        return skip(Skip::NotInstalled("go"));
    }
    let mut target = Target::start(&Fixture::go("ratio.go").build());
    assert_dumps(&mut target, 100, &["runtime.mstart"]);
}

#[test]
fn redis_is_dumped_whole() {
    let _alone = alone();
    let Some(mut redis) = Redis::start() else { return skip(Skip::NotInstalled("redis")) };
    assert_dumps(&mut redis.target, 100, &["epoll_wait"]);
    assert!(redis.socket().exists());
}
