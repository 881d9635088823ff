//! Go programs read from outside, held against what the same program says of itself at the same
//! time.
//!
//! The matrix is of releases and ways of building. `RPROF_GO_MATRIX=all` runs all of it; else the
//! oldest and the newest known release in their hardest form, and those between stripped.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rprof::{
    capture::{
        self, Request, Response,
        kinds::{KindRow, TextForm},
    },
    profile::{decode, proto::Profile},
};

use crate::harness::{Fixture, Rprof, Skip, Stacks, alone, installed, open_folder, skip};

/// Releases in the matrix; `local` is what is installed.
const RELEASES: [&str; 10] = [
    "go1.18.10",
    "go1.19.13",
    "go1.20.14",
    "go1.21.13",
    "go1.22.12",
    "go1.23.9",
    "go1.24.11",
    "go1.25.5",
    "local",
    "go1.27.3",
];
/// Those that are always tried.
const ALWAYS: [&str; 5] = ["go1.21.13", "go1.23.9", "go1.25.5", "local", "go1.27.3"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Plain,
    Stripped,
    Pie,
    Cgo,
    CgoPie,
}

impl Build {
    const ALL: [Build; 5] = [Build::Plain, Build::Stripped, Build::Pie, Build::Cgo, Build::CgoPie];

    fn flags(self) -> &'static [&'static str] {
        match self {
            Build::Plain => &[],
            Build::Stripped => &["-trimpath", "-ldflags=-s -w"],
            Build::Pie | Build::CgoPie => &["-buildmode=pie", "-ldflags=-s -w"],
            Build::Cgo => &["-ldflags=-s -w"],
        }
    }

    fn sources(self) -> [&'static str; 2] {
        let extra =
            if matches!(self, Build::Cgo | Build::CgoPie) { "gotruth_cgo.go" } else { "gotruth_plain.go" };
        ["gotruth.go", extra]
    }
}

fn matrix() -> Vec<(&'static str, Vec<Build>)> {
    if std::env::var("RPROF_GO_MATRIX").is_ok_and(|value| value == "all") {
        return RELEASES.iter().map(|release| (*release, Build::ALL.to_vec())).collect();
    }
    let builds = |release| match release {
        "go1.27.3" => vec![Build::Stripped, Build::CgoPie],
        _ => vec![Build::Stripped],
    };
    ALWAYS.iter().map(|release| (*release, builds(*release))).collect()
}

/// A program that can be asked for its own profiles.
pub struct Truthful {
    pub child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Truthful {
    pub fn start(program: &Path) -> Truthful {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut truthful = Truthful { child, input, output, folder: open_folder() };
        assert_eq!(truthful.line(), "ready\n");
        truthful
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("readable");
        line
    }

    /// What the program says itself.
    fn says(&mut self, profile: &str, debug: u32) -> Vec<u8> {
        self.ask(profile, debug);
        self.answer()
    }

    fn ask(&mut self, profile: &str, number: u32) {
        let path = self.folder.path().join("truth");
        writeln!(self.input, "{profile} {number} {}", path.display()).expect("it runs");
    }

    fn answer(&mut self) -> Vec<u8> {
        assert_eq!(self.line(), "done <nil>\n");
        std::fs::read(self.folder.path().join("truth")).expect("written")
    }

    fn says_text(&mut self, profile: &str, debug: u32) -> String {
        String::from_utf8(self.says(profile, debug)).expect("text")
    }

    fn dump(&self, format: &str) -> String {
        let pid = self.child.id().to_string();
        let outcome = Rprof::verb("dump").args(&[&pid, "--each", "--format", format]).run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("nothing was stopped"), "{}", outcome.stderr);
        String::from_utf8(outcome.stdout).expect("text")
    }

    fn profile(&self, kind: &str) -> Profile {
        let pid = self.child.id().to_string();
        let outcome = Rprof::verb("attach").args(&[&pid, "--kind", kind]).to("out.pb.gz").run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        decode(&std::fs::read(&outcome.output).expect("written")).expect("a profile")
    }
}

