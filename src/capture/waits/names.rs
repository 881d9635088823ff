//! Names of objects in memory: the variable at an address, from the symbol table of the mapped
//! file.

use std::collections::BTreeMap;

use super::space::Space;
use crate::{
    addr::{FileOffset, RuntimeAddr},
    budget::Budget,
    elf::ElfFile,
    process::{
        Mapping,
        files::{self, MappedFile},
    },
    symbolize::demangle,
};

/// The most addresses that are named in one process.
const MAX_NAMED: usize = 10_000;

/// The names of the variables at `addresses`: `` `g_lock` in bank ``, `heap`, `stack`, or empty.
pub fn objects(space: &Space, addresses: &[u64], budget: &Budget) -> BTreeMap<u64, String> {
    let mut by_file: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for address in addresses.iter().copied().take(MAX_NAMED) {
        match file_of(space, address) {
            Ok(mapping) => by_file.entry(mapping).or_default().push(address),
            Err(kind) => drop(names.insert(address, kind.to_owned())),
        }
    }
    for (mapping, mut addresses) in by_file {
        addresses.sort_unstable();
        addresses.dedup();
        let mapping = &space.mappings()[mapping];
        let found = variables(space.pid, mapping, &addresses, budget).unwrap_or_default();
        let file = mapping.path.rsplit('/').next().unwrap_or_default();
        names.extend(found.into_iter().map(|(address, name)| (address, format!("{name} in {file}"))));
    }
    names
}

/// The index of the file's mapping that an address belongs to: `.bss` goes on in the anonymous
/// mapping after the file. Errors: what the memory is instead.
fn file_of(space: &Space, address: u64) -> Result<usize, &'static str> {
    let mut index = space.mapping_at(address).ok_or("")?;
    let mappings = space.mappings();
    while mappings[index].path.is_empty() && index > 0 && mappings[index - 1].end == mappings[index].start {
        index -= 1;
    }
    match mappings[index].path.as_str() {
        "[heap]" => Err("heap"),
        "[stack]" => Err("stack"),
        path if path.starts_with('/') && mappings[index].inode != 0 => Ok(index),
        _ => Err(""),
    }
}

/// The variables of one file at these addresses, which are sorted.
fn variables(pid: u32, mapping: &Mapping, addresses: &[u64], budget: &Budget) -> Option<Vec<(u64, String)>> {
    let file = files::open(&MappedFile::of(pid, mapping)).ok()?;
    let elf = ElfFile::open_within(&file, budget).ok()?;
    let bias = bias(&elf, mapping)?;
    let mut best: Vec<Option<(u64, &[u8])>> = vec![None; addresses.len()];
    for symbol in elf.symbol_tables().flat_map(|table| table.defined_symbols()) {
        let start = symbol.address.0.wrapping_add(bias);
        let end = start.saturating_add(symbol.size);
        let first = addresses.partition_point(|address| *address < start);
        for (at, address) in addresses.iter().enumerate().skip(first).take_while(|(_, one)| **one < end) {
            if best[at].is_none_or(|(held, _)| held < start) && !symbol.name.is_empty() {
                best[at] = Some((start, symbol.name));
            }
            debug_assert!(*address >= start);
        }
    }
    let named = addresses.iter().zip(best).filter_map(|(address, best)| {
        let (start, name) = best?;
        let name = demangle(&String::from_utf8_lossy(name)).to_string();
        Some((
            *address,
            match address - start {
                0 => format!("`{name}`"),
                offset => format!("`{name}`+{offset}"),
            },
        ))
    });
    Some(named.collect())
}

/// Run-time address minus ELF address, by the segment that the mapping is of.
fn bias(elf: &ElfFile, mapping: &Mapping) -> Option<u64> {
    let page = |value: u64| value & !0xfff;
    let is_mapped =
        |offset: u64, size: u64| (page(offset)..offset.saturating_add(size)).contains(&mapping.file_offset);
    let segment = elf.segments().iter().find(|segment| {
        segment.writable == mapping.writable && is_mapped(segment.file_offset.0, segment.file_size)
    });
    let segment =
        segment.or_else(|| elf.segments().iter().find(|one| is_mapped(one.file_offset.0, one.file_size)))?;
    let FileOffset(offset) = segment.file_offset;
    let RuntimeAddr(start) = mapping.start;
    // Where the segment's first byte is mapped.
    let at = start.wrapping_add(offset).wrapping_sub(mapping.file_offset);
    Some(at.wrapping_sub(segment.address.0))
}
