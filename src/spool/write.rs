//! Writing a spool: one process at a time, bounded by size and age.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};

use super::{
    INDEX, LOCK, SpoolError, TORN,
    index::{self, Files, Known},
    name::{Entry, Time},
    walk::{Size, walk},
};
use crate::profile::{
    Profile,
    columns::{self, Columns},
    encode_gzip, file,
};

/// The contents of files written in this time before the newest are checked when a spool is opened,
/// because they may have been on their way to the disk when the power failed.
const RECENT_MS: i64 = 10 * 60 * 1000;
/// The most damaged files that are kept.
const MAX_TORN: usize = 100;
/// The index is written anew when it has this many lines more than twice the number of files.
const SPARE_LINES: usize = 10_000;

/// The number of lines of an index that must be written anew as soon as possible.
const OUTDATED: usize = usize::MAX / 2;

/// How large a spool may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most disk space of its profiles, in bytes; 0: no limit.
    pub bytes: u64,
    /// How long a profile is kept; zero: without limit.
    pub age: Duration,
}

/// What was found and mended when a spool was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Damaged files that were set aside, and why.
    pub torn: Vec<(PathBuf, String)>,
    /// How many lines of the index were damaged; the index was built from the files.
    pub damaged_lines: usize,
    /// How many complete files were not in the index.
    pub found: usize,
    /// How many files of the index are missing.
    pub missing: usize,
}

/// A spool that is open for writing. No other process can write to it.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    limits: Limits,
    files: Files,
    on_disk: BTreeMap<Entry, u64>,
    bytes: u64,
    index: File,
    lines: usize,
    _lock: Flock<File>,
}

impl Spool {
    /// Opens a spool, which is created if the directory does not exist or is empty, and mends what
    /// a power failure or a kill has left.
    ///
    /// # Errors
    /// It is a directory of something else, is being written by another process, or is not
    /// writable.
    pub fn open(folder: &Path, limits: Limits) -> Result<(Spool, Recovery), SpoolError> {
        create_folder(folder)?;
        if !folder.join(INDEX).exists() && !is_new(folder) {
            return Err(SpoolError::NotEmpty(folder.to_owned()));
        }
        let lock = lock(folder)?;
        let (files, on_disk, recovery) = recover(folder);
        let lines = match index::write(folder, &files).map_err(SpoolError::from) {
            Ok(()) => files.len(),
            // The old index is kept until there is space again.
            Err(error) if error.is_disk_full() => OUTDATED,
            Err(error) => return Err(error),
        };
        sync_folder(folder);
        let index = index::open(folder).map_err(SpoolError::io("cannot open", folder.join(INDEX)))?;
        let bytes = on_disk.values().sum();
        let folder = folder.to_owned();
        Ok((Spool { folder, limits, files, on_disk, bytes, index, lines, _lock: lock }, recovery))
    }

    /// The number of profiles, and the disk space that they take in bytes.
    pub fn size(&self) -> (usize, u64) {
        (self.files.len(), self.bytes)
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Changes how large the spool may become, from the next [`Spool::retain`] on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds a profile. If the spool has one of the same name (the clock was set back), the start in
    /// its name is later by milliseconds. Returns its path.
    ///
    /// # Errors
    /// It cannot be written: nothing in the spool has changed.
    pub fn add(&mut self, entry: Entry, profile: &Profile) -> Result<(Entry, PathBuf), SpoolError> {
        // As its path says it: long words are cut.
        let mut entry = Entry::of_path(&entry.path()).unwrap_or(entry);
        while self.files.contains_key(&entry) || self.folder.join(entry.path()).exists() {
            entry.start += 1;
        }
        let path = self.folder.join(entry.path());
        let folder = path.parent().unwrap_or(&self.folder).to_owned();
        create_folder(&folder)?;
        let bytes = encode_gzip(profile);
        file::write_file(&path, &file::FileOptions::default(), |writer| writer.write_all(&bytes))?;
        sync_folder(&folder);
        let (total, unit) = total_of(profile);
        let known = Known { bytes: bytes.len() as u64, crc: index::crc_of(&bytes), total, unit };
        let on_disk = Size::of(&path).map_or(known.bytes, |size| size.on_disk);
        self.bytes += on_disk;
        self.on_disk.insert(entry.clone(), on_disk);
        let line = index::added(&entry, &known);
        self.files.insert(entry.clone(), known);
        // The file is complete: if this fails, the index is mended when the spool is opened.
        self.append(&line);
        Ok((entry, path))
    }

    /// Removes the oldest profiles until the spool is within its limits. Returns how many.
    pub fn retain(&mut self, now: Time) -> usize {
        let age_ms = i64::try_from(self.limits.age.as_millis()).unwrap_or(i64::MAX);
        let oldest = if age_ms == 0 { i64::MIN } else { now.saturating_sub(age_ms) };
        let mut removed = 0;
        while let Some(first) = self.files.keys().next().cloned() {
            let is_full = self.limits.bytes != 0 && self.bytes > self.limits.bytes;
            if !is_full && first.end() >= oldest {
                break;
            }
            self.remove(&first);
            removed += 1;
        }
        removed
    }

    fn remove(&mut self, entry: &Entry) {
        let path = self.folder.join(entry.path());
        let _ = fs::remove_file(&path);
        // These fail where a directory is not empty.
        for folder in path.ancestors().skip(1).take(3) {
            let _ = fs::remove_dir(folder);
        }
        self.files.remove(entry);
        self.bytes -= self.on_disk.remove(entry).unwrap_or_default().min(self.bytes);
        self.append(&index::removed(entry));
    }

    /// Appends a line to the index; now and then writes it anew.
    fn append(&mut self, line: &str) {
        // One write, so that a reader sees whole lines.
        let written = self.index.write_all(line.as_bytes());
        self.lines += 1;
        let is_long = self.lines > 2 * self.files.len() + SPARE_LINES;
        if written.is_ok() && !is_long {
            return;
        }
        // A line of which a part was written would spoil the next one.
        self.lines = OUTDATED;
        if index::write(&self.folder, &self.files).is_ok()
            && let Ok(index) = index::open(&self.folder)
        {
            self.index = index;
            self.lines = self.files.len();
        }
    }
}

/// Creates a directory that only its owner can access, with its parents.
fn create_folder(folder: &Path) -> Result<(), SpoolError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(SpoolError::io("cannot create the directory", folder))
}

