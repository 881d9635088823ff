//! The cgroup-v2 folder of a process: /proc/PID/cgroup and /proc/self/mountinfo (cgroups(7),
//! proc(5)).
//!
//! Not here: limits and statistics (`cgroup_memory`).

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

/// The control groups of a process in all hierarchies, as paths from the root of rprof's cgroup
/// namespace; none once it is gone.
pub fn paths(pid: u32) -> Vec<String> {
    let text = read_text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter_map(path_of).map(str::to_owned).collect()
}

/// The path in a line of /proc/PID/cgroup: `HIERARCHY:CONTROLLERS:PATH`.
pub(super) fn path_of(line: &str) -> Option<&str> {
    line.splitn(3, ':').nth(2)
}

/// The path of a control group from the root of its hierarchy. `group`: such a path, or the group's
/// folder (/sys/fs/cgroup/…).
pub fn path_in_hierarchy(group: &Path) -> PathBuf {
    path_below_mounts(&read_text("/proc/self/mountinfo").unwrap_or_default(), group)
}

fn path_below_mounts(mountinfo: &str, group: &Path) -> PathBuf {
    let in_mount = |line: &str| {
        let (root, mount_point) = mount_of(line, &["cgroup", "cgroup2"])?;
        // Without a `/` at the end, so that it equals the same path of a process.
        Some(root.join(group.strip_prefix(mount_point).ok()?).components().collect())
    };
    mountinfo.lines().find_map(in_mount).unwrap_or_else(|| Path::new("/").join(group))
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

/// The folder of a group in the hierarchy of a version-1 controller. `groups`: the text of
/// /proc/PID/cgroup.
pub(super) fn controller_folder(groups: &str, controller: &str) -> Option<PathBuf> {
    controller_folder_in(&read_text("/proc/self/mountinfo").ok()?, groups, controller)
}

/// As [`controller_folder`], with the text of mountinfo.
pub(super) fn controller_folder_in(mountinfo: &str, groups: &str, controller: &str) -> Option<PathBuf> {
    let of_controller = |line: &&str| {
        let names = line.split(':').nth(1).unwrap_or_default();
        names.split(',').any(|name| name == controller)
    };
    let path = Path::new(groups.lines().find(of_controller).and_then(path_of)?);
    mountinfo.lines().find_map(|line| folder_of_controller(line, controller, path))
}

/// The folder of `path`, if this line of mountinfo is the mount of the controller's hierarchy.
fn folder_of_controller(mountinfo_line: &str, controller: &str, path: &Path) -> Option<PathBuf> {
    let (root, mount_point) = mount_of(mountinfo_line, &["cgroup"])?;
    if !mountinfo_line.rsplit(' ').next()?.split(',').any(|name| name == controller) {
        return None;
    }
    let below = path.strip_prefix(root).ok()?;
    let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
    inside.then(|| mount_point.join(below))
}

/// The number after `key` in a text of lines `key number`, as cpu.stat and memory.events have.
pub(super) fn number_in(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
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
    mount_of(mountinfo_line, &["cgroup2"])
}

/// The root (within the file system) and the mount point of a mount of one of these types.
pub(super) fn mount_of(mountinfo_line: &str, types: &[&str]) -> Option<(PathBuf, PathBuf)> {
    let (mount, file_system) = mountinfo_line.split_once(" - ")?;
    if !types.contains(&file_system.split(' ').next()?) {
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

    #[test]
    fn a_group_of_a_controller_is_found_below_its_mount() {
        let line = "34 22 0:31 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let folder = |controller, path| folder_of_controller(line, controller, Path::new(path));
        assert_eq!(folder("cpu", "/a/b"), Some(PathBuf::from("/sys/fs/cgroup/cpu/a/b")));
        assert_eq!(folder("cpu", "/"), Some(PathBuf::from("/sys/fs/cgroup/cpu/")));
        assert_eq!((folder("freezer", "/a"), folder("cpu", "/../a")), (None, None));
    }

    #[test]
    fn the_path_of_a_group_may_contain_colons() {
        assert_eq!(path_of("0::/a/b:c:d"), Some("/a/b:c:d"));
        assert_eq!(path_of("9:name=systemd:/x"), Some("/x"));
        assert_eq!(path_of("9"), None);
    }

    #[test]
    fn a_folder_of_a_group_is_a_path_in_its_hierarchy() {
        let mounts = format!("{LINE}\n34 22 0:31 /docker/ab /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu");
        let path = |group: &str| path_below_mounts(&mounts, Path::new(group));
        assert_eq!(path("/sys/fs/cgroup v2/a/b/"), Path::new("/a/b"));
        assert_eq!(path("/sys/fs/cgroup/cpu/c"), Path::new("/docker/ab/c"));
        assert_eq!(path("/a/b"), Path::new("/a/b"));
        assert_eq!(path("a/b"), Path::new("/a/b"));
    }
}
