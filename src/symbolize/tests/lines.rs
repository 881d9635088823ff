//! Inline chains, files and lines, in DWARF of several versions, languages and containers.

use super::*;
use crate::symbolize::{NameSource, SymbolIssue};

/// The deepest inline chain of `outer` in the C program.
fn assert_inlines(symbols: &ModuleSymbols) {
    let frames = deepest(symbols);
    let seen: Vec<_> =
        frames.iter().map(|f| (f.function.as_str(), f.line, f.start_line, f.inlined)).collect();
    assert_eq!(
        seen.iter().map(|(function, ..)| *function).collect::<Vec<_>>(),
        ["leaf", "middle", "outer"],
        "{symbols:#?}"
    );
    assert!((2..=5).contains(&seen[0].1), "{seen:?}");
    assert_eq!((seen[1].1, seen[2].1), (7, 13), "{seen:?}");
    assert_eq!(seen.iter().map(|(_, _, start, _)| *start).collect::<Vec<_>>(), [2, 6, 10]);
    assert_eq!(seen.iter().map(|(.., inlined)| *inlined).collect::<Vec<_>>(), [true, true, false]);
    assert!(frames.iter().all(|f| f.file.as_deref().is_some_and(|file| file.ends_with("/inlines.c"))));
    assert!(symbols.addresses.iter().all(|a| a.frames.last().is_some_and(|f| f.function == "outer")));
    assert_eq!(symbols.issues, []);
    assert!(symbols.has_dwarf && symbols.has_functions);
}

fn check_c(flags: &str) {
    let workshop = CompiledPrograms::new();
    workshop.c(flags);
    assert_inlines(&workshop.symbolize("program", &addresses(&workshop.path("program"), "outer")));
}

#[test]
fn inline_chains_are_innermost_first_in_dwarf_5_and_4_and_3() {
    check_c("-g -gdwarf-5");
    check_c("-g -gdwarf-4");
    check_c("-g -gdwarf-3 -gstrict-dwarf");
}

#[test]
fn compressed_sections_are_decompressed() {
    check_c("-g -gz=zlib");
    check_c("-g -gz=zlib-gnu");
}

#[test]
fn without_aranges_the_units_ranges_are_used() {
    let workshop = CompiledPrograms::new();
    workshop.c("-g");
    workshop.run("objcopy --remove-section .debug_aranges program");
    assert_inlines(&workshop.symbolize("program", &addresses(&workshop.path("program"), "outer")));
}

#[test]
fn split_dwarf_is_read_from_its_object_files_or_reported_missing() {
    for version in ["-gdwarf-5", "-gdwarf-4"] {
        let workshop = CompiledPrograms::new();
        workshop.compile("inlines.c", INLINES_C, &format!("cc -O2 -g {version} -gsplit-dwarf -c inlines.c"));
        workshop.run("cc -o program inlines.o");
        let outer = addresses(&workshop.path("program"), "outer");
        assert_inlines(&workshop.symbolize("program", &outer));

        workshop.run("rm inlines.dwo");
        let poorer = workshop.symbolize("program", &outer);
        assert!(
            matches!(&poorer.issues[..], [SymbolIssue::SplitDwarfMissing { count: 1, .. }]),
            "{:?}",
            poorer.issues
        );
        // The skeleton still has the lines, and the symbol table has the function.
        assert!(poorer.addresses.iter().all(|address| functions(address) == ["outer"]));
        assert!(poorer.addresses.iter().all(|address| address.frames[0].line > 0));
    }
}

#[test]
fn split_dwarf_is_read_from_a_package() {
    // GNU dwp 2.40 cannot read DWARF 5, nor llvm-dwp 14 that of GCC.
    let builds = [
        ("cc -O2 -g -gdwarf-4 -gsplit-dwarf -c inlines.c", "dwp -e program -o program.dwp"),
        ("clang-14 -O2 -g -gdwarf-5 -gsplit-dwarf -c inlines.c", "llvm-dwp-14 -e program -o program.dwp"),
    ];
    for (compile, package) in builds {
        let workshop = CompiledPrograms::new();
        workshop.compile("inlines.c", INLINES_C, compile);
        workshop.run("cc -o program inlines.o");
        workshop.run(package);
        workshop.run("rm inlines.dwo");
        let outer = addresses(&workshop.path("program"), "outer");
        let found = workshop.symbolize("program", &outer);
        assert!(found.addresses.iter().all(|a| functions(a).last() == Some(&"outer")), "{found:?}");
        let leaf = found.addresses.iter().flat_map(|a| &a.frames).find(|f| f.function == "leaf");
        assert!(leaf.is_some_and(|f| f.inlined && f.start_line == 2), "{compile}: {found:?}");
        assert_eq!(found.issues, []);
    }
}

