//! Writes a file completely or not at all: under a temporary name in the same directory, synced,
//! then renamed.
//!
//! Not here: the content; the standard output called `-`.

mod part;
pub mod pipe;

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, faccessat, geteuid},
};

use part::Part;
use pipe::PipeWriter;

/// Why a file was not written. An existing file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The path is a directory.
    #[error("{path} is a directory, not a file")]
    IsDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory does not exist.
    #[error("the directory {folder} does not exist")]
    NoFolder {
        /// The directory.
        folder: PathBuf,
    },
    /// The directory is not writable.
    #[error("cannot write in the directory {folder}: {source}")]
    Folder {
        /// The directory.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The disk or the user's quota is full.
    #[error("no space left for {path}: {source}")]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file would be larger than `ulimit -f` permits.
    #[error("{path} is larger than the limit on file sizes permits: {source}")]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Any other error.
    #[error("{what} {path}: {source}")]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The permissions and the owner of a file.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileOptions {
    /// The permissions. `None`: those of the file that is replaced; a new file is readable only by
    /// its owner (0600).
    pub mode: Option<u32>,
    /// A user and a group: in a directory of this user, a new file belongs to them. This is the
    /// user who runs rprof under sudo(8), whose files would otherwise belong to root.
    pub owner: Option<(u32, u32)>,
}

/// Has `write` fill the file at `path`. Other programs see either the old file (or none) or the
/// complete new one. A replaced file keeps its owner (as far as permitted) and its permissions; a
/// new file has those of `options`.
///
/// A pipe, a device, or a name under `/dev` or `/proc` (`/dev/stdout`, `/proc/self/fd/3`) is
/// written directly. For a symbolic link, the file it points to is replaced. A pipe without a
/// reader is an error after some seconds ([`pipe`]).
///
/// # Errors
/// See [`WriteError`]. An existing file is unchanged.
pub fn write_file(
    path: &Path,
    options: &FileOptions,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    write_with_mode(path, options, PRIVATE, write)
}

/// Like [`write_file`], but a new file has the permissions of any new file (0666 minus the umask):
/// for texts that hold no more than the user has seen.
///
/// # Errors
/// See [`WriteError`]. An existing file is unchanged.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    write_with_mode(path, &FileOptions::default(), ANY_FILE, write)
}

/// Saves data in a new directory below `parent` that only the user can access, as a new file called
/// `name`. In a directory that others can write to, such as `/tmp`, they cannot prepare a file,
/// link or pipe in its place. Returns the path.
///
/// # Errors
/// See [`WriteError`]. Nothing is left behind.
pub fn write_rescued(
    parent: &Path,
    name: &OsStr,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<PathBuf, WriteError> {
    let folder = tempfile::Builder::new()
        .prefix("rprof-rescued-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(parent)
        .map_err(|source| folder_error(parent, &parent.join(name), source))?;
    let path = folder.path().join(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(PRIVATE).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&path).map_err(|source| write_error("cannot create", &path, source))?;
    fill(&mut file, write)
        .and_then(|()| file.sync_all())
        .map_err(|source| write_error("cannot write", &path, source))?;
    let _ = folder.keep();
    Ok(path)
}

/// Permissions of a new file, passed to open(2); the umask is applied.
const ANY_FILE: u32 = 0o666;
const PRIVATE: u32 = 0o600;

fn write_with_mode(
    path: &Path,
    options: &FileOptions,
    new_mode: u32,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    match destination(path)? {
        Destination::Direct if is_pipe(path) => {
            let pipe = PipeWriter::open(path).map_err(|source| write_error("cannot open", path, source));
            fill(&mut pipe?, write).map_err(|source| write_error("cannot write", path, source))
        }
        Destination::Direct => {
            let mut file = open_directly(path)?;
            fill(&mut file, write).map_err(|source| write_error("cannot write", path, source))
        }
        Destination::Replace(target) => replace(&target, options, new_mode, write),
    }
}

/// Checks whether [`write_file`] could write to `path` now, so that long work does not end in an
/// error that was foreseeable. Leaves no file behind.
///
/// # Errors
/// See [`WriteError`].
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    match destination(path)? {
        // Opening a pipe would wait for a reader, and closing it would send the reader away.
        Destination::Direct if is_pipe(path) => {
            faccessat(AT_FDCWD, path, AccessFlags::W_OK, AtFlags::AT_EACCESS)
                .map_err(|error| write_error("cannot open", path, error.into()))
        }
        Destination::Direct => open_directly(path).map(drop),
        Destination::Replace(target) => temporary_beside(&target, PRIVATE).map(drop),
    }
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// How a path is written.
enum Destination {
    /// Into the existing pipe or device.
    Direct,
    /// By replacing this file.
    Replace(PathBuf),
}

fn destination(path: &Path) -> Result<Destination, WriteError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(WriteError::IsDirectory { path: path.into() }),
        Ok(metadata) if !metadata.is_file() => return Ok(Destination::Direct),
        // A path that neither exists nor can be created gets a better error later.
        Ok(_) | Err(_) => {}
    }
    if in_device_folder(path) {
        return Ok(Destination::Direct);
    }
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        return Ok(Destination::Replace(path.into()));
    }
    // Opened so that the kernel decides: it refuses links planted by others in sticky directories
    // (fs.protected_symlinks), and creates the file that a dangling link points to.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(PRIVATE);
    options.open(path).map_err(|source| write_error("cannot open", path, source))?;
    let target = fs::canonicalize(path).map_err(|source| write_error("cannot open", path, source))?;
    Ok(Destination::Replace(target))
}

