//! Compressed sections: `SHF_COMPRESSED` (zlib, zstd; ELF gABI `Elf64_Chdr`) and GNU's older
//! `.zdebug_*`. A small file can claim to unpack to terabytes, so the size is bounded before and
//! while unpacking.

use std::{borrow::Cow, io::Read};

use goblin::elf::section_header as sh;

use super::{ElfFile, Section};

/// The most one section may unpack to: twice the largest seen in practice (a browser's `.debug_info`).
pub(super) const MAX_UNPACKED: u64 = 2 << 30;
const ELFCOMPRESS_ZLIB: u32 = 1;
const ELFCOMPRESS_ZSTD: u32 = 2;

pub(super) fn section_data<'a>(elf: &'a ElfFile, name: &str, max: u64) -> Option<Cow<'a, [u8]>> {
    if let Some(section) = elf.section(name) {
        let bytes = elf.section_bytes(section)?;
        return if section.flags & u64::from(sh::SHF_COMPRESSED) != 0 {
            unpack_standard(bytes, max).map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(bytes))
        };
    }
    let old: &Section = elf.section(&format!(".z{}", name.strip_prefix('.')?))?;
    let bytes = elf.section_bytes(old)?;
    let rest = bytes.strip_prefix(b"ZLIB")?;
    let size = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    unpack_zlib(rest.get(8..)?, bounded(size, max)?).map(Cow::Owned)
}

fn unpack_standard(bytes: &[u8], max: u64) -> Option<Vec<u8>> {
    let kind = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let size = bounded(u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?), max)?;
    let packed = bytes.get(24..)?;
    match kind {
        ELFCOMPRESS_ZLIB => unpack_zlib(packed, size),
        ELFCOMPRESS_ZSTD => unpack_zstd(packed, size),
        _ => None,
    }
}

fn bounded(size: u64, max: u64) -> Option<u64> {
    (size <= max).then_some(size)
}

fn unpack_zlib(packed: &[u8], size: u64) -> Option<Vec<u8>> {
    read_bounded(flate2::read::ZlibDecoder::new(packed), size)
}

fn unpack_zstd(packed: &[u8], size: u64) -> Option<Vec<u8>> {
    read_bounded(ruzstd::decoding::StreamingDecoder::new(packed).ok()?, size)
}

fn read_bounded(reader: impl Read, size: u64) -> Option<Vec<u8>> {
    if size > MAX_UNPACKED {
        return None;
    }
    let mut unpacked = Vec::new();
    reader.take(size).read_to_end(&mut unpacked).ok()?;
    (unpacked.len() as u64 == size).then_some(unpacked)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_claim_of_more_than_there_is_or_than_allowed_is_refused() {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&[5; 100]).expect("write");
        let packed = encoder.finish().expect("finish");
        assert_eq!(unpack_zlib(&packed, 100), Some(vec![5; 100]));
        assert_eq!(unpack_zlib(&packed, 101), None);
        assert_eq!(unpack_zlib(&packed, u64::MAX), None);
        assert_eq!(unpack_zlib(&packed[..5], 100), None);
    }
}
