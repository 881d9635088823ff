//! Sessions with several sources of samples, whose processes come and go.
//!
//! In the longest test, processes, threads, libraries and generated code come and go at 100 a
//! second. `scripts/soak` runs it, for a minute or for twenty.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use rprof::{
    capture::{self, Capture, LabelKeys, Outcome, Request, Response, SamplerChoice, Session, kinds},
    issue::Issue,
    profile::proto::Location,
};

use crate::harness::{Fixture, Skip, Target, alone, is_root, skip};

/// Processes, threads, libraries and pieces of code that come and go, of each, a second.
const RATE: &str = "100";
/// Copies of the library that are opened in turn; one is replaced by a new file each second.
const LIBRARIES: usize = 16;
const KINDS: [&str; 3] = ["cpu", "offcpu", "faults"];
const WINDOW: Duration = Duration::from_secs(1);
/// Shares are compared over so many samples: by chance they are then within 4 points.
const SAMPLES: i64 = 1500;
/// By how much figures may differ between the beginning and the end.
const SHARE: f64 = 0.1;
/// By how much memory may differ in a run so short that caches, which keep files for a minute, are
/// not full: 400 bytes for each process that has come and gone meanwhile.
const SHORT_RUN: Duration = Duration::from_secs(300);
const SHORT_RUN_BYTES: f64 = 1048576.0;
/// Fewer windows cannot be compared.
const FEWEST_WINDOWS: usize = 20;
/// What a process added to the session lives for, in windows.
const ADDED_WINDOWS: usize = 3;

/// What rprof has taken at the end of a window.
#[derive(Clone, Copy, Debug)]
struct Taken {
    memory: f64,
    /// Without free memory between allocations.
    allocated: f64,
    descriptors: f64,
    threads: f64,
}

fn entries(folder: &str) -> f64 {
    fs::read_dir(folder).map_or(0, Iterator::count) as f64
}

fn taken(session: &mut Session) -> Taken {
    let memory = session.memory();
    Taken {
        memory: memory.resident_bytes as f64,
        allocated: memory.allocated_bytes as f64,
        // Without that of the folder itself.
        descriptors: entries("/proc/self/fd") - 1.0,
        threads: entries("/proc/self/task"),
    }
}

/// Reads how much memory rprof takes, ten times a second: windows end when much of it is free.
struct Meter {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Meter {
    fn start() -> Meter {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        let thread = spawn(move || {
            let mut peak = 0.0f64;
            while !stop.load(Ordering::Relaxed) {
                peak = peak.max(rprof::process::own_memory_bytes().map_or(0.0, |bytes| bytes as f64));
                sleep(Duration::from_millis(100));
            }
            peak
        });
        Meter { is_over, thread }
    }

    /// The most memory at any time, in bytes.
    fn peak(self) -> f64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only reads")
    }
}

/// The median of a figure over some windows.
fn median(windows: &[Taken], figure: fn(&Taken) -> f64) -> f64 {
    let mut all: Vec<f64> = windows.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Samples of the functions of the steady process, until there are [`SAMPLES`].
#[derive(Default)]
struct Shares {
    counts: [i64; 3],
    /// The largest distance of a share from what it should be, in points, of all complete counts.
    worst: f64,
    complete: usize,
}

/// The steady program's functions and their shares in percent.
const STEADY: [(&str, f64); 3] = [("sixty", 60.0), ("thirty", 30.0), ("ten", 10.0)];

/// How many samples of the steady program's functions a capture has.
fn counts_of(capture: &Capture, pid: u32) -> [i64; 3] {
    let profile = &capture.profile;
    let names: HashMap<u64, &str> =
        profile.function.iter().map(|function| (function.id, profile.string(function.name))).collect();
    let of_location = |location: &Location| {
        let lines = location.line.iter().filter_map(|line| names.get(&line.function_id));
        lines.filter_map(|name| STEADY.iter().position(|(steady, _)| steady == name)).next()
    };
    let steady: HashMap<u64, usize> =
        profile.location.iter().filter_map(|location| Some((location.id, of_location(location)?))).collect();
    let mut counts = [0; 3];
    for sample in &profile.sample {
        let label = sample.label.iter().find(|label| profile.string(label.key) == "pid");
        let function = sample.location_id.iter().find_map(|id| steady.get(id));
        if let Some(function) = function.filter(|_| label.is_some_and(|label| label.num == i64::from(pid))) {
            counts[*function] += sample.value[0];
        }
    }
    counts
}

impl Shares {
    fn add(&mut self, capture: &Capture, pid: u32) {
        for (count, new) in self.counts.iter_mut().zip(counts_of(capture, pid)) {
            *count += new;
        }
        let all: i64 = self.counts.iter().sum();
        if all >= SAMPLES {
            for ((_, percent), count) in STEADY.iter().zip(self.counts) {
                self.worst = self.worst.max((count as f64 * 100.0 / all as f64 - percent).abs());
            }
            (self.counts, self.complete) = ([0; 3], self.complete + 1);
        }
    }
}

/// Copies of the library, each a file of its own.
struct Libraries {
    original: PathBuf,
    folder: tempfile::TempDir,
}

impl Libraries {
    fn new() -> Libraries {
        let original = Fixture::c(&["plugin.c"]).with(&["-shared", "-fPIC"]).build();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let libraries = Libraries { original, folder };
        (0..LIBRARIES).for_each(|number| libraries.replace(number));
        libraries
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("plugin{number}.so"))
    }

    /// Puts a new file in the place of a library.
    fn replace(&self, number: usize) {
        let new = self.folder.path().join("new");
        fs::copy(&self.original, &new).expect("copied");
        fs::rename(&new, self.path(number)).expect("renamed");
    }
}

