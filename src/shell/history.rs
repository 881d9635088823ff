//! Where the prompt's history is kept between runs.
//!
//! Not here: the history itself, which the line editor holds.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Most lines kept.
pub(super) const MAX_LINES: usize = 1000;

/// The file, by the rules of the XDG base directory specification: state is in `$XDG_STATE_HOME`, or
/// else in `~/.local/state`. `None` where neither is known.
pub(super) fn path(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("rprof/history"))
}

/// Makes the file if there is none, and sees to it that only its owner reads it: what was looked for
/// in a profile is nobody else's affair.
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
    fn the_file_is_where_xdg_says() {
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
    fn only_the_owner_may_read_it_even_if_it_was_open_before() {
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
