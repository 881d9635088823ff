//! Selects processes by conditions: name, container, control group, systemd unit.
//!
//! Not here: a selection by PID or parent (`select`), and what a command does with several
//! processes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use regex::Regex;

use super::{
    Identity, cgroup, container,
    select::{self, MatchOn},
};

/// Conditions on processes, all of which must hold. Without conditions every process is selected.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The name or program.
    pub name: Option<Regex>,
    /// What `name` is compared with.
    pub on: MatchOn,
    /// A container: its name, or at least the first 12 digits of its ID.
    pub container: Option<String>,
    /// A control group, with the groups in it: as in /proc/PID/cgroup, or its folder.
    pub cgroup: Option<PathBuf>,
    /// A systemd unit; without a suffix it is a service.
    pub unit: Option<String>,
}

impl Filter {
    /// A filter on names alone.
    pub fn by_name(name: Regex, on: MatchOn) -> Filter {
        Filter { name: Some(name), on, ..Filter::default() }
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.container.is_none() && self.cgroup.is_none() && self.unit.is_none()
    }

    /// The processes that match, by PID. Kernel threads, rprof itself and its ancestors are
    /// excluded.
    pub fn find(&self) -> Vec<Identity> {
        let mut matcher = self.matcher();
        let mut found = select::candidates();
        found.retain(|identity| matcher.matches(identity));
        found
    }

    /// Compares processes with the conditions one by one.
    pub fn matcher(&self) -> Matcher {
        Matcher { filter: self.clone(), groups: self.groups() }
    }

    /// The conditions on control groups; `None`: none.
    fn groups(&self) -> Option<Groups> {
        let needed = self.container.is_some() || self.cgroup.is_some() || self.unit.is_some();
        needed.then(|| Groups {
            container: self.container.clone(),
            cgroup: self.cgroup.as_deref().map(cgroup::path_in_hierarchy),
            unit: self.unit.as_deref().map(unit_name),
            names: HashMap::new(),
        })
    }
}

/// Compares processes with a [`Filter`]. It remembers the names of containers.
pub struct Matcher {
    filter: Filter,
    groups: Option<Groups>,
}

impl Matcher {
    /// Whether the process matches. This reads its control groups and, if arguments are compared,
    /// its command line, and opens nothing else of it.
    pub fn matches(&mut self, identity: &Identity) -> bool {
        let Filter { name, on, .. } = &self.filter;
        name.as_ref().is_none_or(|name| select::matches(identity, name, *on))
            && self.groups.as_mut().is_none_or(|groups| groups.have(&cgroup::paths(identity.pid)))
    }
}

/// The most containers whose names are remembered.
const MAX_NAMES: usize = 1000;

/// The name of a unit, with its suffix.
fn unit_name(unit: &str) -> String {
    if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") }
}

/// Conditions on the control groups of a process.
struct Groups {
    container: Option<String>,
    cgroup: Option<PathBuf>,
    unit: Option<String>,
    /// The names of containers that were read already.
    names: HashMap<String, Vec<String>>,
}

impl Groups {
    /// Whether a process with these control groups matches.
    fn have(&mut self, paths: &[String]) -> bool {
        let in_group = |group: &PathBuf| paths.iter().any(|path| Path::new(path).starts_with(group));
        // A service may divide its group, so the unit need not be the last component.
        let in_unit = |unit: &String| paths.iter().any(|path| path.split('/').any(|part| part == unit));
        self.cgroup.as_ref().is_none_or(in_group)
            && self.unit.as_ref().is_none_or(in_unit)
            && self.container.clone().is_none_or(|container| self.in_container(&container, paths))
    }

    fn in_container(&mut self, container: &str, paths: &[String]) -> bool {
        if self.names.len() > MAX_NAMES {
            self.names.clear();
        }
        paths.iter().flat_map(|path| container::ids_in(path)).any(|id| {
            container::is_id(container, id) || {
                let names = self.names.entry(id.to_owned()).or_insert_with(|| container::names(id));
                names.iter().any(|name| name == container)
            }
        })
    }
}

/// The containers that have processes: ID and names.
pub fn containers() -> Vec<(String, Vec<String>)> {
    let paths = select::candidates().into_iter().flat_map(|identity| cgroup::paths(identity.pid));
    let mut ids: Vec<String> =
        paths.flat_map(|path| container::ids_in(&path).map(str::to_owned).collect::<Vec<_>>()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(|id| (container::names(&id), id)).map(|(names, id)| (id, names)).collect()
}

/// The systemd units that have processes.
pub fn units() -> Vec<String> {
    const SUFFIXES: [&str; 3] = [".service", ".scope", ".slice"];
    let paths = select::candidates().into_iter().flat_map(|identity| cgroup::paths(identity.pid));
    let mut units: Vec<String> = paths
        .flat_map(|path| path.split('/').map(str::to_owned).collect::<Vec<_>>())
        .filter(|part| SUFFIXES.iter().any(|suffix| part.ends_with(suffix)))
        .collect();
    units.sort_unstable();
    units.dedup();
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have(filter: Filter, paths: &[&str]) -> bool {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        filter.groups().expect("a condition").have(&paths)
    }

    #[test]
    fn a_unit_is_a_component_of_a_control_group_and_a_service_unless_it_has_a_suffix() {
        let unit = |unit: &str| Filter { unit: Some(unit.into()), ..Filter::default() };
        let paths = ["/system.slice/redis.service/workers", "/"];
        assert!(have(unit("redis.service"), &paths) && have(unit("redis"), &paths));
        assert!(have(unit("system.slice"), &paths));
        for other in ["redis.scope", "redi", "edis.service", "workers", ""] {
            assert!(!have(unit(other), &paths), "{other}");
        }
    }

    #[test]
    fn a_control_group_has_the_groups_in_it_and_not_those_with_a_longer_name() {
        let group = |path: &str| Filter { cgroup: Some(path.into()), ..Filter::default() };
        assert!(have(group("/a/b"), &["/a/b"]) && have(group("/a/b"), &["/a/b/c"]));
        assert!(have(group("a/b/"), &["/a/b/c"]));
        assert!(!have(group("/a/b"), &["/a/bc"]) && !have(group("/a/b"), &["/a", "/"]));
    }

    #[test]
    fn all_conditions_must_hold() {
        let id = "4f3c9b2e".repeat(8);
        let path = format!("/system.slice/docker-{id}.scope");
        let filter = |unit: &str| Filter {
            container: Some(id[..12].into()),
            unit: Some(unit.into()),
            ..Filter::default()
        };
        assert!(have(filter("system.slice"), &[&path]));
        assert!(!have(filter("user.slice"), &[&path]));
        assert!(!have(filter("system.slice"), &["/system.slice/docker-ab.scope"]));
    }

    #[test]
    fn a_filter_without_conditions_selects_every_process_but_rprof_and_its_ancestors() {
        let mut other = std::process::Command::new("sleep").arg("60").spawn().expect("started");
        let found = Filter::default().find();
        other.kill().and_then(|()| other.wait()).expect("it was running");
        assert!(Filter::default().is_empty());
        assert!(found.iter().any(|identity| identity.pid == other.id()));
        assert!(found.iter().all(|identity| identity.pid != std::process::id()));
        assert!(found.windows(2).all(|pair| pair[0].pid < pair[1].pid));
    }
}
