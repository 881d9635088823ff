//! Languages and ways of linking: shares, names and whole stacks of each.

use crate::harness::{Fixture, Rprof, Skip, Stacks, Target, alone, installed, skip};

#[track_caller]
fn profile_of(fixture: &Fixture) -> Stacks {
    let mut target = Target::start(&fixture.build());
    let profile = Rprof::attach(&target).profile();
    target.assert_unhurt();
    profile.assert_at_least(300);
    profile
}

#[track_caller]
fn assert_ratio(profile: &Stacks) {
    profile.assert_share("sixty", 60.0, 2.0);
    profile.assert_share("thirty", 30.0, 2.0);
    profile.assert_share("ten", 10.0, 2.0);
    profile.assert_nearly_all(99.5, "main > outer > middle", |stack| {
        stack.has_chain(&["main", "outer", "middle"])
    });
}

#[test]
fn cpp_templates_and_virtual_calls_have_their_full_names_and_shares() {
    let _alone = alone();
    let profile = profile_of(&Fixture::cc("ratio.cc"));
    for (share, percent) in [(60, 60.0), (30, 30.0), (10, 10.0)] {
        profile.assert_share(&format!("shapes::Portion<{share}>::work"), percent, 2.0);
    }
    profile.assert_nearly_all(99.5, "main > drive > visit > work", |stack| {
        stack.has_in_order(&["main", "shapes::drive", "shapes::visit<"])
            || stack.names().any(|name| name.contains("shapes::visit<"))
                && stack.has_in_order(&["main", "shapes::drive"])
    });
    profile.assert_whole(&["_start"]);
}

#[test]
fn rust_inlined_functions_stand_in_the_stack_with_their_lines() {
    let _alone = alone();
    let profile = profile_of(&Fixture::rust("inline.rs"));
    profile.assert_share("heavy_leaf", 70.0, 2.0);
    profile.assert_share("light_leaf", 30.0, 2.0);
    profile.assert_nearly_all(99.5, "main > holder > heavy or light", |stack| {
        stack.has_chain(&["inline::main", "inline::holder", "inline::heavy", "inline::heavy_leaf"])
            || stack.has_chain(&["inline::main", "inline::holder", "inline::light", "inline::light_leaf"])
    });
    let inlined =
        |name: &str| profile.count(|stack| stack.frames.iter().any(|f| f.inlined && f.name.ends_with(name)));
    assert!(inlined("::heavy_leaf") > 0 && inlined("::light") > 0, "{}", profile.summary());
    assert_eq!(inlined("::holder"), 0);

    let source = std::fs::read_to_string("tests/fixtures/programs/inline.rs").expect("a fixture");
    let line_with =
        |text: &str| source.lines().position(|line| line.contains(text)).map_or(0, |at| at as i64 + 1);
    for (name, first, line) in [
        ("inline::heavy_leaf", "fn heavy_leaf", "// heavy line"),
        ("inline::light_leaf", "fn light_leaf", "// light line"),
    ] {
        let frames =
            || profile.stacks.iter().flat_map(|stack| &stack.frames).filter(|frame| frame.name == name);
        assert!(frames().all(|frame| frame.file.ends_with("inline.rs")));
        assert!(frames().all(|frame| frame.start_line == line_with(first)), "{name} begins elsewhere");
        let (from, to) = (line_with(first), line_with(line) + 3);
        assert!(frames().all(|frame| (from..=to).contains(&frame.line)), "{name} has lines outside of it");
        assert!(frames().any(|frame| frame.line == line_with(line)), "{name} has no sample where it works");
    }
    profile.assert_whole(&["_start"]);
}

