//! `/tmp/perf-PID.map`: names that a JIT compiler writes for its code, one `start size name` a
//! line, with hexadecimal numbers (the kernel's `tools/perf/Documentation/jit-interface.txt`).
//!
//! Anybody may create files in that directory, so the file must belong to the target's user.
//!
//! Not here: jitdump files.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    addr::RuntimeAddr,
    process::files::{LastLink, open_in_root},
};

/// Most bytes read. A JIT that never compacts its file can fill a disk; a Node server's is about 10
/// MB.
const MAX_FILE_BYTES: u64 = 256 << 20;
const MAX_ENTRIES: usize = 4 << 20;
const MAX_NAME_BYTES: usize = 4096;

/// Why there is no map. `Missing` is the normal case: most programs do not compile code at run
/// time.
#[derive(Debug, thiserror::Error)]
pub enum PerfMapError {
    /// There is no such file.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// The file could not be read.
    #[error("cannot read {0}: {1}")]
    Io(PathBuf, io::Error),
    /// The file belongs to another user: its owner, and the target's user.
    #[error("{0} is not used: it belongs to user {1}, not to the target's user ({2})")]
    ForeignOwner(PathBuf, u32, u32),
    /// A FIFO, device, directory or link.
    #[error("{0} is not a regular file")]
    NotRegular(PathBuf),
}

/// The names of one process's JIT-compiled code.
#[derive(Debug, Default)]
pub struct PerfMap {
    /// Sorted by start address; for replaced code, the later line is kept.
    entries: Vec<Entry>,
    /// All names, concatenated.
    names: String,
    /// Number of malformed lines.
    pub bad_lines: usize,
    /// The file was larger than the limit.
    pub truncated: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    size: u64,
    name_at: u32,
    name_bytes: u32,
    /// Line number, so that later lines are preferred.
    order: u32,
}

