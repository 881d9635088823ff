//! Finds the units that contain an address: by `.debug_aranges` if present, else by the ranges in
//! the units' root entries. Only root entries are read, and the pages of a large file are released
//! along the way.

use std::collections::{BTreeMap, HashSet};

use gimli::{DebugInfoOffset, UnitRef, UnitType};

use super::{
    file::DwarfFile,
    ranges::{RangeAttributes, covered},
    sections::Sections,
};
use crate::symbolize::Deadline;

/// No more units than this share one address, however the file was linked.
const MAX_UNITS_PER_ADDRESS: u8 = 8;
/// Reading one root entry touches some pages, and the kernel may map 2 MiB around each.
const UNITS_PER_RELEASE: usize = 16;

/// Start offset of each unit, with the indices of the addresses it claims, ascending.
pub(super) type Claims = BTreeMap<usize, Vec<usize>>;

/// `addresses` must be sorted. The error is the first damage found; the claims found besides it are
/// kept.
pub(super) fn claims(
    file: &DwarfFile<'_>,
    sections: &Sections<'_>,
    addresses: &[u64],
    deadline: &Deadline,
) -> (Claims, Option<gimli::Error>) {
    let mut search =
        Search { addresses, claimed_by: vec![0; addresses.len()], claims: Claims::new(), deadline };
    let mut listed = HashSet::new();
    let mut damage = search.by_aranges(file, &mut listed).err();
    if search.claimed_by.contains(&0) && !deadline.passed() {
        damage = damage.or(search.by_root_entries(file, sections, &listed).err());
    }
    sections.release_pages();
    for indices in search.claims.values_mut() {
        indices.sort_unstable();
        indices.dedup();
    }
    (search.claims, damage)
}

struct Search<'s> {
    addresses: &'s [u64],
    /// Number of units that claim each address.
    claimed_by: Vec<u8>,
    claims: Claims,
    deadline: &'s Deadline,
}

impl Search<'_> {
    fn claim(&mut self, unit_start: usize, range: gimli::Range) {
        for index in covered(self.addresses, range) {
            if self.claimed_by[index] < MAX_UNITS_PER_ADDRESS {
                let indices = self.claims.entry(unit_start).or_default();
                if indices.last() != Some(&index) {
                    self.claimed_by[index] += 1;
                    indices.push(index);
                }
            }
        }
    }

    /// `listed` receives the units that `.debug_aranges` describes; their ranges are complete.
    fn by_aranges(&mut self, file: &DwarfFile<'_>, listed: &mut HashSet<usize>) -> gimli::Result<()> {
        let mut headers = file.dwarf.debug_aranges.headers();
        while let Some(header) = headers.next()? {
            let start = header.debug_info_offset().0;
            let mut entries = header.entries();
            let mut any = false;
            while let Some(entry) = entries.next()? {
                let range = entry.range();
                if range.begin != 0 && range.begin < range.end {
                    any = true;
                    self.claim(start, range);
                }
                if self.deadline.passed() {
                    return Ok(());
                }
            }
            if any {
                listed.insert(start);
            }
        }
        Ok(())
    }

    fn by_root_entries(
        &mut self,
        file: &DwarfFile<'_>,
        sections: &Sections<'_>,
        listed: &HashSet<usize>,
    ) -> gimli::Result<()> {
        let mut headers = file.dwarf.units();
        let mut seen = 0;
        let mut damage = Ok(());
        while let Some(header) = headers.next()? {
            if self.deadline.passed() {
                break;
            }
            let Some(DebugInfoOffset(start)) = header.debug_info_offset() else { continue };
            let has_code = matches!(header.type_(), UnitType::Compilation | UnitType::Skeleton(_));
            if !has_code || listed.contains(&start) {
                continue;
            }
            seen += 1;
            if seen % UNITS_PER_RELEASE == 0 {
                sections.release_pages();
            }
            damage = damage.and(self.by_root_entry(file, header, start));
        }
        damage
    }

    fn by_root_entry<'a>(
        &mut self,
        file: &DwarfFile<'a>,
        header: gimli::UnitHeader<super::sections::Slice<'a>>,
        start: usize,
    ) -> gimli::Result<()> {
        // A unit without a range attribute (types only) is skipped.
        let abbreviations = file.abbreviations(&header)?;
        let mut entries = header.entries_raw(&abbreviations, None)?;
        let Some(root) = entries.read_abbreviation()? else { return Ok(()) };
        let states = |name| root.attributes().iter().any(|spec| spec.name() == name);
        if !states(gimli::DW_AT_low_pc) && !states(gimli::DW_AT_ranges) {
            return Ok(());
        }
        let unit = file.parse_unit(header)?;
        let unit = UnitRef::new(&file.dwarf, &unit);
        let mut ranges = RangeAttributes::default();
        for spec in root.attributes() {
            ranges.take(unit, &entries.read_attribute(*spec)?)?;
        }
        ranges.for_each(unit, self.deadline, |range| self.claim(start, range))
    }
}
