//! `rprof top --pid`, the live view on a terminal, and the series of profiles behind it.

use std::time::{Duration, Instant};

use rprof::{
    capture::{self, Capture, Request, Response, kinds::KindRow},
    profile::proto::Sample,
};

use crate::harness::{Fixture, Rprof, Skip, Target, Terminal, alone, installed, is_root, skip, wait_until};

/// The percentages in the row of a function, as the screen shows them: by itself, and in all.
fn shares(screen: &str, function: &str) -> Option<(f64, f64)> {
    let row = screen.lines().find(|line| line.split_whitespace().any(|word| word == function))?;
    let mut words =
        row.split_whitespace().filter_map(|word| word.trim_end_matches('±').strip_suffix('%')?.parse().ok());
    Some((words.next()?, words.next()?))
}

/// Whether terminal tests are possible here.
fn may_look() -> bool {
    if installed("tmux").is_none() {
        skip(Skip::NotInstalled("tmux"));
    }
    installed("tmux").is_some()
}

#[test]
fn the_screen_shows_functions_and_threads_with_their_shares() {
    let _alone = alone();
    if !may_look() {
        return;
    }
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let pid = target.pid().to_string();
    let terminal = Terminal::start("shares", &["top", "--pid", &pid, "-F", "499"]);
    let is_right = |screen: &str, name, wanted: f64| {
        shares(screen, name).is_some_and(|(own, total)| (total - wanted).abs() < 5.0 && own <= total)
    };
    terminal.wait_for("the shares", |screen| {
        is_right(screen, "sixty", 60.0) && is_right(screen, "thirty", 30.0) && is_right(screen, "ten", 10.0)
    });
    // In all, main has everything; it comes before those it calls.
    terminal.press(&["t"]);
    let screen = terminal.wait_for("main first", |screen| {
        let at =
            |name: &str| screen.lines().position(|line| line.split_whitespace().any(|word| word == name));
        screen.contains("TOTAL▼") && at("main") < at("sixty")
    });
    assert!(shares(&screen, "main").is_some_and(|(own, total)| own < 5.0 && total > 99.0), "{screen}");
    terminal.press(&["/", "t", "h", "i"]);
    let screen =
        terminal.wait_for("one function alone", |screen| screen.contains("1 with \"thi\" in the name"));
    assert!(shares(&screen, "thirty").is_some() && shares(&screen, "sixty").is_none(), "{screen}");
    terminal.press(&["Enter"]);
    terminal.press(&["Enter"]);
    let screen = terminal.shows("callers ▲ and callees ▼ of thirty");
    assert!(screen.contains("▲ middle"), "{screen}");
    terminal.press(&["Left", "Left", "c"]);
    let screen = terminal.shows("call tree  last ");
    assert!(screen.contains("CALL PATH") && screen.contains("├ "), "{screen}");
    terminal.wait_for("bars of 60 and 30 percent", |screen| {
        let has = |bar: &str, name: &str| {
            screen.lines().any(|line| {
                line.contains(bar) && line.split_whitespace().last().is_some() && line.contains(name)
            })
        };
        has("█████", "sixty") && has("██", "thirty")
    });
    terminal.press(&["m"]);
    terminal.shows("call tree of my code");
    terminal.press(&["m", "Tab"]);
    let screen = terminal.wait_for("the thread", |screen| screen.contains("threads  last "));
    assert!(screen.lines().any(|line| line.contains("100.0%") && line.contains(&pid)), "{screen}");
    terminal.press(&["q"]);
    terminal.assert_ended(0);
    target.assert_unhurt();
}

#[test]
fn a_wait_that_does_not_end_is_shown_while_it_lasts() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    if !may_look() {
        return;
    }
    let target = Target::start(&Fixture::c(&["sleeps.c"]).build());
    let terminal = Terminal::start("waits", &["top", &target.pid().to_string()]);
    terminal.shows("% of one");
    terminal.press(&["o"]);
    // Each second of it, in the same second.
    terminal.press(&["t"]);
    let is_there = |line: &str| {
        let mut words = line.split_whitespace();
        let milliseconds = words.find_map(|word| word.parse::<u32>().ok());
        line.contains("sleeps_long") && milliseconds.is_some_and(|found| (950..1050).contains(&found))
    };
    terminal.wait_for("a second in each second", |screen| {
        screen.contains("waiting") && screen.lines().any(is_there)
    });
    terminal.press(&["o"]);
    terminal.shows("% of one");
}

#[test]
fn the_terminal_is_restored_however_rprof_ends() {
    let _alone = alone();
    if !may_look() {
        return;
    }
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let pid = target.pid().to_string();
    for (name, key) in [("quit", "q"), ("control-c", "C-c"), ("term", "")] {
        let terminal = Terminal::start(name, &["top", "--pid", &pid]);
        terminal.shows("sixty");
        match key {
            "" => send(watching(&pid).expect("rprof runs"), "-TERM"),
            key => terminal.press(&[key]),
        }
        terminal.assert_ended(0);
    }
    // Whose terminal is gone has nobody to show anything to.
    let terminal = Terminal::start("gone", &["top", "--pid", &pid]);
    terminal.shows("sixty");
    drop(terminal);
    assert!(wait_until(10, || watching(&pid).is_none()), "it goes on without a terminal");
    target.assert_unhurt();
}

