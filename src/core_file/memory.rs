//! The memory of a process as its core has it: the kernel writes what the process may have changed,
//! and of mapped files only the first page. The rest is read from the files.
//!
//! Not here: finding the files.

use std::sync::Arc;

use super::{mapped::MappedElf, segments::Segment};
use crate::{
    addr::RuntimeAddr,
    elf::ElfFile,
    process::{Mapping, MemorySource},
    sys::file_map::FileMap,
};

/// A mapped part of a file that is available.
#[derive(Debug)]
struct FilePart {
    start: u64,
    end: u64,
    offset: u64,
    elf: Arc<ElfFile>,
}

/// The memory of a core.
#[derive(Debug)]
pub(super) struct CoreMemory {
    map: Arc<FileMap>,
    /// In ascending order, without overlaps.
    segments: Vec<Segment>,
    /// In ascending order.
    parts: Vec<FilePart>,
}

impl CoreMemory {
    /// What the core itself has.
    pub fn new(map: Arc<FileMap>, segments: Vec<Segment>) -> CoreMemory {
        CoreMemory { map, segments, parts: Vec::new() }
    }

    /// Also reads from these files.
    pub fn set_files(&mut self, mappings: &[Mapping], files: &[MappedElf]) {
        let part = |mapping: &Mapping| {
            let elf = files.get(usize::try_from(mapping.inode).ok()?.checked_sub(1)?)?.elf.clone()?;
            Some(FilePart { start: mapping.start.0, end: mapping.end.0, offset: mapping.file_offset, elf })
        };
        self.parts = mappings.iter().filter_map(part).collect();
    }

    /// The segments, in ascending order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The bytes from `address` on that the core itself has together.
    pub fn in_core(&self, address: u64) -> Option<&[u8]> {
        let at = self.segments.partition_point(|segment| segment.end <= address);
        let segment = self.segments.get(at).filter(|segment| segment.start <= address)?;
        let skip = usize::try_from(address - segment.start).ok().filter(|skip| *skip < segment.file_size)?;
        self.map.bytes().get(segment.file_offset + skip..segment.file_offset + segment.file_size)
    }

    /// The bytes from `address` on that a mapped file has. What the process may have written is not
    /// taken from there.
    fn in_file(&self, address: u64) -> Option<&[u8]> {
        let at = self.segments.partition_point(|segment| segment.end <= address);
        let segment = self.segments.get(at).filter(|segment| segment.start <= address);
        if segment.is_some_and(|segment| segment.writable) {
            return None;
        }
        let at = self.parts.partition_point(|part| part.end <= address);
        let part = self.parts.get(at).filter(|part| part.start <= address)?;
        let skip = address - part.start;
        let bytes = part.elf.bytes();
        let from = usize::try_from(part.offset.checked_add(skip)?).ok()?;
        let length = usize::try_from(part.end - address).ok()?;
        bytes.get(from..from.saturating_add(length).min(bytes.len())).filter(|bytes| !bytes.is_empty())
    }
}

impl MemorySource for CoreMemory {
    fn read(&self, address: RuntimeAddr, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.0.checked_add(done as u64) else { break };
            let Some(bytes) = self.in_core(at).or_else(|| self.in_file(at)) else { break };
            let count = bytes.len().min(buffer.len() - done);
            buffer[done..done + count].copy_from_slice(&bytes[..count]);
            done += count;
        }
        done
    }
}