fn capture_of(outcome: &Outcome) -> &Capture {
    match &outcome.result {
        Ok(Response::Sampled(capture)) => capture,
        other => panic!("{}: {other:?}", outcome.kind.name),
    }
}

#[test]
#[ignore = "runs for a minute or longer: scripts/soak"]
fn a_session_that_lives_keeps_its_memory_its_descriptors_and_its_accuracy() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let seconds = std::env::var("RPROF_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let long = ["-DLIFETIME_SECONDS=100000"];
    let steady = Target::start(&Fixture::c(&["ratio.c"]).with(&long).build());
    let libraries = Libraries::new();
    let paths: Vec<String> =
        (0..LIBRARIES).map(|number| libraries.path(number).to_string_lossy().into_owned()).collect();
    let mut arguments = vec![RATE];
    arguments.extend(paths.iter().map(String::as_str));
    let churn = Target::start_with(&Fixture::c(&["comes_and_goes.c"]).with(&long).build(), &arguments);
    let short = Fixture::c(&["ratio.c"]).with(&["-DLIFETIME_SECONDS=100001"]).build();

    let kind = |name: &&str| *kinds::ALL.iter().find(|kind| kind.name == *name).expect("a kind");
    let request = Request {
        pids: vec![steady.pid(), churn.pid()],
        children: true,
        kinds: KINDS.iter().map(kind).collect(),
        duration: None,
        every: Some(WINDOW),
        frequency_hz: 499,
        labels: LabelKeys { pid: true, ..LabelKeys::default() },
        ..Request::default()
    };
    let meter = Meter::start();
    let mut session = capture::open(&request).expect("root may");

    let (mut shares, mut windows) = (Shares::default(), Vec::new());
    let (mut samples, mut lost, mut late_names) = ([0u64; 3], 0, 0);
    let began = Instant::now();
    let mut added: Vec<Target> = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        let window = session.next_window(&mut |_| {}).expect("it goes on");
        assert_eq!(window.len(), KINDS.len());
        for (outcome, samples) in window.iter().zip(&mut samples) {
            let capture = capture_of(outcome);
            rprof::profile::check(&capture.profile).expect("a valid profile");
            *samples += capture.tally.samples;
            lost += capture.tally.lost;
        }
        late_names += capture_of(&window[0]).issues.count(&Issue::LateNames);
        shares.add(capture_of(&window[0]), steady.pid());
        drop(window);
        windows.push(taken(&mut session));
        if windows.len() % 30 == 0 {
            println!("{} windows: {:?}", windows.len(), windows[windows.len() - 1]);
        }
        libraries.replace(windows.len() % LIBRARIES);
        if added.len() >= ADDED_WINDOWS {
            let oldest = added.remove(0);
            session.remove(oldest.pid());
        }
        added.push(Target::start(&short));
        session.add(added[added.len() - 1].pid()).expect("it runs");
    }
    let memory = session.memory();
    drop(session);

    assert!(windows.len() >= FEWEST_WINDOWS, "only {} windows in {seconds} s", windows.len());
    // The first tenth, at least ten windows, fills caches and pools.
    let warm = (windows.len() / 10).max(10);
    let part = (windows.len() / 6).max(5);
    let (first, last) = (&windows[warm..warm + part], &windows[windows.len() - part..]);
    let peak = meter.peak();
    println!(
        "soak: {seconds} s, {} windows, {late_names} with late names, samples {samples:?}, lost {lost}",
        windows.len()
    );
    println!(
        "memory: {:.1} -> {:.1} MiB, peak {:.1} MiB, allocated {:.1} -> {:.1} MiB; descriptors: {} -> {}; threads: {} -> {}; steady shares \
         within {:.1} points in {} counts of {SAMPLES} samples",
        median(first, |taken| taken.memory) / f64::from(1 << 20),
        median(last, |taken| taken.memory) / f64::from(1 << 20),
        peak / f64::from(1 << 20),
        median(first, |taken| taken.allocated) / f64::from(1 << 20),
        median(last, |taken| taken.allocated) / f64::from(1 << 20),
        median(first, |taken| taken.descriptors),
        median(last, |taken| taken.descriptors),
        median(first, |taken| taken.threads),
        median(last, |taken| taken.threads),
        shares.worst,
        shares.complete,
    );
    for (owner, bytes) in &memory.owners {
        println!("  {owner}: {} KiB", bytes >> 10);
    }
    let is_short = seconds < SHORT_RUN.as_secs();
    for (what, figure, allowed) in [
        ("memory", (|taken| taken.memory) as fn(&Taken) -> f64, if is_short { SHORT_RUN_BYTES } else { 0.0 }),
        ("descriptors", |taken| taken.descriptors, 0.0),
        ("threads", |taken| taken.threads, 0.0),
    ] {
        let (before, after) = (median(first, figure), median(last, figure));
        let allowed = f64::max(allowed, SHARE * before);
        assert!((after - before).abs() <= allowed, "{what}: {before} at the beginning, {after} at the end");
    }
    assert!(shares.complete > 0 && shares.worst <= 5.0, "off by {} points", shares.worst);
    assert!(samples.iter().all(|samples| *samples > 0), "{samples:?}");
    assert!(Path::new(&format!("/proc/{}", churn.pid())).exists());
}

