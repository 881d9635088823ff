//! Reads the target's memory without stopping it: by process_vm_readv(2), or by /proc/PID/mem if
//! that is refused (older container seccomp profiles). Nothing is ever written. What is not a live
//! process is read through [`MemorySource`].

use std::{
    fmt,
    fs::File,
    io::IoSliceMut,
    os::unix::fs::FileExt,
    sync::{Arc, OnceLock},
};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::recent_pages::RecentPages;
use crate::addr::RuntimeAddr;

/// Memory that is not that of a live process, such as a core file.
pub trait MemorySource: fmt::Debug + Send + Sync {
    /// Reads from `address` on, up to the buffer's length or the end of what is known; returns the
    /// number of bytes.
    fn read(&self, address: RuntimeAddr, buffer: &mut [u8]) -> usize;
}

/// Bytes at an address, and nothing else.
#[derive(Debug)]
struct MemoryImage {
    start: RuntimeAddr,
    bytes: Vec<u8>,
}

impl MemorySource for MemoryImage {
    fn read(&self, address: RuntimeAddr, buffer: &mut [u8]) -> usize {
        let at = address.0.checked_sub(self.start.0).and_then(|at| usize::try_from(at).ok());
        let inside = at.and_then(|at| self.bytes.get(at..)).unwrap_or_default();
        let count = inside.len().min(buffer.len());
        buffer[..count].copy_from_slice(&inside[..count]);
        count
    }
}

/// A process's memory. Nothing is opened until the first read.
#[derive(Debug)]
pub struct ProcessMemory {
    pid: u32,
    /// What is read instead of a live process.
    source: Option<Arc<dyn MemorySource>>,
    /// /proc/PID/mem once process_vm_readv was refused; `None` inside: that was refused too.
    file: OnceLock<Option<File>>,
    /// Copies of pages, if reading them again within milliseconds may return the same.
    recent: Option<RecentPages>,
}

impl ProcessMemory {
    /// The memory of the process `pid`.
    pub fn new(pid: u32) -> ProcessMemory {
        ProcessMemory { pid, source: None, file: OnceLock::new(), recent: None }
    }

    /// The same memory, read page by page: many small reads close to each other cost one system
    /// call. What is read may be up to 10 ms old.
    pub fn by_pages(&self) -> ProcessMemory {
        let source = self.source.clone();
        let file = OnceLock::new();
        ProcessMemory { pid: self.pid, source, file, recent: Some(RecentPages::new()) }
    }

    /// Memory that is not a process's: `bytes` at `start` and nothing else, for tests of what reads
    /// it.
    pub fn of_image(start: RuntimeAddr, bytes: Vec<u8>) -> ProcessMemory {
        ProcessMemory::of_source(Arc::new(MemoryImage { start, bytes }))
    }

    /// Memory that is not that of a live process.
    pub fn of_source(source: Arc<dyn MemorySource>) -> ProcessMemory {
        ProcessMemory { pid: 0, source: Some(source), file: OnceLock::new(), recent: None }
    }

    /// Reads from `address` on, up to the buffer's length or the end of mapped memory; returns the
    /// number of bytes. 0: nothing is mapped there, the process is gone, or reading it is not
    /// permitted.
    pub fn read(&self, address: RuntimeAddr, buffer: &mut [u8]) -> usize {
        let from_process = |start, page: &mut [u8]| self.read_now(RuntimeAddr(start), page) == page.len();
        match &self.recent {
            Some(pages) if pages.read(address.0, buffer, from_process) => buffer.len(),
            _ => self.read_now(address, buffer),
        }
    }

    fn read_now(&self, address: RuntimeAddr, buffer: &mut [u8]) -> usize {
        if let Some(source) = &self.source {
            return source.read(address, buffer);
        }
        let Ok(base) = usize::try_from(address.0) else { return 0 };
        if let Some(file) = self.file.get() {
            return file.as_ref().map_or(0, |file| file.read_at(buffer, address.0).unwrap_or(0));
        }
        let remote = [RemoteIoVec { base, len: buffer.len() }];
        let pid = Pid::from_raw(self.pid as i32);
        match process_vm_readv(pid, &mut [IoSliceMut::new(buffer)], &remote) {
            Ok(count) => count,
            Err(nix::errno::Errno::EPERM | nix::errno::Errno::ENOSYS) => {
                self.file.get_or_init(|| File::open(format!("/proc/{}/mem", self.pid)).ok());
                self.read_now(address, buffer)
            }
            Err(_) => 0,
        }
    }
}

/// The most ranges that one call reads (`IOV_MAX` of limits.h).
const MAX_RANGES: usize = 1024;

impl ProcessMemory {
    /// Reads many ranges, one after the other, into `buffer`, whose length is the sum of theirs;
    /// returns how many of the ranges, from the first on, were read completely.
    pub fn read_ranges(&self, ranges: &[(RuntimeAddr, usize)], buffer: &mut [u8]) -> usize {
        let (mut whole, mut rest) = (0, buffer);
        for some in ranges.chunks(MAX_RANGES) {
            let total: usize = some.iter().map(|(_, length)| length).sum();
            let Some((now, later)) = rest.split_at_mut_checked(total) else { return whole };
            let got = self.read_some_ranges(some, now);
            whole += got;
            if got < some.len() {
                return whole;
            }
            rest = later;
        }
        whole
    }

