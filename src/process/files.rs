//! The files behind a target's mappings, opened where the target sees them: through
//! /proc/PID/map_files (exact, deleted files too; needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN),
//! /proc/PID/root (another mount namespace), /proc/PID/exe, and last rprof's own mount namespace.
//!
//! An opened file is checked to be the mapped one (device and inode): the path may have been
//! replaced since, or may name another file in rprof's mount namespace.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

pub use super::guarded_open::LastLink;
use super::{Mapping, guarded_open};
use crate::addr::RuntimeAddr;
pub use crate::sys::opener::Opened as OpenedFile;

/// A mapped file, as maps or a perf record describe it.
#[derive(Clone, Copy, Debug)]
pub struct MappedFile<'a> {
    /// The process that has it mapped.
    pub pid: u32,
    /// First address of the mapping.
    pub start: RuntimeAddr,
    /// End address of the mapping.
    pub end: RuntimeAddr,
    /// Major number of its device.
    pub device_major: u32,
    /// Minor number of its device.
    pub device_minor: u32,
    /// Inode number.
    pub inode: u64,
    /// The path in the target's mount namespace.
    pub path: &'a str,
}

impl<'a> MappedFile<'a> {
    /// The file behind a mapping of the process `pid`.
    pub fn of(pid: u32, mapping: &'a Mapping) -> MappedFile<'a> {
        MappedFile {
            pid,
            start: mapping.start,
            end: mapping.end,
            device_major: mapping.device_major,
            device_minor: mapping.device_minor,
            inode: mapping.inode,
            path: &mapping.path,
        }
    }
}

/// Why the file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was deleted or replaced, and rights do not allow opening it by /proc/PID/map_files.
    #[error("{path} has been deleted or replaced since it was loaded")]
    Replaced {
        /// The path in the target's mount namespace.
        path: String,
    },
    /// The file could not be opened.
    #[error("cannot open {path}: {source}")]
    Unreadable {
        /// The path in the target's mount namespace.
        path: String,
        /// The error of the kernel.
        source: io::Error,
    },
}

/// Opens the file behind a mapping. Only regular files; never blocks on a FIFO, a terminal or a
/// file system that does not answer. Errors: see [`OpenError`].
pub fn open(wanted: &MappedFile<'_>) -> Result<File, OpenError> {
    let pid = wanted.pid;
    let path = || wanted.path.to_owned();
    if guarded_open::is_hung((wanted.device_major, wanted.device_minor)) {
        return Err(OpenError::Unreadable { path: path(), source: hung(io::ErrorKind::TimedOut.into()) });
    }
    let exact = format!("/proc/{pid}/map_files/{:x}-{:x}", wanted.start, wanted.end);
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let executable = format!("/proc/{pid}/exe");
    let ways: [(Option<&Path>, &Path); 4] = [
        (None, Path::new(&exact)),
        (Some(&root), Path::new(wanted.path)),
        (None, Path::new(&executable)),
        (None, Path::new(wanted.path)),
    ];
    // Of /proc/PID/map_files: another file may have been mapped there meanwhile, or the numbers in
    // maps are not those of stat(2).
    let mut exact = None;
    let mut replaced = false;
    let mut failure = None;
    for (index, (root, path)) in ways.into_iter().enumerate() {
        match guarded_open::open(pid, root, path, LastLink::Follow) {
            Ok(opened) if is_same(&opened, wanted) => return Ok(opened.file),
            Ok(opened) if index == 0 => exact = Some(opened.file),
            Ok(_) => replaced = true,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                guarded_open::note_hung((wanted.device_major, wanted.device_minor));
                return Err(OpenError::Unreadable { path: wanted.path.to_owned(), source: hung(error) });
            }
            Err(_) if index == 0 => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match (exact, failure) {
        (Some(file), _) => Ok(file),
        (None, Some(source)) if !replaced => Err(OpenError::Unreadable { path: path(), source }),
        _ => Err(OpenError::Replaced { path: path() }),
    }
}

fn hung(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), "its file system does not answer")
}

