//! Temporary files: a file is written under a temporary name in the directory of its destination
//! and then renamed. The writer holds a lock, so that the next run can remove files of writers that
//! were killed.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};
use tempfile::NamedTempFile;

const PREFIX: &str = ".rprof-";
const SUFFIX: &str = ".part";
/// How many directory entries are checked for abandoned files: more are left for later runs.
const MAX_ENTRIES: usize = 100_000;
/// How often a temporary file is created again because another run removed it before it was locked.
const ATTEMPTS: usize = 8;

/// A temporary file, which is removed when this is dropped.
pub(super) struct Part {
    file: NamedTempFile,
    /// Held while the file is written. `None`: the file system has no locks.
    lock: Option<Flock<File>>,
}

impl Part {
    /// Creates a temporary file with these permissions (minus the umask).
    pub(super) fn create(folder: &Path, mode: u32) -> io::Result<Part> {
        for _ in 0..ATTEMPTS {
            let file = tempfile::Builder::new()
                .prefix(PREFIX)
                .suffix(SUFFIX)
                .permissions(Permissions::from_mode(mode))
                .tempfile_in(folder)?;
            let lock = Flock::lock(file.as_file().try_clone()?, FlockArg::LockExclusiveNonblock).ok();
            // Another run may have removed the file before it was locked.
            if file.as_file().metadata()?.nlink() > 0 {
                return Ok(Part { file, lock });
            }
        }
        Err(io::Error::other("temporary files disappear"))
    }

    /// The open file.
    pub(super) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Renames the file to `target`, which is replaced.
    pub(super) fn persist(self, target: &Path) -> io::Result<()> {
        self.file.persist(target).map_err(|error| error.error)?;
        drop(self.lock);
        Ok(())
    }
}

/// Removes temporary files in the directory whose writer is gone, that is, whose lock is free. Only
/// regular files of the same user are removed. Errors are ignored: the files are only in the way.
pub(super) fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.take(MAX_ENTRIES).flatten() {
        let is_own = |found: fs::Metadata| found.is_file() && found.uid() == geteuid().as_raw();
        if !is_part(&entry.file_name()) || !entry.metadata().is_ok_and(is_own) {
            continue;
        }
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(entry.path()) else { continue };
        if let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_part(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_temporary_files_without_a_writer_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let written = Part::create(folder.path(), 0o600).unwrap();
        for name in [".rprof-abandoned.part", ".rprof-other", "mine.part"] {
            fs::write(path(name), "x").unwrap();
        }
        symlink(path("mine.part"), path(".rprof-link.part")).unwrap();
        nix::unistd::mkfifo(&path(".rprof-fifo.part"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        remove_abandoned(folder.path());
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.retain(|name| *name != written.file.path().file_name().unwrap());
        left.sort();
        assert_eq!(left, [".rprof-fifo.part", ".rprof-link.part", ".rprof-other", "mine.part"]);
        assert!(written.file.path().exists(), "its writer is alive");
        drop(written.lock);
        remove_abandoned(folder.path());
        assert!(!written.file.path().exists(), "its lock is free");
    }
}
