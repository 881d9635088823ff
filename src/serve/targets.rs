//! The processes that are served. A request can choose among them and cannot name others.

use std::sync::Arc;

use crate::process::{Identity, ProcessError, ProcessHandle, filter::Filter, identify, select};

/// Which processes are served.
#[derive(Clone, Debug)]
pub enum Targets {
    /// Given processes; not later ones with the same PID.
    Processes {
        /// The processes.
        handles: Vec<Arc<ProcessHandle>>,
        /// Also their descendants at the time of the request.
        children: bool,
    },
    /// The processes that match at the time of the request.
    Matching {
        /// The conditions.
        filter: Filter,
        /// Also their descendants.
        children: bool,
        /// Include processes of other users.
        any_user: bool,
    },
    /// All processes of the current user.
    AllMine,
}

/// Why a request has no process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTarget {
    /// None of the served processes is running.
    NoneRunning,
    /// The value of `pid` is not a number, or not the PID of a served process.
    NotServed(String),
    /// The request names none of several processes; their number.
    Ambiguous(usize),
}

impl Targets {
    /// The processes that have these PIDs now.
    ///
    /// # Errors
    /// As of [`ProcessHandle::open`].
    pub fn of_pids(pids: &[u32]) -> Result<Targets, ProcessError> {
        let handles = pids.iter().map(|pid| ProcessHandle::open(*pid).map(Arc::new));
        Ok(Targets::Processes { handles: handles.collect::<Result<_, _>>()?, children: false })
    }

    /// The same with the descendants of each process.
    pub fn with_children(mut self) -> Targets {
        if let Targets::Processes { children, .. } | Targets::Matching { children, .. } = &mut self {
            *children = true;
        }
        self
    }

    /// The served processes that are running, by PID.
    pub fn running(&self) -> Vec<Identity> {
        let mut running: Vec<Identity> = match self {
            Targets::Processes { handles, .. } => {
                handles.iter().filter_map(|handle| handle.current().ok()).collect()
            }
            Targets::Matching { filter, .. } => filter.find(),
            Targets::AllMine => Filter::default().find(),
        };
        if let Targets::Processes { children: true, .. } | Targets::Matching { children: true, .. } = self {
            let below = running.iter().flat_map(|identity| select::descendants(identity.pid));
            let below: Vec<Identity> = below.filter_map(|pid| identify(pid).ok()).collect();
            running.extend(below);
        }
        running.retain(|identity| !identity.is_kernel_thread && self.is_served(identity));
        running.sort_by_key(|identity| identity.pid);
        running.dedup_by_key(|identity| identity.pid);
        running
    }

    fn is_served(&self, identity: &Identity) -> bool {
        match self {
            Targets::Processes { .. } | Targets::Matching { any_user: true, .. } => true,
            Targets::Matching { .. } | Targets::AllMine => identity.uid == nix::unistd::getuid().as_raw(),
        }
    }

    /// The process that the parameter `pid` names; the only one if `pid` is empty.
    ///
    /// # Errors
    /// [`NoTarget`] when that is not exactly one process.
    pub fn choose(&self, pid: &str) -> Result<Identity, NoTarget> {
        choose_among(&self.running(), pid).cloned()
    }
}

/// The process among `running` that the parameter `pid` names; the only one if `pid` is empty.
///
/// # Errors
/// [`NoTarget`] when that is not exactly one process.
pub fn choose_among<'a>(running: &'a [Identity], pid: &str) -> Result<&'a Identity, NoTarget> {
    match (pid, running) {
        ("", []) => Err(NoTarget::NoneRunning),
        ("", [only]) => Ok(only),
        ("", several) => Err(NoTarget::Ambiguous(several.len())),
        _ => {
            let found = running.iter().find(|identity| identity.pid.to_string() == pid);
            found.ok_or_else(|| NoTarget::NotServed(pid.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_served_processes_can_be_chosen() {
        let me = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let targets = Targets::of_pids(&[me, me, child.id()]).expect("they run");
        assert_eq!(targets.choose("").err(), Some(NoTarget::Ambiguous(2)));
        child.kill().and_then(|()| child.wait()).expect("own child");
        assert_eq!(targets.choose("").expect("the only running one").pid, me);
        assert_eq!(targets.choose(&me.to_string()).expect("served").pid, me);
        for pid in ["1", "x", "-1", "0x1", &format!("{me} "), &format!("0{me}")] {
            assert_eq!(targets.choose(pid).err(), Some(NoTarget::NotServed(pid.to_owned())), "{pid}");
        }
        assert!(Targets::of_pids(&[0x7fff_fff0]).is_err());
        assert_eq!(Targets::of_pids(&[]).expect("none").choose("").err(), Some(NoTarget::NoneRunning));
    }

    #[test]
    fn the_children_of_a_served_process_are_served_if_requested() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        let targets = Targets::of_pids(&[std::process::id()]).expect("it runs");
        let pid = child.id().to_string();
        let alone = targets.choose(&pid).err();
        let with_child = targets.with_children().choose(&pid).map(|identity| identity.pid);
        child.kill().and_then(|()| child.wait()).expect("own child");
        assert_eq!(alone, Some(NoTarget::NotServed(pid)));
        assert_eq!(with_child, Ok(child.id()));
    }

    #[test]
    fn a_name_matches_processes_of_other_users_only_with_any_user() {
        let identity =
            Identity { uid: nix::unistd::getuid().as_raw() + 1, ..identify(std::process::id()).expect("me") };
        let named = |any_user| Targets::Matching { filter: Filter::default(), children: false, any_user };
        assert!(!named(false).is_served(&identity));
        assert!(named(true).is_served(&identity));
        assert!(!Targets::AllMine.is_served(&identity));
    }
}
