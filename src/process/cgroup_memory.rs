//! The memory limit of a process's control group, its use, and how often it ran out: cgroup v2
//! (memory.max, memory.current, memory.events; kernel document admin-guide/cgroup-v2) and v1
//! (memory.limit_in_bytes and others; admin-guide/cgroup-v1/memory).
//!
//! Not here: other limits.

use std::path::{Path, PathBuf};

use super::cgroup::{self, number_in};
use crate::sys::proc::read_text;

/// The most groups from a process's own one to the root.
const MAX_DEPTH: usize = 64;
/// Version 1 states "no limit" as the largest multiple of a page that fits 63 bits.
const V1_NO_LIMIT: u64 = 1 << 62;

/// The memory of a control group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupMemory {
    /// The group whose limit is nearest: the path in its hierarchy.
    pub path: PathBuf,
    /// 1 or 2.
    pub version: u8,
    /// The limit in bytes; `None`: no group of the process has one.
    pub limit: Option<u64>,
    /// What the group's processes take, in bytes, with page cache.
    pub used: u64,
    /// Page cache among it that was not used lately: the kernel takes it before it kills.
    pub inactive_file: u64,
    /// How often the kernel killed a process of the group because it had no memory left.
    pub oom_kills: Option<u64>,
    /// The limit of swap in bytes (version 2).
    pub swap_limit: Option<u64>,
    /// Swap that is used, in bytes.
    pub swap_used: Option<u64>,
}

impl CgroupMemory {
    /// What is left below the limit, page cache that is not in use counted as free.
    pub fn left(&self) -> Option<u64> {
        let used = self.used.saturating_sub(self.inactive_file);
        self.limit.map(|limit| limit.saturating_sub(used))
    }
}

/// The memory of a process's control group; `None`: it is in none whose files are visible.
pub fn read(pid: u32) -> Option<CgroupMemory> {
    let groups = read_text(format!("/proc/{pid}/cgroup")).ok()?;
    let mounts = read_text("/proc/self/mountinfo").ok()?;
    // A machine with both versions mounted accounts memory in one of them.
    of_version(&groups, &mounts, 1).or_else(|| of_version(&groups, &mounts, 2))
}

fn of_version(groups: &str, mounts: &str, version: u8) -> Option<CgroupMemory> {
    let is_ours = |line: &&str| match version {
        1 => line.split(':').nth(1).is_some_and(|all| all.split(',').any(|name| name == "memory")),
        _ => line.starts_with("0::"),
    };
    let path = Path::new(cgroup::path_of(groups.lines().find(is_ours)?)?);
    let (root, mount_point) = mounts.lines().find_map(|line| {
        let of_memory = version == 2 || line.rsplit(' ').next()?.split(',').any(|name| name == "memory");
        cgroup::mount_of(line, if version == 1 { &["cgroup"] } else { &["cgroup2"] }).filter(|_| of_memory)
    })?;
    // In a container the root of the mount is the container's own group.
    let below = path.strip_prefix(&root).unwrap_or(Path::new(""));
    read_folder(&mount_point, below, version)
}

/// Reads the group `below` the mount point, and those that contain it.
fn read_folder(mount_point: &Path, below: &Path, version: u8) -> Option<CgroupMemory> {
    let is_inside = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    let below = if is_inside { below } else { Path::new("") };
    let mut groups = below.ancestors().take(MAX_DEPTH);
    let found = groups.clone().filter_map(|group| Some((limit(&mount_point.join(group), version)?, group)));
    let group = match found.min_by_key(|(limit, _)| *limit) {
        Some((_, group)) => group,
        None => groups.find(|group| used(&mount_point.join(group), version).is_some())?,
    };
    let folder = mount_point.join(group);
    let mut memory = CgroupMemory {
        path: Path::new("/").join(group),
        version,
        limit: limit(&folder, version),
        used: used(&folder, version)?,
        inactive_file: field(
            &folder.join("memory.stat"),
            if version == 1 { "total_inactive_file" } else { "inactive_file" },
        )
        .unwrap_or(0),
        ..CgroupMemory::default()
    };
    if version == 1 {
        memory.oom_kills = field(&folder.join("memory.oom_control"), "oom_kill");
        memory.swap_used = field(&folder.join("memory.stat"), "total_swap");
    } else {
        memory.oom_kills = field(&folder.join("memory.events"), "oom_kill");
        memory.swap_used = number(&folder.join("memory.swap.current"));
        memory.swap_limit = number(&folder.join("memory.swap.max"));
    }
    Some(memory)
}

fn limit(folder: &Path, version: u8) -> Option<u64> {
    let file = if version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
    number(&folder.join(file)).filter(|limit| *limit < V1_NO_LIMIT)
}

fn used(folder: &Path, version: u8) -> Option<u64> {
    number(&folder.join(if version == 1 { "memory.usage_in_bytes" } else { "memory.current" }))
}

/// The number that is a file's only content; `None` for `max`.
fn number(file: &Path) -> Option<u64> {
    read_text(file).ok()?.trim().parse().ok()
}

/// The number after a name in a file of lines `NAME NUMBER`.
fn field(file: &Path, name: &str) -> Option<u64> {
    number_in(&read_text(file).ok()?, name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, text).expect("written");
        }
        folder
    }

    #[test]
    fn the_lowest_limit_of_all_groups_that_contain_the_process_counts() {
        let tree = tree(&[
            ("memory.current", "9000\n"),
            ("a/memory.max", "4096\n"),
            ("a/memory.current", "3000\n"),
            ("a/memory.stat", "anon 1000\ninactive_file 500\n"),
            ("a/memory.events", "low 0\noom 2\noom_kill 1\n"),
            ("a/memory.swap.max", "max\n"),
            ("a/memory.swap.current", "7\n"),
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.current", "100\n"),
        ]);
        let memory = read_folder(tree.path(), Path::new("a/b"), 2).expect("a group");
        assert_eq!((memory.path.as_path(), memory.limit, memory.used), (Path::new("/a"), Some(4096), 3000));
        assert_eq!((memory.left(), memory.oom_kills), (Some(1596), Some(1)));
        assert_eq!((memory.swap_limit, memory.swap_used), (None, Some(7)));
    }

    #[test]
    fn version_1_states_no_limit_as_a_large_number() {
        let tree = tree(&[
            ("g/memory.limit_in_bytes", "9223372036854771712\n"),
            ("g/memory.usage_in_bytes", "100\n"),
            ("g/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ]);
        let memory = read_folder(tree.path(), Path::new("g"), 1).expect("a group");
        assert_eq!((memory.limit, memory.left(), memory.oom_kills), (None, None, Some(3)));
    }

    #[test]
    fn a_group_outside_of_the_namespace_is_read_as_the_root_of_the_mount() {
        let tree = tree(&[("memory.current", "5\n"), ("memory.max", "10\n")]);
        let memory = read_folder(tree.path(), Path::new("../x"), 2).expect("a group");
        assert_eq!((memory.limit, memory.left()), (Some(10), Some(5)));
        assert_eq!(read_folder(Path::new("/nowhere"), Path::new("a"), 2), None);
    }
}
