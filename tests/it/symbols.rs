//! Names, lines and mappings: from split debug files, for deleted programs, later and elsewhere.

use std::{fs, path::Path, process::Command};

use crate::harness::{
    Fixture, Rprof, Skip, Stack, Stacks, Target, alone, installed, open_folder, run_tool, set_mode, skip,
};

/// The line of `ratio.c` that holds exactly this statement, below the definition of a function.
fn line_of(function: &str, statement: &str) -> i64 {
    let source = fs::read_to_string("tests/fixtures/programs/ratio.c").expect("a fixture");
    let mut lines = source.lines().enumerate().skip_while(|(_, line)| !line.contains(function));
    lines.find(|(_, line)| line.trim() == statement).map_or(0, |(at, _)| at as i64 + 1)
}

#[test]
fn each_frame_has_the_line_of_its_call() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let profile = Rprof::attach(&target).seconds(1).profile();
    let stack = (profile.stacks.iter()).filter(|stack| stack.has("sixty")).max_by_key(|stack| stack.count);
    let stack = stack.expect("60 % of the samples");
    for (name, statement) in [("outer", "middle();"), ("middle", "sixty();")] {
        let frame = stack.frames.iter().find(|frame| frame.name == name).expect("a caller");
        assert!(frame.file.ends_with("programs/ratio.c"), "{frame:?}");
        // A return address taken as it is would give the line after the call.
        assert_eq!(frame.line, line_of(&format!("void {name}(void) {{"), statement), "{frame:?}");
        assert_eq!(
            frame.start_line,
            line_of(name, &format!("static NOINLINE void {name}(void) {{")),
            "{frame:?}"
        );
    }
}

#[track_caller]
fn assert_named(profile: &Stacks) {
    profile.assert_share("sixty", 60.0, 3.0);
    profile.assert_nearly_all(99.5, "main > outer > middle", |stack| {
        stack.has_chain(&["main", "outer", "middle"])
    });
}

#[test]
fn a_stripped_program_is_named_through_its_debug_link() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build_stripped_with_debug_link());
    let profile = Rprof::attach(&target).profile();
    assert_named(&profile);
    let has_lines = |frame: &crate::harness::Frame| frame.name == "middle" && frame.line > 0;
    assert!(profile.stacks.iter().any(|stack| stack.frames.iter().any(has_lines)), "{}", profile.summary());
}

/// A copy of the fixture without any symbol, and a debug folder that holds its debug file by
/// build-id.
fn stripped_with_debug_folder(folder: &Path) -> std::path::PathBuf {
    let fixture = Fixture::c(&["ratio.c"]).with(&["-Wl,--build-id=sha1"]);
    let whole = fixture.build();
    let stripped = folder.join("ratio");
    run_tool(Command::new("strip").arg("--strip-all").arg("-o").arg(&stripped).arg(&whole));
    set_mode(&stripped, 0o755);
    let notes = run_tool(Command::new("readelf").arg("-n").arg(&whole));
    let id = notes.split("Build ID: ").nth(1).expect("a build-id").split_whitespace().next().expect("a word");
    let debug = folder.join(format!("debug/.build-id/{}/{}.debug", &id[..2], &id[2..]));
    fs::create_dir_all(debug.parent().expect("in a folder")).expect("own folder");
    run_tool(Command::new("objcopy").arg("--only-keep-debug").arg(&whole).arg(&debug));
    stripped
}

#[test]
fn a_stripped_program_is_named_from_a_debug_folder_by_build_id() {
    let _alone = alone();
    let folder = open_folder();
    let program = stripped_with_debug_folder(folder.path());
    let target = Target::start(&program);
    let debug = folder.path().join("debug");
    let profile = Rprof::attach(&target).option("--debug-dir", &debug.to_string_lossy()).profile();
    assert_named(&profile);
}

#[test]
fn an_unnamed_profile_can_be_named_later_from_a_debug_folder() {
    let _alone = alone();
    let folder = open_folder();
    let program = stripped_with_debug_folder(folder.path());
    let outcome = {
        let target = Target::start(&program);
        Rprof::attach(&target).run()
    };
    fs::remove_file(&program).expect("own file");
    let unnamed = Stacks::read(&outcome.output).expect("a profile");
    assert_eq!(unnamed.share_of("sixty"), 0.0, "the program was to be stripped");
    // What is needed later is kept: address, mapping, build-id.
    let main_mapping = unnamed.profile.mapping.first().expect("a mapping");
    assert!(!unnamed.profile.string(main_mapping.build_id).is_empty(), "no build-id");
    let bare = unnamed.profile.location.iter().filter(|location| location.line.is_empty());
    assert!(bare.clone().count() > 0, "{}", unnamed.summary());
    assert!(bare.clone().all(|location| location.address != 0 && location.mapping_id != 0));

    let named = folder.path().join("named.pb.gz");
    let debug = folder.path().join("debug");
    let symbolize = Rprof::verb("symbolize")
        .args(&[&outcome.output.to_string_lossy(), "-o", &named.to_string_lossy()])
        .option("--debug-dir", &debug.to_string_lossy())
        .run();
    assert_eq!(symbolize.code, Some(0), "{}", symbolize.stderr);
    let named = Stacks::read(&named).expect("a profile");
    assert_named(&named);
    assert_eq!(named.samples(), unnamed.samples());
}

