//! A mapped file with Go code, at the addresses where a process has it.

use std::sync::Arc;

use super::find::GoTables;
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    process::ProcessMemory,
};

/// The tables of a mapped file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The tables.
    pub tables: Arc<GoTables>,
    /// Run-time address = address in the file + bias.
    pub bias: u64,
    /// The file's path in the process's mount namespace.
    pub path: String,
}

impl Loaded {
    /// The run-time address of an address in the file.
    pub fn at(&self, address: ElfAddr) -> RuntimeAddr {
        RuntimeAddr(address.0.wrapping_add(self.bias))
    }
}

/// The string whose header is at `at`, if it has at most `max` bytes.
pub fn read_string(memory: &ProcessMemory, at: RuntimeAddr, max: usize) -> Option<String> {
    let pointer = memory.read_word(at)?;
    let length = usize::try_from(memory.read_word(at.offset(8))?).ok()?;
    if length > max {
        return None;
    }
    let mut bytes = vec![0; length];
    memory.read_exact(RuntimeAddr(pointer), &mut bytes).then(|| String::from_utf8_lossy(&bytes).into_owned())
}
