//! Checked reads of single values from a Java process's memory.
//!
//! Not here: what the values mean.

use std::sync::Arc;

use crate::{addr::RuntimeAddr, process::ProcessMemory};

/// The most bytes of one text.
const MAX_TEXT: usize = 4096;

/// The memory of a Java process. Every read may fail; all values are little-endian.
#[derive(Clone, Debug)]
pub struct Memory(pub Arc<ProcessMemory>);

impl Memory {
    /// Exactly `length` bytes at an address. The caller bounds `length`.
    pub fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(RuntimeAddr(address), &mut bytes).then_some(bytes)
    }

    /// At most `length` bytes at an address: fewer at the end of mapped memory.
    pub fn some_bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let count = self.0.read(RuntimeAddr(address), &mut bytes);
        bytes.truncate(count);
        bytes
    }

    fn array<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact(RuntimeAddr(address), &mut bytes).then_some(bytes)
    }

    /// The byte at an address.
    pub fn u8(&self, address: u64) -> Option<u8> {
        self.array::<1>(address).map(|[byte]| byte)
    }

    /// The 16-bit number at an address.
    pub fn u16(&self, address: u64) -> Option<u16> {
        self.array(address).map(u16::from_le_bytes)
    }

    /// The 32-bit number at an address.
    pub fn u32(&self, address: u64) -> Option<u32> {
        self.array(address).map(u32::from_le_bytes)
    }

    /// The 64-bit number at an address.
    pub fn u64(&self, address: u64) -> Option<u64> {
        self.array(address).map(u64::from_le_bytes)
    }

    /// The pointer at an address; `None` also if it is null.
    pub fn pointer(&self, address: u64) -> Option<u64> {
        self.u64(address).filter(|pointer| *pointer != 0)
    }

    /// The NUL-terminated text at an address, at most [`MAX_TEXT`] bytes.
    pub fn text(&self, address: u64) -> Option<String> {
        let mut bytes = self.some_bytes(address, 128);
        if !bytes.contains(&0) {
            bytes = self.some_bytes(address, MAX_TEXT);
        }
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(printable(&bytes[..end]))
    }
}

/// Text without control characters.
pub fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The 16-bit number at an offset of bytes that were read.
pub fn u16_at(bytes: &[u8], offset: u64) -> Option<u16> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    rest.first_chunk().map(|word| u16::from_le_bytes(*word))
}

/// The 32-bit number at an offset of bytes that were read.
pub fn u32_at(bytes: &[u8], offset: u64) -> Option<u32> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    rest.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// The 64-bit number at an offset of bytes that were read.
pub fn u64_at(bytes: &[u8], offset: u64) -> Option<u64> {
    let rest = bytes.get(usize::try_from(offset).ok()?..)?;
    rest.first_chunk().map(|word| u64::from_le_bytes(*word))
}