impl Drop for Truthful {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The blocks of a dump by goroutine; the first is left out, which writes the program's own.
fn blocks(text: &str) -> BTreeMap<u64, &str> {
    let number = |block: &str| block.strip_prefix("goroutine ")?.split(' ').next()?.parse().ok();
    let all = text.trim_end().split("\n\n").filter_map(|block| Some((number(block)?, block.trim_end())));
    all.filter(|(number, _)| *number != 1).collect()
}

/// The groups of a counted dump, those left out that Go itself cuts short or that hold goroutine 1.
fn groups(text: &str) -> Vec<&str> {
    let deepest = 31;
    let head =
        |group: &str| group.lines().find(|line| line.contains(" @ ")).map(|line| line.split(' ').count());
    let mut all: Vec<&str> = text
        .split_once('\n')
        .map_or("", |(_, groups)| groups)
        .split("\n\n")
        .map(str::trim_end)
        .filter(|group| head(group).is_some_and(|words| words < deepest) && !group.contains("main.answer"))
        .collect();
    all.sort_unstable();
    all
}

/// The values of a profile by stack (functions and lines) and size of object.
fn values(profile: &Profile) -> BTreeMap<String, Vec<i64>> {
    let mut all: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for sample in &profile.sample {
        let lines = sample.location_id.iter().flat_map(|id| {
            let location = profile.location.iter().find(|location| location.id == *id);
            location.into_iter().flat_map(|location| &location.line)
        });
        let frames: Vec<String> = lines
            .map(|line| {
                let function = profile.function.iter().find(|function| function.id == line.function_id);
                let name = function.map_or("?", |function| profile.string(function.name));
                format!("{name}:{}", line.line)
            })
            .collect();
        let size = sample.label.iter().map(|label| label.num).max().unwrap_or(0);
        let sum =
            all.entry(format!("{size} {}", frames.join(" "))).or_insert_with(|| vec![0; sample.value.len()]);
        sum.iter_mut().zip(&sample.value).for_each(|(sum, value)| *sum += value);
    }
    // What the program allocates to tell about itself, and what has come to nothing.
    all.retain(|stack, values| {
        let tells = stack.contains("main.answer") || stack.contains("fmt.Fprintln");
        stack.contains("main.") && !tells && values.iter().any(|value| *value != 0)
    });
    all
}

/// Without `--each`, equal goroutines are one block.
#[track_caller]
fn assert_grouped(program: &Truthful, goroutines: usize, what: &str) {
    let pid = program.child.id().to_string();
    let text = Rprof::verb("dump").args(&[&pid]).run().printed();
    let size = |block: &str| {
        let head = block.lines().next()?;
        if head.starts_with("goroutine ") {
            Some(1)
        } else {
            head.split_once(" goroutines [")?.0.parse().ok()
        }
    };
    let sizes: Vec<usize> = text.trim_end().split("\n\n").filter_map(size).collect();
    assert_eq!(sizes.iter().sum::<usize>(), goroutines, "{what}:\n{text}");
    assert!(sizes[0] > 1 && sizes.is_sorted_by(|a, b| a >= b), "{what}: {sizes:?}");
}

#[track_caller]
fn assert_goroutines_are_the_same(program: &mut Truthful, what: &str) {
    let (truth, mine) = (program.says_text("goroutine", 2), program.dump("text"));
    let (truth, mine) = (blocks(&truth), blocks(&mine));
    assert!(truth.len() > 60, "{what}: {} goroutines", truth.len());
    for (number, block) in &truth {
        assert_eq!(mine.get(number), Some(block), "{what}: goroutine {number}");
    }
    assert_eq!(mine.len(), truth.len(), "{what}: no others are shown");
    assert_grouped(program, truth.len() + 1, what);

    let (truth, mine) = (program.says_text("goroutine", 1), program.dump("aggregated"));
    assert!(groups(&truth).len() > 15, "{what}: {truth}");
    assert_eq!(groups(&mine), groups(&truth), "{what}");
}

#[track_caller]
fn assert_counts_are_the_same(program: &mut Truthful, what: &str) {
    let truth = decode(&program.says("heap", 0)).expect("a profile");
    let mine = program.profile("heap");
    assert_eq!(mine.period, truth.period, "{what}");
    let (truth, mine) = (values(&truth), values(&mine));
    // One of 50 runs samples nothing of the first 2 MB: the rate set by the program counts from then on.
    let has = |name: &str| truth.keys().any(|stack| stack.contains(name));
    assert!(has("main.keep") || has("main.drop"), "{what}: {truth:#?}");
    assert_eq!(mine, truth, "{what}: heap");

    for kind in ["block", "mutex"] {
        let truth = values(&decode(&program.says(kind, 0)).expect("a profile"));
        let mine = values(&program.profile(kind));
        assert!(!truth.is_empty(), "{what}: {kind}");
        assert!(mine.keys().eq(truth.keys()), "{what}: {kind}\n{mine:#?}\n{truth:#?}");
        for (stack, truth) in &truth {
            let mine = &mine[stack];
            assert_eq!(mine[0], truth[0], "{what}: {kind} {stack}");
            // The rate of the CPU's counter is reckoned anew each time.
            let off = (mine[1] - truth[1]).unsigned_abs() as f64 / truth[1].max(1) as f64;
            assert!(off < 0.01 || truth[1] < 10_000, "{what}: {kind} {stack}: {mine:?} {truth:?}");
        }
    }
    let threads: i64 = program.profile("threadcreate").sample.iter().map(|sample| sample.value[0]).sum();
    assert!((3..200).contains(&threads), "{what}: {threads} threads");
}

/// The records of a text with `debug=1`, each with its stack, in the order of their text; without
/// those of what the program says, among it its own profiles: they count at the next collection,
/// whenever that is.
fn records(text: &str) -> Vec<&str> {
    let end = text.find("\n# runtime.MemStats").unwrap_or(text.len());
    // What stands above the first belongs to none.
    let from_head = |record: &'_ str| {
        let head = record.find(" @ 0x").unwrap_or(record.len());
        record[..head].rfind('\n').map_or(0, |at| at + 1)
    };
    let mut records: Vec<&str> = text[..end]
        .split("\n\n")
        .filter(|record| record.contains("main."))
        .map(|record| &record[from_head(record)..])
        .collect();
    records.retain(|record| !record.contains("main.answer") && !record.contains("fmt.Fprintln"));
    records.sort_unstable();
    records
}

