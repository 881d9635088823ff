//! What each mapping of a process holds in memory: /proc/PID/smaps (proc_pid_smaps(5)).
//!
//! Not here: whose memory it is (`account`).

use std::{
    fs::File,
    io::{BufRead, BufReader, Read as _},
    ops::AddAssign,
};

use super::{Mapping, ProcessError, maps::parse_line};

/// The most bytes that are read: 65,530 mappings, the kernel's default limit, have about 60 MiB.
const MAX_BYTES: u64 = 512 << 20;
/// The longest line: a path of 4 KiB, escaped, beside numbers.
const MAX_LINE: usize = 20 << 10;

/// How much memory something takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Address space.
    pub size: u64,
    /// Resident pages.
    pub rss: u64,
    /// Resident pages, each divided by the number of mappings that share it.
    pub pss: u64,
    /// Resident pages that no file backs.
    pub anonymous: u64,
    /// Swapped pages.
    pub swap: u64,
}

impl AddAssign for MemoryUse {
    fn add_assign(&mut self, other: MemoryUse) {
        self.size += other.size;
        self.rss += other.rss;
        self.pss += other.pss;
        self.anonymous += other.anonymous;
        self.swap += other.swap;
    }
}

/// A mapping and the memory that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The mapping.
    pub mapping: Mapping,
    /// Whether writes are visible to other processes (MAP_SHARED).
    pub is_shared: bool,
    /// The memory.
    pub used: MemoryUse,
}

/// Reads all mappings, in ascending order. Errors: gone, or not permitted.
pub fn read_regions(pid: u32) -> Result<Vec<Region>, ProcessError> {
    let fail = |error| ProcessError::reading(pid, "the memory of each mapping (smaps)", error);
    let file = File::open(format!("/proc/{pid}/smaps")).map_err(fail)?;
    parse(BufReader::new(file.take(MAX_BYTES))).map_err(fail)
}

/// Parses the text of an smaps file; malformed lines are skipped. Errors: those of reading.
pub fn parse(mut text: impl BufRead) -> std::io::Result<Vec<Region>> {
    let (mut regions, mut line) = (Vec::<Region>::new(), Vec::new());
    loop {
        line.clear();
        if text.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut line)? == 0 {
            return Ok(regions);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        // The names of fields begin with a capital letter, addresses are in small letters.
        if line.first().is_some_and(|first| first.is_ascii_uppercase()) {
            if let Some(region) = regions.last_mut() {
                region.used.set(line);
            }
        } else if let Some(mapping) = parse_line(line) {
            let rights = line.split(|byte| *byte == b' ').nth(1);
            let is_shared = rights.and_then(|rights| rights.get(3)) == Some(&b's');
            regions.push(Region { mapping, is_shared, used: MemoryUse::default() });
        }
    }
}

impl MemoryUse {
    /// Takes over a field: `Rss:                 12 kB`.
    fn set(&mut self, line: &[u8]) {
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else {
            return;
        };
        let field = match name {
            "Size" => &mut self.size,
            "Rss" => &mut self.rss,
            "Pss" => &mut self.pss,
            "Anonymous" => &mut self.anonymous,
            "Swap" => &mut self.swap,
            _ => return,
        };
        let kib = value.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok());
        *field = kib.unwrap_or(0).min(1 << 40) << 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
KernelPageSize:        4 kB
Rss:                  16 kB
Pss:                  12 kB
Pss_Dirty:             8 kB
Anonymous:             8 kB
Swap:                  4 kB
SwapPss:               4 kB
VmFlags: rd wr mr mw me ac
7f0000000000-7f0000001000 rw-s 00000000 00:01 7                          /dev/shm/a b (deleted)
Rss:                   4 kB
";

    #[test]
    fn each_mapping_has_its_own_numbers() {
        let regions = parse(TEXT.as_bytes()).expect("read");
        let used =
            MemoryUse { size: 132 << 10, rss: 16 << 10, pss: 12 << 10, anonymous: 8 << 10, swap: 4096 };
        assert_eq!(regions.len(), 2);
        assert_eq!((regions[0].used, regions[0].is_shared), (used, false));
        assert_eq!(regions[1].mapping.path, "/dev/shm/a b");
        assert!(regions[1].is_shared && regions[1].mapping.deleted && regions[1].used.rss == 4096);
    }

    #[test]
    fn damaged_texts_are_read_as_far_as_they_make_sense() {
        for text in
            ["Rss: 4 kB\n", "\n\n", "zz-yy rw-p\nRss: 1 kB\n", "1000-2000 rw-p 0 0:0 0\nRss: x kB\nRss"]
        {
            let regions = parse(text.as_bytes()).expect("read");
            assert!(regions.iter().all(|region| region.used.rss == 0), "{text}");
        }
    }

    #[test]
    fn the_regions_of_this_process_are_its_mappings() {
        let regions = read_regions(std::process::id()).expect("own");
        let stack = regions.iter().find(|region| region.mapping.path == "[stack]").expect("a stack");
        assert!(stack.used.rss > 0 && stack.used.rss <= stack.used.size && stack.mapping.writable);
    }
}
