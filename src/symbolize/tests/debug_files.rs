//! Debug information in other files.

use std::fs;

use super::*;
use crate::budget::{Budget, Resource};
use crate::symbolize::SymbolIssue;

/// A stripped program, its debug file `program.debug` beside it, and the addresses of `outer`.
fn split_off(flags: &str) -> (CompiledPrograms, Vec<ElfAddr>) {
    let workshop = CompiledPrograms::new();
    workshop.c(&format!("-g {flags}"));
    let requested = addresses(&workshop.path("program"), "outer");
    workshop.run("objcopy --only-keep-debug program program.debug");
    workshop.run("strip program");
    (workshop, requested)
}

fn has_inlines(symbols: &ModuleSymbols) -> bool {
    deepest_functions(symbols) == ["leaf", "middle", "outer"]
}

fn deepest_functions(symbols: &ModuleSymbols) -> Vec<&str> {
    deepest(symbols).iter().map(|frame| frame.function.as_str()).collect()
}

#[test]
fn a_debug_link_is_searched_beside_the_file_in_dot_debug_and_in_the_debug_directories() {
    let (workshop, requested) = split_off("-Wl,--build-id=none");
    workshop.run("objcopy --add-gnu-debuglink=program.debug program");
    let found = workshop.symbolize("program", &requested);
    assert!(has_inlines(&found), "{found:?}");
    assert_eq!(found.debug_file, Some(workshop.path("program.debug")));

    workshop.run("mkdir .debug elsewhere");
    workshop.run("mv program.debug .debug/program.debug");
    assert!(has_inlines(&workshop.symbolize("program", &requested)));

    workshop.run("mv .debug/program.debug elsewhere/program.debug");
    assert!(!has_inlines(&workshop.symbolize("program", &requested)));
    let options = SymbolizeOptions { debug_dirs: vec![workshop.path("elsewhere")], ..Default::default() };
    assert!(has_inlines(&symbolize_module(&workshop.module("program"), &requested, &options)));
}

#[test]
fn a_debug_file_with_another_checksum_is_refused_and_reported() {
    let (workshop, requested) = split_off("-Wl,--build-id=none");
    workshop.run("objcopy --add-gnu-debuglink=program.debug program");
    let mut bytes = fs::read(workshop.path("program.debug")).expect("read");
    bytes.push(0);
    fs::write(workshop.path("program.debug"), bytes).expect("write");
    let found = workshop.symbolize("program", &requested);
    assert!(found.addresses.iter().all(|address| address.frames.is_empty()));
    assert!(found.issues.iter().any(|issue| matches!(issue, SymbolIssue::DebugFileMismatch { .. })));
}

#[test]
fn a_debug_file_is_found_by_build_id_in_the_targets_root() {
    let (workshop, requested) = split_off("-Wl,--build-id");
    let module = workshop.module("program");
    let id = crate::symbolize::debug_files::hex(module.file.build_id().expect("a build-id"));
    let directory = format!("root/usr/lib/debug/.build-id/{}", &id[..2]);
    fs::create_dir_all(workshop.path(&directory)).expect("directory");
    fs::rename(workshop.path("program.debug"), workshop.path(&format!("{directory}/{}.debug", &id[2..])))
        .expect("rename");
    let in_container =
        ModuleFiles { path: Some("/program".into()), root: Some(workshop.path("root")), ..module.clone() };
    let options = SymbolizeOptions::default();
    assert!(has_inlines(&symbolize_module(&in_container, &requested, &options)));
    assert!(!has_inlines(&symbolize_module(&module, &requested, &options)));

    let options =
        SymbolizeOptions { debug_dirs: vec![workshop.path("root/usr/lib/debug")], ..Default::default() };
    assert!(has_inlines(&symbolize_module(&module, &requested, &options)));
}