/// Names there refer to open files and devices: renaming would replace the name, not the file.
fn in_device_folder(path: &Path) -> bool {
    let folder = fs::canonicalize(folder_of(path)).unwrap_or_default();
    folder.starts_with("/proc") || (folder.starts_with("/dev") && !folder.starts_with("/dev/shm"))
}

fn open_directly(path: &Path) -> Result<File, WriteError> {
    let opened = OpenOptions::new().write(true).truncate(true).open(path);
    opened.map_err(|source| write_error("cannot open", path, source))
}

fn replace(
    target: &Path,
    options: &FileOptions,
    new_mode: u32,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    let folder = folder_of(target);
    let old = replaced(target, options);
    // Others must not read the file before its permissions are final.
    let is_final = old.is_none() && options.mode.is_none();
    let mut part = temporary_beside(target, if is_final { new_mode } else { PRIVATE })?;
    let failed = |source| write_error("cannot write", target, source);
    fill(part.file(), write).map_err(failed)?;
    set_owner(part.file(), old.as_ref(), folder, options);
    if let Some(mode) = options.mode.or(old.map(|old| old.mode() & 0o777)) {
        part.file().set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    }
    part.file().sync_all().map_err(failed)?;
    part.persist(target).map_err(|source| write_error("cannot rename into place", target, source))?;
    sync_folder(folder).map_err(|source| write_error("cannot sync the directory of", target, source))
}

/// The file that is replaced, if its owner and permissions are to be kept. In a directory where
/// anyone can create files, such as `/tmp`, another user may have created it to read what rprof
/// writes.
fn replaced(target: &Path, options: &FileOptions) -> Option<Metadata> {
    let old = fs::symlink_metadata(target).ok().filter(Metadata::is_file)?;
    let folder = fs::metadata(folder_of(target)).ok()?;
    let is_shared = folder.mode() & 0o1002 == 0o1002;
    let own = [geteuid().as_raw(), folder.uid()].into_iter().chain(options.owner.map(|(user, _)| user));
    let is_trusted = !is_shared || own.into_iter().any(|user| user == old.uid());
    is_trusted.then_some(old)
}

