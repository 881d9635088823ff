//! The functions of a unit at the requested addresses, with the functions inlined there: one walk
//! over all entries of the unit that keeps only the chains of those addresses.

use std::rc::Rc;

use gimli::{Abbreviation, AttributeValue, EntriesRaw, UnitOffset, UnitRef};

use super::{
    file::{DwarfFile, Entry, ParsedUnit},
    ranges::{RangeAttributes, covered},
    sections::{Sections, Slice},
};
use crate::symbolize::Deadline;

/// Inlining nests about 30 deep in practice.
const MAX_INLINE_DEPTH: usize = 256;
/// A definition refers to its declaration, and that may refer to a template's.
const MAX_REFERENCES: usize = 16;
const MAX_NAME_BYTES: usize = 64 << 10;
/// Bytes of a unit that are walked before its pages are released.
const BYTES_PER_RELEASE: usize = 16 << 20;

/// The function at an address and the functions inlined there, as entries of the unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    pub function: Option<UnitOffset<usize>>,
    /// Outermost first.
    pub inlined: Vec<Inlined>,
}

/// An inlined function, and the call site in its caller.
#[derive(Clone, Debug)]
pub(super) struct Inlined {
    depth: isize,
    pub entry: UnitOffset<usize>,
    pub call_file: u64,
    pub call_line: u32,
    pub call_column: u32,
}

/// Names and declaration line of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::symbolize) struct Description {
    pub name: Option<String>,
    pub linkage_name: Option<String>,
    pub start_line: u32,
}

impl Description {
    /// Bytes of its names.
    pub(super) fn text_bytes(&self) -> usize {
        [&self.name, &self.linkage_name].into_iter().flatten().map(String::len).sum()
    }
}

/// The attributes of a function's or inlined function's entry that the walk reads.
#[derive(Default)]
struct Found {
    ranges: RangeAttributes,
    sibling: Option<UnitOffset<usize>>,
    call_file: u64,
    call_line: u32,
    call_column: u32,
}

/// The function the walk is in, if it contains any of the addresses.
struct Within {
    depth: isize,
    /// Indices of addresses, ascending.
    indices: Vec<usize>,
}

/// The chains of some sorted addresses of a unit, and the damage that ended the walk early, if any.
pub(super) fn chains(
    unit: UnitRef<'_, Slice<'_>>,
    addresses: &[u64],
    sections: &Sections<'_>,
    deadline: &Deadline,
) -> (Vec<Chain>, Option<gimli::Error>) {
    let mut walk = Walk {
        unit,
        addresses,
        chains: vec![Chain::default(); addresses.len()],
        within: Vec::new(),
        deadline,
    };
    let mut outcome = walk.run(sections, true);
    // A function inside another one (GNU C, Pascal) or inside a type may have been skipped.
    if matches!(outcome, Ok(true)) && walk.chains.iter().any(|chain| chain.function.is_none()) {
        outcome = walk.run(sections, false);
    }
    (walk.chains, outcome.err())
}

struct Walk<'w, 'a> {
    unit: UnitRef<'w, Slice<'a>>,
    addresses: &'w [u64],
    chains: Vec<Chain>,
    /// Functions may nest (GNU C, Pascal); the innermost is last.
    within: Vec<Within>,
    deadline: &'w Deadline,
}

