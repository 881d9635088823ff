//! Live: the walker on running interpreters, with a program of known proportions. Needs root and
//! Python. `RPROF_PYTHONS` names the interpreters to run, separated by colons; without it
//! `python3`.

use std::{
    collections::HashMap,
    io::BufRead as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    find::{find, release_of_paths},
    language::Python,
    process::{Found, PythonProcess},
    walker::{COMPLETE, CUT, GAP, RESTARTED, Section, UNREADABLE},
};
use crate::{
    addr::FileOffset,
    elf::ElfFile,
    process::{Hints, LanguageId, ProcessMemory, files, identity, read_executable_mappings},
    runtime::Language as _,
    sampler::{Event, Sampler as _, SamplerOptions, Trigger, bpf},
};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/programs/python_ratio.py");

/// The functions that call each function of the program; those that are not listed may have any
/// caller.
const CALLERS: &[(&str, &[&str])] = &[
    ("hot50", &["parent_a"]),
    ("hot30", &["parent_b"]),
    ("hot20", &["parent_c"]),
    ("parent_a", &["one_round"]),
    ("parent_b", &["one_round"]),
    ("parent_c", &["one_round"]),
    ("one_round", &["main", "keyed", "generated", "deep", "raises", "worker"]),
    ("keyed", &["mixed_round"]),
    ("generated", &["mixed_round"]),
    ("mixed_round", &["main"]),
    ("deep", &["deep", "main"]),
    ("raises", &["raises", "main"]),
    ("main", &["<module>"]),
    ("worker", &["run"]),
    ("<module>", &[]),
];

struct Program {
    child: Child,
    python: PythonProcess,
}

impl Program {
    fn start(python: &str, kind: &str) -> Program {
        let mut child = Command::new(python)
            .args([PROGRAM, kind, "60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python}: {error}"));
        let mut line = String::new();
        let output = child.stdout.take().expect("output");
        std::io::BufReader::new(output).read_line(&mut line).expect("line");
        let python = attach(child.id()).unwrap_or_else(|| panic!("{python} is not found in its process"));
        Program { child, python }
    }

