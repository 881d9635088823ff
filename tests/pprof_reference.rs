//! `rprof pprof` against `go tool pprof`: the goldens in `tests/fixtures/pprof/golden`, and, where
//! Go is installed, the tool itself over a matrix of profiles, commands and options.
//!
//! Not here: what only `rprof` can do.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const FOLDER: &str = "tests/fixtures/pprof";

/// Commands with goldens, as `<command and options> <profiles>`.
const GOLDENS: &[&str] = &[
    "-top go.crc32.cpu",
    "-top -cum -lines labels.pb.gz",
    "-top -nodecount=5 -nodefraction=0.05 heap.pb.gz",
    "-top -sample_index=alloc_objects -unit=auto heap.pb.gz",
    "-top -mean_delay inlined.pb.gz",
    "-top -base=labels.pb.gz labels.pb.gz labels.pb.gz",
    "-top -diff_base=heap.pb.gz -drop_negative heap.pb.gz heap.pb.gz",
    "-top -focus=1 -ignore=2 -relative_percentages labels.pb.gz",
    "-tree -nodecount=8 inlined.pb.gz",
    "-peek=1 -lines labels.pb.gz",
    "-raw cppbench.cpu",
    "-raw cppbench.heap",
    "-raw cppbench.contention",
    "-raw cppbench.thread",
    "-raw go.godoc.thread",
    "-raw gobench.heap",
    "-raw java.cpu",
    "-raw java.contention",
    "-raw labels.pb.gz",
    "-raw -tagroot=thread -tagleaf=bytes labels.pb.gz",
    "-raw labels.pb.gz labels.pb.gz",
    "-traces -hide=f3 labels.pb.gz",
    "-tags heap.pb.gz",
    "-tags -tagfocus=bytes=1kb: labels.pb.gz",
    "-comments labels.pb.gz",
    "-dot -nodecount=12 heap.pb.gz",
    "-dot -call_tree -nodecount=10 -nodefraction=0.05 labels.pb.gz",
    "-callgrind inlined.pb.gz",
    "-list=. -source_path=tests/fixtures/pprof/source inlined.pb.gz",
    "-top -cum objects/tiny objects/tiny.cpu",
    "-top -lines -symbolize=local objects/tiny objects/tiny.cpu",
    "-tree -symbolize=fastlocal objects/tiny objects/tiny.cpu",
    "-disasm=. objects/tiny objects/tiny.cpu",
    "-disasm=burn -unit=us -divide_by=2 objects/tiny objects/tiny.cpu",
    "-disasm=deep -mean -base=objects/tiny.cpu objects/tiny objects/tiny.cpu objects/tiny.cpu",
];

/// Pages with goldens. They are compared without their heads: style and script are rprof's own.
const PAGES: &[&str] = &[
    "-weblist=. objects/tiny objects/tiny.cpu",
    "-weblist=burn|deep -source_path=tests/fixtures/pprof/objects -trim_path=/src objects/tiny objects/tiny.cpu",
    "-weblist=f9 -symbolize=none inlined.pb.gz",
    "-weblist=f1 -symbolize=none -source_path=tests/fixtures/pprof/source inlined.pb.gz",
];

/// Runs `rprof pprof` in this process: status, report, messages.
fn rprof(arguments: &[String]) -> (u8, Vec<u8>, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = rprof::cli::pprof::run(arguments, &mut out, &mut err);
    (status, out, String::from_utf8_lossy(&err).into_owned())
}

/// Reports are compared without blanks at line ends, gzipped ones unpacked.
fn comparable(report: &[u8]) -> Vec<u8> {
    if report.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(report);
        std::io::Read::read_to_end(&mut decoder, &mut unpacked).unwrap();
        return unpacked;
    }
    let lines = report.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// The words of a command line; names of profiles become their paths.
fn words(line: &str) -> Vec<String> {
    let path = |word: &str| {
        let (flag, name) = match word.split_once("base=") {
            Some((flag, name)) => (format!("{flag}base="), name),
            None => (String::new(), word),
        };
        match Path::new(FOLDER).join(name) {
            path if !name.is_empty() && path.is_file() => format!("{flag}{}", path.display()),
            _ => word.to_string(),
        }
    };
    line.split(' ').map(path).collect()
}

