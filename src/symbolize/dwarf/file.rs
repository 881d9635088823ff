//! One file's DWARF and the most recently parsed units and abbreviation tables of it, each bounded.
//! Follows references between units and into the supplementary file.
//!
//! Not here: finding the unit of an address.

use std::{
    cell::{OnceCell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
};

use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugInfoOffset, Dwarf, LittleEndian, Section, Unit,
    UnitHeader, UnitOffset, UnitRef,
};

use super::sections::Slice;
use crate::symbolize::Deadline;

/// One unit's abbreviations take about 100 KB; parsed, they take 20 times that size.
const MAX_ABBREVIATION_BYTES: usize = 4 << 20;
/// The header of a unit's line program lists its files: about 20,000 in the largest builds.
const MAX_LINE_HEADER_BYTES: u64 = 4 << 20;
/// Number of parsed units and abbreviation tables kept in memory.
const KEPT: usize = 32;

pub(super) type ParsedUnit<'a> = Unit<Slice<'a>>;

/// The DWARF of one file.
pub(super) struct DwarfFile<'a> {
    pub(super) dwarf: Dwarf<Slice<'a>>,
    /// dwz's supplementary file.
    supplementary: Option<&'a DwarfFile<'a>>,
    /// Start offsets of the units, ascending; read only when a reference between units is followed.
    unit_starts: OnceCell<Vec<usize>>,
    units: RefCell<VecDeque<(usize, Rc<ParsedUnit<'a>>)>>,
    abbreviations: RefCell<VecDeque<(usize, Arc<Abbreviations>)>>,
}

/// A debugging information entry: its file, its unit and its offset.
#[derive(Clone)]
pub(super) struct Entry<'f, 'a> {
    pub(super) file: &'f DwarfFile<'a>,
    pub(super) unit: Rc<ParsedUnit<'a>>,
    pub(super) offset: UnitOffset<usize>,
}

impl<'a> DwarfFile<'a> {
    /// If `supplementary` is given, `dwarf` must already have it set as its supplementary DWARF
    /// (for strings).
    pub(super) fn new(dwarf: Dwarf<Slice<'a>>, supplementary: Option<&'a DwarfFile<'a>>) -> DwarfFile<'a> {
        DwarfFile {
            dwarf,
            supplementary,
            unit_starts: OnceCell::new(),
            units: RefCell::default(),
            abbreviations: RefCell::default(),
        }
    }

    /// The unit whose header is at `start`.
    pub(super) fn unit_at(&self, start: usize) -> gimli::Result<Rc<ParsedUnit<'a>>> {
        if let Some((_, unit)) = self.units.borrow().iter().find(|(at, _)| *at == start) {
            return Ok(unit.clone());
        }
        let header = self.dwarf.unit_header(DebugInfoOffset(start))?;
        let unit = Rc::new(self.parse_unit(header)?);
        keep(&mut self.units.borrow_mut(), start, unit.clone());
        Ok(unit)
    }

