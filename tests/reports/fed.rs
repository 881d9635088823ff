//! The prompt, fed by a program: what the reference says, and where Go is installed, compared with
//! it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::fixture;

/// What a program says to lines on its standard input: output, messages (those on labels in any
/// order), and files left behind.
fn say(program: &Path, arguments: &[&str], lines: &str) -> (String, Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(folder.path())
        .env("PPROF_TMPDIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let trimmed = |text: &[u8]| {
        let text = String::from_utf8_lossy(text).into_owned();
        text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>()
    };
    // The order of messages on labels is left to chance by the reference.
    let mut messages: Vec<String> = trimmed(&output.stderr).lines().map(String::from).collect();
    messages.sort();
    let mut files: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.sort();
    (trimmed(&output.stdout), messages, files)
}

fn rprof(lines: &str) -> (String, Vec<String>, Vec<String>) {
    let arguments = ["pprof", "-symbolize=none", &fixture("heap.pb.gz")];
    say(Path::new(env!("CARGO_BIN_EXE_rprof")), &arguments, lines)
}

#[test]
fn a_bare_choice_is_taken() {
    let (out, messages, _) = rprof("cum\no\n");
    assert_eq!(out, "(pprof) (pprof) (pprof)\n");
    assert!(
        messages.iter().any(|line| line.starts_with("  sort ") && line.contains("= cum ")),
        "{messages:?}"
    );
}

#[test]
fn reports_are_piped_to_other_programs() {
    let (out, messages, _) = rprof("top | head -2 | tail -1\ntop5 | wc -l\n");
    assert!(out.contains("Showing top 10 nodes") || out.contains("flat%"), "{out}{messages:?}");
    let is_count = |line: &str| line.trim_start_matches("(pprof) ").trim().parse::<u32>().is_ok();
    assert!(out.lines().any(is_count), "{out}");
}

#[test]
fn what_is_no_text_goes_to_a_file_or_through_a_pipe() {
    let (out, messages, files) = rprof("proto\nproto | wc -c\n");
    assert_eq!(files, ["profile001.pb.gz"], "{out}{messages:?}");
    assert!(messages.iter().any(|line| line == "Generating report in profile001.pb.gz"), "{messages:?}");
}

#[test]
fn programs_get_no_colours_and_the_references_words() {
    let (out, messages, _) = rprof("tpo\ntop\nnodecount=x\n");
    assert!(!out.contains('\u{1b}'), "{out:?}");
    for words in ["unrecognized command: \"tpo\"", "strconv.Atoi: parsing \"x\": invalid syntax"] {
        assert!(messages.iter().any(|line| line == words), "{messages:?}");
    }
}

/// The reference's own program.
fn reference() -> Option<PathBuf> {
    let go = ["go", "/usr/local/go/bin/go"];
    let go = go.into_iter().find(|go| Command::new(go).arg("version").output().is_ok())?;
    let output = Command::new(go).args(["tool", "-n", "pprof"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

const SCRIPTS: &[&str] = &[
    "top\n",
    "top5\ntop 5 -cum f1\ntop f1 f3 -f2\n",
    "peek\npeek f1\npeek f1 3\npeek (\n",
    "tags\ntags a\ntags -a\ntags thread=a\n",
    "o\nnodecount=5\ntop\nfocus = f1 //: why\no\n:\no\n",
    "nodecount 5\nnodecount\nfocus\nnodecount=x\ntrim=maybe\ndivide_by=0\ntop\n",
    "sample_index=0\ntop\nsample_index=nope\nalloc_space\ntop\nmean_alloc_space\no\n",
    "sort=cum\ntop\nsort=bogus\ngranularity=lines\ntop\nlines=0\ncum=1\no\n",
    "foo\n  top  \n\n\ntop3 -cum 2\ntop99999999999\n5\n5top\n?\nhelp zzz\n",
    "top >out.txt\ntree > more.txt\ntop >\ntop5 >z.txt f1\n",
    "proto\ntopproto\ncallgrind >c.out\nproto\n",
    "traces f1\nraw\ncomments\ndot 5\n",
    "tagfocus=a\ntop\nhide=.\ntop\nfocus=(\ntop\n",
    "quit\ntop\n",
    "output=x.out\ntop\ncompact_labels=false\ntop",
];

#[test]
fn where_go_is_installed_its_prompt_says_the_same() {
    let Some(program) = reference() else {
        eprintln!("SKIPPED: go is not installed: the prompt is not compared");
        return;
    };
    let mut different = Vec::new();
    for (script, profile) in SCRIPTS.iter().flat_map(|script| {
        ["labels.pb.gz", "heap.pb.gz", "inlined.pb.gz", "cppbench.contention"]
            .map(|profile| (script, profile))
    }) {
        let path = fixture(profile);
        let reference = say(&program, &["-symbolize=none", &path], script);
        let own = say(Path::new(env!("CARGO_BIN_EXE_rprof")), &["pprof", "-symbolize=none", &path], script);
        if own != reference {
            different.push((script, profile, own, reference));
        }
    }
    assert!(different.is_empty(), "{} differ: {different:#?}", different.len());
}
