//! The memory of one process as the wait graph reads it: mappings by address, words, and thread IDs
//! as the process itself sees them.

use rustc_hash::FxHashMap;

use crate::{
    addr::RuntimeAddr,
    process::{Mapping, ProcessMemory, identity, read_mappings, threads},
};

/// How many bytes before a futex word are read with it.
pub const BEFORE: usize = 48;
/// How many bytes from a futex word on are read.
const AFTER: usize = 64;

/// A process's memory and threads.
pub struct Space {
    /// The process.
    pub pid: u32,
    /// Its memory.
    pub memory: ProcessMemory,
    mappings: Vec<Mapping>,
    /// Thread IDs by those of the process's own PID namespace; `None`: the same as here.
    inner: Option<FxHashMap<u32, u32>>,
    threads: Vec<u32>,
}

/// The bytes around a futex word.
pub struct Window {
    bytes: Vec<u8>,
    /// The index of the word.
    at: usize,
}

impl Window {
    /// The 4 bytes at this distance from the word.
    pub fn u32(&self, distance: i64) -> Option<u32> {
        let at = self.at.checked_add_signed(distance as isize)?;
        Some(u32::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }

    /// The 8 bytes at this distance from the word.
    pub fn u64(&self, distance: i64) -> Option<u64> {
        let at = self.at.checked_add_signed(distance as isize)?;
        Some(u64::from_le_bytes(*self.bytes.get(at..)?.first_chunk()?))
    }

    /// A window of given bytes, for tests: the word is at index `at`.
    #[cfg(test)]
    pub fn of(bytes: Vec<u8>, at: usize) -> Window {
        Window { bytes, at }
    }
}

impl Space {
    /// The process `pid`.
    pub fn of(pid: u32) -> Space {
        let tids = threads::list(pid);
        let namespace = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/pid")).ok();
        let is_same = namespace("self") == namespace(&pid.to_string());
        let inner = |tid: &u32| Some((identity::namespace_pid_and_uid(*tid).ok()?.0, *tid));
        Space {
            pid,
            memory: ProcessMemory::new(threads::reader(pid)),
            mappings: read_mappings(pid).unwrap_or_default(),
            inner: (!is_same).then(|| tids.iter().filter_map(inner).collect()),
            threads: tids,
        }
    }

    /// The mappings, in ascending order.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// The index of the mapping that holds `address`.
    pub fn mapping_at(&self, address: u64) -> Option<usize> {
        let after = self.mappings.partition_point(|mapping| mapping.start.0 <= address);
        let index = after.checked_sub(1)?;
        (address < self.mappings[index].end.0).then_some(index)
    }

    /// The mapping that holds `address`.
    pub fn mapping(&self, address: u64) -> Option<&Mapping> {
        self.mapping_at(address).map(|index| &self.mappings[index])
    }

    /// Whether threads have the same IDs here and in the process's own PID namespace.
    pub fn has_own_ids(&self) -> bool {
        self.inner.is_none()
    }

    /// The thread with this ID in the process's own PID namespace; `None`: it has ended.
    pub fn thread(&self, inner: u32) -> Option<u32> {
        match &self.inner {
            Some(by_inner) => by_inner.get(&inner).copied(),
            None => self.threads.binary_search(&inner).is_ok().then_some(inner),
        }
    }

    /// Reads the bytes around a futex word.
    pub fn window(&self, word: u64) -> Option<Window> {
        let mut bytes = vec![0; BEFORE + AFTER];
        if let Some(start) = word.checked_sub(BEFORE as u64) {
            let count = self.memory.read(RuntimeAddr(start), &mut bytes);
            if count >= BEFORE + 4 {
                bytes.truncate(count);
                return Some(Window { bytes, at: BEFORE });
            }
        }
        let count = self.memory.read(RuntimeAddr(word), &mut bytes[..AFTER]);
        bytes.truncate(count);
        (count >= 4).then_some(Window { bytes, at: 0 })
    }
}
