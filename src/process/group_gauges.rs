//! What a control group uses and suffers: throttling, kills by the OOM killer, pressure
//! (cgroups(7); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel).
//!
//! The files are those of version 2, of the hierarchies of version 1, or, where the group is not
//! visible in rprof's own cgroup namespace, those that the container itself has mounted. Not here:
//! which process belongs to which group ([`super::cgroup`]), limits.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    cgroup::{self, number_in},
    files::{LastLink, open_in_root},
};
use crate::sys::proc::read_text;

/// The longest file of a control group that is read.
const MAX_FILE_BYTES: u64 = 16 << 10;

/// Where the files of a control group are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupFiles {
    /// The folder of version 2, which has `cpu.stat`, `memory.events` and the pressure files.
    unified: Option<Folder>,
    /// The folder of version 1's `cpu` controller.
    cpu: Option<PathBuf>,
    /// The folder of version 1's `memory` controller.
    memory: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Folder {
    /// In rprof's own mount namespace.
    Own(PathBuf),
    /// `/sys/fs/cgroup` of this process's mount namespace.
    Container(u32),
}

/// What a control group uses and suffers. `None`: the kernel or the group does not have it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GroupGauges {
    /// Periods of CPU bandwidth control, and those in which the group was throttled, since its
    /// creation.
    pub periods: Option<(u64, u64)>,
    /// Processes of the group, or below it, that the OOM killer has killed.
    pub oom_kills: Option<u64>,
    /// The same of the group above, which outlives a group that is removed after the kill.
    pub oom_kills_above: Option<u64>,
    /// `some avg10` of CPU, memory and I/O pressure, in percent of time. Of the machine, where the
    /// group has no pressure files.
    pub pressure: [Option<f64>; 3],
}

impl GroupFiles {
    /// The files of the group that a process is in.
    pub fn of(pid: u32) -> GroupFiles {
        let groups = read_text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let mounts = read_text("/proc/self/mountinfo").unwrap_or_default();
        let mut files = GroupFiles::find(&groups, &mounts);
        let is_visible = |folder: &Folder| match folder {
            Folder::Own(path) => path.is_dir(),
            Folder::Container(_) => true,
        };
        files.unified = files.unified.filter(is_visible);
        let container = Folder::Container(pid);
        if files == GroupFiles::default() && container.read("cgroup.controllers").is_some() {
            files.unified = Some(container);
        }
        files
    }

    /// By the text of /proc/PID/cgroup and of rprof's own mountinfo.
    fn find(groups: &str, mounts: &str) -> GroupFiles {
        let unified = groups.lines().find_map(|line| line.strip_prefix("0::")).map(Path::new);
        let folder = |group: &Path| mounts.lines().find_map(|line| cgroup::folder_in(line, group));
        let version_1 = |controller| cgroup::controller_folder_in(mounts, groups, controller);
        GroupFiles {
            unified: unified.and_then(folder).map(Folder::Own),
            cpu: version_1("cpu"),
            memory: version_1("memory"),
        }
    }

    /// Reads what the group uses and suffers now.
    pub fn read(&self) -> GroupGauges {
        let unified = |name: &str| self.unified.as_ref().and_then(|folder| folder.read(name));
        let first = |folder: &Option<PathBuf>, name: &str| read_text(folder.as_ref()?.join(name)).ok();
        let cpu = unified("cpu.stat").and_then(|text| periods(&text));
        let memory = unified("memory.events").or_else(|| first(&self.memory, "memory.oom_control"));
        let pressure = ["cpu", "memory", "io"].map(|resource| {
            let text = unified(&format!("{resource}.pressure"))
                .or_else(|| read_text(format!("/proc/pressure/{resource}")).ok())?;
            some_avg10(&text)
        });
        GroupGauges {
            periods: cpu.or_else(|| periods(&first(&self.cpu, "cpu.stat")?)),
            oom_kills: memory.and_then(|text| number_in(&text, "oom_kill")),
            oom_kills_above: self.kills_above(),
            pressure,
        }
    }

    /// Of version 2 only: there the counts of a group include those of the groups below it.
    fn kills_above(&self) -> Option<u64> {
        let Some(Folder::Own(path)) = &self.unified else { return None };
        number_in(&read_text(path.parent()?.join("memory.events")).ok()?, "oom_kill")
    }
}

impl Folder {
    fn read(&self, name: &str) -> Option<String> {
        match self {
            Folder::Own(path) => read_text(path.join(name)).ok(),
            Folder::Container(pid) => {
                let root = PathBuf::from(format!("/proc/{pid}/root"));
                let inside = Path::new("sys/fs/cgroup").join(name);
                let opened = open_in_root(&root, &inside, LastLink::Refuse).ok()?;
                let mut text = Vec::new();
                opened.file.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
                Some(String::from_utf8_lossy(&text).into_owned())
            }
        }
    }
}

fn periods(text: &str) -> Option<(u64, u64)> {
    Some((number_in(text, "nr_periods")?, number_in(text, "nr_throttled")?))
}

/// `some avg10=1.53 avg60=0.87 avg300=0.73 total=172757` (Documentation/accounting/psi.rst)
fn some_avg10(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let share: f64 = some.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()?;
    (0.0..=100.0).contains(&share).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_files_of_both_versions_are_found() {
        let groups = "4:memory:/docker/ab\n1:cpu,cpuacct:/docker/ab\n0::/docker/ab\n";
        let files = GroupFiles::find(groups, MOUNTS);
        assert_eq!(files.unified, Some(Folder::Own("/sys/fs/cgroup/unified/docker/ab".into())));
        assert_eq!(files.memory, Some("/sys/fs/cgroup/memory/docker/ab".into()));
        assert_eq!(files.cpu, Some("/sys/fs/cgroup/cpu,cpuacct/docker/ab".into()));
    }

    #[test]
    fn a_group_outside_the_namespace_has_no_files_there() {
        let files = GroupFiles::find("4:memory:/../x\n0::/../x\n", MOUNTS);
        assert_eq!(files, GroupFiles::default());
        assert_eq!(GroupFiles::find("", ""), GroupFiles::default());
    }

    #[test]
    fn counts_and_pressure_are_parsed() {
        assert_eq!(periods("nr_periods 40\nnr_throttled 8\nthrottled_time 9\n"), Some((40, 8)));
        assert_eq!(periods("usage_usec 1\n"), None);
        assert_eq!(number_in("low 0\noom 3\noom_kill 2\noom_group_kill 0\n", "oom_kill"), Some(2));
        assert_eq!(number_in("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", "oom_kill"), Some(1));
        let text = "some avg10=92.40 avg60=59.26 avg300=23.11 total=281\nfull avg10=0.00 avg60=0.00\n";
        assert_eq!(some_avg10(text), Some(92.40));
        for text in ["", "some", "some avg10=x", "some avg10=NaN", "some avg10=101"] {
            assert_eq!(some_avg10(text), None, "{text}");
        }
    }

    #[test]
    fn the_group_of_this_process_can_be_read() {
        let gauges = GroupFiles::of(std::process::id()).read();
        let has_pressure = std::fs::read_to_string("/proc/pressure/cpu").is_ok();
        assert!(!has_pressure || gauges.pressure[0].is_some(), "{gauges:?}");
    }
}
