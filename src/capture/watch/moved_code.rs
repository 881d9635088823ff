//! Code that a program has moved from its file to anonymous memory at the same address, so that it
//! is in huge pages (node --use-largepages=on, PHP's opcache.huge_code_pages, HHVM, iodlr).
//!
//! Not here: code that a runtime generates.

use crate::{
    addr::{ElfAddr, FileOffset, RuntimeAddr},
    elf::ElfFile,
    process::{Mapping, ProcessMemory},
};

/// How many places of the mapping are compared with the file, and how many bytes at each.
const PLACES: u64 = 8;
const COMPARED_BYTES: usize = 64;

/// Whether a mapping may be moved code: anonymous and without a name.
pub fn is_candidate(mapping: &Mapping) -> bool {
    mapping.inode == 0 && mapping.path.is_empty()
}

/// The executable mappings of files next to an anonymous one, below and above it.
pub fn neighbours<'m>(anonymous: &Mapping, executable: &'m [Mapping]) -> impl Iterator<Item = &'m Mapping> {
    let at = executable.partition_point(|mapping| mapping.start < anonymous.start);
    let (below, above) = executable.split_at(at);
    let of_file = |mapping: &&Mapping| mapping.inode != 0;
    below.iter().rev().find(of_file).into_iter().chain(above.iter().find(of_file))
}

/// Where the content of an anonymous mapping is in the file of a neighbour, if it lies inside the
/// same segment of the file, at the same bias, and has the file's bytes.
pub fn offset_in_file(
    anonymous: &Mapping,
    neighbour: &Mapping,
    elf: &ElfFile,
    memory: &ProcessMemory,
) -> Option<u64> {
    let address = elf.address_of(FileOffset(neighbour.file_offset))?;
    let bias = neighbour.start.0.wrapping_sub(address.0);
    let (start, end) = (anonymous.start.0.wrapping_sub(bias), anonymous.end.0.wrapping_sub(bias));
    let page = |address: u64| address & !0xfff;
    let segment = elf.segments().iter().filter(|segment| segment.executable).find(|segment| {
        let to = segment.address.0.saturating_add(segment.memory_size).saturating_add(0xfff);
        page(segment.address.0) <= start && end <= page(to)
    })?;
    let same = (0..PLACES).all(|place| {
        let at = start + (end - start) / PLACES * place;
        let expected = elf.bytes_from(ElfAddr(at)).and_then(|bytes| bytes.get(..COMPARED_BYTES));
        let mut found = [0; COMPARED_BYTES];
        let count = memory.read(RuntimeAddr(at.wrapping_add(bias)), &mut found);
        // The file may end before the last page does.
        expected.is_none_or(|expected| count == COMPARED_BYTES && found == expected)
    });
    let first = elf.bytes_from(ElfAddr(start)).is_some();
    let offset = segment.file_offset.0.checked_add(start)?.checked_sub(segment.address.0)?;
    (same && first).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::read_executable_mappings;

    #[test]
    fn a_copy_of_code_is_only_at_its_own_address_the_files() {
        let pid = std::process::id();
        let mappings = read_executable_mappings(pid).expect("maps");
        let program = mappings.iter().find(|mapping| mapping.inode != 0).expect("a program");
        let file = std::fs::File::open(&program.path).expect("the program");
        let elf = ElfFile::open(&file).expect("an ELF file");
        let memory = ProcessMemory::new(pid);
        let part = |start: u64| Mapping {
            start: RuntimeAddr(start),
            end: RuntimeAddr(start + 0x4000),
            inode: 0,
            path: String::new(),
            ..program.clone()
        };
        let inside = part(program.start.0 + 0x2000);
        assert!(is_candidate(&inside) && !is_candidate(program));
        let offset = offset_in_file(&inside, program, &elf, &memory);
        assert_eq!(offset, Some(program.file_offset + 0x2000));
        assert_eq!(neighbours(&inside, &mappings).next().map(|found| found.start), Some(program.start));
        // Other memory of this process, as if the program had been loaded 4 KiB lower.
        let shifted = Mapping { start: RuntimeAddr(program.start.0 - 0x1000), ..program.clone() };
        assert_eq!(offset_in_file(&inside, &shifted, &elf, &memory), None);
        // Beyond the segment.
        assert_eq!(offset_in_file(&part(program.end.0 + 0x10_0000), program, &elf, &memory), None);
    }
}
