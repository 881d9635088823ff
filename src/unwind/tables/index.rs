//! A sorted index of frame descriptions, for sections without the linker's search table.

use std::collections::hash_map::Entry;

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, EndianSlice, LittleEndian, UnwindOffset, UnwindSection,
};
use rustc_hash::FxHashMap;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// Most functions kept: 24 MiB of index. The largest programs have a search table.
const MAX_FUNCTIONS: usize = 2 << 20;
/// Most distinct common entries kept while building; compilers write one for each object file.
const MAX_COMMON: usize = 64 << 10;
/// Number of descriptions before an address that are tried: linkers leave dead ones behind.
const CANDIDATES: usize = 4;

/// Start addresses of functions, each with the offset of its description in the section.
#[derive(Debug, Default)]
pub(super) struct FdeIndex {
    starts: Vec<u64>,
    offsets: Vec<u32>,
}

impl FdeIndex {
    /// Reads the section up to its end, its first damaged entry, or a limit.
    pub fn build<'a, S: UnwindSection<Reader<'a>>>(section: &S, bases: &BaseAddresses) -> FdeIndex {
        let mut common: FxHashMap<usize, CommonInformationEntry<Reader<'a>>> = FxHashMap::default();
        let mut found: Vec<(u64, u32)> = Vec::new();
        let mut entries = section.entries(bases);
        while let Ok(Some(entry)) = entries.next() {
            if found.len() >= MAX_FUNCTIONS || common.len() >= MAX_COMMON {
                break;
            }
            let CieOrFde::Fde(partial) = entry else { continue };
            let parsed =
                partial.parse(|section, bases, offset| match common.entry(UnwindOffset::into(offset)) {
                    Entry::Occupied(known) => Ok(known.get().clone()),
                    Entry::Vacant(new) => Ok(new.insert(section.cie_from_offset(bases, offset)?).clone()),
                });
            if let (Ok(fde), Ok(offset)) = (parsed, u32::try_from(partial.offset()))
                && fde.len() > 0
            {
                found.push((fde.initial_address(), offset));
            }
        }
        found.sort_unstable();
        FdeIndex {
            starts: found.iter().map(|(start, _)| *start).collect(),
            offsets: found.iter().map(|(_, offset)| *offset).collect(),
        }
    }

    /// Offsets of the descriptions that may cover `address`, most likely first.
    pub fn candidates(&self, address: u64) -> impl Iterator<Item = usize> {
        let after = self.starts.partition_point(|start| *start <= address);
        self.offsets[..after].iter().rev().take(CANDIDATES).map(|offset| *offset as usize)
    }
}
