//! Lists the profiles in a directory or an archive (a spool, an `incident.tar.gz`).

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

/// File name extensions of profiles.
const ENDINGS: [&str; 6] = [".pb.gz", ".pb", ".pprof", ".prof", ".cpu", ".folded"];
/// The maximum number of profiles.
const MOST_FILES: usize = 1000;
/// The maximum depth of nested directories.
const MOST_DEPTH: usize = 4;
/// The maximum size of an archive's unpacked profiles.
const MOST_BYTES: u64 = 4 << 30;

/// The profiles found: the name shown, and the path.
pub(super) type Found = Vec<(String, PathBuf)>;

/// Whether a source is a directory or an archive.
pub(super) fn is_collection(source: &str) -> bool {
    is_archive(source) || Path::new(source).is_dir()
}

fn is_archive(source: &str) -> bool {
    [".tar.gz", ".tgz", ".tar"].iter().any(|ending| source.ends_with(ending)) && Path::new(source).is_file()
}

/// The profiles of a source, sorted by name; those of an archive are unpacked into `folder`.
pub(super) fn profiles_of(source: &str, folder: &Path) -> Result<Found, String> {
    let mut found = Found::new();
    let path = Path::new(source);
    if is_archive(source) {
        unpack(path, folder, &mut found).map_err(|error| format!("{source}: {error}"))?;
    } else {
        look(path, path, 0, &mut found).map_err(|error| format!("{source}: {error}"))?;
    }
    if found.is_empty() {
        return Err(format!("{source}: no profiles in it (names that end in {})", ENDINGS.join(", ")));
    }
    found.sort();
    Ok(found)
}

fn is_profile(name: &str) -> bool {
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn look(top: &Path, folder: &Path, depth: usize, found: &mut Found) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
        // A link may lead anywhere, including back here.
        if path.is_symlink() || found.len() >= MOST_FILES {
            continue;
        }
        if path.is_dir() {
            if depth < MOST_DEPTH {
                look(top, &path, depth + 1, found)?;
            }
        } else if is_profile(&name) && path.is_file() {
            // A FIFO or a device would block, or have effects.
            found.push((name, path));
        }
    }
    Ok(())
}

/// Unpacks files that may be profiles under new names: a name in the archive may lead out of the
/// directory.
fn unpack(archive: &Path, folder: &Path, found: &mut Found) -> io::Result<()> {
    let file = File::open(archive)?;
    let is_packed = archive.extension().is_some_and(|ending| ending != "tar");
    let reader: Box<dyn io::Read> = if is_packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    unpack_from(reader, folder, found)
}

/// As the function above, from an archive that is not compressed any more.
fn unpack_from(reader: impl io::Read, folder: &Path, found: &mut Found) -> io::Result<()> {
    let mut left = MOST_BYTES;
    for entry in tar::Archive::new(reader).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.display().to_string();
        if !entry.header().entry_type().is_file() || !is_profile(&name) || found.len() >= MOST_FILES {
            continue;
        }
        let path = folder.join(format!("{}.profile", found.len()));
        let size = io::copy(&mut io::Read::take(&mut entry, left + 1), &mut File::create(&path)?)?;
        left =
            left.checked_sub(size).ok_or_else(|| io::Error::other("its profiles are larger than 4 GiB"))?;
        found.push((name, path));
    }
    Ok(())
}

/// Unpacks any bytes as an archive, below `folder`; for fuzzing.
pub fn unpack_any(bytes: &[u8], folder: &Path) {
    let mut found = Found::new();
    let _ = unpack_from(bytes, folder, &mut found);
    assert!(found.len() <= MOST_FILES && found.iter().all(|(_, path)| path.starts_with(folder)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_searched_for_profiles_and_an_archive_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("spool/a");
        fs::create_dir_all(&inner).unwrap();
        for name in ["two.pb.gz", "one.prof", "notes.txt"] {
            fs::write(inner.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), inner.join("loop.pb.gz")).unwrap();
        nix::unistd::mkfifo(&inner.join("fifo.pb.gz"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let source = folder.path().join("spool").display().to_string();
        let names = |found: &Found| found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert!(is_collection(&source));
        assert_eq!(names(&profiles_of(&source, folder.path()).unwrap()), ["a/one.prof", "a/two.pb.gz"]);

        let archive = folder.path().join("incident.tar");
        let mut builder = tar::Builder::new(File::create(&archive).unwrap());
        builder.append_path_with_name(inner.join("one.prof"), "incident/one.prof").unwrap();
        builder.finish().unwrap();
        let source = archive.display().to_string();
        assert!(is_collection(&source));
        let found = profiles_of(&source, folder.path()).unwrap();
        assert!(names(&found).contains(&"incident/one.prof".to_string()), "{found:?}");
        assert!(found.iter().all(|(_, path)| path.parent() == Some(folder.path())), "{found:?}");
    }

    #[test]
    fn a_directory_without_profiles_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = profiles_of(&folder.path().display().to_string(), folder.path()).unwrap_err();
        assert!(error.contains("no profiles in it"), "{error}");
        assert!(!is_collection("/no/such/thing.tar.gz"));
    }
}