/// Samples of a process in a capture whose samples have the label `pid`.
fn samples_of(capture: &Capture, pid: u32) -> i64 {
    let profile = &capture.profile;
    let is_its = |label: &rprof::profile::proto::Label| {
        profile.string(label.key) == "pid" && label.num == i64::from(pid)
    };
    let its = profile.sample.iter().filter(|sample| sample.label.iter().any(is_its));
    its.map(|sample| sample.value[0]).sum()
}

#[test]
fn a_process_is_added_to_a_running_session_and_removed_from_it() {
    let _alone = alone();
    let program = Fixture::c(&["ratio.c"]).build();
    let choices =
        [SamplerChoice::Bpf, SamplerChoice::PerfCpu, SamplerChoice::PerfThread, SamplerChoice::Ptrace];
    for choice in choices.into_iter().filter(|choice| is_root() || *choice == SamplerChoice::PerfThread) {
        let (mut first, mut second) = (Target::start(&program), Target::start(&program));
        let request = Request {
            pids: vec![first.pid()],
            sampler: choice,
            duration: None,
            every: Some(Duration::from_millis(500)),
            labels: LabelKeys { pid: true, ..LabelKeys::default() },
            ..Request::default()
        };
        let mut session = capture::open(&request).expect("it may be sampled");
        let (one, other) = (first.pid(), second.pid());
        let window_with = |session: &mut Session, wanted: &dyn Fn(i64, i64) -> bool| {
            (0..8).any(|_| {
                let window = session.next_window(&mut |_| {}).expect("it goes on");
                let capture = capture_of(&window[0]);
                wanted(samples_of(capture, one), samples_of(capture, other))
            })
        };
        let only_first = |first: i64, second: i64| first > 0 && second == 0;
        assert!(window_with(&mut session, &only_first), "{choice:?}");
        session.add(second.pid()).expect("it may be sampled");
        let both = |first: i64, second: i64| first > 0 && second > 0;
        assert!(window_with(&mut session, &both), "{choice:?}: the added process has no samples");
        session.remove(second.pid());
        assert!(window_with(&mut session, &only_first), "{choice:?}: the removed process still has samples");
        drop(session);
        first.assert_unhurt();
        second.assert_unhurt();
    }
}

#[test]
fn kinds_captured_together_are_of_the_same_time_and_as_accurate_as_alone() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let names = ["cpu", "wall", "offcpu", "faults", "threadcreate"];
    let kind = |name: &&str| *kinds::ALL.iter().find(|kind| kind.name == *name).expect("a kind");
    let request = Request {
        pids: vec![target.pid()],
        kinds: names.iter().map(kind).collect(),
        duration: Some(Duration::from_secs(5)),
        frequency_hz: 499,
        labels: LabelKeys { pid: true, ..LabelKeys::default() },
        ..Request::default()
    };
    let mut session = capture::open(&request).expect("root may");
    let window = session.next_window(&mut |_| {}).expect("one window");
    assert!(session.next_window(&mut |_| {}).is_none());
    let captures: Vec<&Capture> = window.iter().map(capture_of).collect();
    assert!(captures.iter().zip(names).all(|(capture, name)| capture.kind.name == name));
    for capture in &captures {
        rprof::profile::check(&capture.profile).expect("a valid profile");
        assert_eq!((capture.started_at, capture.elapsed), (captures[0].started_at, captures[0].elapsed));
    }
    for capture in &captures[..2] {
        let counts = counts_of(capture, target.pid());
        let all: i64 = counts.iter().sum();
        for ((function, percent), count) in STEADY.iter().zip(counts) {
            let share = count as f64 * 100.0 / all as f64;
            let points = 400.0 / (all as f64).sqrt();
            assert!(
                (share - percent).abs() <= points.max(2.0),
                "{} of {}: {share:.1} % of {all}",
                function,
                capture.kind.name
            );
        }
    }
    target.assert_unhurt();
}
