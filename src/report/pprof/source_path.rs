//! Source files of a profile: trims path prefixes and finds the files on this machine.
//!
//! Not here: which lines are shown ([`super::list`]).

use std::{
    fs,
    io::{self, Read},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rustc_hash::FxHashMap;

use super::Settings;
use crate::text::path::base_name;

/// Removes a prefix in `trim_path`, or the part before the last folder of `search_path`.
pub(super) fn trim<'a>(path: &'a str, trim_path: &str, search_path: &str) -> &'a str {
    if trim_path.is_empty() {
        for folder in split_list(search_path) {
            let wanted = format!("/{}/", base_name(folder));
            if let Some(found) = path.find(&wanted) {
                return &path[found + wanted.len()..];
            }
        }
    }
    for prefix in split_list(trim_path).chain(["/proc/self/cwd/./", "/proc/self/cwd/"]) {
        let rest = path.strip_prefix(prefix);
        let rest =
            rest.and_then(|rest| if prefix.ends_with('/') { Some(rest) } else { rest.strip_prefix('/') });
        if let Some(rest) = rest {
            return rest;
        }
    }
    path
}

fn split_list(list: &str) -> impl Iterator<Item = &str> {
    list.split(':').filter(move |_| !list.is_empty())
}

/// Where source files are searched.
pub(in crate::report) struct Search {
    trim_path: String,
    search_path: String,
    /// See [`Settings::source_roots`]; with symbolic links resolved.
    roots: Option<Vec<PathBuf>>,
}

impl Search {
    pub(in crate::report) fn of(settings: &Settings) -> Result<Search, String> {
        let mut search_path = settings.source_path.clone();
        if search_path.is_empty() {
            let current = std::env::current_dir();
            let current = current.map_err(|error| format!("could not stat current dir: {error}"))?;
            search_path = current.display().to_string();
        }
        let resolved =
            |roots: &Vec<PathBuf>| roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
        let roots = settings.source_roots.as_ref().map(resolved);
        Ok(Search { trim_path: settings.trim_path.clone(), search_path, roots })
    }

    /// The text of a source file, searched in each folder of the path and in its parents.
    pub(in crate::report) fn read(&self, path: &str) -> Result<String, String> {
        let path = trim(path, &self.trim_path, &self.search_path);
        if path.starts_with('/') {
            let bytes = self
                .read_bytes(Path::new(path))
                .map_err(|error| format!("open {path}: {}", system_text(&error)))?;
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        for folder in split_list(&self.search_path) {
            for folder in Path::new(folder).ancestors() {
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                if let Ok(bytes) = self.read_bytes(&folder.join(path)) {
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        match &self.roots {
            Some(_) => Err(format!("open {path}: {ELSEWHERE}")),
            None => Err(format!("could not find file {path} on path {}", self.search_path)),
        }
    }

    fn read_bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        match &self.roots {
            None => read_bytes(path),
            Some(roots) => read_below(roots, path),
        }
    }
}

const ELSEWHERE: &str =
    "source files are shown only from folders that `rprof serve --source-path FOLDER` names";

/// Reads a file below one of the folders. For other files the error does not reveal whether they
/// exist.
fn read_below(roots: &[PathBuf], path: &Path) -> io::Result<Vec<u8>> {
    let elsewhere = || io::Error::other(ELSEWHERE);
    let is_below = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    let real = path.canonicalize().ok().filter(|real| is_below(real)).ok_or_else(elsewhere)?;
    if !fs::metadata(&real)?.is_file() {
        return Err(elsewhere());
    }
    let file = fs::File::open(&real)?;
    // A folder may have been replaced by a symbolic link meanwhile.
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if is_below(&opened) { read_some(file) } else { Err(elsewhere()) }
}

/// Source files, each read once.
pub(super) struct Sources {
    search: Search,
    known: FxHashMap<String, Result<Vec<String>, String>>,
}

impl Sources {
    pub(super) fn new(settings: &Settings) -> Result<Sources, String> {
        Ok(Sources { search: Search::of(settings)?, known: FxHashMap::default() })
    }

    /// The lines of a file, or why there are none.
    pub(super) fn lines(&mut self, file: &str) -> Result<&[String], &str> {
        let search = &self.search;
        let lines = self.known.entry(file.into()).or_insert_with(|| {
            let text = search.read(file)?;
            Ok(text.lines().map(String::from).collect())
        });
        lines.as_deref().map_err(|error| error.as_str())
    }

    /// A line, counted from 1, if it is available.
    pub(super) fn line(&mut self, file: &str, number: i64) -> Option<&str> {
        let lines = self.lines(file).ok()?;
        lines.get(usize::try_from(number.checked_sub(1)?).ok()?).map(String::as_str)
    }

    /// Whether a file has been searched.
    pub(super) fn is_known(&self, file: &str) -> bool {
        self.known.contains_key(file)
    }
}

/// Limit of the bytes read of a source file.
const MAX_BYTES: u64 = 64 << 20;

/// Reads a regular file. The profile chooses the path, so devices and pipes must not be read.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::other("not a regular file"));
    }
    read_some(fs::File::open(path)?)
}

fn read_some(file: fs::File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A system error as text, in the form of the C library and Go.
pub(super) fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_not_read() {
        let search = Search::of(&Settings::default()).unwrap();
        assert_eq!(search.read("/dev/zero"), Err("open /dev/zero: not a regular file".into()));
        assert_eq!(search.read("/"), Err("open /: is a directory".into()));
    }

    #[test]
    fn files_outside_the_given_folders_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (own, other) = (folder.path().join("own"), folder.path().join("other"));
        fs::create_dir_all(own.join("src")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(own.join("src/a.c"), "ours").unwrap();
        fs::write(other.join("b.c"), "secret").unwrap();
        std::os::unix::fs::symlink(other.join("b.c"), own.join("linked.c")).unwrap();
        std::os::unix::fs::symlink(&own, folder.path().join("also_own")).unwrap();
        let search = |roots: &[PathBuf]| {
            let source_path = own.display().to_string();
            let settings = Settings { source_path, source_roots: Some(roots.into()), ..Settings::default() };
            Search::of(&settings).unwrap()
        };
        let path = |name: &str| folder.path().join(name).display().to_string();
        for root in ["own", "also_own", "own/src"] {
            let search = search(&[folder.path().join(root)]);
            assert_eq!(search.read(&path("own/src/a.c")).as_deref(), Ok("ours"), "{root}");
            for name in ["other/b.c", "own/linked.c", "own/../other/b.c", "nothing.c", "own", "/etc/passwd"] {
                let path = if name.starts_with('/') { name.into() } else { path(name) };
                let why = search.read(&path).unwrap_err();
                assert!(why.contains("--source-path"), "{root}: {why}");
            }
            assert!(search.read("../other/b.c").is_err() && search.read("../../etc/passwd").is_err());
        }
        assert!(search(&[]).read(&path("own/src/a.c")).unwrap_err().contains("--source-path"));
    }

    #[test]
    fn path_prefixes_are_removed() {
        assert_eq!(trim("/remote/project/a/b.c", "", "/home/me/project"), "a/b.c");
        assert_eq!(trim("/remote/x/a.c", "/remote:/other/", ""), "x/a.c");
        assert_eq!(trim("/other/a.c", "/remote:/other/", ""), "a.c");
        assert_eq!(trim("/proc/self/cwd/a.c", "", ""), "a.c");
        assert_eq!(trim("/remotely/a.c", "/remote", ""), "/remotely/a.c");
    }
}
