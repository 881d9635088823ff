//! Damaged files: whatever bytes are flipped, naming ends soon and without a panic.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::*;
use crate::budget::Resource;
use crate::symbolize::SymbolIssue;

/// A small, repeatable generator of positions and values.
struct Noise(u64);

impl Noise {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

fn name_damaged(bytes: Vec<u8>, requested: &[ElfAddr]) -> Option<ModuleSymbols> {
    let elf = ElfFile::from_bytes(bytes).ok()?;
    let module = ModuleFiles { file: Arc::new(elf), path: None, root: None };
    let options = SymbolizeOptions { time_limit: Duration::from_secs(5), ..Default::default() };
    let begin = Instant::now();
    let symbols = symbolize_module(&module, requested, &options);
    assert!(begin.elapsed() < Duration::from_secs(10), "took {:?}", begin.elapsed());
    assert_eq!(symbols.addresses.len(), requested.len());
    let panics: Vec<_> =
        symbols.issues.iter().filter(|issue| matches!(issue, SymbolIssue::ParserFailed(_))).collect();
    assert!(panics.is_empty(), "{panics:?}");
    Some(symbols)
}

fn damage(flags: &str, rounds: usize) {
    let workshop = CompiledPrograms::new();
    workshop.c(flags);
    let path = workshop.path("program");
    let requested: Vec<_> =
        ["outer", "hidden", "main"].into_iter().flat_map(|function| addresses(&path, function)).collect();
    let whole = fs::read(&path).expect("read");
    let elf = open(&path);
    let targets: Vec<(usize, usize)> = elf
        .sections()
        .iter()
        .filter(|section| {
            let name = elf.section_name(section);
            name.starts_with(b".debug") || name.ends_with(b"symtab")
        })
        .map(|section| (section.file_offset.0 as usize, section.size as usize))
        .collect();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        let mut bytes = whole.clone();
        for _ in 0..1 + noise.next(8) {
            let (start, size) = targets[noise.next(targets.len())];
            let at = start + noise.next(size);
            bytes[at] = noise.next(256) as u8;
        }
        if round % 10 == 0 {
            bytes.truncate(noise.next(whole.len()));
        }
        name_damaged(bytes, &requested);
    }
}

#[test]
fn flipped_bytes_in_debug_information_cause_no_panic_and_no_hang() {
    damage("-g -gdwarf-5", 500);
    damage("-g -gdwarf-4", 500);
    damage("-g -gz=zlib", 100);
}

#[test]
fn a_unit_that_claims_everything_is_walked_once_and_within_the_time_limit() {
    let workshop = CompiledPrograms::new();
    workshop.c("-g");
    let path = workshop.path("program");
    let elf = open(&path);
    let mut bytes = fs::read(&path).expect("read");
    let aranges = elf.section(".debug_aranges").expect("aranges");
    // One range that covers all addresses replaces that of the program.
    let at = aranges.file_offset.0 as usize + 16;
    bytes[at..at + 8].copy_from_slice(&1u64.to_le_bytes());
    bytes[at + 8..at + 16].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
    let requested: Vec<_> = (0..5000).map(|i| ElfAddr(i * 16)).collect();
    let symbols = name_damaged(bytes, &requested).expect("still an ELF file");
    assert!(symbols.issues.iter().any(|issue| matches!(issue, SymbolIssue::Unnamed(_))));
}

#[test]
fn a_name_is_read_once_for_all_addresses_that_its_symbol_covers() {
    let workshop = CompiledPrograms::new();
    workshop.c("");
    let elf = open(&workshop.path("program"));
    let all = addresses(&workshop.path("program"), "main");
    let module = ModuleFiles { file: Arc::new(elf), path: None, root: None };
    let work = |requested: &[ElfAddr]| {
        let before = module.file.budget().used(Resource::Work);
        symbolize_module(&module, requested, &SymbolizeOptions::default());
        module.file.budget().used(Resource::Work) - before
    };
    assert!(all.len() > 4);
    assert_eq!(work(&all), work(&all[..2]), "work does not depend on the number of addresses");
}