#[test]
fn cpp_and_rust_functions_are_disassembled_by_the_names_that_the_profile_shows() {
    let _alone = alone();
    for (fixture, name) in [
        (Fixture::cc("ratio.cc"), "shapes::Portion<60>::work"),
        (Fixture::rust("abort.rs"), "abort::three_quarters"),
    ] {
        let outcome = Rprof::attach(&Target::start(&fixture.build())).seconds(2).run();
        let profile = Stacks::decode(&std::fs::read(&outcome.output).expect("written")).expect("a profile");
        assert!(profile.share_of(name) > 10.0, "{name} is in the profile");
        // The expression of the pages' menu: the name as a word of the instruction's place.
        let expression = format!("(^| ){name}( |$)");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_rprof"))
            .args(["pprof", "-symbolize=none", "-disasm", &expression])
            .arg(&outcome.output)
            .output()
            .expect("rprof runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let title = format!("ROUTINE ======================== {name}\n");
        assert!(text.contains(&title), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(text.lines().count() > 5, "its instructions: {text}");
    }
}

#[test]
fn rust_with_panic_abort_is_unwound_by_eh_frame() {
    let _alone = alone();
    assert_abort(&profile_of(&Fixture::rust("abort.rs").with(&["-C", "panic=abort"])));
}

#[test]
fn rust_without_eh_frame_is_unwound_by_debug_frame() {
    let _alone = alone();
    let fixture = Fixture::rust("abort.rs").with(&["-C", "panic=abort", "-C", "force-unwind-tables=no"]);
    assert_abort(&profile_of(&fixture));
}

#[track_caller]
fn assert_abort(profile: &Stacks) {
    profile.assert_share("abort::three_quarters", 75.0, 2.0);
    profile.assert_share("abort::one_quarter", 25.0, 2.0);
    profile.assert_nearly_all(99.5, "main > each > a portion", |stack| {
        stack.has_in_order(&["main", "abort::main", "abort::three_quarters"])
            || stack.has_in_order(&["main", "abort::main", "abort::one_quarter"])
    });
    profile.assert_whole(&["_start"]);
}

#[test]
fn go_is_named_and_unwound_with_its_symbols() {
    let _alone = alone();
    if installed("go").is_none() {
        return skip(Skip::NotInstalled("go"));
    }
    assert_go(&profile_of(&Fixture::go("ratio.go")));
}

#[test]
fn stripped_go_is_named_and_unwound_by_its_own_tables() {
    let _alone = alone();
    if installed("go").is_none() {
        return skip(Skip::NotInstalled("go"));
    }
    assert_go(&profile_of(&Fixture::go("ratio.go").with(&["-ldflags=-s -w"])));
}

/// The program's own stacks; the threads and stacks of Go's runtime are beside them.
#[track_caller]
fn assert_go(profile: &Stacks) {
    assert!(profile.share_of("main.middle") > 90.0, "{}", profile.summary());
    for (name, percent) in [("main.sixty", 60.0), ("main.thirty", 30.0), ("main.ten", 10.0)] {
        profile.assert_share(name, percent, 3.0);
    }
    profile.assert_nearly_all(99.5, "runtime.main > main.main > main.outer", |stack| {
        !stack.has("main.spinUnit")
            || stack.has_chain(&["runtime.main", "main.main", "main.outer", "main.middle"])
    });
    profile.assert_stated_whole();
}

#[test]
fn a_static_program_is_whole() {
    let _alone = alone();
    let profile = profile_of(&Fixture::c(&["ratio.c"]).with(&["-static"]));
    assert_ratio(&profile);
    profile.assert_whole(&["_start"]);
}

#[test]
fn a_static_position_independent_program_is_whole() {
    let _alone = alone();
    let profile = profile_of(&Fixture::c(&["ratio.c"]).with(&["-static-pie", "-fPIE"]));
    assert_ratio(&profile);
    profile.assert_whole(&["_start"]);
}

#[test]
fn a_program_linked_to_a_fixed_address_is_whole() {
    let _alone = alone();
    let profile = profile_of(&Fixture::c(&["ratio.c"]).with(&["-no-pie", "-fno-pie"]));
    assert_ratio(&profile);
    profile.assert_whole(&["_start"]);
}

#[test]
fn a_musl_program_is_unwound_to_main_though_musl_itself_has_no_tables() {
    let _alone = alone();
    if installed("musl-gcc").is_none() {
        return skip(Skip::NotInstalled("musl-gcc"));
    }
    assert_ratio(&profile_of(&Fixture::musl("ratio.c")));
}

#[test]
fn a_program_with_frame_pointers_and_no_tables_is_unwound() {
    let _alone = alone();
    let flags = [
        "-fno-omit-frame-pointer",
        "-fno-asynchronous-unwind-tables",
        "-fno-unwind-tables",
        "-fno-optimize-sibling-calls",
        "-g0",
    ];
    let profile = profile_of(&Fixture::c(&["ratio.c"]).with(&flags));
    // A leaf function builds no frame before its first call, or at all: its caller may be missing then.
    profile.assert_nearly_all(99.0, "main > outer", |stack| stack.has_chain(&["main", "outer"]));
}

#[test]
fn clang_is_unwound_as_gcc_is() {
    let _alone = alone();
    let Some(clang) = ["clang", "clang-14"].into_iter().find(|name| installed(name).is_some()) else {
        return skip(Skip::NotInstalled("clang"));
    };
    let profile = profile_of(&Fixture::c(&["ratio.c"]).compiled_by(clang));
    assert_ratio(&profile);
    profile.assert_whole(&["_start"]);
}
