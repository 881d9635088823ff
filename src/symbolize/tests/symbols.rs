//! Names from symbol tables only.

use super::*;
use crate::symbolize::{NameSource, SymbolIssue};

#[test]
fn a_file_without_debug_information_is_named_by_its_symbols() {
    let workshop = CompiledPrograms::new();
    workshop.c("");
    let found = workshop.symbolize("program", &addresses(&workshop.path("program"), "hidden"));
    assert!(found.addresses.iter().all(|a| functions(a) == ["hidden"] && a.frames[0].line == 0));
    assert_eq!(found.addresses[0].source, Some(NameSource::SymbolTable));
    assert!(!found.has_dwarf && found.has_functions);
    assert_eq!(found.issues, []);
}

#[test]
fn a_stripped_program_has_no_names_and_the_issue_names_the_debug_file() {
    let workshop = CompiledPrograms::new();
    workshop.c("-Wl,--build-id");
    let requested = addresses(&workshop.path("program"), "hidden");
    workshop.run("strip program");
    let found = workshop.symbolize("program", &requested);
    assert!(found.addresses.iter().all(|address| address.frames.is_empty() && address.source.is_none()));
    assert!(matches!(found.issues[..], [SymbolIssue::Unnamed(_), SymbolIssue::DebugFileMissing(_)]));
}

#[test]
fn a_stripped_library_is_named_by_its_exported_symbols() {
    let workshop = CompiledPrograms::new();
    workshop.compile("inlines.c", INLINES_C, "cc -O2 -shared -fPIC -o lib.so inlines.c");
    let path = workshop.path("lib.so");
    let (outer, hidden) = (extent(&path, "outer").start, extent(&path, "hidden").start);
    workshop.run("strip lib.so");
    let found = workshop.symbolize("lib.so", &[ElfAddr(hidden), ElfAddr(outer)]);
    assert_eq!(functions(&found.addresses[1]), ["outer"]);
    assert_eq!(found.addresses[1].source, Some(NameSource::DynamicSymbols));
    assert!(found.addresses[0].frames.is_empty());
}

/// Built like the output of Fedora's find-debuginfo: the unexported function symbols, compressed
/// with xz.
#[test]
fn mini_debug_info_names_unexported_functions() {
    let workshop = CompiledPrograms::new();
    workshop.c("-Wl,--build-id");
    let path = workshop.path("program");
    let requested = addresses(&path, "hidden");
    std::fs::write(workshop.path("keep"), "hidden\nouter\nmain\n").expect("write");
    workshop.run("objcopy --strip-debug --remove-section .comment --keep-symbols=keep program mini");
    workshop.run("xz mini");
    workshop.run("strip program");
    workshop.run("objcopy --add-section .gnu_debugdata=mini.xz program");
    let found = workshop.symbolize("program", &requested);
    assert!(found.addresses.iter().all(|address| functions(address) == ["hidden"]), "{:?}", found.issues);
    assert_eq!(found.addresses[0].source, Some(NameSource::MiniDebugInfo));
    assert_eq!(found.issues, []);
}

#[test]
fn labels_without_size_extend_to_the_next_symbol_and_functions_are_preferred() {
    let source = ".text\n.globl main\n.type main,@function\nmain:\n  nop\ninner_label:\n  nop\n  ret\n.size main,.-main\n\
        sizeless:\n  nop\n  nop\n.globl alias_b\n.globl alias_a\n.globl __alias\n.type __alias,@function\n\
        .type alias_a,@function\n.type alias_b,@function\n__alias:\nalias_b:\nalias_a:\n  nop\n  ret\n\
        .size alias_a,.-alias_a\n.size alias_b,.-alias_b\n.size __alias,.-__alias\n.section .note.GNU-stack,\"\",@progbits\n";
    let workshop = CompiledPrograms::new();
    workshop.compile("a.s", source, "cc -nostartfiles -Wl,-e,main -o program a.s");
    let main = extent(&workshop.path("program"), "main").start;
    let requested: Vec<_> = (0..8).map(|at| ElfAddr(main + at)).collect();
    let found = workshop.symbolize("program", &requested);
    let names: Vec<_> = found.addresses.iter().map(|a| functions(a).first().copied()).collect();
    assert_eq!(
        names,
        [
            Some("main"),
            Some("main"),
            Some("main"),
            Some("sizeless"),
            Some("sizeless"),
            Some("alias_a"),
            Some("alias_a"),
            None
        ]
    );
}

#[test]
fn results_are_in_request_order_also_for_repeated_addresses() {
    let workshop = CompiledPrograms::new();
    workshop.c("-g");
    let path = workshop.path("program");
    let (outer, hidden) = (ElfAddr(extent(&path, "outer").start), ElfAddr(extent(&path, "hidden").start));
    let found = workshop.symbolize("program", &[hidden, outer, hidden, ElfAddr(u64::MAX), ElfAddr(0)]);
    let names: Vec<_> = found.addresses.iter().map(|a| functions(a).last().copied()).collect();
    assert_eq!(names, [Some("hidden"), Some("outer"), Some("hidden"), None, None]);
}
