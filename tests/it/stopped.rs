//! Stops by ptrace: what a target must never notice, also where a stop takes long, and what rprof
//! does to a process in general.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use crate::harness::{
    Cgroup, Fixture, Rprof, Skip, Target, alone, installed, is_root, open_folder, skip, wait_until,
};

/// A run of each verb that may stop threads.
const STOPPING: [&[&str]; 6] = [
    &["dump", "--look", "ptrace"],
    &["dump", "--consistent"],
    &["dump"],
    &["attach", "--sampler", "ptrace", "-d", "1s", "-q"],
    &["attach", "--kind", "wall", "-d", "1s", "-q"],
    &["attach", "--kind", "wall", "--sampler", "ptrace", "-d", "1s", "-q"],
];

fn verb(words: &[&str], target: &Target) -> Rprof {
    Rprof::verb(words[0]).args(&words[1..]).args(&["--pid", &target.pid().to_string()])
}

#[test]
fn a_throttled_target_sees_no_system_call_fail() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    // Its threads run for 5 ms in 100 ms, as in a container at its limit: a stop takes up to 95 ms.
    let mut target = Target::start(&Fixture::c(&["waits.c"]).build());
    let Some(group) = Cgroup::with_cpu_quota(target.pid(), 5000) else {
        return skip(Skip::Forbidden("a control group"));
    };
    for round in 0..3 {
        for words in STOPPING {
            let outcome = verb(words, &target).run();
            assert_eq!(outcome.code, Some(0), "{words:?} in round {round}: {}", outcome.stderr);
            target.assert_unhurt();
        }
    }
    drop(group);
    assert_eq!(target.end_and_read_output(), "");
}

#[test]
fn rprof_stays_until_the_last_thread_that_it_stopped_is_released_and_names_it() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    // Runs for 1 ms in a second: a stop that is requested takes nearly as long.
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let Some(group) = Cgroup::with_cpu_time(target.pid(), 1000, 1_000_000) else {
        return skip(Skip::Forbidden("a control group"));
    };
    let mut named = 0;
    for _ in 0..4 {
        let run = Rprof::attach(&target).sampler("ptrace").seconds(30).start();
        std::thread::sleep(Duration::from_millis(1500));
        run.signal("TERM");
        let outcome = run.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.output.exists());
        named += u32::from(outcome.stderr.contains(&format!("waiting for thread {}", target.pid())));
        target.assert_unhurt();
    }
    assert!(named >= 1, "no run ended while a stop was pending");
    drop(group);
}

#[test]
fn a_frozen_target_does_not_keep_rprof_from_writing_the_profile() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let Some(group) = Cgroup::freezer(target.pid()) else {
        return skip(Skip::Forbidden("a control group"));
    };
    let end = |frozen: bool| {
        let run = Rprof::attach(&target).sampler("ptrace").hertz(2000).seconds(30).start();
        std::thread::sleep(Duration::from_millis(1500));
        if frozen {
            group.freeze();
            std::thread::sleep(Duration::from_millis(300));
        }
        let began = Instant::now();
        run.signal("TERM");
        assert!(wait_until(30, || run.output().exists()), "no profile is written");
        let took = began.elapsed();
        if frozen {
            group.thaw();
        }
        let outcome = run.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        took
    };
    let (running, frozen) = (end(false), end(true));
    assert!(frozen < running + Duration::from_secs(1), "{frozen:?}, while it runs {running:?}");
    drop(group);
    target.assert_unhurt();
}

