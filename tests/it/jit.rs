//! Code generated at run time that the program describes itself: by the GDB JIT interface and by
//! jitdump. x86-64 only.

use std::{path::PathBuf, process::Command};

use crate::harness::{Fixture, Frame, Rprof, Skip, Stack, Stacks, Target, alone, run_tool, skip};

/// The program, and the relocatable file that it loads.
fn fixture(folder: &tempfile::TempDir) -> Option<(PathBuf, PathBuf)> {
    if std::env::consts::ARCH != "x86_64" {
        skip(Skip::OtherCpu);
        return None;
    }
    let part = folder.path().join("part.o");
    let source = "tests/fixtures/programs/jit_part.c";
    let flags = ["-c", "-O1", "-g", "-fomit-frame-pointer", "-fcf-protection=none", "-o"];
    run_tool(Command::new("cc").args(flags).arg(&part).arg(source));
    Some((Fixture::c(&["jit_described.c"]).build(), part))
}

fn start(kind: &str, folder: &tempfile::TempDir) -> Option<Target> {
    let (program, part) = fixture(folder)?;
    Some(Target::spawn(Command::new(program).arg(part).arg(kind).arg(folder.path())))
}

fn assert_true(profile: &Stacks, kind: &str) {
    profile.assert_hot_parts(kind);
    let what = format!("{kind}: main to spin");
    for hot in ["hot50", "hot30", "hot20"] {
        let chain = ["_start", "main", "one_round", hot, "spin"];
        profile.assert_nearly_all(99.0, &what, |stack: &Stack| {
            !stack.has(hot) || stack.has_in_order(&chain) || !stack.has("spin")
        });
    }
    profile.assert_nearly_all(99.0, "names", |stack: &Stack| !stack.has("[anon executable]"));
    profile.assert_whole(&["_start"]);
}

#[test]
fn code_of_the_gdb_jit_interface_has_names_lines_and_whole_stacks() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mut target) = start("gdb", &folder) else { return };
    let profile = Rprof::attach(&target).seconds(2).profile();
    target.assert_unhurt();
    assert_true(&profile, "gdb");
    let source = std::fs::read_to_string("tests/fixtures/programs/jit_part.c").expect("a fixture");
    let line_of =
        |text: &str| source.lines().position(|line| line.contains(text)).map_or(0, |at| at as i64 + 1);
    let call = line_of("spin(turns * 5)");
    let hot: Vec<&Frame> = profile.stacks.iter().flat_map(|stack| &stack.frames).collect();
    let hot = hot.into_iter().filter(|frame| frame.name == "hot50");
    assert!(hot.clone().count() > 0);
    hot.for_each(|frame| assert!(frame.file.ends_with("jit_part.c") && frame.line == call, "{frame:?}"));
}

#[test]
fn code_of_a_jitdump_file_has_names_lines_and_whole_stacks_also_while_it_moves() {
    let _alone = alone();
    for kind in ["jitdump", "move"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Some(mut target) = start(kind, &folder) else { return };
        let profile = Rprof::attach(&target).seconds(2).profile();
        target.assert_unhurt();
        assert_true(&profile, kind);
        let frames = profile.stacks.iter().flat_map(|stack| &stack.frames);
        let spins = frames.filter(|frame| frame.name == "spin");
        spins.for_each(|frame| {
            assert!(frame.file == "part.c" && (1..=2).contains(&frame.line), "{frame:?}");
        });
    }
}

#[test]
fn code_that_nothing_describes_is_called_by_its_kind_of_memory() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(target) = start("none", &folder) else { return };
    let outcome = Rprof::attach(&target).seconds(1).run();
    assert!(outcome.stderr.contains("code generated at run time has no names"), "{}", outcome.stderr);
    let profile = outcome.profile();
    assert!(profile.share_of("[anon executable]") > 95.0, "{}", profile.summary());
    // It keeps no frame pointers: callers are found by the calls before return addresses.
    profile.assert_whole(&["_start"]);
    let chain = ["_start", "main", "[anon executable]", "[anon executable]", "[anon executable]"];
    profile.assert_nearly_all(99.0, "three generated functions below main", |stack: &Stack| {
        stack.has_in_order(&chain) || stack.frames.last().is_some_and(|leaf| leaf.name == "main")
    });
}
