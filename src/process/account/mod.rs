//! Whose memory it is: the resident memory of a process, divided among the allocators of the C
//! library, language runtimes, stacks, files and shared memory.
//!
//! What a mapping is, follows from its name, from structures at its beginning that are checked, or
//! from ranges that runtimes state ([`OwnedRange`]). What remains is named as unexplained, or given
//! to the process's only other allocator and marked as assumed. Not here: what is inside a heap.

mod claims;
mod libc_heap;
mod pages;
mod parts;
mod stacks;

use std::ops::Range;

use super::{
    ProcessError, ProcessMemory,
    regions::{MemoryUse, read_regions},
};
use crate::sys::proc::read_text;

/// Memory that something states to be its own, such as the heap of a language's runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRange {
    /// Its addresses.
    pub range: Range<u64>,
    /// The name of the part, as reports show it.
    pub part: String,
}

/// A part of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name, as reports show it.
    pub name: String,
    /// Whether the owner is only assumed, because no other is known.
    pub is_assumed: bool,
    /// The mappings that it is in.
    pub mappings: usize,
    /// What it takes; `size` counts accessible memory only.
    pub used: MemoryUse,
}

/// A process's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// All of it. Without the rights to read mappings, `pss` is 0.
    pub total: MemoryUse,
    /// Its parts, the largest resident one first.
    pub parts: Vec<Part>,
    /// The page tables, which no part contains, in bytes.
    pub page_tables: Option<u64>,
    /// Why the parts are only those that the kernel counts for everyone, if so.
    pub limit: Option<String>,
}

/// The name of memory whose owner is not known.
pub const UNEXPLAINED: &str = "unexplained";

impl Account {
    /// Reads the memory of a process. `owned`: what runtimes state. `rest`: the owner of anonymous
    /// memory that nothing else explains, if one is known. Errors: the process is gone.
    pub fn read(pid: u32, owned: &[OwnedRange], rest: Option<&str>) -> Result<Account, ProcessError> {
        let status = read_text(format!("/proc/{pid}/status"))
            .map_err(|error| ProcessError::reading(pid, "the status", error))?;
        let page_tables = field(&status, "VmPTE");
        let regions = match read_regions(pid) {
            Ok(regions) => regions,
            Err(error @ (ProcessError::NotPermitted { .. } | ProcessError::Unreadable { .. })) => {
                return Ok(Account {
                    limit: Some(error.to_string()),
                    ..Account::coarse(&status, page_tables)
                });
            }
            Err(error) => return Err(error),
        };
        let memory = ProcessMemory::new(pid);
        let claims = claims::find(pid, &memory, &regions, owned);
        let mut total = MemoryUse::default();
        regions.iter().for_each(|region| total += region.used);
        let parts = parts::divide(pid, &regions, &claims, rest);
        Ok(Account { total, parts, page_tables, limit: None })
    }

    /// The parts that /proc/PID/status has, which everyone may read.
    fn coarse(status: &str, page_tables: Option<u64>) -> Account {
        let rss = |name: &str| field(status, name).unwrap_or(0);
        let part = |name: &str, bytes: u64| Part {
            name: name.to_owned(),
            is_assumed: false,
            mappings: 0,
            used: MemoryUse { rss: bytes, ..MemoryUse::default() },
        };
        let mut parts = vec![
            part("anonymous memory", rss("RssAnon")),
            part("file pages", rss("RssFile")),
            part("shared memory", rss("RssShmem")),
        ];
        parts.sort_by_key(|part| std::cmp::Reverse(part.used.rss));
        let total = MemoryUse {
            size: rss("VmSize"),
            rss: rss("VmRSS"),
            anonymous: rss("RssAnon"),
            swap: rss("VmSwap"),
            ..MemoryUse::default()
        };
        Account { total, parts, page_tables, limit: None }
    }

    /// A part by its name.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

/// A field of /proc/PID/status in bytes: `VmPTE:     100 kB`.
fn field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_shl(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_this_process_are_all_of_its_resident_memory() {
        let account = Account::read(std::process::id(), &[], None).expect("own");
        let sum: u64 = account.parts.iter().map(|part| part.used.rss).sum();
        assert_eq!((account.limit.as_deref(), sum), (None, account.total.rss));
        for name in ["code of programs", "thread stacks"] {
            assert!(account.part(name).is_some_and(|part| part.used.rss > 0), "{name}: {:?}", account.parts);
        }
    }

    #[test]
    fn memory_that_a_runtime_states_is_counted_by_page() {
        let block = vec![7u8; 1 << 20];
        let start = (block.as_ptr() as u64).next_multiple_of(4096);
        let owned = OwnedRange { range: start..start + (256 << 10), part: "mine".to_owned() };
        let account = Account::read(std::process::id(), &[owned], None).expect("own");
        assert_eq!(account.part("mine").map(|part| part.used.rss), Some(256 << 10));
        assert_eq!(block[0], 7);
    }

    #[test]
    fn a_status_gives_the_parts_that_everyone_may_see() {
        let status = "VmRSS:\t   12 kB\nRssAnon:\t    8 kB\nRssFile:\t    4 kB\nVmPTE:\t  40 kB\n";
        let account = Account::coarse(status, field(status, "VmPTE"));
        assert_eq!((account.total.rss, account.page_tables), (12 << 10, Some(40 << 10)));
        assert_eq!(account.parts[0].name, "anonymous memory");
    }
}