#[test]
fn a_thread_in_uninterruptible_sleep_delays_no_profile_and_is_not_hurt() {
    let _alone = alone();
    // A thread sleeps in state D for 2.5 s at a time: a stop that was requested before takes as long.
    let mut target = Target::start_with(&Fixture::c(&["vforks.c"]).build(), &["2500"]);
    let pid = target.pid();
    let sleeps = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" D"))
    };
    for kind in ["cpu", "wall"] {
        let run = Rprof::attach(&target).sampler("ptrace").args(&["--kind", kind]).seconds(30).start();
        // It works before it sleeps: then stops are requested.
        assert!(wait_until(20, || !sleeps()) && wait_until(20, sleeps), "{kind}");
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        run.signal("TERM");
        assert!(wait_until(30, || run.output().exists()), "{kind}: no profile is written");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1) && sleeps(), "{kind}: {took:?}");
        let outcome = run.wait();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        // The process is named if a stop of the thread is pending.
        let waits = outcome.stderr.contains("waiting for thread");
        assert_eq!(waits, outcome.stderr.contains(&format!("waiting for thread {pid} to stop")));
        target.assert_unhurt();
    }
    for words in [["dump", "--look", "ptrace"].as_slice(), &["dump", "--consistent"]] {
        for _ in 0..3 {
            let outcome = verb(words, &target).run();
            assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.stderr);
            assert!(
                String::from_utf8_lossy(&outcome.stdout).contains(&format!("thread {pid} [")),
                "{words:?}"
            );
            target.assert_unhurt();
        }
    }
    assert_eq!(target.end_and_read_output(), "");
}

#[test]
fn a_seccomp_filter_that_kills_at_restart_syscall_does_not_end_the_target() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["filtered.c"]).build());
    let folder = open_folder();
    let archive = folder.path().join("x.tar.gz");
    let snapshot: &[&str] = &["snapshot", "-d", "1s", "-q", "-o", archive.to_str().expect("UTF-8")];
    for words in STOPPING.into_iter().chain([snapshot]) {
        let outcome = verb(words, &target).run();
        assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.stderr);
        target.assert_unhurt();
    }
}

#[test]
fn a_wall_clock_profile_of_a_throttled_target_has_all_its_time() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let Some(group) = Cgroup::with_cpu_quota(target.pid(), 1000) else {
        return skip(Skip::Forbidden("a control group"));
    };
    let profile = Rprof::attach(&target).args(&["--kind", "wall"]).seconds(2).profile();
    let seconds = profile.cpu_ns() as f64 / 1e9;
    assert!((1.8..2.4).contains(&seconds), "{seconds} s of 2 s\n{}", profile.summary());
    // It is ready to run all the time: nearly all of it is in its own code.
    assert!(profile.share_of_time("outer") > 95.0, "{}", profile.summary());
    target.assert_unhurt();
    drop(group);
}

#[test]
fn a_wall_clock_profile_by_bpf_has_threads_that_work_and_sleep_in_their_proportions() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["sleeps.c"]).build());
    let profile = Rprof::attach(&target).args(&["--kind", "wall"]).hertz(199).seconds(4).profile();
    assert!(profile.comment("sampler").starts_with("bpf"), "{:?}", profile.comments);
    let seconds = profile.cpu_ns() as f64 / 1e9;
    // Four threads for four seconds.
    assert!((15.0..17.5).contains(&seconds), "{seconds} s of 16 s\n{}", profile.summary());
    for thread in ["sleeps_long", "works", "shorts"] {
        let share = profile.share_of_time(thread);
        assert!((23.0..27.0).contains(&share), "{thread}: {share} %\n{}", profile.summary());
    }
    let (slept, worked) = (profile.share_of_time("sleeps_80_ms"), profile.share_of_time("works_20_ms"));
    assert!((15.0..21.5).contains(&slept) && (3.5..10.0).contains(&worked), "{slept} {worked}");
    target.assert_unhurt();
}

#[test]
fn a_wall_clock_profile_of_ten_thousand_threads_ends_soon_and_has_the_time_of_all() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["10000"]);
    let small = Target::start_with(&Fixture::c(&["many_threads.c"]).build(), &["10"]);
    let run = |target: &Target| Rprof::attach(target).args(&["--kind", "wall", "--stats"]).seconds(2).run();
    let (few, many) = (run(&small), run(&target));
    drop(small);
    assert_eq!(many.code, Some(0), "{}", many.stderr);
    // Compared with the same of ten threads, which takes longer on a busy machine too.
    let late = many.elapsed.saturating_sub(few.elapsed);
    let usual = few.elapsed.saturating_sub(Duration::from_secs(2));
    let limit = Duration::from_millis(500).max(3 * usual);
    assert!(late < limit, "{late:?} later than with 10 threads ({usual:?})\n{}", many.stderr);
    let used = own_cpu(&many.stderr);
    assert!(used < many.elapsed / 4, "{used:?} of CPU time in {:?}\n{}", many.elapsed, many.stderr);
    let profile = many.profile();
    let seconds = profile.cpu_ns() as f64 / 1e9;
    let share = seconds / (10_003.0 * profile.profile.duration_nanos as f64 / 1e9);
    assert!((0.9..1.05).contains(&share), "{share} of the time of all threads: {seconds} s");
    target.assert_unhurt();
}

