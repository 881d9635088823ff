//! Known call chains, in programs built in every way that affects unwinding.

use rprof::unwind::{CopiedStack, StackEnd, UnwindMethod, Unwinder};

use crate::target::{Held, Image, Target, build};

const CHAIN: [&str; 7] =
    ["innermost", "never_returns", "through_pointer", "recurse", "with_alloca", "realigned", "main"];

/// Unwinds the main thread of a waiting chain program and checks it from `innermost` to the root.
fn check_chain(name: &str, compiler: &str, arguments: &[&str], depth: usize) -> Vec<UnwindMethod> {
    let target = Target::start(&build(name, compiler, "unwind_chain.c", arguments), &[]);
    let image = Image::read(target.pid());
    let held = Held::new(target.pid(), target.pid());
    let (frames, end) = held.unwind(&mut Unwinder::new(), &image.modules);
    let text = image.describe(&frames, end);
    let mut expected = CHAIN.to_vec();
    expected.splice(3..4, std::iter::repeat_n("recurse", depth));
    assert_eq!(image.known_names(&frames, &CHAIN), expected, "{text}");
    assert_eq!(end, StackEnd::Root, "{text}");
    frames.iter().map(|frame| frame.how).collect()
}

#[test]
fn a_chain_without_frame_pointers_is_whole() {
    for level in ["-O0", "-O1", "-O2", "-O3"] {
        let how = check_chain(&format!("plain{level}"), "cc", &[level, "-fomit-frame-pointer"], 3);
        assert!(how[1..].iter().all(|how| *how == UnwindMethod::Cfi), "{how:?}");
    }
}

#[test]
fn a_thousand_frames_of_300_bytes_reach_main() {
    check_chain("deep", "cc", &["-O2", "-fomit-frame-pointer", "-DDEPTH=1000"], 1000);
}

#[test]
fn a_realigned_stack_and_vector_registers_do_not_break_the_chain() {
    check_chain("avx", "cc", &["-O3", "-mavx2", "-mstackrealign", "-fomit-frame-pointer"], 3);
}

#[test]
fn static_and_fixed_address_programs_are_whole() {
    check_chain("static", "cc", &["-O2", "-static"], 3);
    check_chain("fixed", "cc", &["-O2", "-no-pie"], 3);
    check_chain("static-pie", "cc", &["-O2", "-static-pie"], 3);
}

#[test]
fn musl_programs_whose_c_library_has_no_tables_are_whole() {
    check_chain("musl", "musl-gcc", &["-O2", "-static"], 3);
}

#[test]
fn a_program_without_the_linkers_search_table_is_whole() {
    check_chain("no-header", "cc", &["-O2", "-static", "-Wl,--no-eh-frame-hdr"], 3);
}

#[test]
fn a_program_with_debug_frame_alone_is_whole() {
    let only_debug =
        ["-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fomit-frame-pointer"];
    check_chain("debug-frame", "cc", &only_debug, 3);
    check_chain("debug-frame-zlib", "cc", &[&only_debug[..], &["-gz=zlib"]].concat(), 3);
}

#[test]
fn a_program_with_frame_pointers_alone_is_whole() {
    let bare = ["-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-omit-frame-pointer"];
    let how = check_chain("frame-pointer", "cc", &bare, 3);
    assert!(how.contains(&UnwindMethod::FramePointer), "{how:?}");
}

#[test]
fn a_truncated_copy_is_reported() {
    let target = Target::start(&build("cut", "cc", "unwind_chain.c", &["-O2", "-DDEPTH=100"]), &[]);
    let image = Image::read(target.pid());
    let held = Held::new(target.pid(), target.pid());
    let (start, bytes) = held.stack(8192);
    let mut frames = Vec::new();
    for (capped, expected) in [(true, StackEnd::StackCut), (false, StackEnd::UnreadableMemory)] {
        let mut copy = CopiedStack { start, bytes: &bytes, capped, has_holes: false };
        let end = Unwinder::new().unwind(&image.modules, &held.registers(), &mut copy, &mut frames);
        assert_eq!(end, expected);
        assert!((10..100).contains(&frames.len()), "{} frames", frames.len());
    }
}

fn check_signal(name: &str, compiler: &str, arguments: &[&str], own_stack: bool) {
    const KNOWN: [&str; 4] = ["in_handler", "handler", "interrupted", "main"];
    let program = build(name, compiler, "unwind_signal.c", arguments);
    let target = Target::start(&program, if own_stack { &["own-stack"] } else { &[] });
    let image = Image::read(target.pid());
    let held = Held::new(target.pid(), target.pid());
    let (frames, end) = held.unwind(&mut Unwinder::new(), &image.modules);
    let text = image.describe(&frames, end);
    assert_eq!(image.known_names(&frames, &KNOWN), KNOWN, "{text}");
    assert_eq!(end, StackEnd::Root, "{text}");
    let interrupted = frames.iter().find(|frame| image.name(frame) == "interrupted").expect("it is there");
    assert_eq!(interrupted.how, UnwindMethod::SignalContext);
    assert_eq!(interrupted.addr.lookup(), interrupted.addr.raw(), "its pc is exact");
}

#[test]
fn a_signal_handler_is_unwound_into_what_it_interrupted() {
    for own_stack in [false, true] {
        check_signal("signal", "cc", &["-O2"], own_stack);
        check_signal("signal-static", "cc", &["-O2", "-static"], own_stack);
        check_signal("signal-musl", "musl-gcc", &["-O2", "-static"], own_stack);
    }
}

