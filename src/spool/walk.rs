//! The files of a spool as its directories show them.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{TORN, name::Entry};

/// What is in the directories of a spool.
#[derive(Debug, Default)]
pub struct Found {
    /// Profiles, with their length and the disk space that they take.
    pub profiles: Vec<(Entry, Size)>,
    /// Damaged files that were set aside.
    pub torn: Vec<PathBuf>,
    /// Temporary files of writers that were killed.
    pub temporary: Vec<PathBuf>,
}

/// The size of a file in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Its length.
    pub bytes: u64,
    /// What it takes on disk.
    pub on_disk: u64,
}

impl Size {
    /// The size of the file at `path`; `None`: it is gone or not a regular file.
    pub fn of(path: &Path) -> Option<Size> {
        let found = fs::symlink_metadata(path).ok().filter(|found| found.is_file())?;
        Some(Size { bytes: found.len(), on_disk: found.blocks() * 512 })
    }
}

/// Lists the files of a spool. Directories that cannot be read are passed over.
pub fn walk(folder: &Path) -> Found {
    let mut found = Found::default();
    for service in folders(folder) {
        for kind in folders(&service) {
            for day in folders(&kind) {
                for file in entries(&day) {
                    sort(folder, file, &mut found);
                }
            }
        }
    }
    found
}

fn sort(folder: &Path, file: PathBuf, found: &mut Found) {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name.ends_with(TORN) {
        found.torn.push(file);
    } else if name.starts_with(".rprof-") {
        found.temporary.push(file);
    } else if let Some(entry) = relative(folder, &file).and_then(|path| Entry::of_path(&path))
        && let Some(size) = Size::of(&file)
    {
        found.profiles.push((entry, size));
    }
}

fn relative(folder: &Path, file: &Path) -> Option<String> {
    Some(file.strip_prefix(folder).ok()?.to_str()?.to_owned())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The directories in a directory; a link to one is none.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let is_folder = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    entries(folder).into_iter().filter(is_folder).collect()
}
