//! `/tmp/perf-PID.map`: names that a JIT compiler writes for its code, one `start size name` a
//! line, with hexadecimal numbers (the kernel's `tools/perf/Documentation/jit-interface.txt`).
//!
//! Anybody may create files in that directory, so the file must belong to the target's user.
//!
//! Not here: jitdump files (`jitdump`), the GDB JIT interface (`gdb`).

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

use rustc_hash::FxHashMap;

use crate::{
    addr::RuntimeAddr,
    budget::{Budget, Exhausted, Resource},
    process::files::{LastLink, open_in_root},
};

/// Longer names are cut.
const MAX_NAME_BYTES: usize = 16 << 10;
/// What naming one address costs, in bytes of work: a line may cover all addresses.
const NAMING_WORK: u64 = 16;
/// Memory for the start of a line that covers an address. Besides, each address keeps one name.
const MEMORY_PER_START: u64 = 48;

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

/// The map of one process. It is read once as a stream for the addresses of interest, so its size
/// costs time and no memory: a JIT that never compacts its map can fill a disk.
#[derive(Debug)]
pub struct PerfMap {
    file: File,
}

/// Names from a perf map.
#[derive(Debug, Default)]
pub struct PerfMapNames {
    /// One for each address, in the order of the request; `None` if no line covers it.
    pub names: Vec<Option<Rc<str>>>,
    /// Number of malformed lines.
    pub bad_lines: usize,
    /// Why the map was not read to its end, if it was not.
    pub limit: Option<Exhausted>,
}

impl PerfMap {
    /// Opens the map that the process `pid_in_namespace` (its innermost `NSpid`) wrote to `/tmp` of
    /// its file system, `root` (`/proc/PID/root`). `uid` is the target's effective user ID as seen
    /// by rprof.
    pub fn open(root: &Path, pid_in_namespace: u32, uid: u32) -> Result<PerfMap, PerfMapError> {
        let inside = PathBuf::from(format!("tmp/perf-{pid_in_namespace}.map"));
        let shown = root.join(&inside);
        let opened = open_in_root(root, &inside, LastLink::Refuse).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PerfMapError::Missing(shown.clone()),
            io::ErrorKind::InvalidInput => PerfMapError::NotRegular(shown.clone()),
            _ => PerfMapError::Io(shown.clone(), error),
        })?;
        // root may write a map for any process.
        if opened.uid != uid && opened.uid != 0 {
            return Err(PerfMapError::ForeignOwner(shown, opened.uid, uid));
        }
        Ok(PerfMap { file: opened.file })
    }

    /// The names of `addresses`. Reading draws from `budget`; if it ends, the names found so far
    /// are returned. Errors: those of reading the file.
    pub fn names(&self, addresses: &[RuntimeAddr], budget: &Budget) -> io::Result<PerfMapNames> {
        names_in(&self.file, addresses, budget)
    }
}

/// The names that a perf map in `input` gives to `addresses`; see [`PerfMap::names`].
pub fn names_in(input: impl Read, addresses: &[RuntimeAddr], budget: &Budget) -> io::Result<PerfMapNames> {
    let mut search = Search::new(addresses, budget);
    let mut reader = BufReader::with_capacity(64 << 10, input);
    let mut line = Vec::new();
    let mut bad_lines = 0;
    let mut limit = None;
    while limit.is_none() {
        line.clear();
        let read = reader.by_ref().take(MAX_NAME_BYTES as u64 + 64).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let taken = budget.take(Resource::Work, read as u64);
        let added = taken.and_then(|()| match Entry::parse(&line) {
            Some(entry) => search.add(&entry),
            None => {
                bad_lines += 1;
                Ok(())
            }
        });
        limit = added.err();
    }
    Ok(PerfMapNames { names: search.names(), bad_lines, limit })
}

/// The name found so far for one address, and the start of the line that gave it.
type Found = Option<(u64, Rc<str>)>;

/// Takes lines in the order of the file.
struct Search<'b> {
    /// Ascending, with their positions in the request.
    sorted: Vec<(u64, usize)>,
    /// In the order of `sorted`.
    found: Vec<Found>,
    /// Where the code ended that was at this start, for lines that covered an address: a line for
    /// the same start replaces it.
    ends: FxHashMap<u64, u64>,
    budget: &'b Budget,
}

impl<'b> Search<'b> {
    fn new(addresses: &[RuntimeAddr], budget: &'b Budget) -> Search<'b> {
        let mut sorted: Vec<(u64, usize)> = addresses.iter().map(|address| address.0).zip(0..).collect();
        sorted.sort_unstable();
        Search { found: vec![None; sorted.len()], sorted, ends: FxHashMap::default(), budget }
    }

    fn add(&mut self, entry: &Entry<'_>) -> Result<(), Exhausted> {
        let first = self.sorted.partition_point(|(address, _)| *address < entry.start);
        let replaced_end = self.ends.get(&entry.start).copied();
        let end = replaced_end.map_or(entry.end, |end| end.max(entry.end));
        let count = self.sorted[first..].partition_point(|(address, _)| *address < end);
        if count == 0 {
            return Ok(());
        }
        self.budget.take(Resource::Work, NAMING_WORK * count as u64)?;
        if replaced_end.is_none() {
            // At most the names of all starts are kept: a line for the same start replaces one.
            self.budget.take(Resource::Memory, MEMORY_PER_START)?;
        }
        self.ends.insert(entry.start, entry.end);
        let name: Rc<str> = entry.name.into();
        for at in first..first + count {
            let found = &mut self.found[at];
            if self.sorted[at].0 < entry.end {
                *found = Some((entry.start, Rc::clone(&name)));
            } else if found.as_ref().is_some_and(|(start, _)| *start == entry.start) {
                *found = None;
            }
        }
        Ok(())
    }

    fn names(self) -> Vec<Option<Rc<str>>> {
        let mut names = vec![None; self.sorted.len()];
        for ((_, index), found) in self.sorted.into_iter().zip(self.found) {
            names[index] = found.map(|(_, name)| name);
        }
        names
    }
}

/// One line.
struct Entry<'l> {
    start: u64,
    /// Address after the last byte.
    end: u64,
    name: &'l str,
}

