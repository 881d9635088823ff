//! Opened files, shared by all sessions of rprof: each file is mapped and its headers are parsed
//! once, however many processes, captures and requests read it.
//!
//! A file is identified by device, inode, size, times of change and build ID, so that a rewritten
//! one is opened anew. The files used longest ago are dropped when all of them together exceed
//! [`MAX_MAPPED_BYTES`], and those that were not opened for [`MAX_AGE`]: until then a deleted file
//! keeps its disk space, and a file system cannot be unmounted. Each user of a file keeps it open.
//! Not here: finding files, what reading them may cost (each user has a budget of its own).

use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{ElfError, ElfFile, notes};
use crate::budget::Budget;

/// The most that kept files may map together, in bytes. Mapped pages are the kernel's to drop;
/// this bounds address space.
const MAX_MAPPED_BYTES: u64 = 4 << 30;
/// The most kept files.
const MAX_FILES: usize = 1024;
/// A file that was not opened for this long is dropped.
const MAX_AGE: Duration = Duration::from_secs(60);

/// How often files are searched that were not opened for long.
const SWEEP_EVERY: Duration = Duration::from_secs(20);

/// What distinguishes a file from all others, and from its own earlier contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

struct Entry {
    file: ElfFile,
    used_at: Instant,
}

/// The kept files, within limits.
struct Cache {
    entries: FxHashMap<Identity, Entry>,
    mapped_bytes: u64,
    limits: Limits,
    /// Whether a thread drops the files that were not opened for long.
    is_swept: bool,
}

#[derive(Clone, Copy)]
struct Limits {
    mapped_bytes: u64,
    files: usize,
    age: Duration,
}

static SHARED: Mutex<Option<Cache>> = Mutex::new(None);

fn shared() -> MutexGuard<'static, Option<Cache>> {
    // No code panics while it holds the lock.
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file, mapped and parsed, or as it is already known. What is read of it draws from `budget`.
/// Errors: as [`ElfFile::open`].
pub fn open(file: &File, budget: &Budget) -> Result<ElfFile, ElfError> {
    open_identified(file, budget).map(|(elf, _)| elf)
}

/// As [`open`], with the file's identity; `None`: it is deleted, and not kept.
pub fn open_identified(file: &File, budget: &Budget) -> Result<(ElfFile, Option<Identity>), ElfError> {
    let metadata = file.metadata()?;
    if metadata.nlink() == 0 {
        return Ok((ElfFile::open_within(file, budget)?, None));
    }
    let identity = Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    if let Some(known) = known(&identity, budget) {
        return Ok((known, Some(identity)));
    }
    // Not under the lock: a file system may be slow.
    let opened = ElfFile::open_within(file, budget)?;
    let mut shared = shared();
    let cache = shared.get_or_insert_with(Cache::default);
    cache.keep(identity, &opened);
    if !std::mem::replace(&mut cache.is_swept, true) {
        thread::spawn(sweep);
    }
    Ok((opened, Some(identity)))
}

/// A file that is still kept. What is read of it draws from `budget`.
pub fn known(identity: &Identity, budget: &Budget) -> Option<ElfFile> {
    let known = shared().as_mut()?.find(identity, budget)?;
    // The map shows the file as it is now: it may have been rewritten with its times set back. Not
    // under the lock: this reads the file.
    (notes::build_id(&known) == known.build_id).then_some(known)
}

/// Drops the files that were not opened for long, until none is left.
fn sweep() {
    loop {
        thread::sleep(SWEEP_EVERY);
        let mut shared = shared();
        let Some(cache) = shared.as_mut() else { return };
        cache.drop_aged(Instant::now());
        if cache.entries.is_empty() {
            cache.is_swept = false;
            return;
        }
    }
}

/// How many files are kept, and how many bytes they map.
pub fn kept() -> (usize, u64) {
    shared().as_ref().map_or((0, 0), |cache| (cache.entries.len(), cache.mapped_bytes))
}

impl Default for Cache {
    fn default() -> Cache {
        Cache::within(Limits { mapped_bytes: MAX_MAPPED_BYTES, files: MAX_FILES, age: MAX_AGE })
    }
}