/// Whether a directory has nothing but what file systems put there, or a lock.
fn is_new(folder: &Path) -> bool {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut others = names.filter(|name| name != "lost+found" && name != LOCK);
    others.next().is_none()
}

fn lock(folder: &Path) -> Result<Flock<File>, SpoolError> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(SpoolError::io("cannot open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => SpoolError::InUse(folder.to_owned()),
        error => SpoolError::Io { what: "cannot lock", path, source: error.into() },
    })
}

/// Makes the names in a directory permanent. Some file systems cannot; then there is nothing to do.
fn sync_folder(folder: &Path) {
    if let Ok(opened) = File::open(folder) {
        let _ = opened.sync_all();
    }
}

/// Compares the index with the files, and sets damaged files aside.
fn recover(folder: &Path) -> (Files, BTreeMap<Entry, u64>, Recovery) {
    let mut recovery = Recovery::default();
    let mut indexed = Files::new();
    if let Ok((known, damaged)) = index::read(folder) {
        (indexed, recovery.damaged_lines) = (known, damaged);
    }
    let found = walk(folder);
    found.temporary.iter().for_each(|path| drop(fs::remove_file(path)));
    remove_old_torn(found.torn);
    let newest = found.profiles.iter().map(|(entry, _)| entry.end()).max().unwrap_or_default();
    let (mut files, mut on_disk) = (Files::new(), BTreeMap::new());
    let mut seen = HashSet::new();
    for (entry, size) in found.profiles {
        let known = indexed.get(&entry).cloned();
        let is_recent = entry.end() >= newest - RECENT_MS;
        seen.insert(entry.clone());
        let is_new = known.is_none();
        let checked = match known {
            Some(known) if known.bytes == size.bytes && !is_recent => Ok(known),
            known => check(&folder.join(entry.path()), known),
        };
        match checked {
            Ok(checked) => {
                recovery.found += usize::from(is_new);
                on_disk.insert(entry.clone(), size.on_disk);
                files.insert(entry, checked);
            }
            Err(why) => set_aside(&folder.join(entry.path()), why, &mut recovery),
        }
    }
    recovery.missing = indexed.keys().filter(|entry| !seen.contains(*entry)).count();
    (files, on_disk, recovery)
}

/// Checks the content of a file: its length and checksum if the index knows them, and otherwise
/// that it is a profile.
fn check(path: &Path, known: Option<Known>) -> Result<Known, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let (length, crc) = (bytes.len() as u64, index::crc_of(&bytes));
    match known {
        Some(known) if known.bytes != length => {
            Err(format!("it has {length} bytes; {} were written", known.bytes))
        }
        Some(known) if known.crc != crc => Err("its content is not what was written".to_owned()),
        Some(known) => Ok(known),
        None => {
            let columns = columns::decode::read(bytes).map_err(|error| error.to_string())?;
            let (total, unit) = total_of_columns(&columns);
            Ok(Known { bytes: length, crc, total, unit })
        }
    }
}

/// The sum of the main value of a profile, and its unit.
fn total_of(profile: &Profile) -> (i64, String) {
    let Some(value) = profile.default_value_index() else { return (0, String::new()) };
    let values = profile.sample.iter().filter_map(|sample| sample.value.get(value));
    let total = values.fold(0i64, |sum, value| sum.saturating_add(*value));
    (total, profile.string(profile.sample_type[value].unit).to_owned())
}

/// The same for a profile that was read.
fn total_of_columns(columns: &Columns) -> (i64, String) {
    let kinds = &columns.header.kinds;
    let main = kinds.iter().position(|kind| kind.name == columns.header.default_kind);
    let Some(value) = main.or(kinds.len().checked_sub(1)) else { return (0, String::new()) };
    let values = (0..columns.sample_count()).filter_map(|sample| columns.values(sample).get(value));
    let total = values.fold(0i64, |sum, value| sum.saturating_add(*value));
    (total, columns.text(kinds[value].unit).to_owned())
}

fn set_aside(path: &Path, why: String, recovery: &mut Recovery) {
    let mut name = path.as_os_str().to_owned();
    name.push(TORN);
    let torn = PathBuf::from(name);
    let _ = fs::rename(path, &torn);
    recovery.torn.push((torn, why));
}

/// Removes damaged files that were set aside long ago, where there are many.
fn remove_old_torn(mut torn: Vec<PathBuf>) {
    // The file's name begins with its time.
    torn.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    let surplus = torn.len().saturating_sub(MAX_TORN);
    torn.iter().take(surplus).for_each(|path| drop(fs::remove_file(path)));
}
