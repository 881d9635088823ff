//! The address ranges of an entry: `DW_AT_low_pc` with `DW_AT_high_pc`, or `DW_AT_ranges`, in the
//! encodings of all DWARF versions.

use gimli::{Attribute, AttributeValue, Range, RangeListsOffset, UnitRef};

use super::sections::Slice;
use crate::symbolize::Deadline;

/// The range attributes of one entry, collected while it is read.
#[derive(Default)]
pub(super) struct RangeAttributes {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    list: Option<RangeListsOffset<usize>>,
}

impl RangeAttributes {
    /// Records a range attribute; other attributes are ignored.
    pub(super) fn take<'a>(
        &mut self,
        unit: UnitRef<'_, Slice<'a>>,
        attribute: &Attribute<Slice<'a>>,
    ) -> gimli::Result<()> {
        match (attribute.name(), attribute.value()) {
            (gimli::DW_AT_low_pc, value) => self.low = unit.attr_address(value)?,
            (gimli::DW_AT_high_pc, AttributeValue::Udata(size)) => self.size = Some(size),
            (gimli::DW_AT_high_pc, value) => self.high = unit.attr_address(value)?,
            (gimli::DW_AT_ranges, value) => self.list = unit.attr_ranges_offset(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Calls `visit` with each range that holds code. Ranges that begin at 0 are remains of
    /// functions that the linker discarded.
    pub(super) fn for_each<'a>(
        &self,
        unit: UnitRef<'_, Slice<'a>>,
        deadline: &Deadline,
        mut visit: impl FnMut(Range),
    ) -> gimli::Result<()> {
        let mut visit_code = |range: Range| {
            if range.begin != 0 && range.begin < range.end {
                visit(range);
            }
        };
        if let Some(offset) = self.list {
            let mut list = unit.ranges(offset)?;
            while let Some(range) = list.next()? {
                visit_code(range);
                if deadline.passed() {
                    break;
                }
            }
        } else if let Some(begin) = self.low {
            let end = self.high.or_else(|| begin.checked_add(self.size?));
            visit_code(Range { begin, end: end.unwrap_or(0) });
        }
        Ok(())
    }
}

/// The indices of the sorted `addresses` that are in `range`.
pub(super) fn covered(addresses: &[u64], range: Range) -> std::ops::Range<usize> {
    let first = addresses.partition_point(|address| *address < range.begin);
    let after =
        first + addresses.get(first..).unwrap_or_default().partition_point(|address| *address < range.end);
    first..after
}