/// Opens a regular file below another mount namespace's `root` (`/proc/PID/root`). Links inside are
/// resolved within that root (openat2(2), `RESOLVE_IN_ROOT`), so that a container cannot redirect
/// to a file of the host. Never blocks on a FIFO or a file system that does not answer. Errors:
/// openat2(2), `InvalidInput` if it is not a regular file, or `TimedOut`.
pub fn open_in_root(root: &Path, inside: &Path, last: LastLink) -> io::Result<OpenedFile> {
    let pid = root.strip_prefix("/proc").ok().and_then(|rest| rest.to_str()?.split('/').next()?.parse().ok());
    guarded_open::open(pid.unwrap_or_else(std::process::id), Some(root), inside, last)
}

/// Opens a regular file at a path in rprof's own mount namespace. Errors: as [`open_in_root`].
pub fn open_plain(path: &Path) -> io::Result<File> {
    guarded_open::open(std::process::id(), None, path, LastLink::Follow).map(|opened| opened.file)
}

/// Reads a file that the user names, of at most `max_bytes`. Regular files only, and what is handed
/// to rprof already open (`/dev/stdin`, `/dev/fd/63` of a shell's `<(…)`): opening any other FIFO
/// or device would block, or have effects. Errors: those of open(2) and read(2), `InvalidInput`, or
/// `FileTooLarge`.
pub fn read_input(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    let is_open = path.starts_with("/dev/fd") || path.starts_with("/proc") || path == Path::new("/dev/stdin");
    if !metadata.is_file() && !metadata.is_dir() && !is_open {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Same inode, and same device if the numbers can be compared: for overlayfs and btrfs, maps shows
/// another device than stat(2) does, with major number 0.
fn is_same(opened: &OpenedFile, wanted: &MappedFile<'_>) -> bool {
    let device = opened.device;
    let same_device = nix::sys::stat::major(device) == u64::from(wanted.device_major)
        && nix::sys::stat::minor(device) == u64::from(wanted.device_minor);
    opened.inode == wanted.inode && (same_device || wanted.device_major == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::read_mappings;

    fn own_program() -> crate::process::Mapping {
        let here = RuntimeAddr(own_program as *const () as u64);
        let maps = read_mappings(std::process::id()).expect("maps");
        maps.into_iter().find(|map| map.start <= here && here < map.end).expect("found")
    }

    #[test]
    fn the_file_behind_a_mapping_of_this_process_opens() {
        let map = own_program();
        assert!(open(&MappedFile::of(std::process::id(), &map)).is_ok());
    }

    #[test]
    fn a_file_with_another_inode_is_not_taken_for_the_mapped_one() {
        let map = own_program();
        let wanted = MappedFile {
            // No mapping begins here, so map_files has no such entry.
            start: RuntimeAddr(map.start.0 + 1),
            inode: map.inode + 1,
            ..MappedFile::of(std::process::id(), &map)
        };
        assert!(matches!(open(&wanted), Err(OpenError::Replaced { .. })));
    }

    #[test]
    fn a_fifo_as_input_is_refused_and_a_large_file_is_not_read() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (fifo, large) = (folder.path().join("fifo"), folder.path().join("large"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        let error = |path: &Path| read_input(path, 1000).expect_err("refused").kind();
        assert_eq!(error(&fifo), io::ErrorKind::InvalidInput);
        assert_eq!(error(Path::new("/dev/null")), io::ErrorKind::InvalidInput);
        File::create(&large).expect("create").set_len(1 << 40).expect("a sparse file");
        assert_eq!(error(&large), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_device_is_never_opened_as_a_file() {
        assert!(open_in_root(Path::new("/"), Path::new("/dev/null"), LastLink::Follow).is_err());
    }

    #[test]
    fn links_inside_a_root_stay_inside_it() {
        let root = tempfile::tempdir().expect("temporary directory");
        std::fs::write(root.path().join("real"), "inside").expect("write");
        std::os::unix::fs::symlink("/real", root.path().join("absolute")).expect("symlink");
        std::os::unix::fs::symlink("../../../../../../etc/passwd", root.path().join("climbing"))
            .expect("symlink");
        let read = |name: &str| {
            open_in_root(root.path(), Path::new(name), LastLink::Follow)
                .and_then(|opened| io::read_to_string(opened.file))
                .map_err(|error| error.kind())
        };
        assert_eq!(read("absolute"), Ok("inside".into()));
        assert_eq!(read("/real"), Ok("inside".into()));
        assert_eq!(read("climbing"), Err(io::ErrorKind::NotFound));
        assert!(open_in_root(root.path(), Path::new("absolute"), LastLink::Refuse).is_err());
    }
}
