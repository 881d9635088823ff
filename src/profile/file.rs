//! Writes a file completely or not at all: under a temporary name in the same directory, synced,
//! then renamed.
//!
//! Not here: the content; the standard output called `-`.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

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

/// Has `write` fill the file at `path`. Other programs see either the old file (or none) or the
/// complete new one. The mode is that of any new file (0666 minus the umask).
///
/// A pipe, a device, or a name under `/dev` or `/proc` (`/dev/stdout`, `/proc/self/fd/3`) is
/// written directly. For a symbolic link, the file it points to is replaced.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    write_with_mode(path, ANY_FILE, write)
}

/// Like [`write_atomically`], but readable only by the owner (mode 0600).
pub fn write_private(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    write_with_mode(path, OWNER_ALONE, write)
}

/// The mode passed to open(2); the umask is applied.
const ANY_FILE: u32 = 0o666;
const OWNER_ALONE: u32 = 0o600;

fn write_with_mode(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    match destination(path)? {
        Destination::Direct(mut file) => {
            fill(&mut file, write).map_err(|source| write_error("cannot write", path, source))
        }
        Destination::Replace(target) => replace(&target, mode, write),
    }
}

/// Checks whether [`write_atomically`] could write to `path` now, so that long work does not end in
/// an error that was foreseeable. Leaves no file behind.
pub fn check_writable(path: &Path) -> Result<(), WriteError> {
    match destination(path)? {
        Destination::Direct(_) => Ok(()),
        Destination::Replace(target) => temporary_beside(&target, ANY_FILE).map(drop),
    }
}

/// How a path is written.
enum Destination {
    Direct(File),
    Replace(PathBuf),
}

fn destination(path: &Path) -> Result<Destination, WriteError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Err(WriteError::IsDirectory { path: path.into() }),
        Ok(metadata) if !metadata.is_file() => return open_directly(path),
        // A path that neither exists nor can be created gets a better error later.
        Ok(_) | Err(_) => {}
    }
    if in_device_folder(path) {
        return open_directly(path);
    }
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        return Ok(Destination::Replace(path.into()));
    }
    // Opened so that the kernel decides: it refuses links planted by others in sticky directories
    // (fs.protected_symlinks), and creates the file that a dangling link points to.
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    opened.map_err(|source| write_error("cannot open", path, source))?;
    let target = fs::canonicalize(path).map_err(|source| write_error("cannot open", path, source))?;
    Ok(Destination::Replace(target))
}

/// Names there refer to open files and devices: renaming would replace the name, not the file.
fn in_device_folder(path: &Path) -> bool {
    let folder = fs::canonicalize(folder_of(path)).unwrap_or_default();
    folder.starts_with("/proc") || (folder.starts_with("/dev") && !folder.starts_with("/dev/shm"))
}

fn open_directly(path: &Path) -> Result<Destination, WriteError> {
    let opened = OpenOptions::new().write(true).truncate(true).open(path);
    opened.map(Destination::Direct).map_err(|source| write_error("cannot open", path, source))
}

fn replace(
    target: &Path,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    let folder = folder_of(target);
    let mut file = temporary_beside(target, mode)?;
    fill(file.as_file_mut(), write).map_err(|source| write_error("cannot write", target, source))?;
    file.as_file().sync_all().map_err(|source| write_error("cannot write", target, source))?;
    let renamed = file.persist(target);
    renamed.map_err(|error| write_error("cannot rename into place", target, error.error))?;
    sync_folder(folder).map_err(|source| write_error("cannot sync the directory of", target, source))
}

fn temporary_beside(target: &Path, mode: u32) -> Result<NamedTempFile, WriteError> {
    let folder = folder_of(target);
    tempfile::Builder::new()
        .prefix(".rprof-")
        .suffix(".part")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(|source| folder_error(folder, target, source))
}

fn fill(file: &mut File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
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
        _ => WriteError::Io { what, path, source },
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::symlink, thread};

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
}
