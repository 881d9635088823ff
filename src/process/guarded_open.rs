//! Opens regular files, directly or through a child process where a file system may not answer.
//!
//! If a network file system or FUSE is mounted anywhere in the mount namespace, the child opens all
//! paths: links may lead there. Not here: which paths are tried.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt},
        },
    },
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

use crate::sys::opener::{Opened, Opener, Path as OpenerPath};

/// How long a file system may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(700);
/// How long a file system that did not answer is not used again.
const HUNG_FOR: Duration = Duration::from_secs(60);
/// Largest file copied from a file system that may hang.
const MAX_COPY_BYTES: u64 = 1 << 30;
/// Types in /proc/PID/mountinfo (proc(5)) of file systems that wait for another program or machine.
const REMOTE_TYPES: [&str; 18] = [
    "fuse",
    "fuseblk",
    "virtiofs",
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "9p",
    "afs",
    "lustre",
    "glusterfs",
    "ocfs2",
    "gfs2",
    "vboxsf",
    "coda",
    "orangefs",
];

/// Whether the last component of a path may be a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// A link is followed.
    Follow,
    /// A link is an error (`ELOOP`): for files in folders where any user can create links.
    Refuse,
}

/// Major and minor number.
type Device = (u32, u32);

static OPENER: Mutex<Option<Opener>> = Mutex::new(None);
static HUNG: Mutex<Vec<(Key, Instant)>> = Mutex::new(Vec::new());

/// What did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Device(Device),
    /// Some file system of this process's mount namespace.
    Namespace(u32),
}

/// Whether a device did not answer lately.
pub(super) fn is_hung(device: Device) -> bool {
    is_noted(Key::Device(device))
}

/// Remembers that a device does not answer.
pub(super) fn note_hung(device: Device) {
    note(Key::Device(device));
}

fn is_noted(key: Key) -> bool {
    let mut hung = HUNG.lock().unwrap_or_else(PoisonError::into_inner);
    hung.retain(|(_, since)| since.elapsed() < HUNG_FOR);
    hung.iter().any(|(known, _)| *known == key)
}

fn note(key: Key) {
    HUNG.lock().unwrap_or_else(PoisonError::into_inner).push((key, Instant::now()));
}

/// Opens a regular file as the process `pid` has its file systems mounted; below `root`, or in
/// rprof's own mount namespace. Errors: those of the kernel, `InvalidInput` for what is not a
/// regular file, `TimedOut` if a file system does not answer.
pub(super) fn open(pid: u32, root: Option<&Path>, path: &Path, last: LastLink) -> io::Result<Opened> {
    let own = std::process::id();
    if !has_remote_mounts(pid) && (pid == own || !has_remote_mounts(own)) {
        return open_here(root, path, last);
    }
    // A file that does not exist is the most frequent answer, and a namespace that hangs must not
    // cost a deadline for each.
    if is_noted(Key::Namespace(pid)) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let opened = open_in_child(root, path, last);
    if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) && root.is_some() {
        note(Key::Namespace(pid));
    }
    opened
}

/// Whether a network file system or FUSE is mounted for this process. False if it cannot be read:
/// then the process has ended.
fn has_remote_mounts(pid: u32) -> bool {
    let text = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().any(may_hang)
}

/// Whether a line of mountinfo is the mount of a file system that may hang.
pub(super) fn may_hang(mountinfo_line: &str) -> bool {
    file_system_type(mountinfo_line).is_some_and(is_remote)
}

/// The type of file system in a line of mountinfo: after a lone hyphen.
fn file_system_type(line: &str) -> Option<&str> {
    line.split_once(" - ")?.1.split(' ').next()
}

fn is_remote(kind: &str) -> bool {
    // `fuse.sshfs`: a FUSE file system and its program.
    REMOTE_TYPES.contains(&kind.split('.').next().unwrap_or(kind))
}

fn open_in_child(root: Option<&Path>, path: &Path, last: LastLink) -> io::Result<Opened> {
    let text =
        |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput);
    let wanted =
        OpenerPath { root: root.map(text).transpose()?, path: text(path)?, follow: last == LastLink::Follow };
    let mut opener = OPENER.lock().unwrap_or_else(PoisonError::into_inner);
    // A child of an earlier request may have been ended from outside: one more try.
    for _ in 0..2 {
        let child = match opener.take() {
            Some(child) => child,
            None => Opener::start()?,
        };
        match child.open(&wanted, tempfile::tempfile()?, MAX_COPY_BYTES, ANSWER_WITHIN) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => {
                *opener = Some(child);
                return other;
            }
        }
    }
    Err(io::ErrorKind::BrokenPipe.into())
}

/// Opens the path without opening the file (`O_PATH`), and the file only if it is a regular one:
/// opening a device or a FIFO may block or have effects.
fn open_here(root: Option<&Path>, path: &Path, last: LastLink) -> io::Result<Opened> {
    let place = locate(root, path, last)?;
    let metadata = place.metadata()?;
    if !metadata.is_file() {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(if metadata.is_symlink() { Errno::ELOOP.into() } else { error });
    }
    let own_descriptor = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(own_descriptor)?;
    Ok(Opened { file, device: metadata.dev(), inode: metadata.ino(), uid: metadata.uid() })
}

fn locate(root: Option<&Path>, path: &Path, last: LastLink) -> io::Result<File> {
    let mut flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    flags.set(OFlag::O_NOFOLLOW, last == LastLink::Refuse);
    let at_path = |path: &Path| OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let Some(root) = root else { return at_path(path) };
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(root)?;
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match openat2(folder.as_fd(), path, OpenHow::new().flags(flags).resolve(resolve)) {
        Ok(place) => Ok(place.into()),
        // Before Linux 5.6, or a seccomp filter that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let below: PathBuf = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
            at_path(&root.join(below))
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_that_may_hang_are_found_in_mountinfo() {
        let kind = |line: &str| file_system_type(line).map(is_remote);
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - fuse.sshfs host:/ rw";
        assert_eq!(kind(line), Some(true));
        assert_eq!(kind("22 28 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw"), Some(false));
        assert_eq!(kind("22 28 0:20 / /c rw - fusectl fusectl rw"), Some(false));
        assert_eq!(kind("40 28 0:50 / /n rw - nfs4 server:/ rw,vers=4.2"), Some(true));
        assert_eq!(kind("damaged"), None);
    }

    #[test]
    fn a_device_a_fifo_and_a_folder_are_refused_without_being_opened() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        for path in [&fifo, folder.path(), Path::new("/dev/null")] {
            for open in [open_here, open_in_child] {
                let error = open(None, path, LastLink::Follow).expect_err("refused");
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{}", path.display());
            }
        }
    }

    #[test]
    fn both_ways_open_the_same_file_and_refuse_a_link_if_told() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join("real"), "content").expect("write");
        std::os::unix::fs::symlink("real", folder.path().join("link")).expect("symlink");
        for open in [open_here, open_in_child] {
            let opened = open(Some(folder.path()), "/link".as_ref(), LastLink::Follow).expect("opened");
            let metadata = fs::metadata(folder.path().join("real")).expect("metadata");
            assert_eq!((opened.inode, opened.device), (metadata.ino(), metadata.dev()));
            assert_eq!(io::read_to_string(opened.file).expect("read"), "content");
            let error = open(Some(folder.path()), "/link".as_ref(), LastLink::Refuse).expect_err("a link");
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
        }
    }
}