#[test]
fn a_debug_file_of_another_build_is_refused_and_reported() {
    let (workshop, requested) = split_off("-Wl,--build-id=0x0102030405060708");
    let other = CompiledPrograms::new();
    other.c("-g -Wl,--build-id=0x1112131415161718");
    fs::create_dir_all(workshop.path("debug/.build-id/01")).expect("directory");
    fs::copy(other.path("program"), workshop.path("debug/.build-id/01/02030405060708.debug")).expect("copy");
    let options = SymbolizeOptions { debug_dirs: vec![workshop.path("debug")], ..Default::default() };
    let found = symbolize_module(&workshop.module("program"), &requested, &options);
    assert!(found.addresses.iter().all(|address| address.frames.is_empty()));
    assert!(matches!(&found.issues[0], SymbolIssue::DebugFileMismatch { .. }), "{:?}", found.issues);
}

#[test]
fn names_moved_by_dwz_to_a_supplementary_file_are_found() {
    let workshop = CompiledPrograms::new();
    workshop.c("-g -gdwarf-4");
    let requested = addresses(&workshop.path("program"), "outer");
    workshop.run("cp program other");
    workshop.run("dwz -m common.debug program other");
    assert!(workshop.module("program").file.debug_alt_link().is_some());
    let found = workshop.symbolize("program", &requested);
    assert!(has_inlines(&found), "{found:?}");
    assert_eq!(found.issues, []);

    workshop.run("rm common.debug");
    let found = workshop.symbolize("program", &requested);
    assert!(matches!(&found.issues[0], SymbolIssue::SupplementaryMissing(_)), "{:?}", found.issues);
    assert!(found.addresses.iter().all(|a| functions(a).last() == Some(&"outer")), "{found:?}");
}

#[test]
fn a_debug_file_is_downloaded_only_on_request() {
    let (workshop, requested) = split_off("-Wl,--build-id");
    let module = workshop.module("program");
    let id = crate::symbolize::debug_files::hex(module.file.build_id().expect("a build-id"));
    // A file left in the cache by an earlier download stands in for the server.
    fs::create_dir_all(workshop.path(&format!("cache/{id}"))).expect("directory");
    fs::rename(workshop.path("program.debug"), workshop.path(&format!("cache/{id}/debuginfo")))
        .expect("move");
    assert!(!has_inlines(&workshop.symbolize("program", &requested)));
    let client = crate::symbolize::Debuginfod {
        urls: Vec::new(),
        cache: workshop.path("cache"),
        timeout: std::time::Duration::from_secs(1),
        max_bytes: 1 << 20,
    };
    let options = SymbolizeOptions { debuginfod: Some(client), ..Default::default() };
    assert!(has_inlines(&symbolize_module(&module, &requested, &options)));
}

#[test]
fn a_large_compressed_section_is_decompressed_into_a_file_within_the_budget() {
    let workshop = CompiledPrograms::new();
    workshop.c("-g");
    let content: Vec<u8> = (0..9u32 << 18).flat_map(u32::to_le_bytes).collect();
    fs::write(workshop.path("content"), &content).expect("write");
    workshop.run("objcopy --add-section .debug_macro=content program");
    workshop.run("objcopy --compress-debug-sections=zlib program");
    let file = fs::File::open(workshop.path("program")).expect("open");
    let budget = Budget::session().with_limits([1 << 20, 10 << 20, u64::MAX]);
    let elf = ElfFile::open_within(&file, &budget).expect("an ELF file");
    let unpacked = elf.section_content(".debug_macro").expect("a section");
    assert!(unpacked.bytes() == content);
    assert_eq!((budget.used(Resource::Disk), budget.used(Resource::Memory)), (9 << 20, 0));
    assert!(elf.section_content(".debug_macro").is_none(), "9 MiB more are over the limit");
    assert!(elf.budget().refusal().is_some());
    assert!(elf.section_data(".debug_macro").is_none(), "nor is there so much memory");
    drop(unpacked);
    assert_eq!(budget.used(Resource::Disk), 0);
}
