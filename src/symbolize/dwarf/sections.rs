//! The DWARF sections of one file, decompressed if necessary, in the form gimli reads.
//!
//! Not here: the meaning of the sections.

use gimli::{Dwarf, DwarfPackage, EndianSlice, LittleEndian, SectionId};

use crate::elf::{ElfFile, SectionContent};

/// The bytes that DWARF is read from.
pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Files above this size release their pages between steps, because pages of a mapped file count as
/// rprof's memory. For smaller files, faulting pages in again would cost more than it saves.
const LARGE_FILE_BYTES: usize = 24 << 20;

/// The sections that naming needs; locations, macros and types are never read or decompressed.
const NEEDED: [SectionId; 10] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugAranges,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
];
/// The index of a `.dwp` package refers to these sections, and gimli checks the references.
const NEEDED_OF_PACKAGE: [SectionId; 5] = [
    SectionId::DebugCuIndex,
    SectionId::DebugLoc,
    SectionId::DebugLocLists,
    SectionId::DebugMacinfo,
    SectionId::DebugMacro,
];

/// Section naming: split-DWARF files call theirs `.debug_info.dwo` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Plain,
    Split,
}

/// The sections of one file.
#[derive(Debug)]
pub(super) struct Sections<'e> {
    elf: &'e ElfFile,
    contents: Vec<(SectionId, SectionContent<'e>)>,
}

impl<'e> Sections<'e> {
    /// Loads the sections the file has; a damaged section is treated as missing.
    pub(super) fn load(elf: &'e ElfFile, flavour: Flavour) -> Sections<'e> {
        let is_package = elf.section(SectionId::DebugCuIndex.name()).is_some();
        let of_package: &[SectionId] = if is_package { &NEEDED_OF_PACKAGE } else { &[] };
        let contents = NEEDED.iter().chain(of_package).filter_map(|id| {
            let split_name = id.dwo_name().filter(|_| flavour == Flavour::Split);
            Some((*id, elf.section_content(split_name.unwrap_or(id.name()))?))
        });
        Sections { elf, contents: contents.collect() }
    }

    fn slice(&self, id: SectionId) -> Slice<'_> {
        let found = self.contents.iter().find(|(held, _)| *held == id);
        EndianSlice::new(found.map_or(&[], |(_, content)| content.bytes()), LittleEndian)
    }

    pub(super) fn dwarf(&self) -> Dwarf<Slice<'_>> {
        let Ok(dwarf) = Dwarf::load(|id| Ok::<_, std::convert::Infallible>(self.slice(id)));
        dwarf
    }

    /// The sections as a `.dwp` package.
    pub(super) fn package(&self) -> gimli::Result<DwarfPackage<Slice<'_>>> {
        DwarfPackage::load(|id| Ok::<_, gimli::Error>(self.slice(id)), EndianSlice::new(&[], LittleEndian))
    }

    /// Releases memory after a step over a large file.
    pub(super) fn release_pages(&self) {
        if self.elf.bytes().len() > LARGE_FILE_BYTES {
            self.elf.release_pages();
        }
        self.contents.iter().for_each(|(_, content)| content.release_pages());
    }
}