#[test]
fn a_deleted_program_is_named() {
    let _alone = alone();
    let folder = open_folder();
    let copy = folder.path().join("soon-gone");
    fs::copy(Fixture::c(&["ratio.c"]).build(), &copy).expect("room in /tmp");
    let target = Target::start(&copy);
    fs::remove_file(&copy).expect("own file");
    let profile = Rprof::attach(&target).profile();
    assert_named(&profile);
    profile.assert_whole(&["_start"]);
    let name = profile.profile.string(profile.profile.mapping[0].filename);
    assert!(name.ends_with("/soon-gone"), "{name}");
}

#[test]
fn a_program_replaced_by_another_is_named_by_what_runs() {
    let _alone = alone();
    let folder = open_folder();
    let copy = folder.path().join("upgraded");
    fs::copy(Fixture::c(&["ratio.c"]).build(), &copy).expect("room in /tmp");
    let target = Target::start(&copy);
    fs::remove_file(&copy).expect("own file");
    fs::copy(Fixture::c(&["deep.c"]).build(), &copy).expect("room in /tmp");
    let profile = Rprof::attach(&target).profile();
    assert_named(&profile);
    assert_eq!(profile.share_of("descend"), 0.0);
}

#[test]
fn mappings_have_build_ids_ranges_and_flags() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).with(&["-Wl,--build-id=sha1"]).build());
    let profile = Rprof::attach(&target).seconds(1).profile().profile;
    let main = profile.mapping.first().expect("the program's own mapping stands first");
    assert!(profile.string(main.filename).ends_with("/ratio"), "{}", profile.string(main.filename));
    assert_eq!(profile.string(main.build_id).len(), 40, "{}", profile.string(main.build_id));
    assert!(main.has_functions && main.has_filenames && main.has_line_numbers, "{main:?}");
    for location in profile.location.iter().filter(|location| location.mapping_id == main.id) {
        assert!((main.memory_start..main.memory_limit).contains(&location.address));
    }
}

#[test]
fn kernel_frames_stand_above_the_system_call_and_can_be_left_out() {
    let _alone = alone();
    if !crate::harness::is_root() {
        return crate::harness::skip(crate::harness::Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["switcher.c"]).build());
    let profile = Rprof::attach(&target).profile();
    let in_kernel = profile.share(|stack| {
        let user = stack.frames.iter().position(|frame| frame.name == "syscall");
        user.is_some_and(|at| stack.frames[at + 1..].iter().any(|frame| frame.name.contains("futex")))
    });
    assert!(in_kernel > 20.0, "{in_kernel:.1} %\n{}", profile.summary());
    let profile = Rprof::attach(&target).args(&["--no-kernel"]).profile();
    assert_eq!(profile.share(|stack| stack.names().any(|name| name.contains("futex_w"))), 0.0);
    target.assert_unhurt();
}

#[test]
fn code_generated_at_run_time_is_named_by_a_perf_map_and_reported_without_one() {
    if std::env::consts::ARCH != "x86_64" {
        skip(Skip::OtherCpu);
        return;
    }
    let _alone = alone();
    let program = Fixture::c(&["jit.c"]).build();
    let warning = |pid: u32| format!("code generated at run time has no names in /tmp/perf-{pid}.map");

    // In memory of its own, and shared, as some runtimes write code through a second mapping.
    for arguments in [&["map"][..], &["map", "shared"], &["map", "memfd"]] {
        let target = Target::start_with(&program, arguments);
        let outcome = Rprof::attach(&target).seconds(1).run();
        fs::remove_file(format!("/tmp/perf-{}.map", target.pid())).expect("the target's map");
        assert!(!outcome.stderr.contains(&warning(target.pid())), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("could not be read"), "{}", outcome.stderr);
        let in_order = |stack: &Stack| stack.has_in_order(&["main", "generated"]);
        outcome.profile().assert_nearly_all(95.0, "main > generated", in_order);
    }

    let target = Target::start(&program);
    let outcome = Rprof::attach(&target).seconds(1).run();
    assert!(outcome.stderr.contains(&warning(target.pid())), "{}", outcome.stderr);
    assert_eq!(outcome.profile().share_of("generated"), 0.0);
}

#[test]
fn a_program_without_section_headers_is_named_by_its_dynamic_symbols() {
    let Some(objcopy) = ["llvm-objcopy-14", "llvm-objcopy"].into_iter().find_map(installed) else {
        return skip(Skip::NotInstalled("llvm-objcopy"));
    };
    let _alone = alone();
    let program = Fixture::c(&["ratio.c"]).with(&["-rdynamic"]).build();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bare = folder.path().join("bare");
    run_tool(Command::new(objcopy).arg("--strip-sections").arg(&program).arg(&bare));
    let profile = Rprof::attach(&Target::start(&bare)).seconds(1).profile();
    // What is static is not among the dynamic symbols.
    profile.assert_nearly_all(99.0, "main", |stack| stack.has("main"));
    profile.assert_whole(&["_start"]);
}
