//! File names of a profile: what is cut off their beginning, and where on this machine they are.
//!
//! Not here: what is shown of the files ([`super::list`]).

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use rustc_hash::FxHashMap;

use super::prepare::Report;
use crate::go_text::base_name;

/// Cuts off what `trim_path` names, or else what stands before the last folder of `search_path`.
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

/// The text of a source file, looked for in each folder of `search_path` and in all above it.
pub(in crate::report) fn read(path: &str, trim_path: &str, search_path: &str) -> Result<String, String> {
    let path = trim(path, trim_path, search_path);
    if path.starts_with('/') {
        let bytes =
            read_bytes(Path::new(path)).map_err(|error| format!("open {path}: {}", system_words(&error)))?;
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    for folder in split_list(search_path) {
        for folder in Path::new(folder).ancestors() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            if let Ok(bytes) = read_bytes(&folder.join(path)) {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    Err(format!("could not find file {path} on path {search_path}"))
}

/// Source files, each read once.
pub(super) struct Sources {
    search_path: String,
    trim_path: String,
    known: FxHashMap<String, Result<Vec<String>, String>>,
}

impl Sources {
    pub(super) fn new(report: &Report) -> Result<Sources, String> {
        let mut search_path = report.settings.source_path.clone();
        if search_path.is_empty() {
            let current = std::env::current_dir();
            let current = current.map_err(|error| format!("could not stat current dir: {error}"))?;
            search_path = current.display().to_string();
        }
        let trim_path = report.settings.trim_path.clone();
        Ok(Sources { search_path, trim_path, known: FxHashMap::default() })
    }

    /// The lines of a file, or why there are none.
    pub(super) fn lines(&mut self, file: &str) -> Result<&[String], &str> {
        let (search_path, trim_path) = (&self.search_path, &self.trim_path);
        let lines = self.known.entry(file.into()).or_insert_with(|| {
            let text = read(file, trim_path, search_path)?;
            Ok(text.lines().map(String::from).collect())
        });
        lines.as_deref().map_err(|error| error.as_str())
    }

    /// A line, counted from 1, where it can be had.
    pub(super) fn line(&mut self, file: &str, number: i64) -> Option<&str> {
        let lines = self.lines(file).ok()?;
        lines.get(usize::try_from(number.checked_sub(1)?).ok()?).map(String::as_str)
    }

    /// Whether a file has been looked for.
    pub(super) fn is_known(&self, file: &str) -> bool {
        self.known.contains_key(file)
    }
}

/// Most bytes read of a source file.
const MAX_BYTES: u64 = 64 << 20;

/// The profile names the file: what never ends (a device, a pipe) is not read.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::other("not an ordinary file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An error of the system in the words of the C library, which Go uses too.
pub(super) fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_not_read() {
        assert_eq!(read("/dev/zero", "", ""), Err("open /dev/zero: not an ordinary file".into()));
        assert_eq!(read("/", "", ""), Err("open /: is a directory".into()));
    }

    #[test]
    fn the_beginning_of_a_path_is_cut_off() {
        assert_eq!(trim("/remote/project/a/b.c", "", "/home/me/project"), "a/b.c");
        assert_eq!(trim("/remote/x/a.c", "/remote:/other/", ""), "x/a.c");
        assert_eq!(trim("/other/a.c", "/remote:/other/", ""), "a.c");
        assert_eq!(trim("/proc/self/cwd/a.c", "", ""), "a.c");
        assert_eq!(trim("/remotely/a.c", "/remote", ""), "/remotely/a.c");
    }
}