fn golden_path(line: &str) -> PathBuf {
    let name: String = line
        .chars()
        .map(|letter| if letter.is_alphanumeric() || ".-=_".contains(letter) { letter } else { '+' })
        .collect();
    Path::new(FOLDER).join("golden").join(name.trim_start_matches('-'))
}

/// The reference's own program.
fn reference() -> Option<PathBuf> {
    let go = ["go", "/usr/local/go/bin/go"];
    let go = go.into_iter().find(|go| Command::new(go).arg("version").output().is_ok())?;
    let output = Command::new(go).args(["tool", "-n", "pprof"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

fn run_reference(program: &Path, arguments: &[String]) -> (u8, Vec<u8>, String) {
    let output = Command::new(program).args(arguments).stdin(std::process::Stdio::null()).output().unwrap();
    let status = output.status.code().unwrap() as u8;
    (status, output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn reports_are_those_of_the_reference() {
    let write = std::env::var_os("WRITE_GOLDENS").is_some();
    for line in GOLDENS {
        let arguments = words(line);
        if write {
            let program = reference().expect("goldens are written from Go");
            fs::write(golden_path(line), comparable(&run_reference(&program, &arguments).1)).unwrap();
        }
        let (status, report, messages) = rprof(&arguments);
        let golden = fs::read(golden_path(line)).unwrap();
        assert_eq!(status, 0, "{line}: {messages}");
        let (report, golden) = (comparable(&report), comparable(&golden));
        assert_eq!(String::from_utf8_lossy(&report), String::from_utf8_lossy(&golden), "{line}");
    }
}

/// The page that a command line makes, from its body on.
fn page_of(line: &str, run: impl Fn(&[String]) -> (u8, Vec<u8>, String)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let mut arguments = words(line);
    arguments.insert(0, format!("-output={}", file.display()));
    let (status, _, messages) = run(&arguments);
    assert_eq!(status, 0, "{line}: {messages}");
    let page = fs::read_to_string(file).unwrap();
    let (_, body) = page.split_once("</head>\n").unwrap();
    comparable(body.as_bytes())
}

#[test]
fn pages_are_those_of_the_reference() {
    for line in PAGES {
        if std::env::var_os("WRITE_GOLDENS").is_some() {
            let program = reference().expect("goldens are written from Go");
            fs::write(golden_path(line), page_of(line, |words| run_reference(&program, words))).unwrap();
        }
        let (page, golden) = (page_of(line, rprof), fs::read(golden_path(line)).unwrap());
        assert_eq!(String::from_utf8_lossy(&page), String::from_utf8_lossy(&comparable(&golden)), "{line}");
    }
}

/// A program that profiles itself for a moment.
const GO_PROGRAM: &str = r#"package main

import (
	"os"
	"runtime/pprof"
	"time"
)

//go:noinline
func burn(n int) (sum int) {
	for i := 0; i < n; i++ {
		sum += inlined(i) % 7
	}
	return sum
}

func inlined(i int) int { return i*i + 3/(i+1) }

func main() {
	file, _ := os.Create(os.Args[1])
	pprof.StartCPUProfile(file)
	for start := time.Now(); time.Since(start) < 300*time.Millisecond; {
		burn(1000)
	}
	pprof.StopCPUProfile()
	file.Close()
}
"#;

#[test]
fn where_go_is_installed_assembly_of_its_programs_is_the_same() {
    let Some(program) = reference() else {
        eprintln!("go is not installed: not compared");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("main.go"), GO_PROGRAM).unwrap();
    let go = if Command::new("go").arg("version").output().is_ok() { "go" } else { "/usr/local/go/bin/go" };
    let build = Command::new(go).args(["build", "-o", &path("prog"), &path("main.go")]).output().unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    assert!(Command::new(path("prog")).arg(path("cpu")).status().unwrap().success());
    for options in ["-disasm=main", "-disasm=main.burn -cum", "-disasm=inlined", "-list=burn", "-top -lines"]
    {
        let mut arguments: Vec<String> = options.split(' ').map(String::from).collect();
        arguments.extend([path("prog"), path("cpu")]);
        let (own, theirs) = (rprof(&arguments), run_reference(&program, &arguments));
        assert_eq!((own.0, &own.2), (theirs.0, &theirs.2), "{options}");
        assert_eq!(
            String::from_utf8_lossy(&comparable(&own.1)),
            String::from_utf8_lossy(&comparable(&theirs.1)),
            "{options}"
        );
    }
    let line = format!("-weblist=main {} {}", path("prog"), path("cpu"));
    let (own, theirs) = (page_of(&line, rprof), page_of(&line, |words| run_reference(&program, words)));
    assert_eq!(String::from_utf8_lossy(&own), String::from_utf8_lossy(&theirs));
}

const COMMANDS: &[&str] = &[
    "-top",
    "-tree",
    "-raw",
    "-traces",
    "-tags",
    "-comments",
    "-dot",
    "-callgrind",
    "-proto",
    "-topproto",
    "-peek=1",
    "-list=.",
];

const OPTIONS: &[&str] = &[
    "",
    "-cum",
    "-lines",
    "-files",
    "-filefunctions",
    "-addresses",
    "-addresses -noinlines",
    "-noinlines",
    "-lines -showcolumns",
    "-nodecount=5",
    "-nodecount=3 -nodefraction=0.1",
    "-edgefraction=0.05",
    "-trim=false",
    "-focus=f1",
    "-ignore=f2",
    "-hide=f1",
    "-show=main|runtime",
    "-show_from=f3",
    "-prune_from=f2",
    "-tagfocus=a",
    "-tagfocus=bytes=1kb:1mb",
    "-tagfocus=thread=a,b",
    "-tagignore=b",
    "-tagshow=thread",
    "-taghide=bytes",
    "-tagroot=thread,bytes",
    "-tagleaf=req -tagroot=lat",
    "-unit=ms",
    "-unit=auto",
    "-divide_by=7",
    "-mean",
    "-sample_index=0",
    "-sample_index=nope",
    "-inuse_objects",
    "-drop_negative",
    "-call_tree",
    "-relative_percentages -focus=f1",
    "-compact_labels",
    "-symbolize=none",
    "-trim_path=/src",
    "-add_comment=hey",
    "-focus=(",
    "-tagfocus=(",
    "-divide_by=0",
    "-base=heap.pb.gz",
    "-diff_base=labels.pb.gz",
    "-focus=nomatch",
    "-hide=.",
    "-functions -lines=0",
];

/// Whether the reference ever says the same: what it leaves to chance may be said either way.
fn agrees(program: &Path, arguments: &[String], report: &[u8], first: Vec<u8>) -> bool {
    let mut said = BTreeSet::from([first]);
    while !said.contains(report) {
        let more = (0..6).map(|_| comparable(&run_reference(program, arguments).1));
        let before = said.len();
        said.extend(more);
        let sorted = |report: &[u8]| {
            let mut lines: Vec<_> = report.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            lines.sort();
            lines
        };
        if said.len() == before || said.len() > 20 {
            return said.len() > 1 && said.iter().any(|other| sorted(other) == sorted(report));
        }
    }
    true
}

#[test]
fn where_go_is_installed_its_tool_says_the_same_with_every_option() {
    let Some(program) = reference() else {
        eprintln!("go is not installed: not compared");
        return;
    };
    let mut profiles: Vec<String> = fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with("LICENSE") && !name.ends_with(".md"))
        .collect();
    profiles.sort();
    let mut different = Vec::new();
    let mut compared = 0;
    // Each option with each command, over the profiles in turn.
    for (at, (options, command)) in
        OPTIONS.iter().flat_map(|options| COMMANDS.iter().map(move |command| (options, command))).enumerate()
    {
        let profile = &profiles[(at * 7 + at / COMMANDS.len()) % profiles.len()];
        let line = format!("{command} {options} {profile}").replace("  ", " ");
        let arguments = words(&line);
        let (status, report, messages) = rprof(&arguments);
        let (reference_status, reference_report, reference_messages) = run_reference(&program, &arguments);
        let report = comparable(&report);
        let agrees = status == reference_status
            && agrees(&program, &arguments, &report, comparable(&reference_report));
        let last = |messages: &str| messages.lines().last().map(String::from);
        if !agrees || (status != 0 && last(&messages) != last(&reference_messages)) {
            different.push(line);
        }
        compared += 1;
    }
    assert!(different.is_empty(), "{} of {compared} differ: {different:#?}", different.len());
}