#[test]
fn every_address_agrees_with_addr2line() {
    let workshop = CompiledPrograms::new();
    workshop.c("-g");
    let mut requested = addresses(&workshop.path("program"), "outer");
    requested.extend(addresses(&workshop.path("program"), "hidden"));
    requested.extend(addresses(&workshop.path("program"), "main"));
    let ours: Vec<String> = workshop
        .symbolize("program", &requested)
        .addresses
        .iter()
        .flat_map(|address| &address.frames)
        .map(|f| format!("{}\n{}:{}", f.function, f.file.as_deref().unwrap_or("??"), f.line))
        .collect();
    let hex: Vec<String> = requested.iter().map(|address| format!("{address:#x}")).collect();
    let output = std::process::Command::new("addr2line")
        .args(["-i", "-f", "-C", "-e", "program"])
        .args(&hex)
        .current_dir(workshop.directory.path())
        .output()
        .expect("addr2line");
    let text = String::from_utf8(output.stdout).expect("text");
    let theirs: Vec<String> = text
        .lines()
        .map(|line| line.split(" (disc").next().unwrap_or_default().to_owned())
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|pair| pair.join("\n"))
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn cpp_names_are_demangled_without_parameters_and_hidden_ones_qualified() {
    let source = "\
#include <cstdio>
namespace space {
template <class T> struct Box {
    T value;
    __attribute__((noinline)) T twice(T more) { std::printf(\"%d\", (int)more); return value * 2 + more; }
};
}
namespace {
__attribute__((noinline)) int hidden(int x) { std::printf(\"%d\", x); return x; }
}
int main(int argc, char **) { space::Box<int> box{argc}; return box.twice(argc) + hidden(argc); }
";
    let workshop = CompiledPrograms::new();
    workshop.compile("a.cc", source, "c++ -O2 -g -o program a.cc");
    let path = workshop.path("program");
    let twice = addresses(&path, "_ZN5space3BoxIiE5twiceEi");
    let found = workshop.symbolize("program", &twice);
    let frame = found.addresses[0].frames.last().expect("a frame");
    assert_eq!(frame.function, "space::Box<int>::twice");
    assert_eq!(frame.system_name, "_ZN5space3BoxIiE5twiceEi");
    assert_eq!(frame.start_line, 5);
    let elf = open(&path);
    let hidden = elf.symbols().find(|s| s.name.starts_with(b"_ZN12_GLOBAL__N_16hidden")).expect("hidden");
    let found = workshop.symbolize("program", &[hidden.address]);
    assert_eq!(found.addresses[0].frames.last().expect("a frame").function, "(anonymous namespace)::hidden");
}

#[test]
fn rust_inlines_are_named_without_hashes() {
    let source = "\
#[inline(always)]
fn leaf(x: u64) -> u64 {
    std::hint::black_box(x) + 1
}
#[inline(never)]
fn outer(x: u64) -> u64 {
    (0..x).map(leaf).sum()
}
fn main() {
    std::process::exit(outer(std::env::args().count() as u64) as i32);
}
";
    let workshop = CompiledPrograms::new();
    workshop.compile("main.rs", source, "rustc -g -Copt-level=2 -o program main.rs");
    let elf = open(&workshop.path("program"));
    let outer = elf.symbols().find(|s| s.name.windows(9).any(|w| w == b"4main5out")).expect("outer");
    let requested: Vec<_> = (outer.address.0..outer.address.0 + outer.size).map(ElfAddr).collect();
    let found = workshop.symbolize("program", &requested);
    let deepest = deepest(&found);
    assert_eq!(deepest.last().map(|f| (f.function.as_str(), f.start_line)), Some(("main::outer", 6)));
    assert!(found.addresses.iter().flat_map(|a| &a.frames).any(|f| f.function == "main::leaf" && f.inlined));
    assert_eq!(found.issues, []);
}

#[test]
fn a_function_inside_another_is_found() {
    let source = "\
volatile int sink;
int outside(int n) {
    __attribute__((noinline)) int nested(int x) {
        sink = x + n;
        return sink;
    }
    return nested(n) + nested(n + 1);
}
int main(int argc, char **argv) { return outside(argc); }
";
    let workshop = CompiledPrograms::new();
    workshop.compile("a.c", source, "cc -O1 -g -o program a.c");
    let elf = open(&workshop.path("program"));
    let nested = elf.symbols().find(|s| s.name.starts_with(b"nested")).expect("nested");
    let found = workshop.symbolize("program", &[nested.address]);
    let frame = found.addresses[0].frames.last().expect("a frame");
    assert_eq!((frame.function.as_str(), frame.start_line), ("nested", 3));
}

#[test]
fn an_assembly_function_with_lines_is_named_by_its_symbol() {
    let source = ".text\n.globl spin\n.type spin,@function\nspin:\n  nop\n  nop\n  ret\n.size spin,.-spin\n\
        .globl main\nmain:\n  call spin\n  xor %eax,%eax\n  ret\n.section .note.GNU-stack,\"\",@progbits\n";
    let workshop = CompiledPrograms::new();
    workshop.compile("a.s", source, "cc -g -o program a.s");
    let found = workshop.symbolize("program", &addresses(&workshop.path("program"), "spin"));
    let frames: Vec<_> = found.addresses.iter().map(|a| (functions(a), a.frames[0].line)).collect();
    assert_eq!(frames, [(vec!["spin"], 5), (vec!["spin"], 6), (vec!["spin"], 7)]);
    assert_eq!(found.addresses[0].source, Some(NameSource::Dwarf));
}

#[test]
fn functions_the_linker_discarded_name_nothing() {
    let a = "int shared(int x); __attribute__((used)) static int dead(int x) { return x; }\n\
        int main(int c, char **v) { return shared(c); }\n";
    let b = "__attribute__((noinline)) int shared(int x) { volatile int y = x; return y; }\n";
    let workshop = CompiledPrograms::new();
    std::fs::write(workshop.path("b.c"), b).expect("write");
    workshop.compile(
        "a.c",
        a,
        "cc -g -O1 -ffunction-sections -shared -fPIC -Wl,--gc-sections -o lib.so a.c b.c",
    );
    let found = workshop.symbolize("lib.so", &[ElfAddr(0), ElfAddr(1), ElfAddr(4)]);
    assert!(found.addresses.iter().all(|address| address.frames.is_empty()), "{found:?}");
    assert!(matches!(found.issues.first(), Some(SymbolIssue::Unnamed(3))), "{:?}", found.issues);
}