    /// Parses a unit's root entry and its line program's header.
    pub(super) fn parse_unit(&self, header: UnitHeader<Slice<'a>>) -> gimli::Result<ParsedUnit<'a>> {
        let abbreviations = self.abbreviations(&header)?;
        self.check_line_header(&header, &abbreviations)?;
        Unit::new_with_abbreviations(&self.dwarf, header, abbreviations)
    }

    pub(super) fn abbreviations(&self, header: &UnitHeader<Slice<'a>>) -> gimli::Result<Arc<Abbreviations>> {
        let start = header.debug_abbrev_offset().0;
        if let Some((_, kept)) = self.abbreviations.borrow().iter().find(|(at, _)| *at == start) {
            return Ok(kept.clone());
        }
        let section = self.dwarf.debug_abbrev.reader().slice();
        let end = section.len().min(start.saturating_add(MAX_ABBREVIATION_BYTES));
        let bounded = DebugAbbrev::new(section.get(..end).unwrap_or_default(), LittleEndian);
        let parsed = Arc::new(header.abbreviations(&bounded)?);
        keep(&mut self.abbreviations.borrow_mut(), start, parsed.clone());
        Ok(parsed)
    }

    /// Refuses a line program header that would take more memory than that of any real program.
    fn check_line_header(
        &self,
        header: &UnitHeader<Slice<'a>>,
        abbreviations: &Abbreviations,
    ) -> gimli::Result<()> {
        let mut entries = header.entries_raw(abbreviations, None)?;
        let Some(root) = entries.read_abbreviation()? else { return Err(gimli::Error::MissingUnitDie) };
        for spec in root.attributes() {
            let attribute = entries.read_attribute(*spec)?;
            if let (gimli::DW_AT_stmt_list, AttributeValue::DebugLineRef(offset)) =
                (attribute.name(), attribute.value())
            {
                let bytes = self.dwarf.debug_line.reader().slice().get(offset.0..).unwrap_or_default();
                if line_header_length(bytes).is_some_and(|length| length > MAX_LINE_HEADER_BYTES) {
                    return Err(gimli::Error::UnsupportedOffset);
                }
            }
        }
        Ok(())
    }

    /// The entry that a reference attribute of `from`'s unit points to.
    pub(super) fn follow<'f>(
        &'f self,
        unit: &Rc<ParsedUnit<'a>>,
        reference: AttributeValue<Slice<'a>>,
        deadline: &Deadline,
    ) -> Option<Entry<'f, 'a>>
    where
        'a: 'f,
    {
        match reference {
            AttributeValue::UnitRef(offset) => Some(Entry { file: self, unit: unit.clone(), offset }),
            AttributeValue::DebugInfoRef(offset) => self.entry_at(offset.0, deadline),
            AttributeValue::DebugInfoRefSup(offset) => self.supplementary?.entry_at(offset.0, deadline),
            _ => None,
        }
    }

    fn entry_at<'f>(&'f self, offset: usize, deadline: &Deadline) -> Option<Entry<'f, 'a>> {
        let starts = self.unit_starts.get_or_init(|| self.read_unit_starts(deadline));
        let start = *starts.get(starts.partition_point(|start| *start <= offset).checked_sub(1)?)?;
        let unit = self.unit_at(start).ok()?;
        let offset = DebugInfoOffset(offset).to_unit_offset(&unit.header)?;
        Some(Entry { file: self, unit, offset })
    }

    fn read_unit_starts(&self, deadline: &Deadline) -> Vec<usize> {
        let mut starts = Vec::new();
        let mut headers = self.dwarf.units();
        while let Ok(Some(header)) = headers.next() {
            starts.extend(header.debug_info_offset().map(|start| start.0));
            if deadline.passed() {
                break;
            }
        }
        starts
    }
}

impl<'a> Entry<'_, 'a> {
    pub(super) fn unit_ref(&self) -> UnitRef<'_, Slice<'a>> {
        UnitRef::new(&self.file.dwarf, &self.unit)
    }
}

fn keep<T>(kept: &mut VecDeque<(usize, T)>, key: usize, value: T) {
    if kept.len() >= KEPT {
        kept.pop_front();
    }
    kept.push_back((key, value));
}

/// `header_length` of a line program (DWARF 5, section 6.2.4).
fn line_header_length(bytes: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let is_64 = word(0)? == u32::MAX;
    let version_at = if is_64 { 12 } else { 4 };
    let version = u16::from_le_bytes(bytes.get(version_at..version_at + 2)?.try_into().ok()?);
    // Version 5 has the address and segment selector sizes in between.
    let length_at = version_at + if version >= 5 { 4 } else { 2 };
    if is_64 {
        Some(u64::from_le_bytes(bytes.get(length_at..length_at + 8)?.try_into().ok()?))
    } else {
        word(length_at).map(u64::from)
    }
}
