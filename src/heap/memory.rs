//! Sources of memory: a live process, whose pages that are not present are never touched, and
//! anything else that has bytes at addresses.

use std::{fs::File, os::unix::fs::FileExt};

use crate::{addr::RuntimeAddr, process::ProcessMemory};

/// The size of a page as /proc/PID/pagemap counts it, in bytes.
pub const PAGE: u64 = 4096;

/// What a page of a process is, as far as reading it has consequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present {
    /// In memory, or a page of a file: reading it changes nothing.
    Yes,
    /// In swap: reading it would bring it back.
    Swapped,
    /// Never touched: reading it would grow the page tables.
    Untouched,
}

/// Bytes at the addresses of a process.
pub trait Memory: Send + Sync {
    /// Reads from `address` on, up to the buffer's length; returns the number of bytes read, fewer
    /// if the rest is not mapped or cannot be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize;

    /// What the pages from the one at `address` on are. `false`: it is not known, and every page
    /// may be read.
    fn pages(&self, address: u64, pages: &mut [Present]) -> bool;

    /// The 8-byte word at `address`; `None` if it could not be read.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        (self.read(address, &mut bytes) == 8).then(|| u64::from_le_bytes(bytes))
    }

    /// Reads many ranges, one after the other, into `buffer`, whose length is the sum of theirs.
    /// What cannot be read becomes zeros.
    fn read_many(&self, ranges: &[(u64, usize)], buffer: &mut [u8]) {
        let mut rest = buffer;
        for (address, size) in ranges {
            let Some((now, later)) = rest.split_at_mut_checked(*size) else { return };
            let read = self.read(*address, now);
            now[read..].fill(0);
            rest = later;
        }
    }

    /// The words from `address` on, as many as could be read, at most `count`.
    fn words(&self, address: u64, count: usize) -> Vec<u64> {
        let mut bytes = vec![0; count * 8];
        let read = self.read(address, &mut bytes);
        bytes[..read].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
    }
}

/// The memory of a live process: process_vm_readv(2) and /proc/PID/pagemap.
#[derive(Debug)]
pub struct LiveMemory {
    memory: ProcessMemory,
    /// `None`: not permitted, or the kernel has none.
    pagemap: Option<File>,
}

/// Bits of an entry of pagemap (proc_pid_pagemap(5)).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// The most bytes of one call: each call holds a lock of the target's memory map for its time.
const MAX_READ: usize = 1 << 20;

impl LiveMemory {
    /// The memory of the process whose /proc folder `pid` has (a thread of it serves as well).
    pub fn new(pid: u32) -> LiveMemory {
        let pagemap = File::open(format!("/proc/{pid}/pagemap")).ok();
        LiveMemory { memory: ProcessMemory::new(pid), pagemap }
    }
}

impl Memory for LiveMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in buffer.chunks_mut(MAX_READ) {
            let Some(at) = address.checked_add(done as u64) else { break };
            let read = self.memory.read(RuntimeAddr(at), piece);
            done += read;
            if read < piece.len() {
                break;
            }
        }
        done
    }

    fn read_many(&self, ranges: &[(u64, usize)], buffer: &mut [u8]) {
        let typed: Vec<_> = ranges.iter().map(|(address, size)| (RuntimeAddr(*address), *size)).collect();
        let (mut done, mut at) = (0, 0);
        while done < ranges.len() {
            let whole = self.memory.read_ranges(&typed[done..], &mut buffer[at..]);
            at += ranges[done..done + whole].iter().map(|(_, size)| size).sum::<usize>();
            done += whole;
            // The next one cannot be read completely.
            if let Some((address, size)) = ranges.get(done) {
                let read = self.read(*address, &mut buffer[at..at + size]);
                buffer[at + read..at + size].fill(0);
                (done, at) = (done + 1, at + size);
            }
        }
    }

    fn pages(&self, address: u64, pages: &mut [Present]) -> bool {
        let Some(pagemap) = &self.pagemap else { return false };
        let mut entries = vec![0; pages.len() * 8];
        let read = pagemap.read_at(&mut entries, address / PAGE * 8).unwrap_or(0);
        if read < entries.len() {
            return false;
        }
        for (page, entry) in pages.iter_mut().zip(entries.as_chunks::<8>().0) {
            let entry = u64::from_le_bytes(*entry);
            *page = match entry {
                _ if entry & PRESENT != 0 => Present::Yes,
                _ if entry & SWAPPED != 0 => Present::Swapped,
                _ => Present::Untouched,
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_never_touched_are_distinguished_and_stay_untouched() {
        let size = 64 * PAGE as usize;
        let mut bytes = Vec::<u8>::with_capacity(size);
        let start = (bytes.as_ptr() as u64).next_multiple_of(PAGE);
        let skipped = (start - bytes.as_ptr() as u64) as usize;
        bytes.resize(skipped + 2 * PAGE as usize, 7);
        let memory = LiveMemory::new(std::process::id());
        let mut pages = [Present::Yes; 8];
        if !memory.pages(start, &mut pages) {
            return; // No pagemap on this kernel.
        }
        assert_eq!(pages[..2], [Present::Yes; 2]);
        assert_eq!(memory.word(start), Some(0x0707_0707_0707_0707));
        assert_eq!(memory.word(8), None);
    }
}