#[test]
fn rust_programs_that_abort_on_panic_are_whole() {
    const KNOWN: [&str; 4] = ["innermost", "middle", "outer", "main"];
    let variants: [(&str, &[&str]); 4] = [
        ("rust-unwind", &["-O"]),
        ("rust-abort", &["-O", "-C", "panic=abort", "-C", "force-frame-pointers=no"]),
        ("rust-abort-g", &["-O", "-g", "-C", "panic=abort", "-C", "force-frame-pointers=no"]),
        (
            "rust-abort-no-tables",
            &[
                "-g",
                "-O",
                "-C",
                "panic=abort",
                "-C",
                "force-unwind-tables=no",
                "-C",
                "force-frame-pointers=no",
            ],
        ),
    ];
    for (name, arguments) in variants {
        let program = build(name, "rustc", "unwind_chain.rs", &[&["--edition=2024"], arguments].concat());
        for (argument, expected) in
            [(&[][..], &["innermost", "middle", "main"][..]), (&["thread"], &["innermost", "middle"])]
        {
            let target = Target::start(&program, argument);
            let image = Image::read(target.pid());
            let tid = *target.threads().last().expect("a thread");
            let held = Held::new(target.pid(), tid);
            let (frames, end) = held.unwind(&mut Unwinder::new(), &image.modules);
            let text = image.describe(&frames, end);
            assert_eq!(image.known_names(&frames, &KNOWN), expected, "{name}: {text}");
            assert_eq!(end, StackEnd::Root, "{name}: {text}");
        }
    }
}

#[test]
fn goroutines_are_unwound_to_their_root() {
    const KNOWN: [&str; 4] = ["main.leaf", "main.innermost", "main.middle", "main.outer"];
    let variants: [(&str, &[&str]); 3] =
        [("go", &[]), ("go-no-dwarf", &["-ldflags=-w"]), ("go-stripped", &["-ldflags=-s -w"])];
    for (name, arguments) in variants {
        let target = Target::start(&build(name, "go", "unwind_chain.go", arguments), &[]);
        let image = Image::read(target.pid());
        let mut unwinder = Unwinder::new();
        let mut seen = 0;
        for _ in 0..50 {
            for tid in target.threads() {
                let held = Held::new(target.pid(), tid);
                let (frames, end) = held.unwind(&mut unwinder, &image.modules);
                // The chain has 14 frames above its root; other threads of the runtime wait.
                if frames.len() < 12 {
                    continue;
                }
                let text = image.describe(&frames, end);
                assert_eq!(end, StackEnd::Root, "{name}: {text}");
                seen += 1;
                if name != "go-stripped" {
                    let names = image.known_names(&frames, &KNOWN);
                    let chain = names.iter().position(|name| *name == "main.innermost").expect("innermost");
                    assert_eq!(names[chain + 1..chain + 12], ["main.middle"; 11], "{name}: {text}");
                    assert_eq!(names.last(), Some(&"main.outer"), "{name}: {text}");
                }
            }
        }
        assert!(seen >= 45, "{name}: {seen} stacks of 50 had the chain");
    }
}

/// The only callers of a function of the chain program.
const CALLERS: [(&str, &str); 3] = [("sorting", "busy"), ("printing", "busy"), ("busy", "innermost")];

/// Runs a program instruction by instruction and unwinds at each one.
fn check_each_instruction(name: &str, compiler: &str, arguments: &[&str], steps: usize, may_end: f64) {
    let mut target = Target::start(&build(name, compiler, "unwind_chain.c", arguments), &[]);
    let image = Image::read(target.pid());
    let held = Held::new(target.pid(), target.pid());
    target.feed();
    let mut unwinder = Unwinder::new();
    let known: Vec<&str> = CHAIN.iter().copied().chain(["busy", "sorting", "printing"]).collect();
    let mut ended = 0;
    for _ in 0..steps {
        held.step();
        let (frames, end) = held.unwind(&mut unwinder, &image.modules);
        let text = || image.describe(&frames, end);
        if end != StackEnd::Root {
            ended += 1;
            assert!(may_end > 0.0, "{}", text());
            continue;
        }
        let names = image.known_names(&frames, &known);
        assert!(names.ends_with(&["recurse", "with_alloca", "realigned", "main"]), "{}", text());
        for pair in names.windows(2) {
            let caller = CALLERS.iter().find(|(callee, _)| *callee == pair[0]);
            assert!(caller.is_none_or(|(_, caller)| *caller == pair[1]), "{pair:?}: {}", text());
        }
    }
    assert!(ended as f64 <= steps as f64 * may_end, "{name}: {ended} of {steps} ended early");
}

#[test]
fn every_instruction_can_be_unwound_also_while_functions_are_bound_lazily() {
    check_each_instruction("lazy", "cc", &["-O2", "-fomit-frame-pointer", "-Wl,-z,lazy"], 20_000, 0.0);
}

#[test]
fn every_instruction_of_a_static_program_can_be_unwound() {
    check_each_instruction("static-steps", "cc", &["-O2", "-static"], 10_000, 0.0);
}

#[test]
fn every_instruction_of_a_c_library_without_tables_can_be_unwound() {
    check_each_instruction("musl-steps", "musl-gcc", &["-O2", "-static"], 10_000, 0.0);
}

#[test]
fn most_instructions_of_a_stripped_c_library_without_tables_can_be_unwound() {
    check_each_instruction("musl-dynamic-steps", "musl-gcc", &["-O2"], 10_000, 0.25);
}