/// Gives a file the owner of the file it replaces, or the owner that the options name. A user who
/// may not give files away keeps it.
fn set_owner(file: &File, old: Option<&Metadata>, folder: &Path, options: &FileOptions) {
    let in_own_folder = |user: u32| fs::metadata(folder).is_ok_and(|folder| folder.uid() == user);
    let owner = match old {
        Some(old) => Some((old.uid(), old.gid())),
        None => options.owner.filter(|(user, _)| in_own_folder(*user)),
    };
    let Some((user, group)) = owner else { return };
    if fchown(file, Some(user), Some(group)).is_err() {
        let _ = fchown(file, None, Some(group));
    }
}

/// A temporary file in the directory of `target`, from which abandoned ones are removed first.
fn temporary_beside(target: &Path, mode: u32) -> Result<Part, WriteError> {
    let folder = folder_of(target);
    part::remove_abandoned(folder);
    Part::create(folder, mode).map_err(|source| folder_error(folder, target, source))
}

fn fill(file: &mut dyn Write, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::with_capacity(64 * 1024, file);
    write(&mut buffered)?;
    buffered.flush()
}

/// Makes the rename survive a power failure, if the file system and permissions allow it.
fn sync_folder(folder: &Path) -> io::Result<()> {
    let Ok(opened) = File::open(folder) else { return Ok(()) };
    match opened.sync_all() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn folder_error(folder: &Path, target: &Path, source: io::Error) -> WriteError {
    // tempfile wraps the system's error together with the temporary name.
    let source = match source.get_ref().and_then(std::error::Error::source) {
        Some(inner) => inner.downcast_ref::<io::Error>().map_or(source.kind().into(), clone_error),
        None => source,
    };
    match source.kind() {
        io::ErrorKind::NotFound => WriteError::NoFolder { folder: folder.into() },
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            WriteError::DiskFull { path: target.into(), source }
        }
        _ => WriteError::Folder { folder: folder.into(), source },
    }
}