/// rprof's own CPU time, of which `--stats` informs: `own CPU 467 ms`.
fn own_cpu(stats: &str) -> Duration {
    let text = stats.split("own CPU ").nth(1).and_then(|rest| rest.split(' ').next());
    let milliseconds = text.and_then(|number| number.parse().ok());
    Duration::from_millis(milliseconds.unwrap_or_else(|| panic!("no CPU time in {stats:?}")))
}

/// System calls that could change another process, or open its memory.
const TRACED: [&str; 12] = [
    "process_vm_writev",
    "process_madvise",
    "ptrace",
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "pidfd_send_signal",
    "open",
    "openat",
    "openat2",
];

/// The lines of a trace of rprof (strace -f) that could change a process other than rprof's own.
fn harmful(trace: &str, rprof: u32, target: u32) -> Vec<&str> {
    let own_threads: Vec<&str> = trace.lines().filter_map(|line| line.split(' ').next()).collect();
    trace
        .lines()
        .filter(|line| {
            let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
            let writes_memory = call.starts_with("process_vm_writev") || call.starts_with("process_madvise");
            let opens_memory = call.starts_with("open")
                && call.contains("/mem\"")
                && (call.contains("O_RDWR") || call.contains("O_WRONLY"));
            let pokes =
                ["POKE", "SETREGS,", "SETFPREGS", "SETSIGINFO", "SETSIGMASK", "PTRACE_KILL", "ATTACH"]
                    .iter()
                    .any(|request| call.starts_with("ptrace(") && call.contains(request));
            let continues =
                call.starts_with("ptrace(PTRACE_CONT") || call.starts_with("ptrace(PTRACE_SYSCALL");
            let signals = [
                "kill(",
                "tkill(",
                "tgkill(",
                "rt_sigqueueinfo(",
                "pidfd_send_signal(",
                "rt_tgsigqueueinfo(",
            ]
            .iter()
            .any(|name| call.starts_with(name))
                && !call.contains(&format!("({rprof},"))
                && !own_threads.iter().any(|tid| call.contains(&format!("({tid},")));
            writes_memory || opens_memory || pokes || continues || signals || is_bad_set(call, target)
        })
        .collect()
}

/// PTRACE_SETREGSET of anything but the general registers.
fn is_bad_set(call: &str, _target: u32) -> bool {
    call.starts_with("ptrace(PTRACE_SETREGSET") && !call.contains("NT_PRSTATUS")
}

#[test]
fn no_verb_writes_into_the_target_or_sends_it_a_signal() {
    let _alone = alone();
    let Some(strace) = installed("strace") else { return skip(Skip::NotInstalled("strace")) };
    let mut target = Target::start(&Fixture::c(&["waits.c"]).build());
    let pid = target.pid().to_string();
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (profile, archive, timeline) = (path("x.pb.gz"), path("x.tar.gz"), path("x.pftrace"));
    let mut verbs: Vec<Vec<&str>> = vec![
        vec!["dump"],
        vec!["dump", "--look", "ptrace"],
        vec!["dump", "--consistent"],
        vec!["attach", "--sampler", "ptrace", "-d", "1s", "-q", "-o", &profile],
        vec!["attach", "--kind", "wall", "--sampler", "ptrace", "-d", "1s", "-q", "-o", &profile],
        vec!["attach", "-d", "1s", "-q", "-o", &profile],
        vec!["attach", "--kind", "wall", "-d", "1s", "-q", "-o", &profile],
        vec!["attach", "--kind", "faults", "-d", "1s", "-q", "-o", &profile],
        vec!["attach", "--kind", "threadcreate", "-d", "1s", "-q", "-o", &profile],
        vec!["info"],
        vec!["doctor"],
        vec!["snapshot", "-d", "1s", "-q", "-o", &archive],
    ];
    if is_root() {
        verbs.push(vec!["attach", "--kind", "offcpu", "-d", "1s", "-q", "-o", &profile]);
        verbs.push(vec!["attach", "--kind", "trace", "-d", "1s", "-q", "-o", &timeline]);
    }
    for words in verbs {
        let trace = path("trace");
        let status = Command::new(&strace)
            .args(["-f", "-qq", "-e", &format!("trace={}", TRACED.join(","))])
            .args(["-o", &trace, env!("CARGO_BIN_EXE_rprof")])
            .args(&words)
            .args(["--pid", &pid])
            .current_dir(folder.path())
            .output()
            .expect("strace runs");
        assert!(status.status.success(), "{words:?}: {}", String::from_utf8_lossy(&status.stderr));
        let text = String::from_utf8_lossy(&fs::read(&trace).expect("a trace")).into_owned();
        assert!(text.contains("open"), "{words:?}: nothing was traced");
        let rprof = text.split(' ').next().and_then(|tid| tid.parse().ok()).expect("a thread");
        assert_eq!(harmful(&text, rprof, target.pid()), [""; 0], "{words:?}");
        target.assert_unhurt();
    }
    assert_eq!(target.end_and_read_output(), "");
}