impl<'a> Walk<'_, 'a> {
    /// `skip`: skip functions without addresses, and types, where the compiler states their end
    /// (`DW_AT_sibling`; GCC does). Returns true if anything was skipped.
    fn run(&mut self, sections: &Sections<'_>, skip: bool) -> gimli::Result<bool> {
        let unit = self.unit;
        let mut entries = unit.entries_raw(None)?;
        // Depths are counted from the point where reading starts.
        let mut base_depth = 0;
        let mut released_at = 0;
        let mut skipped = false;
        while !entries.is_empty() && !self.deadline.passed() {
            let depth = base_depth + entries.next_depth();
            let offset = entries.next_offset();
            if offset.0 - released_at > BYTES_PER_RELEASE {
                sections.release_pages();
                released_at = offset.0;
            }
            while self.within.last().is_some_and(|within| within.depth >= depth) {
                self.within.pop();
            }
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            let sibling = self.entry(&mut entries, abbreviation, depth, offset)?;
            // A sibling that is not further ahead would cause an endless loop.
            if let Some(sibling) = sibling.filter(|sibling| skip && sibling.0 > offset.0) {
                entries = unit.entries_raw(Some(sibling))?;
                base_depth = depth;
                skipped = true;
            }
        }
        self.within.clear();
        Ok(skipped)
    }

    /// Reads one entry. If nothing below it is needed, returns the offset of its sibling.
    fn entry(
        &mut self,
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        abbreviation: &Abbreviation,
        depth: isize,
        offset: UnitOffset<usize>,
    ) -> gimli::Result<Option<UnitOffset<usize>>> {
        match abbreviation.tag() {
            gimli::DW_TAG_subprogram => return self.function(entries, abbreviation, depth, offset),
            gimli::DW_TAG_inlined_subroutine if !self.within.is_empty() => {
                self.inlined(entries, abbreviation, depth, offset)?;
            }
            gimli::DW_TAG_structure_type
            | gimli::DW_TAG_class_type
            | gimli::DW_TAG_union_type
            | gimli::DW_TAG_enumeration_type
                if abbreviation.has_children() =>
            {
                return Ok(self.read(entries, abbreviation)?.sibling);
            }
            _ => entries.skip_attributes(abbreviation.attributes())?,
        }
        Ok(None)
    }

    fn function(
        &mut self,
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        abbreviation: &Abbreviation,
        depth: isize,
        offset: UnitOffset<usize>,
    ) -> gimli::Result<Option<UnitOffset<usize>>> {
        let found = self.read(entries, abbreviation)?;
        // If two functions claim one address, the first is used.
        let mut indices = self.covered(&found)?;
        indices.retain(|index| self.chains[*index].function.is_none());
        for index in &indices {
            self.chains[*index].function = Some(offset);
        }
        if !abbreviation.has_children() {
            return Ok(None);
        }
        let sibling = found.sibling.filter(|_| indices.is_empty());
        // Recorded even without addresses: functions inlined below belong to this function, not to
        // an outer one.
        self.within.push(Within { depth, indices });
        Ok(sibling)
    }

    fn inlined(
        &mut self,
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        abbreviation: &Abbreviation,
        depth: isize,
        entry: UnitOffset<usize>,
    ) -> gimli::Result<()> {
        if self.within.last().is_none_or(|within| within.indices.is_empty()) {
            return entries.skip_attributes(abbreviation.attributes());
        }
        let found = self.read(entries, abbreviation)?;
        let covered = self.covered(&found)?;
        let Some(within) = self.within.last() else { return Ok(()) };
        for index in covered.into_iter().filter(|index| within.indices.binary_search(index).is_ok()) {
            let chain = &mut self.chains[index].inlined;
            // Siblings do not overlap; if they do, the later one is used.
            while chain.last().is_some_and(|inner| inner.depth >= depth) {
                chain.pop();
            }
            if chain.len() < MAX_INLINE_DEPTH {
                let Found { call_file, call_line, call_column, .. } = found;
                chain.push(Inlined { depth, entry, call_file, call_line, call_column });
            }
        }
        Ok(())
    }

    fn read(
        &self,
        entries: &mut EntriesRaw<'_, Slice<'a>>,
        abbreviation: &Abbreviation,
    ) -> gimli::Result<Found> {
        let mut found = Found::default();
        for spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(*spec)?;
            let number = || attribute.udata_value().and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
            match attribute.name() {
                gimli::DW_AT_low_pc | gimli::DW_AT_high_pc | gimli::DW_AT_ranges => {
                    found.ranges.take(self.unit, &attribute)?;
                }
                gimli::DW_AT_sibling => {
                    if let AttributeValue::UnitRef(sibling) = attribute.value() {
                        found.sibling = Some(sibling);
                    }
                }
                gimli::DW_AT_call_file => {
                    found.call_file = match attribute.value() {
                        AttributeValue::FileIndex(index) => index,
                        value => value.udata_value().unwrap_or(0),
                    };
                }
                gimli::DW_AT_call_line => found.call_line = number(),
                gimli::DW_AT_call_column => found.call_column = number(),
                _ => {}
            }
        }
        Ok(found)
    }

    /// Indices of the addresses in an entry's ranges, ascending.
    fn covered(&self, found: &Found) -> gimli::Result<Vec<usize>> {
        let mut indices = Vec::new();
        found.ranges.for_each(self.unit, self.deadline, |range| {
            indices.extend(covered(self.addresses, range));
        })?;
        indices.sort_unstable();
        indices.dedup();
        Ok(indices)
    }
}

/// Reads a function's names and line, following the references from its entry to its declaration.
pub(super) fn describe<'a>(
    file: &DwarfFile<'a>,
    unit: &Rc<ParsedUnit<'a>>,
    offset: UnitOffset<usize>,
    deadline: &Deadline,
) -> Description {
    let mut description = Description::default();
    let mut next = Some(Entry { file, unit: unit.clone(), offset });
    for _ in 0..MAX_REFERENCES {
        // A name may be long, and its end far away.
        let Some(entry) = next.filter(|_| !deadline.look()) else { break };
        // What was read before the damage is kept.
        next = describe_one(&entry, &mut description, deadline).ok().flatten();
    }
    description
}

fn describe_one<'f, 'a>(
    entry: &Entry<'f, 'a>,
    description: &mut Description,
    deadline: &Deadline,
) -> gimli::Result<Option<Entry<'f, 'a>>> {
    let unit = entry.unit_ref();
    let mut entries = entry.unit.entries_raw(Some(entry.offset))?;
    let Some(abbreviation) = entries.read_abbreviation()? else { return Ok(None) };
    let mut origin = None;
    for spec in abbreviation.attributes() {
        let attribute = entries.read_attribute(*spec)?;
        match attribute.name() {
            gimli::DW_AT_name if description.name.is_none() => {
                description.name = text(unit, attribute.value());
            }
            gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name
                if description.linkage_name.is_none() =>
            {
                description.linkage_name = text(unit, attribute.value());
            }
            gimli::DW_AT_decl_line if description.start_line == 0 => {
                let line = attribute.udata_value().and_then(|line| u32::try_from(line).ok());
                description.start_line = line.unwrap_or(0);
            }
            gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => origin = Some(attribute.value()),
            _ => {}
        }
    }
    Ok(origin.and_then(|reference| entry.file.follow(&entry.unit, reference, deadline)))
}

fn text<'a>(unit: UnitRef<'_, Slice<'a>>, value: AttributeValue<Slice<'a>>) -> Option<String> {
    let bytes = unit.attr_string(value).ok()?;
    let bytes = bytes.slice();
    let bytes = bytes.get(..MAX_NAME_BYTES).unwrap_or(bytes);
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}