impl PerfMap {
    /// Reads the map that the process `pid_in_namespace` (its innermost `NSpid`) wrote to `/tmp` of
    /// its file system, `root` (`/proc/PID/root`). `uid` is the target's effective user ID as seen
    /// by rprof.
    pub fn load(root: &Path, pid_in_namespace: u32, uid: u32) -> Result<PerfMap, PerfMapError> {
        let inside = PathBuf::from(format!("tmp/perf-{pid_in_namespace}.map"));
        let shown = root.join(&inside);
        let file = open_in_root(root, &inside, LastLink::Refuse).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PerfMapError::Missing(shown.clone()),
            io::ErrorKind::InvalidInput => PerfMapError::NotRegular(shown.clone()),
            _ => PerfMapError::Io(shown.clone(), error),
        })?;
        let metadata = file.metadata().map_err(|error| PerfMapError::Io(shown.clone(), error))?;
        // root may write a map for any process.
        if metadata.uid() != uid && metadata.uid() != 0 {
            return Err(PerfMapError::ForeignOwner(shown, metadata.uid(), uid));
        }
        PerfMap::read(file).map_err(|error| PerfMapError::Io(shown, error))
    }

    fn read(file: File) -> io::Result<PerfMap> {
        let mut map = PerfMap::default();
        let mut reader = BufReader::with_capacity(64 << 10, file.take(MAX_FILE_BYTES));
        let mut line = Vec::new();
        let mut order = 0;
        while map.entries.len() < MAX_ENTRIES {
            line.clear();
            let read = reader.by_ref().take(MAX_NAME_BYTES as u64 + 64).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            order += 1;
            if map.add(&line, order).is_none() {
                map.bad_lines += 1;
            }
        }
        map.truncated = map.entries.len() >= MAX_ENTRIES || reader.get_ref().limit() == 0;
        map.settle();
        Ok(map)
    }

    fn add(&mut self, line: &[u8], order: u32) -> Option<()> {
        let line = std::str::from_utf8(line.trim_ascii_end()).ok()?;
        let (start, rest) = line.split_once(' ')?;
        let (size, name) = rest.split_once(' ')?;
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let (start, size) = (number(start)?, number(size)?);
        start.checked_add(size)?;
        if size == 0 || name.is_empty() {
            return None;
        }
        let name_at = u32::try_from(self.names.len()).ok()?;
        self.names.push_str(name);
        self.entries.push(Entry { start, size, name_at, name_bytes: name.len() as u32, order });
        Some(())
    }

    /// Sorts the entries; of several lines for one start, the last is kept.
    fn settle(&mut self) {
        self.entries.sort_unstable_by_key(|entry| (entry.start, std::cmp::Reverse(entry.order)));
        self.entries.dedup_by_key(|entry| entry.start);
    }

    /// The name of the code at `address`.
    pub fn lookup(&self, address: RuntimeAddr) -> Option<&str> {
        /// A JIT reuses freed ranges. An old, larger entry may begin before a newer, smaller one
        /// that ends before the address. This many entries are checked.
        const LOOK_BACK: usize = 16;
        let after = self.entries.partition_point(|entry| entry.start <= address.0);
        let candidates = self.entries.get(after.saturating_sub(LOOK_BACK)..after)?;
        let best = candidates
            .iter()
            .filter(|entry| address.0 - entry.start < entry.size)
            .max_by_key(|entry| entry.order)?;
        let start = best.name_at as usize;
        self.names.get(start..start + best.name_bytes as usize)
    }

    /// Whether the map has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn root_with(content: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(root.path().join("tmp")).expect("tmp");
        fs::write(root.path().join("tmp/perf-7.map"), content).expect("map");
        root
    }

    fn own_uid() -> u32 {
        fs::metadata("/proc/self").expect("/proc/self").uid()
    }

    #[test]
    fn names_cover_their_range_only_and_later_lines_replace_earlier_ones() {
        let root = root_with(
            b"1000 100 old\n1000 80 LazyCompile:~f /a b.js:1\nbad\n2000 0 empty\n3000 10 g\nffffffffffffffff 2 over\n",
        );
        let map = PerfMap::load(root.path(), 7, own_uid()).expect("a map");
        assert_eq!(map.lookup(RuntimeAddr(0x107f)), Some("LazyCompile:~f /a b.js:1"));
        assert_eq!(map.lookup(RuntimeAddr(0x1080)), None);
        assert_eq!(map.lookup(RuntimeAddr(0x2000)), None);
        assert_eq!(map.lookup(RuntimeAddr(0x300f)), Some("g"));
        assert_eq!(map.lookup(RuntimeAddr(0xfff)), None);
        assert_eq!(map.bad_lines, 3);
    }

    #[test]
    fn a_symbolic_link_a_directory_or_a_foreign_owner_is_refused() {
        let root = root_with(b"1000 100 f\n");
        symlink("perf-7.map", root.path().join("tmp/perf-8.map")).expect("symlink");
        fs::create_dir(root.path().join("tmp/perf-9.map")).expect("directory");
        assert!(matches!(PerfMap::load(root.path(), 8, own_uid()), Err(PerfMapError::Io(..))));
        assert!(matches!(PerfMap::load(root.path(), 9, own_uid()), Err(PerfMapError::NotRegular(_))));
        assert!(matches!(PerfMap::load(root.path(), 10, own_uid()), Err(PerfMapError::Missing(_))));
        if own_uid() != 0 {
            assert!(matches!(
                PerfMap::load(root.path(), 7, own_uid() + 1),
                Err(PerfMapError::ForeignOwner(..))
            ));
        }
    }

    #[test]
    fn binary_data_yields_no_names_and_no_error() {
        let root = root_with(&[0xff; 100_000]);
        let map = PerfMap::load(root.path(), 7, own_uid()).expect("a map");
        assert!(map.is_empty());
        assert!(map.bad_lines > 0);
    }
}
