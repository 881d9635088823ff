//! The program headers of a core: where its memory and its notes are.
//!
//! Not here: what the notes say.

use std::ops::Range;

use goblin::elf::{
    header::{self, Header},
    program_header as ph,
};

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// `e_phnum` of a file with more program headers than fit: section 0 has the number (elf(5)).
const PN_XNUM: u16 = 0xffff;
/// The most mappings: the kernel allows 65,530 by default.
const MAX_SEGMENTS: usize = 1 << 20;

/// A part of the process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// First address.
    pub start: u64,
    /// End address, exclusive.
    pub end: u64,
    /// Where its bytes begin in the core.
    pub file_offset: usize,
    /// How many bytes of it are in the core, from its start on.
    pub file_size: usize,
    pub readable: bool,
    pub writable: bool,
    pub executable: bool,
}

/// What the program headers describe.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub machine: u16,
    /// In ascending order, without overlaps.
    pub segments: Vec<Segment>,
    /// The notes, as ranges of the file.
    pub notes: Vec<Range<usize>>,
    /// How many bytes are missing at the end of the file.
    pub missing_bytes: u64,
}

impl Layout {
    /// Parses a core; `None`: it is something else.
    pub fn parse(bytes: &[u8]) -> Option<Layout> {
        let head = bytes.first_chunk::<HEADER_BYTES>()?;
        let is_native =
            head[header::EI_CLASS] == header::ELFCLASS64 && head[header::EI_DATA] == header::ELFDATA2LSB;
        if !head.starts_with(header::ELFMAG) || !is_native {
            return None;
        }
        let head =
            goblin::elf::Elf::parse_header(bytes).ok().filter(|head| head.e_type == header::ET_CORE)?;
        let mut layout = Layout { machine: head.e_machine, ..Layout::default() };
        let table = usize::try_from(head.e_phoff).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        for entry in table.chunks_exact(PROGRAM_HEADER_BYTES).take(count(bytes, &head)) {
            layout.add(entry, bytes.len());
        }
        layout.segments.sort_by_key(|segment| segment.start);
        let mut end = 0;
        layout.segments.retain(|segment| {
            let is_above = segment.start >= end;
            end = end.max(segment.end);
            is_above
        });
        Some(layout)
    }

    fn add(&mut self, entry: &[u8], length: usize) {
        let u32_at = |at: usize| {
            entry.get(at..at + 4).map_or(0, |word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let (kind, flags) = (u32_at(0), u32_at(4));
        let (offset, start, file_size, memory_size) = (u64_at(8), u64_at(16), u64_at(32), u64_at(40));
        let length = length as u64;
        let available = file_size.min(length.saturating_sub(offset));
        let missing = offset.saturating_add(file_size).saturating_sub(length);
        if kind == ph::PT_LOAD || kind == ph::PT_NOTE {
            self.missing_bytes = self.missing_bytes.max(missing);
        }
        let (file_offset, available) = (offset.min(length) as usize, available as usize);
        match kind {
            ph::PT_NOTE => self.notes.push(file_offset..file_offset + available),
            ph::PT_LOAD if memory_size > 0 => self.segments.push(Segment {
                start,
                end: start.saturating_add(memory_size),
                file_offset,
                file_size: available.min(usize::try_from(memory_size).unwrap_or(usize::MAX)),
                readable: flags & ph::PF_R != 0,
                writable: flags & ph::PF_W != 0,
                executable: flags & ph::PF_X != 0,
            }),
            _ => {}
        }
    }
}

/// How many program headers there are.
fn count(bytes: &[u8], head: &Header) -> usize {
    /// `sh_info` of a section header.
    const INFO: usize = 44;
    let of_section = || {
        let at = usize::try_from(head.e_shoff).ok()?.checked_add(INFO)?;
        let word = bytes.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*word) as usize)
    };
    let count = match head.e_phnum {
        PN_XNUM => of_section().unwrap_or(usize::from(PN_XNUM)),
        count => usize::from(count),
    };
    count.min(MAX_SEGMENTS)
}
