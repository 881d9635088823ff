//! MiniDebugInfo: `.gnu_debugdata`, an xz-compressed ELF file inside a stripped one. It has the
//! names of the functions that are not exported (Fedora and related distributions ship it in every
//! package).
//!
//! Not here: searching its symbol table.

use crate::{
    budget::{Reservation, Resource},
    elf::ElfFile,
};

/// A browser's decompresses to about 20 MB.
const MAX_UNPACKED: u64 = 128 << 20;

/// The ELF file inside `.gnu_debugdata`, and its share of the outer file's budget. `Ok(None)` if
/// the section is missing; the error states what is wrong.
pub(super) fn inner_file(elf: &ElfFile) -> Result<Option<(ElfFile, Reservation)>, &'static str> {
    let Some(packed) = elf.section(".gnu_debugdata").and_then(|section| elf.section_bytes(section)) else {
        return Ok(None);
    };
    // The decoder keeps its whole output in memory, so the output's size is computed beforehand.
    let size = unpacked_size(packed).ok_or(".gnu_debugdata: not an xz stream of LZMA2 blocks")?;
    let too_large = ".gnu_debugdata: decompresses to more than the limit";
    let share = elf.budget().reserve(Resource::Memory, size).map_err(|_| too_large)?;
    if size > MAX_UNPACKED {
        return Err(too_large);
    }
    let mut unpacked = Vec::new();
    let mut input = packed;
    lzma_rs::xz_decompress(&mut input, &mut unpacked).map_err(|_| ".gnu_debugdata: damaged xz stream")?;
    let inner = ElfFile::from_bytes_within(unpacked, elf.budget());
    let inner = inner.map_err(|_| ".gnu_debugdata: its content is not an ELF file")?;
    Ok(Some((inner, share)))
}

/// Adds up the decompressed sizes that the chunks of an xz stream state, without decompressing (the
/// .xz file format, version 1.1, sections 2 and 3; LZMA2 chunks: control byte, sizes minus one,
/// data).
fn unpacked_size(stream: &[u8]) -> Option<u64> {
    const STREAM_HEADER_BYTES: usize = 12;
    /// Size in bytes of the check after each block, by check ID.
    const CHECK_BYTES: [usize; 16] = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
    let check = CHECK_BYTES[usize::from(*stream.get(7)? & 0xf)];
    let mut at = STREAM_HEADER_BYTES;
    let mut total = 0u64;
    loop {
        let header_size = usize::from(*stream.get(at)?);
        if header_size == 0 {
            return Some(total);
        }
        // More than one filter is refused: a chain could decompress its input twice.
        if stream.get(at + 1)? & 3 != 0 {
            return None;
        }
        let (end, size) = block_content(stream, at + (header_size + 1) * 4)?;
        total = total.checked_add(size)?;
        at = end.checked_next_multiple_of(4)?.checked_add(check)?;
    }
}

/// End of the chunks that begin at `at`, and their decompressed size.
fn block_content(stream: &[u8], mut at: usize) -> Option<(usize, u64)> {
    let mut total = 0u64;
    let word = |at: usize| Some(usize::from(u16::from_be_bytes(stream.get(at..at + 2)?.try_into().ok()?)));
    loop {
        let control = *stream.get(at)?;
        match control {
            0 => return Some((at + 1, total)),
            1 | 2 => {
                let size = word(at + 1)? + 1;
                total += size as u64;
                at += 3 + size;
            }
            0x80.. => {
                let unpacked = (usize::from(control & 0x1f) << 16 | word(at + 1)?) + 1;
                let has_properties = (control >> 5) & 3 >= 2;
                total += unpacked as u64;
                at += 5 + usize::from(has_properties) + word(at + 3)? + 1;
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut input = content;
        lzma_rs::xz_compress(&mut input, &mut out).expect("compressing into memory");
        out
    }

    #[test]
    fn the_size_is_known_before_decompression() {
        for size in [0, 1, 1000, 300_000] {
            assert_eq!(unpacked_size(&packed(&vec![1; size])), Some(size as u64));
        }
    }

    #[test]
    fn a_truncated_or_invalid_stream_has_no_size() {
        let stream = packed(&[1; 1000]);
        assert_eq!(unpacked_size(&stream[..500]), None);
        assert_eq!(unpacked_size(&[0xff; 100]), None);
        assert_eq!(unpacked_size(&[]), None);
    }
}