fn clone_error(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

fn write_error(what: &'static str, path: &Path, source: io::Error) -> WriteError {
    let path = path.to_path_buf();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteError::DiskFull { path, source },
        io::ErrorKind::FileTooLarge => WriteError::FileTooLarge { path, source },
        _ => WriteError::Io { what, path, source },
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        os::unix::fs::{chown, symlink},
        thread,
    };

    use super::*;

    fn put(path: &Path, text: &str) -> Result<(), WriteError> {
        write_atomically(path, |writer| writer.write_all(text.as_bytes()))
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_created_with_the_mode_of_any_new_file_and_then_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pb.gz");
        put(&path, "one").unwrap();
        File::create(folder.path().join("ordinary")).unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("a.pb.gz"), mode("ordinary"));
        put(&path, "two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(names_in(folder.path()), ["a.pb.gz", "ordinary"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pb.gz");
        put(&path, "old").unwrap();
        let error = write_atomically(&path, |writer| {
            writer.write_all(&[0; 200_000])?;
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        })
        .unwrap_err();
        assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
        assert!(error.to_string().contains("a.pb.gz: No space left on device"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names_in(folder.path()), ["a.pb.gz"]);
    }

    #[test]
    fn a_missing_directory_or_a_file_in_its_place_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(put(folder.path(), "x"), Err(WriteError::IsDirectory { .. })));
        let missing = folder.path().join("no/a.pb.gz");
        assert!(matches!(put(&missing, "x"), Err(WriteError::NoFolder { .. })));
        put(&folder.path().join("file"), "x").unwrap();
        let error = put(&folder.path().join("file/a.pb.gz"), "x").unwrap_err();
        assert!(error.to_string().contains("Not a directory"), "{error}");
    }

    #[test]
    fn a_device_is_written_directly_and_its_error_reported() {
        put(Path::new("/dev/null"), "x").unwrap();
        let error = put(Path::new("/dev/full"), "x").unwrap_err();
        assert!(matches!(error, WriteError::DiskFull { .. }), "{error}");
        assert!(Path::new("/dev/full").exists());
    }

    #[test]
    fn a_named_open_file_is_written_directly() {
        use std::os::fd::AsRawFd;
        let mut file = tempfile::tempfile().unwrap();
        put(Path::new(&format!("/dev/fd/{}", file.as_raw_fd())), "through the descriptor").unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the descriptor");
    }

    #[test]
    fn a_pipe_is_written_to_and_stays_a_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = thread::spawn({
            let path = path.clone();
            move || fs::read_to_string(path).unwrap()
        });
        put(&path, "through the pipe").unwrap();
        assert_eq!(reader.join().unwrap(), "through the pipe");
        assert_eq!(names_in(folder.path()), ["pipe"]);
        assert!(!fs::metadata(&path).unwrap().is_file());
    }

    #[test]
    fn the_file_a_link_points_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("latest"), folder.path().join("real"));
        symlink("real", &link).unwrap();
        put(&link, "one").unwrap();
        put(&link, "two").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "two");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names_in(folder.path()), ["latest", "real"]);
    }

    /// Owner, group and permissions.
    fn attributes(path: &Path) -> (u32, u32, u32) {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    }

    fn put_private(path: &Path, options: &FileOptions) {
        write_file(path, options, |writer| writer.write_all(b"x")).unwrap();
    }

    #[test]
    fn a_new_file_is_private_unless_a_mode_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        put_private(&path("private"), &FileOptions::default());
        put_private(&path("public"), &FileOptions { mode: Some(0o644), ..FileOptions::default() });
        assert_eq!([attributes(&path("private")).2, attributes(&path("public")).2], [0o600, 0o644]);
        symlink("dangling", path("link")).unwrap();
        put_private(&path("link"), &FileOptions::default());
        assert_eq!(attributes(&path("dangling")).2, 0o600);
    }

    #[test]
    fn a_replaced_file_keeps_its_owner_and_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pb.gz");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o4640)).unwrap();
        let is_root = geteuid().is_root();
        if is_root {
            chown(&path, Some(1234), Some(4321)).unwrap();
        }
        let (user, group, _) = attributes(&path);
        put_private(&path, &FileOptions::default());
        assert_eq!(attributes(&path), (user, group, 0o640), "without the set-user-ID bit");
        put_private(&path, &FileOptions { mode: Some(0o600), ..FileOptions::default() });
        assert_eq!(attributes(&path), (user, group, 0o600));
        if is_root {
            // Another user planted it where anyone can create files.
            fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
            put_private(&path, &FileOptions::default());
            let own = attributes(folder.path()).0;
            assert_eq!((attributes(&path).0, attributes(&path).2), (own, 0o600));
        }
    }

    #[test]
    fn under_sudo_a_new_file_belongs_to_the_user_in_that_users_directories_only() {
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let options = FileOptions { owner: Some((1234, 4321)), ..FileOptions::default() };
        put_private(&path("elsewhere"), &options);
        assert_eq!(attributes(&path("elsewhere")).0, 0);
        chown(folder.path(), Some(1234), None).unwrap();
        put_private(&path("own"), &options);
        assert_eq!(attributes(&path("own")), (1234, 4321, 0o600));
    }

    #[test]
    fn a_pipe_is_checked_without_opening_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        check_writable(&path).unwrap();
    }

    #[test]
    fn a_rescued_file_is_new_and_private() {
        let parent = tempfile::tempdir().unwrap();
        let rescue =
            || write_rescued(parent.path(), OsStr::new("a.pb.gz"), |file| file.write_all(b"x")).unwrap();
        let (first, second) = (rescue(), rescue());
        assert_ne!(first, second);
        assert_eq!(fs::read_to_string(&first).unwrap(), "x");
        assert_eq!([attributes(&first).2, attributes(first.parent().unwrap()).2], [0o600, 0o700]);
        let failed = write_rescued(parent.path(), OsStr::new("b"), |_| {
            Err(io::Error::from_raw_os_error(libc::ENOSPC))
        });
        assert!(matches!(failed, Err(WriteError::DiskFull { .. })));
        assert_eq!(names_in(parent.path()).len(), 2, "nothing is left of it");
    }
}
