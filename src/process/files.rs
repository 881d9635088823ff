//! The files behind a target's mappings, opened where the target sees them: through
//! /proc/PID/map_files (exact, deleted files too; needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN),
//! /proc/PID/root (another mount namespace), /proc/PID/exe, and last rprof's own mount namespace.
//!
//! An opened file is checked to be the mapped one (device and inode): the path may have been
//! replaced since, or may name another file in rprof's mount namespace.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

use super::Mapping;
use crate::addr::RuntimeAddr;

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

/// Opens the file behind a mapping. Only regular files; never blocks on a FIFO or a terminal.
/// Errors: see [`OpenError`].
pub fn open(wanted: &MappedFile<'_>) -> Result<File, OpenError> {
    let pid = wanted.pid;
    let exact = format!("/proc/{pid}/map_files/{:x}-{:x}", wanted.start, wanted.end);
    let exact = match open_plain(Path::new(&exact)) {
        Ok(file) if is_same(&file, wanted) => return Ok(file),
        // Another file may have been mapped there meanwhile.
        other => other.ok(),
    };
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let mut replaced = false;
    let mut failure = None;
    let ways: [&dyn Fn() -> io::Result<File>; 3] = [
        &|| open_in_root(&root, Path::new(wanted.path), LastLink::Follow),
        &|| open_plain(Path::new(&format!("/proc/{pid}/exe"))),
        &|| open_plain(Path::new(wanted.path)),
    ];
    for way in ways {
        match way() {
            Ok(file) if is_same(&file, wanted) => return Ok(file),
            Ok(_) => replaced = true,
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(file) = exact {
        // A file system whose inode numbers in maps are not those of stat(2).
        return Ok(file);
    }
    let path = wanted.path.to_owned();
    match failure {
        Some(source) if !replaced => Err(OpenError::Unreadable { path, source }),
        _ => Err(OpenError::Replaced { path }),
    }
}

/// Whether the last component of a path may be a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// A link is followed.
    Follow,
    /// A link is an error (`ELOOP`): for files in folders where any user can create links.
    Refuse,
}

/// Opens a regular file below another mount namespace's `root` (`/proc/PID/root`). Links inside are
/// resolved within that root (openat2(2), `RESOLVE_IN_ROOT`), so that a container cannot redirect
/// to a file of the host. Never blocks on a FIFO. Errors: openat2(2), or `InvalidInput` if it is
/// not a regular file.
pub fn open_in_root(root: &Path, inside: &Path, last: LastLink) -> io::Result<File> {
    let mut flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    flags.set(OFlag::O_NOFOLLOW, last == LastLink::Refuse);
    let directory =
        OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let file = match openat2(directory.as_fd(), inside, OpenHow::new().flags(flags).resolve(resolve)) {
        Ok(file) => File::from(file),
        // Before Linux 5.6, or a seccomp filter that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let below: PathBuf = inside.components().filter(|c| matches!(c, Component::Normal(_))).collect();
            OpenOptions::new().read(true).custom_flags(flags.bits()).open(root.join(below))?
        }
        Err(errno) => return Err(errno.into()),
    };
    regular(file)
}

fn open_plain(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?)
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Whether the inode is the same, and the device if the numbers can be compared: overlayfs and
/// btrfs show another device in maps than in stat(2), with major number 0.
fn is_same(file: &File, wanted: &MappedFile<'_>) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    let device = metadata.dev();
    let same_device = nix::sys::stat::major(device) == u64::from(wanted.device_major)
        && nix::sys::stat::minor(device) == u64::from(wanted.device_minor);
    metadata.ino() == wanted.inode && (same_device || wanted.device_major == 0)
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
            // No mapping begins here, so map_files cannot answer.
            start: RuntimeAddr(map.start.0 + 1),
            inode: map.inode + 1,
            ..MappedFile::of(std::process::id(), &map)
        };
        assert!(matches!(open(&wanted), Err(OpenError::Replaced { .. })));
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
                .and_then(io::read_to_string)
                .map_err(|error| error.kind())
        };
        assert_eq!(read("absolute"), Ok("inside".into()));
        assert_eq!(read("/real"), Ok("inside".into()));
        assert_eq!(read("climbing"), Err(io::ErrorKind::NotFound));
        assert!(open_in_root(root.path(), Path::new("absolute"), LastLink::Refuse).is_err());
    }
}