impl Entry<'_> {
    fn parse(line: &[u8]) -> Option<Entry<'_>> {
        let line = std::str::from_utf8(line.trim_ascii_end()).ok()?;
        let (start, rest) = line.split_once(' ')?;
        let (size, name) = rest.split_once(' ')?;
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let (start, size) = (number(start)?, number(size)?);
        let end = start.checked_add(size)?;
        (size > 0 && !name.is_empty()).then_some(Entry { start, end, name })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
    };

    use super::*;

    fn root_with(content: &[u8]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(root.path().join("tmp")).expect("tmp");
        fs::write(root.path().join("tmp/perf-7.map"), content).expect("map");
        root
    }

    fn names(root: &tempfile::TempDir, addresses: &[u64]) -> PerfMapNames {
        let map = PerfMap::open(root.path(), 7, own_uid()).expect("a map");
        let addresses: Vec<RuntimeAddr> = addresses.iter().copied().map(RuntimeAddr).collect();
        map.names(&addresses, &Budget::session()).expect("readable")
    }

    fn own_uid() -> u32 {
        fs::metadata("/proc/self").expect("/proc/self").uid()
    }

    #[test]
    fn names_cover_their_range_only_and_later_lines_replace_earlier_ones() {
        let root = root_with(
            b"1000 100 old\n1000 80 LazyCompile:~f /a b.js:1\nbad\n2000 0 empty\n3000 10 g\nffffffffffffffff 2 over\n",
        );
        let names = names(&root, &[0x107f, 0x1080, 0x2000, 0x300f, 0xfff, 0x107f]);
        let found: Vec<Option<&str>> = names.names.iter().map(Option::as_deref).collect();
        let function = Some("LazyCompile:~f /a b.js:1");
        assert_eq!(found, [function, None, None, Some("g"), None, function]);
        assert_eq!((names.bad_lines, names.limit), (3, None));
    }

    #[test]
    fn a_map_of_any_size_takes_the_memory_of_its_names_only() {
        let line = format!("5000 10 {}\n", "x".repeat(900));
        let lines = io::repeat(b'8').take(0).chain(io::Cursor::new(line.repeat(1000)));
        let budget = Budget::session().with_limits([2 << 20, 0, 1 << 30]);
        let found = names_in(lines, &[RuntimeAddr(0x5001)], &budget).expect("a map");
        assert_eq!((found.limit, found.names.len()), (None, 1));
        assert!(budget.used(Resource::Memory) < 1 << 20);
    }

    #[test]
    fn lines_that_rename_all_addresses_end_with_the_budget() {
        let addresses: Vec<RuntimeAddr> = (0..1000).map(RuntimeAddr).collect();
        let budget = Budget::session().with_limits([1 << 20, 0, 1 << 20]);
        let found = names_in(io::Cursor::new("0 1000 f\n".repeat(1000)), &addresses, &budget).expect("a map");
        assert_eq!(found.limit, Some(Exhausted::Limit(Resource::Work, 1 << 20)));
        assert!(found.names.iter().all(|name| name.as_deref() == Some("f")), "what was found is kept");
        assert!(budget.used(Resource::Work) <= 1 << 20);
    }

    #[test]
    fn a_symbolic_link_a_directory_or_a_foreign_owner_is_refused() {
        let root = root_with(b"1000 100 f\n");
        symlink("perf-7.map", root.path().join("tmp/perf-8.map")).expect("symlink");
        fs::create_dir(root.path().join("tmp/perf-9.map")).expect("directory");
        assert!(matches!(PerfMap::open(root.path(), 8, own_uid()), Err(PerfMapError::Io(..))));
        assert!(matches!(PerfMap::open(root.path(), 9, own_uid()), Err(PerfMapError::NotRegular(_))));
        assert!(matches!(PerfMap::open(root.path(), 10, own_uid()), Err(PerfMapError::Missing(_))));
        if own_uid() != 0 {
            assert!(matches!(
                PerfMap::open(root.path(), 7, own_uid() + 1),
                Err(PerfMapError::ForeignOwner(..))
            ));
        }
    }

    #[test]
    fn binary_data_yields_no_names_and_no_error() {
        let root = root_with(&[0xff; 100_000]);
        let names = names(&root, &[0, u64::MAX]);
        assert_eq!(names.names, [None, None]);
        assert!(names.bad_lines > 0);
    }
}