    fn hints(&self) -> Hints {
        let slot = self.python.slot(&self.python.threads());
        let walker = Some(self.python.walker_settings(slot).walker(Python.id()));
        Hints { walker, ..Hints::default() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn attach(pid: u32) -> Option<PythonProcess> {
    let mappings = read_executable_mappings(pid).ok()?;
    mappings.iter().filter(|mapping| mapping.inode != 0).find_map(|mapping| {
        let file = files::open(&files::MappedFile::of(pid, mapping)).ok()?;
        let elf = ElfFile::open(&file).ok()?;
        let found = find(&elf, &mapping.path)?;
        let stated = elf.address_of(FileOffset(mapping.file_offset))?;
        let found = Found {
            file: &found,
            path: &mapping.path,
            bias: mapping.start.0.wrapping_sub(stated.0),
            release_of_paths: release_of_paths(mappings.iter().map(|mapping| mapping.path.as_str())),
        };
        PythonProcess::attach(pid, Arc::new(ProcessMemory::new(pid)), found).ok()
    })
}

#[derive(Debug, Default)]
struct Figures {
    samples: usize,
    /// Samples with frames.
    sections: usize,
    complete: usize,
    /// Stacks in which a function calls another one that it never calls.
    impossible: usize,
    flagged: HashMap<u32, usize>,
    /// Samples in hot50, hot30 and hot20.
    hot: [usize; 3],
    deepest: usize,
    first_impossible: Option<Vec<String>>,
}

impl Figures {
    fn add(&mut self, section: &Section, names: &mut HashMap<u64, String>, python: &PythonProcess) {
        let frames = section.frames.iter().filter(|frame| !python.layout_is_shim(frame.entry()));
        let stack: Vec<String> = frames
            .map(|frame| {
                let name = || python.code(frame.code).map_or("?".into(), |code| code.name.clone());
                let name = names.entry(frame.code).or_insert_with(name);
                name.rsplit('.').next().unwrap_or_default().to_owned()
            })
            .collect();
        self.sections += usize::from(!stack.is_empty());
        self.complete += usize::from(section.has(COMPLETE));
        self.deepest = self.deepest.max(stack.len());
        for flag in [CUT, UNREADABLE, RESTARTED, GAP] {
            *self.flagged.entry(flag).or_default() += usize::from(section.has(flag));
        }
        for (count, name) in self.hot.iter_mut().zip(["hot50", "hot30", "hot20"]) {
            *count += usize::from(stack.iter().any(|other| other == name));
        }
        let is_impossible = |pair: &[String]| {
            let callers = CALLERS.iter().find(|(callee, _)| *callee == pair[0]);
            callers.is_some_and(|(_, callers)| !callers.contains(&pair[1].as_str()))
        };
        if section.is_circular() || stack.windows(2).any(is_impossible) {
            self.impossible += 1;
            self.first_impossible.get_or_insert(stack);
        }
    }

    /// The shares of hot50, hot30 and hot20 in percent.
    fn shares(&self) -> [f64; 3] {
        let all = self.hot.iter().sum::<usize>().max(1) as f64;
        self.hot.map(|count| count as f64 * 100.0 / all)
    }
}

fn measure(python: &str, kind: &str, trigger: Trigger, enough: usize) -> Figures {
    let program = Program::start(python, kind);
    let (mut figures, mut names) = (Figures::default(), HashMap::new());
    let target = (program.child.id(), &program.hints(), Python.id());
    let samples = sample(target, trigger, enough, |section| {
        if let Some(section) = section {
            figures.add(&section, &mut names, &program.python);
        }
    });
    figures.samples = samples;
    eprintln!("{python} {kind}: {figures:?}, shares {:.1?}", figures.shares());
    figures
}

/// How long samples are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The options of a sampler of one process.
pub(super) fn options(pid: u32, trigger: Trigger) -> SamplerOptions {
    SamplerOptions {
        trigger,
        frequency_hz: 997,
        pids: vec![pid],
        follow_forks: false,
        kernel: false,
        max_stack_bytes: 64 << 10,
        language_alone: false,
        buffer_bytes: 0,
        reports_changes: true,
    }
}

/// Passes the section of each sample to `each` until `enough` samples have come, and returns their
/// number. Samples that were taken before the sampler had the hints do not count: they have none.
pub(super) fn sample(
    (pid, hints, language): (u32, &Hints, LanguageId),
    trigger: Trigger,
    enough: usize,
    mut each: impl FnMut(Option<Section>),
) -> usize {
    let mut sampler = bpf::open(&options(pid, trigger)).expect("root may");
    sampler.hint_runtimes(pid, hints).expect("the kernel takes the walker");
    let hinted_ns = identity::monotonic_ns();
    let (mut samples, begin) = (0, Instant::now());
    while samples < enough && begin.elapsed() < PATIENCE {
        let mut sink = |event: Event<'_>| {
            if let Event::Sample(sample) = event
                && sample.time_ns > hinted_ns
            {
                samples += 1;
                let section = sample.sections.of(language);
                each(section.map(|section| Section::decode(section.bytes).expect("a whole section")));
            }
        };
        sampler.poll(Duration::from_millis(20), &mut sink).expect("poll");
    }
    samples
}

fn pythons() -> Vec<String> {
    let named = std::env::var("RPROF_PYTHONS").unwrap_or_else(|_| "python3".to_owned());
    named.split(':').map(str::to_owned).collect()
}

/// Samples for a figure: `RPROF_SAMPLES`, else enough for a test.
fn enough() -> usize {
    std::env::var("RPROF_SAMPLES").ok().and_then(|count| count.parse().ok()).unwrap_or(600)
}

#[test]
fn the_walker_finds_whole_and_possible_stacks_with_the_known_shares() {
    for python in pythons() {
        for kind in ["long", "short", "mixed", "deep100"] {
            let figures = measure(&python, kind, Trigger::Time, enough());
            assert!(figures.samples >= 600, "{python} {kind}: {figures:?}");
            assert_eq!(figures.impossible, 0, "{python} {kind}: {figures:?}");
            let whole = figures.complete * 100 / figures.samples;
            assert!(whole >= 98, "{python} {kind}: {whole} % are complete: {figures:?}");
            for (share, expected) in figures.shares().into_iter().zip([50.0, 30.0, 20.0]) {
                // Four standard deviations of 600 samples.
                assert!((share - expected).abs() < 8.2, "{python} {kind}: {:?}", figures.shares());
            }
        }
    }
}

#[test]
fn waits_for_the_interpreter_lock_have_the_frames_of_the_waiting_thread() {
    for python in pythons() {
        let figures = measure(&python, "threads", Trigger::Waited, 200);
        assert!(figures.samples >= 200, "{python}: {figures:?}");
        assert_eq!(figures.impossible, 0, "{python}: {figures:?}");
        assert!(figures.complete * 100 >= figures.samples * 95, "{python}: {figures:?}");
    }
}
