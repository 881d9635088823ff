//! The file of the prompt's history.
//!
//! Not here: the history itself, which the line editor holds.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The largest number of lines that are kept.
pub(super) const MAX_LINES: usize = 1000;

/// The path of the file. State is in `$XDG_STATE_HOME`, else in `~/.local/state` (XDG Base
/// Directory Specification). `None` if neither is known.
pub(super) fn path(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("rprof/history"))
}

/// Creates the file if necessary and makes it readable by its owner only: searches can reveal
/// secrets.
///
/// # Errors
/// When the file or its folder cannot be created or changed.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_follows_the_xdg_specification() {
        let with = |state: Option<&str>, home: Option<&str>| {
            let (state, home) = (state.map(String::from), home.map(String::from));
            path(|name| if name == "HOME" { home.clone() } else { state.clone() })
        };
        assert_eq!(with(Some("/s"), Some("/h")), Some("/s/rprof/history".into()));
        assert_eq!(with(None, Some("/h")), Some("/h/.local/state/rprof/history".into()));
        assert_eq!(with(Some("relative"), Some("/h")), Some("/h/.local/state/rprof/history".into()));
        assert_eq!(with(None, None), None);
    }

    #[test]
    fn the_file_becomes_readable_by_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/history");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        prepare(&path).unwrap();
        assert_eq!(mode(), 0o600);
        fs::write(&path, "top\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        prepare(&path).unwrap();
        assert_eq!((mode(), &*fs::read(&path).unwrap()), (0o600, &b"top\n"[..]));
    }
}
