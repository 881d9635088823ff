//! Compressed sections: `SHF_COMPRESSED` (zlib, zstd; ELF gABI `Elf64_Chdr`) and GNU's older
//! `.zdebug_*`. A small file can claim to unpack to terabytes, so the size is bounded before and
//! while unpacking.

use std::{
    borrow::Cow,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use goblin::elf::section_header as sh;

use super::ElfFile;
use crate::{
    budget::{Budget, Reservation, Resource},
    sys::file_map::FileMap,
};

/// Most bytes one section may decompress to: twice the largest seen in practice (`.debug_info` of a
/// browser).
pub(super) const MAX_UNPACKED: u64 = 2 << 30;
/// Larger content is unpacked into a temporary file, whose mapped pages can be released.
const MAX_IN_MEMORY: u64 = 8 << 20;
/// `Elf64_Chdr`.
const HEADER_BYTES: usize = 24;
const ELFCOMPRESS_ZLIB: u32 = 1;
const ELFCOMPRESS_ZSTD: u32 = 2;

/// A section's bytes, decompressed if necessary.
#[derive(Debug)]
pub enum SectionContent<'a> {
    /// Not compressed: a slice of the file.
    InFile(&'a [u8]),
    /// Decompressed, in memory or in a temporary file, and its share of the file's budget.
    Unpacked(FileMap, Reservation),
}

impl SectionContent<'_> {
    /// The section's content.
    pub fn bytes(&self) -> &[u8] {
        match self {
            SectionContent::InFile(bytes) => bytes,
            SectionContent::Unpacked(map, _) => map.bytes(),
        }
    }

    /// Lets the kernel drop the pages of a temporary file; for those of the ELF file itself see
    /// [`ElfFile::release_pages`].
    pub fn release_pages(&self) {
        if let SectionContent::Unpacked(map, _) = self {
            map.release_pages();
        }
    }
}

/// Compressed bytes and the size they claim to decompress to.
struct Packed<'a> {
    bytes: &'a [u8],
    size: u64,
    zstd: bool,
}

enum Found<'a> {
    Plain(&'a [u8]),
    Packed(Packed<'a>),
}

fn find<'a>(elf: &'a ElfFile, name: &str) -> Option<Found<'a>> {
    if let Some(section) = elf.section(name) {
        let bytes = elf.section_bytes(section)?;
        if section.flags & u64::from(sh::SHF_COMPRESSED) == 0 {
            return Some(Found::Plain(bytes));
        }
        let kind = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
        let size = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
        let zstd = match kind {
            ELFCOMPRESS_ZLIB => false,
            ELFCOMPRESS_ZSTD => true,
            _ => return None,
        };
        return Some(Found::Packed(Packed { bytes: bytes.get(HEADER_BYTES..)?, size, zstd }));
    }
    let old = elf.section(&format!(".z{}", name.strip_prefix('.')?))?;
    let rest = elf.section_bytes(old)?.strip_prefix(b"ZLIB")?;
    let size = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
    Some(Found::Packed(Packed { bytes: rest.get(8..)?, size, zstd: false }))
}

pub(super) fn section_data<'a>(elf: &'a ElfFile, name: &str, max_bytes: u64) -> Option<Cow<'a, [u8]>> {
    match find(elf, name)? {
        Found::Plain(bytes) => Some(Cow::Borrowed(bytes)),
        Found::Packed(packed) if packed.size > max_bytes => None,
        Found::Packed(packed) => {
            // Kept for as long as the file is open.
            elf.budget().take(Resource::Memory, packed.size).ok()?;
            packed.into_memory(elf.budget()).map(Cow::Owned)
        }
    }
}

pub(super) fn section_content<'a>(elf: &'a ElfFile, name: &str) -> Option<SectionContent<'a>> {
    let packed = match find(elf, name)? {
        Found::Plain(bytes) => return Some(SectionContent::InFile(bytes)),
        Found::Packed(packed) => packed,
    };
    if packed.size <= MAX_IN_MEMORY {
        let share = elf.budget().reserve(Resource::Memory, packed.size).ok()?;
        return Some(SectionContent::Unpacked(FileMap::from_vec(packed.into_memory(elf.budget())?), share));
    }
    let share = elf.budget().reserve(Resource::Disk, packed.size).ok()?;
    Some(SectionContent::Unpacked(FileMap::open(&packed.into_file(elf)?).ok()?, share))
}

impl Packed<'_> {
    fn into_memory(self, budget: &Budget) -> Option<Vec<u8>> {
        let mut unpacked = Vec::new();
        self.write_to(&mut unpacked, self.bytes, budget)?;
        Some(unpacked)
    }

    /// Decompresses into an unnamed file, which disappears with its mapping however rprof ends. The
    /// pages of `elf`, which holds the compressed bytes, are released along the way.
    fn into_file(self, elf: &ElfFile) -> Option<File> {
        let folder = std::env::temp_dir();
        // The target's files must not fill the disk of the machine.
        if free_bytes(&folder).is_some_and(|free| self.size > free / 4) {
            return None;
        }
        let file = tempfile::tempfile_in(folder).ok()?;
        let mut writer = io::BufWriter::with_capacity(1 << 20, &file);
        self.write_to(&mut writer, Releasing { bytes: self.bytes, elf, read_bytes: 0 }, elf.budget())?;
        writer.flush().ok()?;
        drop(writer);
        Some(file)
    }

    fn write_to(&self, out: &mut impl Write, packed: impl Read, budget: &Budget) -> Option<()> {
        let packed = Stoppable { inner: packed, budget };
        if self.size > MAX_UNPACKED {
            return None;
        }
        let copied = if self.zstd {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed).ok()?;
            io::copy(&mut decoder.take(self.size), out)
        } else {
            io::copy(&mut flate2::read::ZlibDecoder::new(packed).take(self.size), out)
        };
        (copied.ok()? == self.size).then_some(())
    }
}

/// Bytes that may still be written to the file system of `folder`.
fn free_bytes(folder: &Path) -> Option<u64> {
    let statistics = nix::sys::statvfs::statvfs(folder).ok()?;
    statistics.blocks_available().checked_mul(statistics.fragment_size())
}

/// Reads until the session is stopped.
struct Stoppable<'a, R> {
    inner: R,
    budget: &'a Budget,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        match self.budget.take(Resource::Work, read as u64) {
            Ok(()) => Ok(read),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Reads bytes of a mapped file and releases its pages at intervals.
struct Releasing<'a> {
    bytes: &'a [u8],
    elf: &'a ElfFile,
    read_bytes: usize,
}

impl Read for Releasing<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        const BYTES_PER_RELEASE: usize = 16 << 20;
        let read = self.bytes.read(out)?;
        self.read_bytes += read;
        if self.read_bytes >= BYTES_PER_RELEASE {
            self.elf.release_pages();
            self.read_bytes = 0;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_that_claims_more_bytes_than_it_holds_or_than_allowed_is_refused() {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&[5; 100]).expect("write");
        let bytes = encoder.finish().expect("finish");
        let budget = Budget::session();
        let unpack = |bytes, size| Packed { bytes, size, zstd: false }.into_memory(&budget);
        assert_eq!(unpack(&bytes, 100), Some(vec![5; 100]));
        assert_eq!(unpack(&bytes, 101), None);
        assert_eq!(unpack(&bytes, u64::MAX), None);
        assert_eq!(unpack(&bytes[..5], 100), None);
    }
}