/// The number of the rprof that watches this process.
pub fn watching(pid: &str) -> Option<u32> {
    let wanted = format!("\0top\0--pid\0{pid}\0");
    let folders = std::fs::read_dir("/proc").expect("/proc is mounted");
    let numbers = folders.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.into_iter().find(|number| {
        let arguments = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        arguments.ends_with(&wanted)
            && arguments.split('\0').next().is_some_and(|name| name.ends_with("/rprof"))
    })
}

pub fn send(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill").args([signal, &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn the_samples_of_a_process_stay_after_it_ends_and_can_be_saved() {
    let _alone = alone();
    if !may_look() {
        return;
    }
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let terminal = Terminal::start("ends", &["top", "--pid", &target.pid().to_string()]);
    terminal.shows("sixty");
    drop(target);
    let screen = terminal.shows("the process has ended: its samples stay here");
    assert!(screen.contains("sixty"), "{screen}");
    for (columns, lines) in [(20, 5), (200, 50)] {
        terminal.resize(columns, lines);
    }
    terminal.shows("sixty");
    terminal.press(&["S"]);
    let screen = terminal.shows("wrote rprof-");
    let name =
        screen.split_whitespace().find(|word| word.starts_with("rprof-ratio")).expect("the file's name");
    let path = std::env::current_dir().expect("a folder").join(name);
    let outcome = Rprof::verb("top").args(&[&path.to_string_lossy()]).run();
    std::fs::remove_file(path).expect("it was written");
    let report = String::from_utf8_lossy(&outcome.stdout);
    assert!(report.contains("sixty"), "{report} {}", outcome.stderr);
}

#[test]
fn without_a_terminal_the_alternative_is_named() {
    let me = std::process::id().to_string();
    Rprof::verb("top")
        .args(&["--pid", &me])
        .run()
        .assert_refused(1, &["needs a terminal", "rprof attach --pid"]);
    let refused = Rprof::verb("top").args(&["--pid", &me, "--focus", "x"]).run();
    refused.assert_refused(1, &["are for files", "/ searches"]);
}

/// All windows of a series.
fn series(request: &Request) -> Vec<Capture> {
    let mut session = capture::open(request).expect("it may be watched");
    let mut series = Vec::new();
    while let Some(window) = session.next_window(&mut |_| {}) {
        for outcome in window {
            let Ok(Response::Sampled(capture)) = outcome.result else { panic!("not sampled: {outcome:?}") };
            series.push(*capture);
        }
    }
    series
}

#[test]
fn each_profile_of_a_series_has_its_own_time_and_no_other() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let request = Request {
        pids: vec![target.pid()],
        duration: Some(Duration::from_secs(4)),
        every: Some(Duration::from_secs(1)),
        frequency_hz: 499,
        ..Request::default()
    };
    let began = Instant::now();
    let series = series(&request);
    let all = began.elapsed().as_secs_f64();
    assert!((2..=4).contains(&series.len()), "{}", series.len());
    let whole: f64 = series.iter().map(|made| made.elapsed.as_secs_f64()).sum();
    assert!((3.95..all).contains(&whole), "{whole} s of profiles in {all} s");
    for made in &series {
        let profile = &made.profile;
        rprof::profile::check(profile).expect("a valid profile");
        let cpu_ns: i64 = profile.sample.iter().map(|sample| sample.value[1]).sum();
        // What the kernel charged in the same time, which it tells in ticks of 10 ms.
        let (seconds, charged) = (cpu_ns as f64 / 1e9, made.kernel_cpu_ns.expect("it lives") as f64 / 1e9);
        assert!((seconds - charged).abs() < 0.05 + charged * 0.1, "{seconds} s of {charged} s");
        let counted: i64 = profile.sample.iter().map(|sample| sample.value[0]).sum();
        assert_eq!(made.tally.samples + made.tally.lost, counted as u64);
        let names: Vec<&str> =
            profile.function.iter().map(|function| profile.string(function.name)).collect();
        assert!(names.contains(&"sixty") && names.contains(&"main"), "{names:?}");
    }
    target.assert_unhurt();
}

#[test]
fn waits_are_split_where_profiles_of_a_series_meet() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["sleeps.c"]).build());
    let request = Request {
        pids: vec![target.pid()],
        kinds: vec![KindRow::named("offcpu").expect("a kind")],
        duration: Some(Duration::from_secs(4)),
        every: Some(Duration::from_millis(500)),
        ..Request::default()
    };
    let series = series(&request);
    assert!((3..=8).contains(&series.len()), "{}", series.len());
    // Seconds that a thread waited, by its name.
    let waited = |made: &Capture, thread: &str| -> f64 {
        let profile = &made.profile;
        let is_its = |sample: &&Sample| sample.label.iter().any(|label| profile.string(label.str) == thread);
        profile.sample.iter().filter(is_its).map(|sample| sample.value[1] as f64 / 1e9).sum()
    };
    for made in &series {
        let (own, length) = (waited(made, "long"), made.elapsed.as_secs_f64());
        assert!((own - length).abs() < 0.3, "{own} s of {length} s");
    }
    // No part of a wait is lost between two, nor counted twice.
    let whole: f64 = series.iter().map(|made| made.elapsed.as_secs_f64()).sum();
    let all = |thread: &str| series.iter().map(|made| waited(made, thread)).sum::<f64>();
    assert!((all("long") / whole - 1.0).abs() < 0.03, "{} s of {whole} s", all("long"));
    // 80 ms of 100 ms, and what it then waits for a CPU.
    assert!((0.75..0.98).contains(&(all("works") / whole)), "{} s of {whole} s", all("works"));
    target.assert_unhurt();
}
