//! The CPU quota of a process's control group, and for how long the kernel has throttled the group
//! (cgroups(7); Documentation/admin-guide/cgroup-v2.rst, `cpu.max` and `cpu.stat`).
//!
//! Not here: what else keeps a process from running (`hindrance`).

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::cgroup::{self, number_in};
use crate::sys::proc::read_text;

/// The quota that limits a process, and what it has cost so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The control group that has it, as a path from the root of its hierarchy.
    pub group: PathBuf,
    /// The time that its threads may run in each period, in microseconds.
    pub quota_us: u64,
    /// The period, in microseconds.
    pub period_us: u64,
    /// For how long its threads were kept from running, summed over CPUs, in nanoseconds.
    pub throttled_ns: u64,
    file: &'static str,
}

/// How much of a time a quota has kept a process from running.
#[derive(Clone, Debug, PartialEq)]
pub struct Throttled {
    /// The share of the time: 0 to 1. (Where several CPUs were throttled at once: the sum, at most
    /// 1.)
    pub share: f64,
    /// The quota.
    pub by: Quota,
}

impl Quota {
    /// The quota of the process's control group or of the nearest group around it; `None`: there is
    /// none.
    pub fn of(pid: u32) -> Option<Quota> {
        let second =
            cgroup::own_folder(&[pid]).and_then(|folder| Quota::at_or_above(&folder, second_version));
        second.or_else(|| {
            let groups = read_text(format!("/proc/{pid}/cgroup")).ok()?;
            Quota::at_or_above(&cgroup::controller_folder(&groups, "cpu")?, first_version)
        })
    }

    fn at_or_above(folder: &Path, read: fn(&Path) -> Option<Quota>) -> Option<Quota> {
        folder.ancestors().take_while(|folder| folder.join("cpu.stat").exists()).find_map(read)
    }
}

/// `cpu.max`: quota or `max`, and period.
fn second_version(folder: &Path) -> Option<Quota> {
    let max = read_text(folder.join("cpu.max")).ok()?;
    let (quota, period) = max.trim().split_once(' ')?;
    let stat = read_text(folder.join("cpu.stat")).ok()?;
    Some(Quota {
        group: cgroup::path_in_hierarchy(folder),
        quota_us: quota.parse().ok()?,
        period_us: period.parse().ok()?,
        throttled_ns: number_in(&stat, "throttled_usec")?.saturating_mul(1000),
        file: "cpu.max",
    })
}

fn first_version(folder: &Path) -> Option<Quota> {
    let number = |name: &str| read_text(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    let stat = read_text(folder.join("cpu.stat")).ok()?;
    Some(Quota {
        group: cgroup::path_in_hierarchy(folder),
        // -1: there is none.
        quota_us: number("cpu.cfs_quota_us")?,
        period_us: number("cpu.cfs_period_us")?,
        throttled_ns: number_in(&stat, "throttled_time")?,
        file: "cpu.cfs_quota_us",
    })
}

impl Throttled {
    /// What the quota that throttled most has cost between two readings; `None`: nothing.
    pub fn between(before: &[Quota], after: &[Quota], elapsed: Duration) -> Option<Throttled> {
        let cost = |now: &Quota| {
            let earlier = before.iter().find(|earlier| earlier.group == now.group)?;
            now.throttled_ns.checked_sub(earlier.throttled_ns).filter(|cost| *cost > 0)
        };
        let (cost, by) =
            after.iter().filter_map(|now| Some((cost(now)?, now))).max_by_key(|(cost, _)| *cost)?;
        let share = cost as f64 / (elapsed.as_nanos() as f64).max(1.0);
        Some(Throttled { share: share.min(1.0), by: by.clone() })
    }
}

impl fmt::Display for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quota { group, quota_us, period_us, file, .. } = &self.by;
        write!(
            f,
            "{:.0}% of the time by {file} of {} ({quota_us} of every {period_us} us)",
            100.0 * self.share,
            group.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    #[test]
    fn the_quota_of_both_versions_is_read_and_a_group_without_one_has_none() {
        let stat = ("cpu.stat", "usage_usec 5\nnr_throttled 3\nthrottled_usec 700\n");
        let second = group(&[("cpu.max", "20000 100000\n"), stat]);
        let quota = second_version(second.path()).expect("a quota");
        assert_eq!((quota.quota_us, quota.period_us, quota.throttled_ns), (20_000, 100_000, 700_000));
        let unlimited = group(&[("cpu.max", "max 100000\n"), stat]);
        assert_eq!(second_version(unlimited.path()), None);
        let stat = ("cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 900\n");
        let first = group(&[("cpu.cfs_quota_us", "5000\n"), ("cpu.cfs_period_us", "100000\n"), stat]);
        assert_eq!(first_version(first.path()).expect("a quota").throttled_ns, 900);
        let unlimited = group(&[("cpu.cfs_quota_us", "-1\n"), ("cpu.cfs_period_us", "100000\n"), stat]);
        assert_eq!(first_version(unlimited.path()), None);
    }

    #[test]
    fn a_group_inherits_the_quota_of_the_group_around_it() {
        let outer = group(&[("cpu.max", "20000 100000\n"), ("cpu.stat", "throttled_usec 1\n")]);
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).expect("created");
        std::fs::write(inner.join("cpu.max"), "max 100000\n").expect("written");
        std::fs::write(inner.join("cpu.stat"), "throttled_usec 0\n").expect("written");
        let found = Quota::at_or_above(&inner, second_version).expect("a quota");
        assert_eq!((found.quota_us, found.throttled_ns), (20_000, 1000));
    }

    #[test]
    fn the_share_is_that_of_the_time_between_two_readings() {
        let quota = |group: &str, throttled_ns| Quota {
            group: group.into(),
            quota_us: 20_000,
            period_us: 100_000,
            throttled_ns,
            file: "cpu.max",
        };
        let (before, after) = ([quota("/a", 100), quota("/b", 0)], [quota("/a", 480), quota("/b", 5)]);
        let found = Throttled::between(&before, &after, Duration::from_nanos(1000)).expect("throttled");
        assert_eq!(found.to_string(), "38% of the time by cpu.max of /a (20000 of every 100000 us)");
        assert_eq!(Throttled::between(&after, &after, Duration::from_nanos(1000)), None);
        assert_eq!(Throttled::between(&[], &after, Duration::from_nanos(1000)), None);
    }
}
