//! The cgroup-v2 folder of a process: /proc/PID/cgroup and /proc/self/mountinfo (cgroups(7),
//! proc(5)).
//!
//! Not here: version 1 hierarchies, limits, statistics.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use crate::sys::proc::read_text;

/// The cgroup of a process in the unified hierarchy, as a path from the root of rprof's cgroup
/// namespace; `None` once it is gone, or if the kernel has no cgroups.
pub fn unified_path(pid: u32) -> Option<PathBuf> {
    let bytes = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    let path = bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

/// The folder of the one cgroup of all these processes, if they share one and it is not the root.
pub fn own_folder(pids: &[u32]) -> Option<PathBuf> {
    let mut paths = pids.iter().map(|pid| unified_path(*pid));
    let first = paths.next()??;
    if !paths.all(|path| path.as_ref() == Some(&first)) {
        return None;
    }
    let mounts = read_text("/proc/self/mountinfo").ok()?;
    let folder = mounts.lines().find_map(|line| folder_in(line, &first))?;
    folder.is_dir().then_some(folder)
}

/// Whether a cgroup-v2 hierarchy is mounted.
pub fn is_mounted() -> bool {
    let mounts = read_text("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| unified_mount(line).is_some())
}

/// The folder of `path` in the hierarchy, if this line of mountinfo is its mount and `path` is
/// neither its root nor outside of it.
pub(super) fn folder_in(mountinfo_line: &str, path: &Path) -> Option<PathBuf> {
    let (root, mount_point) = unified_mount(mountinfo_line)?;
    let below = path.strip_prefix(root).ok()?;
    let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
    (inside && path != Path::new("/")).then(|| mount_point.join(below))
}

/// The root (within the hierarchy) and the mount point of a cgroup-v2 mount.
fn unified_mount(mountinfo_line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, file_system) = mountinfo_line.split_once(" - ")?;
    if file_system.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?)))
}

/// mountinfo writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &str) -> PathBuf {
    let text = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, character)| text.replace(escape, character));
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "33 22 0:30 / /sys/fs/cgroup\\040v2 rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn a_cgroup_is_found_below_its_mount() {
        let folder = folder_in(LINE, Path::new("/system.slice/redis.service"));
        assert_eq!(folder, Some(PathBuf::from("/sys/fs/cgroup v2/system.slice/redis.service")));
    }

    #[test]
    fn the_root_and_paths_outside_the_namespace_have_no_folder() {
        assert_eq!(folder_in(LINE, Path::new("/")), None);
        assert_eq!(folder_in(LINE, Path::new("/../other")), None);
        assert_eq!(folder_in("33 22 0:30 / /sys/fs/cgroup rw - cgroup cgroup rw,cpu", Path::new("/a")), None);
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_is_resolved() {
        let line = LINE.replacen(" / ", " /docker/ab ", 1);
        assert_eq!(folder_in(&line, Path::new("/docker/ab/c")), Some(PathBuf::from("/sys/fs/cgroup v2/c")));
        assert_eq!(folder_in(&line, Path::new("/docker/ab")), Some(PathBuf::from("/sys/fs/cgroup v2/")));
        assert_eq!(folder_in(&line, Path::new("/elsewhere")), None);
    }
}