#[test]
fn the_check_of_traces_finds_what_it_looks_for() {
    let harmless = "7 openat(AT_FDCWD, \"/proc/9/mem\", O_RDONLY|O_CLOEXEC) = 3\n\
                    7 ptrace(PTRACE_SEIZE, 9, NULL, 0) = 0\n7 ptrace(PTRACE_DETACH, 9, NULL, 0) = 0\n\
                    7 ptrace(PTRACE_SETREGSET, 9, NT_PRSTATUS, [{iov_len=216}]) = 0\n\
                    8 tgkill(7, 8, SIGURG) = 0\n";
    assert_eq!(harmful(harmless, 7, 9), [""; 0]);
    for line in [
        "7 process_vm_writev(9, [{}], 1, [{}], 1, 0) = 8",
        "7 openat(AT_FDCWD, \"/proc/9/mem\", O_RDWR|O_CLOEXEC) = 3",
        "7 ptrace(PTRACE_POKEDATA, 9, 0x1000, 0) = 0",
        "7 ptrace(PTRACE_SETREGS, 9, NULL, 0x7f) = 0",
        "7 ptrace(PTRACE_SETREGSET, 9, NT_FPREGSET, [{}]) = 0",
        "7 ptrace(PTRACE_ATTACH, 9) = 0",
        "7 kill(9, SIGSTOP) = 0",
        "7 pidfd_send_signal(4, SIGTERM, NULL, 0) = 0",
    ] {
        assert_eq!(harmful(line, 7, 9), [line]);
    }
}

/// The helper functions of the kernel that a BPF program calls, by number: instructions with the
/// opcode BPF_JMP | BPF_CALL and source register 0 (linux/bpf.h).
#[test]
fn no_bpf_program_writes_user_memory_or_sends_signals() {
    // bpf_probe_write_user, bpf_override_return, bpf_send_signal, bpf_send_signal_thread.
    const FORBIDDEN: [i32; 4] = [36, 58, 109, 117];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/sampler/bpf");
    let mut objects = 0;
    for entry in fs::read_dir(folder).expect("sources").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "o") {
            continue;
        }
        objects += 1;
        let bytes = fs::read(&path).expect("an object");
        let elf = goblin::elf::Elf::parse(&bytes).expect("ELF");
        let mut calls = 0;
        for section in elf.section_headers.iter().filter(|section| section.sh_flags & 4 != 0) {
            let code = section.file_range().and_then(|range| bytes.get(range)).unwrap_or_default();
            for instruction in code.chunks_exact(8).filter(|bytes| bytes[0] == 0x85 && bytes[1] >> 4 == 0) {
                let helper = i32::from_le_bytes(instruction[4..8].try_into().expect("4 bytes"));
                assert!(!FORBIDDEN.contains(&helper), "{} calls helper {helper}", path.display());
                calls += 1;
            }
        }
        assert!(calls > 0, "{}: no call was found", path.display());
    }
    assert!(objects >= 10, "{objects}");
}
