//! Which processes are served. Only these: a request can choose among them, and name no other.

use regex::Regex;

use crate::process::{Identity, identify, select};

/// Who is served.
#[derive(Clone, Debug)]
pub enum Targets {
    /// These processes.
    Pids(Vec<u32>),
    /// Those that a regular expression fits now; of one's own user, unless `any_user`.
    Named { pattern: Regex, any_user: bool },
    /// All processes of one's own user.
    AllMine,
}

/// Why no process is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTarget {
    /// None of them lives.
    Nobody,
    /// The one asked for is not among them, or `pid` is no number.
    NotServed(String),
    /// There are several.
    Which(usize),
}

impl Targets {
    /// The living processes that are served, by number.
    pub fn living(&self) -> Vec<Identity> {
        let pids = match self {
            Targets::Pids(pids) => pids.clone(),
            Targets::Named { pattern, .. } => select::by_name(pattern),
            Targets::AllMine => select::by_name(&Regex::new("").expect("a pattern")),
        };
        let mut living: Vec<Identity> = pids.iter().filter_map(|pid| identify(*pid).ok()).collect();
        living.retain(|identity| !identity.is_kernel_thread && self.is_served(identity));
        living.sort_by_key(|identity| identity.pid);
        living.dedup_by_key(|identity| identity.pid);
        living
    }

    fn is_served(&self, identity: &Identity) -> bool {
        match self {
            Targets::Pids(_) | Targets::Named { any_user: true, .. } => true,
            Targets::Named { .. } | Targets::AllMine => identity.uid == nix::unistd::getuid().as_raw(),
        }
    }

    /// The process that `pid` of a request names; without it, the only one.
    pub fn choose(&self, pid: &str) -> Result<Identity, NoTarget> {
        choose_among(&self.living(), pid).cloned()
    }
}

/// Of these the one that `pid` of a request names; without it, the only one.
pub fn choose_among<'a>(living: &'a [Identity], pid: &str) -> Result<&'a Identity, NoTarget> {
    match (pid, living) {
        ("", []) => Err(NoTarget::Nobody),
        ("", [only]) => Ok(only),
        ("", several) => Err(NoTarget::Which(several.len())),
        _ => {
            let found = living.iter().find(|identity| identity.pid.to_string() == pid);
            found.ok_or_else(|| NoTarget::NotServed(pid.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processes_that_are_served_can_be_chosen() {
        let me = std::process::id();
        let targets = Targets::Pids(vec![me, me, 0x7fff_fff0]);
        assert_eq!(targets.choose("").expect("the only one that lives").pid, me);
        assert_eq!(targets.choose(&me.to_string()).expect("served").pid, me);
        for pid in ["1", "x", "-1", "0x1", &format!("{me} "), &format!("0{me}")] {
            assert_eq!(targets.choose(pid).err(), Some(NoTarget::NotServed(pid.to_owned())), "{pid}");
        }
        assert_eq!(Targets::Pids(vec![0x7fff_fff0]).choose("").err(), Some(NoTarget::Nobody));
        assert_eq!(Targets::Pids(vec![me, 1]).choose("").err(), Some(NoTarget::Which(2)));
    }

    #[test]
    fn by_name_a_process_of_another_user_is_served_only_if_told() {
        let pattern = Regex::new("^no process is called like this$").expect("a pattern");
        let identity =
            Identity { uid: nix::unistd::getuid().as_raw() + 1, ..identify(std::process::id()).expect("me") };
        assert!(!Targets::Named { pattern: pattern.clone(), any_user: false }.is_served(&identity));
        assert!(Targets::Named { pattern, any_user: true }.is_served(&identity));
        assert!(!Targets::AllMine.is_served(&identity));
    }
}