    fn read_some_ranges(&self, ranges: &[(RuntimeAddr, usize)], buffer: &mut [u8]) -> usize {
        if self.file.get().is_none() && self.source.is_none() {
            let remote: Vec<_> =
                ranges.iter().map(|(start, len)| RemoteIoVec { base: start.0 as usize, len: *len }).collect();
            let pid = Pid::from_raw(self.pid as i32);
            match process_vm_readv(pid, &mut [IoSliceMut::new(buffer)], &remote) {
                Ok(count) => return whole_ranges(ranges, count),
                // `read` falls back to the file.
                Err(nix::errno::Errno::EPERM | nix::errno::Errno::ENOSYS) => {}
                Err(_) => return 0,
            }
        }
        let mut rest = buffer;
        for (index, (start, length)) in ranges.iter().enumerate() {
            let (now, later) = rest.split_at_mut(*length);
            if self.read(*start, now) < *length {
                return index;
            }
            rest = later;
        }
        ranges.len()
    }

    /// Fills `buffer` from `address` on; `false` if not all of it could be read.
    pub fn read_exact(&self, address: RuntimeAddr, buffer: &mut [u8]) -> bool {
        self.read(address, buffer) == buffer.len()
    }

    /// The 8-byte word at `address`; `None` if it could not be read.
    pub fn read_word(&self, address: RuntimeAddr) -> Option<u64> {
        let mut word = [0; 8];
        self.read_exact(address, &mut word).then(|| u64::from_le_bytes(word))
    }

    /// The 4-byte word at `address`; `None` if it could not be read.
    pub fn read_u32(&self, address: RuntimeAddr) -> Option<u32> {
        let mut word = [0; 4];
        self.read_exact(address, &mut word).then(|| u32::from_le_bytes(word))
    }
}

/// How many ranges the first `count` bytes fill.
fn whole_ranges(ranges: &[(RuntimeAddr, usize)], count: usize) -> usize {
    let mut left = count;
    ranges
        .iter()
        .take_while(|(_, length)| {
            let fits = left >= *length;
            left = left.saturating_sub(*length);
            fits
        })
        .count()
}

/// Tests both methods of reading a process's memory on one byte: process_vm_readv(2), and
/// /proc/PID/mem.
pub fn ways(pid: u32, address: RuntimeAddr) -> [std::io::Result<()>; 2] {
    let mut byte = [0u8; 1];
    let remote = [RemoteIoVec { base: address.0 as usize, len: 1 }];
    let read = process_vm_readv(Pid::from_raw(pid as i32), &mut [IoSliceMut::new(&mut byte)], &remote);
    let file = File::open(format!("/proc/{pid}/mem"));
    [read.map(drop).map_err(Into::into), file.and_then(|file| file.read_exact_at(&mut byte, address.0))]
}

/// Reads an image that the kernel maps into every process ([vdso]) from rprof's own memory, which
/// needs no rights over the target. `None` if it is not mapped here.
pub fn own_mapping(path: &str) -> Option<Vec<u8>> {
    let maps = super::read_mappings(std::process::id()).ok()?;
    let mapping = maps.iter().find(|mapping| mapping.path == path)?;
    let mut bytes = vec![0; usize::try_from(mapping.end.0 - mapping.start.0).ok()?];
    File::open("/proc/self/mem").ok()?.read_exact_at(&mut bytes, mapping.start.0).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_and_a_hole_reads_as_nothing() {
        let truth = [42u8; 64];
        let memory = ProcessMemory::new(std::process::id());
        let mut copy = [0u8; 64];
        assert_eq!(memory.read(RuntimeAddr(truth.as_ptr() as u64), &mut copy), 64);
        assert_eq!(copy, truth);
        assert_eq!(memory.read(RuntimeAddr(8), &mut copy), 0);
        assert_eq!(memory.read(RuntimeAddr(u64::MAX - 8), &mut copy), 0);
    }

    #[test]
    fn ranges_are_read_up_to_the_first_that_is_not_mapped() {
        let truth: Vec<u8> = (0..=255).collect();
        let at = |offset: usize| RuntimeAddr(truth.as_ptr() as u64 + offset as u64);
        let memory = ProcessMemory::new(std::process::id());
        let mut copy = [0u8; 40];
        assert_eq!(memory.read_ranges(&[(at(8), 10), (at(100), 30)], &mut copy), 2);
        assert_eq!((&copy[..10], &copy[10..]), (&truth[8..18], &truth[100..130]));
        assert_eq!(memory.read_ranges(&[(at(8), 10), (RuntimeAddr(8), 10), (at(0), 20)], &mut copy), 1);
    }

    #[test]
    fn the_vdso_is_an_elf_file() {
        let vdso = own_mapping("[vdso]").expect("mapped");
        assert_eq!(vdso.get(..4), Some(&b"\x7fELF"[..]));
    }
}