#[track_caller]
fn assert_texts_are_the_same(program: &mut Truthful, what: &str) {
    for name in ["heap", "block", "mutex"] {
        let truth = program.says_text(name, 1);
        let request = Request {
            kinds: vec![KindRow::named(name).expect("a kind")],
            text: Some(TextForm::Counted),
            ..Request::now(program.child.id())
        };
        let response = capture::once(&request, &mut |_| {}).expect("readable");
        let Response::Text(mine) = response else { panic!("no text: {response:?}") };
        let mine = String::from_utf8(mine.text).expect("text");
        assert!(!records(&truth).is_empty(), "{what}: {truth}");
        assert_eq!(records(&mine), records(&truth), "{what}: {name}");
        let head = |text: &str| {
            text.lines().next().unwrap_or_default().split([':', '@']).next_back().map(str::to_owned)
        };
        assert_eq!(head(&mine), head(&truth), "{what}: {name}");
    }
}

/// The `go` of a release: the installed one can fetch others, as modules.
fn toolchain(go: &str, release: &str) -> Option<String> {
    let folder = open_folder();
    let root = || {
        let mut command = Command::new(go);
        command.args(["env", "GOROOT", "GOVERSION"]).current_dir(folder.path());
        command.env("GOTOOLCHAIN", release).env("GO111MODULE", "on").output().ok()
    };
    // Fetching may fail once.
    (0..2).find_map(|_| {
        let output = root().filter(|output| output.status.success())?;
        let text = String::from_utf8(output.stdout).ok()?;
        let (root, version) = text.trim_end().split_once('\n')?;
        (release == "local" || version == release || version.is_empty()).then(|| format!("{root}/bin/go"))
    })
}

#[test]
fn what_is_read_from_outside_is_what_each_go_release_says_of_itself() {
    let Some(go) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    for (release, builds) in matrix() {
        let Some(go) = toolchain(&go, release) else {
            skip(Skip::NotInstalled(release));
            continue;
        };
        for build in builds {
            let what = format!("{release} {build:?}");
            let program: PathBuf = Fixture::go_with(&build.sources(), &go).with(build.flags()).build();
            let _alone = alone();
            let mut program = Truthful::start(&program);
            assert_goroutines_are_the_same(&mut program, &what);
            assert_counts_are_the_same(&mut program, &what);
            assert_texts_are_the_same(&mut program, &what);
        }
    }
}

