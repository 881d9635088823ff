//! Names of addresses that are shared by all captures of rprof: each address of a file is looked up
//! once, however many kinds of profiles, windows and requests need its name.
//!
//! Only complete results are kept: not those of a file whose debug information is missing, is
//! damaged, or was not read to the end. Names are forgotten with their file (`elf::cache`), and the
//! files used longest ago when all names together exceed [`MAX_BYTES`]. Not here: looking names up
//! (`names`).

use std::{
    collections::hash_map::DefaultHasher,
    fs,
    hash::{Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rustc_hash::FxHashMap;

use crate::{
    addr::ElfAddr,
    elf::{ElfFile, Presence},
    symbolize::{SourceFrame, SymbolizeOptions},
};

/// The most memory that the shared names may take, in bytes.
const MAX_BYTES: usize = 32 << 20;

/// The functions at an address, the innermost inlined one first; empty: it has no name.
pub type Frames = Arc<[SourceFrame]>;

/// A file and everything else that its names depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    file: usize,
    /// Of the options, the path, and the root below which debug files are searched.
    search: u64,
}

/// The names of a file.
struct FileNames {
    presence: Presence,
    by_address: FxHashMap<u64, Frames>,
    bytes: usize,
    used_at: Instant,
}

#[derive(Default)]
struct Store {
    files: FxHashMap<Key, FileNames>,
    bytes: usize,
}

static SHARED: Mutex<Option<Store>> = Mutex::new(None);

fn shared() -> MutexGuard<'static, Option<Store>> {
    // No code panics while it holds the lock.
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Key {
    /// Of a file with this path below `root`, whose names are looked up with these options.
    pub fn of(elf: &ElfFile, options: &SymbolizeOptions, path: &str, root: Option<&Path>) -> Key {
        let mut hasher = DefaultHasher::new();
        let server = options.debuginfod.as_ref().map(|client| format!("{client:?}"));
        (options.dwarf, &options.debug_dirs, server, path).hash(&mut hasher);
        let root = root.and_then(|root| fs::metadata(root).ok());
        root.map(|root| (root.dev(), root.ino())).hash(&mut hasher);
        Key { file: elf.number(), search: hasher.finish() }
    }
}

/// The known names of some addresses of a file, in their order; `None`: not known.
pub fn known(key: Key, addresses: &[ElfAddr]) -> Vec<Option<Frames>> {
    shared().get_or_insert_with(Store::default).known(key, addresses)
}

/// Keeps names of a file.
pub fn keep(key: Key, elf: &ElfFile, names: impl Iterator<Item = (ElfAddr, Frames)>) {
    shared().get_or_insert_with(Store::default).keep(key, elf, names, MAX_BYTES);
}

/// About how many bytes the names of an address take.
pub fn bytes_of(frames: &[SourceFrame]) -> usize {
    const ENTRY_BYTES: usize = 48;
    let text = |frame: &SourceFrame| {
        frame.function.len() + frame.system_name.len() + frame.file.as_ref().map_or(0, String::len)
    };
    ENTRY_BYTES + frames.iter().map(|frame| size_of::<SourceFrame>() + text(frame)).sum::<usize>()
}

/// About how many bytes the shared names take.
pub fn memory_bytes() -> usize {
    shared().as_ref().map_or(0, |store| store.bytes)
}

impl Store {
    fn known(&mut self, key: Key, addresses: &[ElfAddr]) -> Vec<Option<Frames>> {
        let Some(file) = self.files.get_mut(&key).filter(|file| file.presence.is_open()) else {
            return vec![None; addresses.len()];
        };
        file.used_at = Instant::now();
        addresses.iter().map(|address| file.by_address.get(&address.0).cloned()).collect()
    }

    fn keep(
        &mut self,
        key: Key,
        elf: &ElfFile,
        names: impl Iterator<Item = (ElfAddr, Frames)>,
        max_bytes: usize,
    ) {
        self.files.retain(|_, file| file.presence.is_open());
        let file = self.files.entry(key).or_insert_with(|| FileNames {
            presence: elf.presence(),
            by_address: FxHashMap::default(),
            bytes: 0,
            used_at: Instant::now(),
        });
        for (address, frames) in names {
            let bytes = bytes_of(&frames);
            if file.by_address.insert(address.0, frames).is_none() {
                file.bytes += bytes;
            }
        }
        file.used_at = Instant::now();
        self.bytes = self.files.values().map(|file| file.bytes).sum();
        while self.bytes > max_bytes
            && let Some((oldest, file)) = self.files.iter().min_by_key(|(_, file)| file.used_at)
        {
            let oldest = *oldest;
            self.bytes -= file.bytes;
            self.files.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn program() -> ElfFile {
        ElfFile::open(&File::open("/proc/self/exe").expect("this program")).expect("an ELF file")
    }

    fn key(elf: &ElfFile, options: &SymbolizeOptions) -> Key {
        Key::of(elf, options, "/program", None)
    }

    fn names(address: u64, function: &str) -> impl Iterator<Item = (ElfAddr, Frames)> + use<> {
        let frame = SourceFrame {
            function: function.to_owned(),
            system_name: function.to_owned(),
            file: None,
            line: 0,
            column: 0,
            start_line: 0,
            inlined: false,
        };
        std::iter::once((ElfAddr(address), Frames::from([frame])))
    }

    #[test]
    fn names_are_known_for_the_same_file_and_options_while_the_file_is_open() {
        let (elf, mut store) = (program(), Store::default());
        let key_of_file = key(&elf, &SymbolizeOptions::default());
        store.keep(key_of_file, &elf, names(16, "main"), MAX_BYTES);
        let known = store.known(key_of_file, &[ElfAddr(16), ElfAddr(17)]);
        assert_eq!(known[0].as_ref().map(|frames| frames[0].function.as_str()), Some("main"));
        assert!(known[1].is_none());
        let without_dwarf = SymbolizeOptions { dwarf: false, ..SymbolizeOptions::default() };
        assert_eq!(store.known(key(&elf, &without_dwarf), &[ElfAddr(16)]), [None]);
        let other = program();
        assert_eq!(store.known(key(&other, &SymbolizeOptions::default()), &[ElfAddr(16)]), [None]);
        drop(elf);
        assert_eq!(store.known(key_of_file, &[ElfAddr(16)]), [None]);
        store.keep(key(&other, &SymbolizeOptions::default()), &other, names(1, "other"), MAX_BYTES);
        assert_eq!(store.files.len(), 1);
    }

    #[test]
    fn the_names_of_the_file_used_longest_ago_are_forgotten_beyond_the_limit() {
        let (one, two) = (program(), program());
        let options = SymbolizeOptions::default();
        let mut store = Store::default();
        store.keep(key(&one, &options), &one, names(16, "first"), MAX_BYTES);
        let limit = store.bytes + store.bytes / 2;
        std::thread::sleep(std::time::Duration::from_millis(2));
        store.keep(key(&two, &options), &two, names(16, "other"), limit);
        assert_eq!(store.known(key(&one, &options), &[ElfAddr(16)]), [None]);
        assert!(store.known(key(&two, &options), &[ElfAddr(16)])[0].is_some());
        assert!(store.bytes <= limit);
    }
}
