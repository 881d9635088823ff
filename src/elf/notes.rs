//! A file's identity and the names of its debug files: the build ID note (ELF gABI notes, type
//! `NT_GNU_BUILD_ID`), `.gnu_debuglink` and `.gnu_debugaltlink`.

use goblin::elf::{note::NT_GNU_BUILD_ID, program_header::PT_NOTE, section_header as sh};

use super::{ElfFile, c_string};

/// Longest build ID accepted; GNU ld writes 20 bytes, lld up to 32.
const MAX_BUILD_ID: usize = 64;

pub(super) fn build_id(elf: &ElfFile) -> Option<Vec<u8>> {
    let from_sections =
        elf.sections().iter().filter(|s| s.kind == sh::SHT_NOTE).filter_map(|s| elf.section_bytes(s));
    let from_segments = elf.note_ranges.iter().filter_map(|(offset, size)| elf.range(*offset, *size));
    from_segments.chain(from_sections).find_map(find_build_id)
}

/// The build ID of a file whose first pages are in memory; `None`: they do not have it. `read`
/// fills a buffer from an offset in the file on.
pub fn build_id_in_memory(read: &dyn Fn(u64, &mut [u8]) -> bool) -> Option<Vec<u8>> {
    /// No real file has more program headers, and no real note more bytes.
    const MAX_HEADERS: usize = 64;
    const MAX_NOTES: u64 = 64 << 10;
    let mut head = [0; 64];
    if !read(0, &mut head) || !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let count = usize::from(u16::from_le_bytes([head[56], head[57]])).min(MAX_HEADERS);
    for index in 0..count as u64 {
        let mut entry = [0; 56];
        if !read(word(&head, 32).checked_add(index * 56)?, &mut entry) {
            return None;
        }
        let size = word(&entry, 32);
        if u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) != PT_NOTE || size > MAX_NOTES {
            continue;
        }
        let mut notes = vec![0; size as usize];
        let found = read(word(&entry, 8), &mut notes).then(|| find_build_id(&notes)).flatten();
        if found.is_some() {
            return found;
        }
    }
    None
}

fn find_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    while notes.len() >= 12 {
        let word = |at: usize| u32::from_le_bytes(notes[at..at + 4].try_into().expect("4 bytes"));
        let (name_size, desc_size, kind) = (word(0) as usize, word(4) as usize, word(8));
        let desc_start = 12usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let desc_end = desc_start.checked_add(desc_size)?;
        let desc = notes.get(desc_start..desc_end)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..12 + name_size)? == b"GNU\0" {
            return (1..=MAX_BUILD_ID).contains(&desc_size).then(|| desc.to_vec());
        }
        notes = notes.get(desc_end.checked_next_multiple_of(4)?..)?;
    }
    None
}

pub(super) fn debug_link(elf: &ElfFile) -> Option<(String, u32)> {
    let bytes = elf.section_bytes(elf.section(".gnu_debuglink")?)?;
    let name = c_string(bytes, 0)?;
    let crc_at = (name.len() + 1).next_multiple_of(4);
    let crc = u32::from_le_bytes(bytes.get(crc_at..crc_at + 4)?.try_into().ok()?);
    Some((String::from_utf8(name.to_vec()).ok()?, crc))
}

pub(super) fn debug_alt_link(elf: &ElfFile) -> Option<(String, Vec<u8>)> {
    let bytes = elf.section_bytes(elf.section(".gnu_debugaltlink")?)?;
    let name = c_string(bytes, 0)?;
    let id = bytes.get(name.len() + 1..)?;
    Some((String::from_utf8(name.to_vec()).ok()?, id.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_is_found_after_another_note() {
        let mut notes = Vec::new();
        for (kind, desc) in [(1u32, &[0u8; 16][..]), (NT_GNU_BUILD_ID, &[0xab; 20][..])] {
            notes.extend(4u32.to_le_bytes());
            notes.extend((desc.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(b"GNU\0");
            notes.extend(desc);
        }
        assert_eq!(find_build_id(&notes), Some(vec![0xab; 20]));
        assert_eq!(find_build_id(&notes[..40]), None);
        assert_eq!(find_build_id(&[0xff; 64]), None);
    }
}