#[test]
fn a_go_program_that_collects_nothing_is_told_apart_from_an_empty_profile() {
    let Some(_) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    let target = crate::harness::Target::start(&Fixture::go("ratio.go").build());
    for (kind, why) in
        [("heap", "memory profiling"), ("block", "SetBlockProfileRate"), ("mutex", "SetMutexProfileFraction")]
    {
        let outcome =
            Rprof::verb("attach").args(&[&target.pid().to_string(), "--kind", kind]).to("none.pb.gz").run();
        assert_eq!(outcome.code, Some(1), "{kind}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(why) && outcome.stderr.contains("try"), "{kind}: {}", outcome.stderr);
        assert!(!outcome.output.exists(), "{kind}: no file is written");
    }
}

#[test]
fn info_tells_the_release_of_a_go_program_and_that_others_have_none() {
    let Some(_) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    let target = crate::harness::Target::start(&Fixture::go("ratio.go").with(&["-ldflags=-s -w"]).build());
    let text = |pid: u32| {
        let outcome = Rprof::verb("info").args(&["--pid", &pid.to_string()]).run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        String::from_utf8(outcome.stdout).expect("text")
    };
    let go = text(target.pid());
    assert!(go.contains("runtime       go1.") && go.contains("GOMAXPROCS"), "{go}");
    assert!(!go.contains("GOMAXPROCS    not found"), "{go}");
    let other = text(std::process::id());
    assert!(other.contains("runtime       none that rprof reads"), "{other}");
}

#[test]
fn the_labels_that_a_go_program_sets_stand_on_its_samples() {
    let _alone = alone();
    let Some(_) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    let target = crate::harness::Target::start(&Fixture::go("golabels.go").build());
    let outcome = Rprof::attach(&target).to("out.pb.gz").run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let profile = decode(&std::fs::read(&outcome.output).expect("written")).expect("a profile");
    let mut counts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for sample in &profile.sample {
        let names = sample.location_id.iter().flat_map(|id| {
            let location = profile.location.iter().find(|location| location.id == *id);
            location
                .into_iter()
                .flat_map(|location| &location.line)
                .filter_map(|line| profile.function.iter().find(|function| function.id == line.function_id))
        });
        let work =
            names.map(|function| profile.string(function.name)).find(|name| name.starts_with("main.work"));
        let label = sample.label.iter().find(|label| profile.string(label.key) == "job");
        let label = label.map_or("", |label| profile.string(label.str));
        *counts.entry((work.unwrap_or_default(), label)).or_default() += sample.value[0];
    }
    for (function, label) in [("main.workForA", "a"), ("main.workForB", "b")] {
        let of_function = |(name, _): &(&str, &str)| *name == function;
        let all: i64 = counts.iter().filter(|(key, _)| of_function(key)).map(|(_, count)| count).sum();
        let right = counts.get(&(function, label)).copied().unwrap_or(0);
        assert!(
            all > 300 && right * 100 >= all * 95,
            "{function}: {right} of {all} are labelled {label}: {counts:?}"
        );
    }
}

#[test]
fn cpu_profiles_of_go_have_whole_stacks_and_the_shares_that_the_runtime_itself_finds() {
    const SECONDS: u32 = 6;
    const NAMES: [&str; 9] = [
        "main.main",
        "main.allocates",
        "main.sorts",
        "main.computes",
        "main.inC",
        "runtime.mallocgc",
        "runtime.gcBgMarkWorker",
        "runtime.systemstack",
        "runtime.mcall",
    ];
    let Some(go) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    for (extra, flags) in [("gobusy_plain.go", &["-ldflags=-s -w"][..]), ("gobusy_cgo.go", &[])] {
        let program = Fixture::go_with(&["gobusy.go", extra], &go).with(flags).build();
        let _alone = alone();
        let mut program = Truthful::start(&program);
        program.ask("cpu", SECONDS);
        let pid = program.child.id().to_string();
        let outcome = Rprof::verb("attach").args(&[&pid, "-F", "499", "-d", &format!("{SECONDS}s")]);
        let outcome = outcome.to("out.pb.gz").run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let seen = Stacks::read(&outcome.output).unwrap_or_else(|error| panic!("{error}"));
        let truth = Stacks::decode(&program.answer()).unwrap_or_else(|error| panic!("{error}"));
        // By perf, goroutines' stacks are read when they have run on.
        if !outcome.printed().contains("sampler perf") {
            assert!(seen.whole_as_stated() >= 99.0, "{extra}: {}", seen.summary());
        }
        // Where others take the CPUs, a thread that waits for one gets several of the runtime's signals as
        // one, and so do not all threads alike.
        let quiet = seen.cpu_ns() > 7_000_000_000;
        for name in NAMES {
            let percent = truth.share_of(name);
            eprintln!("{extra} {name}: seen {:.1} %, the runtime itself {percent:.1} %", seen.share_of(name));
            seen.assert_share(name, percent, if quiet { 5.0 } else { 12.0 });
        }
        let held = Rprof::attach_to(program.child.id()).args(&["--sampler", "ptrace"]).seconds(2).run();
        let held = held.profile();
        assert!(held.whole_as_stated() >= 97.0, "{extra}: {}", held.summary());
    }
}
