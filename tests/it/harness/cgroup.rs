//! Control groups for targets: a CPU quota that is nearly used up, and a freezer. Version 2 of the
//! hierarchy if it has the controller, else version 1.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A group of its own for one process; removed when dropped.
pub struct Cgroup {
    folder: PathBuf,
    hierarchy: PathBuf,
    frozen: Option<(&'static str, &'static str, &'static str)>,
}

impl Cgroup {
    /// A group whose threads together may run `quota_us` of every 100 ms. `None`: not possible
    /// here.
    pub fn with_cpu_quota(pid: u32, quota_us: u32) -> Option<Cgroup> {
        Cgroup::with_cpu_time(pid, quota_us, 100_000)
    }

    /// A group whose threads together may run `quota_us` of every `period_us`.
    pub fn with_cpu_time(pid: u32, quota_us: u32, period_us: u32) -> Option<Cgroup> {
        let (quota, period) = (quota_us.to_string(), period_us.to_string());
        let new = |settings: &[(&str, &str)]| Cgroup::new(pid, "cpu", settings, None);
        new(&[("cpu.max", &format!("{quota} {period}"))])
            .or_else(|| new(&[("cpu.cfs_period_us", &period), ("cpu.cfs_quota_us", &quota)]))
    }

    /// A group whose processes together may use this much memory. `None`: not possible here.
    pub fn with_memory(pid: u32, bytes: u64) -> Option<Cgroup> {
        let bytes = bytes.to_string();
        let new = |file| Cgroup::new(pid, "memory", &[(file, &bytes)], None);
        new("memory.max").or_else(|| new("memory.limit_in_bytes"))
    }

    /// A group with this name, at the root of a hierarchy. `None`: not possible here.
    pub fn named(pid: u32, name: &str) -> Option<Cgroup> {
        mounts("freezer").into_iter().find_map(|hierarchy| Cgroup::create(pid, hierarchy, name, &[], None))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A group that can be frozen. `None`: not possible here.
    pub fn freezer(pid: u32) -> Option<Cgroup> {
        let second = ("cgroup.freeze", "1", "0");
        let first = ("freezer.state", "FROZEN", "THAWED");
        Cgroup::new(pid, "freezer", &[("cgroup.freeze", "0")], Some(second))
            .or_else(|| Cgroup::new(pid, "freezer", &[("freezer.state", "THAWED")], Some(first)))
    }

    fn new(
        pid: u32,
        controller: &str,
        settings: &[(&str, &str)],
        frozen: Option<(&'static str, &'static str, &'static str)>,
    ) -> Option<Cgroup> {
        let name = format!("rprof-it-{pid}-{}", settings[0].0);
        let mut mounts = mounts(controller).into_iter();
        mounts.find_map(|hierarchy| Cgroup::create(pid, hierarchy, &name, settings, frozen))
    }

    fn create(
        pid: u32,
        hierarchy: PathBuf,
        name: &str,
        settings: &[(&str, &str)],
        frozen: Option<(&'static str, &'static str, &'static str)>,
    ) -> Option<Cgroup> {
        let folder = hierarchy.join(name);
        fs::create_dir(&folder).ok()?;
        let group = Cgroup { folder, hierarchy, frozen };
        let set = settings.iter().all(|(file, text)| {
            group.folder.join(file).exists() && fs::write(group.folder.join(file), text).is_ok()
        });
        (set && fs::write(group.folder.join("cgroup.procs"), pid.to_string()).is_ok()).then_some(group)
    }

    pub fn freeze(&self) {
        let (file, freeze, _) = self.frozen.expect("a freezer");
        fs::write(self.folder.join(file), freeze).expect("own group");
    }

    pub fn thaw(&self) {
        let (file, _, thaw) = self.frozen.expect("a freezer");
        fs::write(self.folder.join(file), thaw).expect("own group");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Some((file, _, thaw)) = self.frozen {
            let _ = fs::write(self.folder.join(file), thaw);
        }
        let inside = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines() {
            let _ = fs::write(self.hierarchy.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The mounts of version 2, and those of version 1 with this controller.
fn mounts(controller: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mount = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, folder, kind, options, ..] = fields[..] else { return None };
        let has = kind == "cgroup2" || kind == "cgroup" && options.split(',').any(|word| word == controller);
        has.then(|| Path::new(folder).to_owned())
    };
    mounts.lines().filter_map(mount).collect()
}