impl Cache {
    fn within(limits: Limits) -> Cache {
        Cache { entries: FxHashMap::default(), mapped_bytes: 0, limits, is_swept: false }
    }

    fn find(&mut self, identity: &Identity, budget: &Budget) -> Option<ElfFile> {
        let entry = self.entries.get_mut(identity)?;
        entry.used_at = Instant::now();
        Some(entry.file.within(budget))
    }

    fn keep(&mut self, identity: Identity, file: &ElfFile) {
        let now = Instant::now();
        self.drop_aged(now);
        self.drop_entry(&identity);
        self.mapped_bytes += identity.size;
        // The kept file is read by nobody: it has a budget of its own.
        let entry = Entry { file: file.within(&Budget::session()), used_at: now };
        self.entries.insert(identity, entry);
        while self.entries.len() > self.limits.files || self.mapped_bytes > self.limits.mapped_bytes {
            let Some((oldest, _)) = self.entries.iter().min_by_key(|(_, entry)| entry.used_at) else {
                return;
            };
            let oldest = *oldest;
            self.drop_entry(&oldest);
        }
    }

    fn drop_aged(&mut self, now: Instant) {
        let old = |entry: &Entry| now.duration_since(entry.used_at) > self.limits.age;
        let aged: Vec<Identity> =
            self.entries.iter().filter(|(_, entry)| old(entry)).map(|(identity, _)| *identity).collect();
        aged.iter().for_each(|identity| self.drop_entry(identity));
    }

    fn drop_entry(&mut self, identity: &Identity) {
        if self.entries.remove(identity).is_some() {
            self.mapped_bytes -= identity.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(inode: u64, size: u64) -> Identity {
        Identity { device: 1, inode, size, modified: (0, 0), changed: (0, 0) }
    }

    fn own_program() -> ElfFile {
        ElfFile::open(&File::open("/proc/self/exe").expect("this program")).expect("an ELF file")
    }

    #[test]
    fn a_file_is_mapped_once_and_each_user_has_a_budget_of_its_own() {
        let file = File::open("/proc/self/exe").expect("this program");
        let (one, two) = (Budget::session(), Budget::session());
        let (first, second) = (open(&file, &one).expect("opens"), open(&file, &two).expect("opens"));
        assert_eq!(first.bytes().as_ptr(), second.bytes().as_ptr());
        assert!(first.may_scan(100));
        assert_eq!(
            (one.used(crate::budget::Resource::Work), two.used(crate::budget::Resource::Work)),
            (100, 0)
        );
        assert!(kept().0 >= 1 && kept().1 >= first.bytes().len() as u64);
    }

    #[test]
    fn the_files_used_longest_ago_are_dropped_beyond_the_limit_of_bytes() {
        let program = own_program();
        let limits = Limits { mapped_bytes: 25, files: 10, age: MAX_AGE };
        let mut cache = Cache::within(limits);
        cache.keep(identity(1, 10), &program);
        cache.keep(identity(2, 10), &program);
        assert!(cache.find(&identity(1, 10), &Budget::session()).is_some());
        cache.keep(identity(3, 10), &program);
        assert!(cache.find(&identity(2, 10), &Budget::session()).is_none());
        assert!(cache.find(&identity(1, 10), &Budget::session()).is_some());
        assert_eq!((cache.entries.len(), cache.mapped_bytes), (2, 20));
        cache.keep(identity(4, 100), &program);
        assert_eq!((cache.entries.len(), cache.mapped_bytes), (0, 0), "too large to be kept");
    }

    #[test]
    fn files_that_nobody_has_used_for_long_are_dropped() {
        let program = own_program();
        let mut cache = Cache::within(Limits { mapped_bytes: 100, files: 10, age: Duration::ZERO });
        cache.keep(identity(1, 10), &program);
        std::thread::sleep(Duration::from_millis(2));
        cache.keep(identity(2, 10), &program);
        assert_eq!(cache.entries.len(), 1);
        assert!(cache.entries.contains_key(&identity(2, 10)));
    }
}
