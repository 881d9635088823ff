//! Which processes a sidecar watches, and finding them as they come and go.
//!
//! Once a second the PIDs are listed; only new processes are read. An excluded process is never
//! opened: its name, program, control groups and, unless these exclude it, its environment are
//! read, and nothing else of it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use regex::Regex;

use super::labels::{Caps, Facts, Given, Labels};
use crate::process::{
    Identity, cgroup,
    filter::{Filter, Matcher},
    identify, identity, select, surroundings,
};

/// The environment variable by which a process opts in (`on`) or out (`off`).
pub const VARIABLE: &str = "RPROF";
/// Processes as young as this are read again each time: they may be about to call exec.
const YOUNG: Duration = Duration::from_secs(10);
/// How long a process with an empty environment is taken to be inside exec.
const IN_EXEC: Duration = Duration::from_secs(2);
/// Others are read again every so many times.
const TURNS: u32 = 30;

/// Which processes.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Conditions, all of which must hold; without any, every process matches.
    pub filter: Filter,
    /// Processes that match by their PID.
    pub pids: Vec<u32>,
    /// Also the children of those that match.
    pub children: bool,
    /// Processes of other users too.
    pub any_user: bool,
    /// Names or programs that are excluded.
    pub exclude_names: Vec<Regex>,
    /// Control groups that are excluded, with the groups in them.
    pub exclude_cgroups: Vec<PathBuf>,
    /// Kubernetes namespaces that are excluded.
    pub exclude_namespaces: Vec<String>,
    /// Only processes that opt in.
    pub only_opted_in: bool,
    /// Which share of the processes that match.
    pub share: Share,
    /// The labels that the user gives.
    pub given: Given,
}

/// A share of processes, chosen by a stable hash.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

impl Default for Share {
    fn default() -> Share {
        Share(1.0)
    }
}

impl Share {
    /// A share from 0 (exclusive) to 1.
    pub fn new(share: f64) -> Option<Share> {
        (share > 0.0 && share <= 1.0).then_some(Share(share))
    }

    /// Whether all processes are chosen.
    pub fn is_all(self) -> bool {
        self.0 >= 1.0
    }

    /// The share in percent.
    pub fn percent(self) -> f64 {
        self.0 * 100.0
    }

    /// Whether a process is chosen. The same process is always chosen, or never.
    pub fn has(self, host: &str, pid: u32, start_ticks: u64) -> bool {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let bytes = host.bytes().chain(pid.to_le_bytes()).chain(start_ticks.to_le_bytes());
        for byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        // FNV-1a alone leaves the high bits of similar texts similar: the finalizer of SplitMix64.
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        self.is_all() || (hash as f64) < self.0 * u64::MAX as f64
    }
}

/// A process that is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The process.
    pub identity: Identity,
    /// Its labels.
    pub labels: Labels,
}

/// Why a process is watched or not.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is watched.
    Watch(Arc<Watched>),
    /// It does not match.
    NoMatch,
    /// It is excluded by a rule, or has opted out.
    Excluded,
    /// It matches, and is not in the share.
    NotInShare,
    /// It seems to be inside exec: its environment is empty.
    NotYet,
}

/// What is known of a process.
struct Known {
    identity: Identity,
    verdict: Verdict,
    since: Instant,
    /// Which rules the verdict is by.
    rules: u64,
}

/// What has changed since the last scan.
#[derive(Debug, Default)]
pub struct Changes {
    /// Processes that are watched from now on.
    pub added: Vec<Arc<Watched>>,
    /// Processes that are not watched any more, although they run: they have called exec, or the
    /// rules are new.
    pub dropped: Vec<Arc<Watched>>,
    /// Watched processes that have ended.
    pub ended: Vec<Arc<Watched>>,
}

/// Finds the processes to watch.
pub struct Scanner {
    rules: Rules,
    matcher: Matcher,
    excluded_groups: Vec<PathBuf>,
    known: HashMap<u32, Known>,
    caps: Caps,
    own: Vec<u32>,
    own_program: Option<PathBuf>,
    own_uid: u32,
    turn: u32,
    /// Counts changes of the rules.
    version: u64,
}

impl Scanner {
    /// A scanner that has found nothing yet; each label has at most `values` values.
    pub fn new(rules: Rules, values: usize) -> Scanner {
        Scanner {
            matcher: rules.filter.matcher(),
            excluded_groups: groups(&rules),
            rules,
            known: HashMap::new(),
            caps: Caps::new(values),
            own: select::own_ancestors(),
            own_program: std::fs::read_link("/proc/self/exe").ok(),
            own_uid: nix::unistd::geteuid().as_raw(),
            turn: 0,
            version: 0,
        }
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Other rules, which the next scan applies to all processes.
    pub fn set_rules(&mut self, rules: Rules) {
        self.matcher = rules.filter.matcher();
        self.excluded_groups = groups(&rules);
        self.rules = rules;
        self.version += 1;
    }

    /// The watched processes, by PID.
    pub fn watched(&self) -> Vec<Arc<Watched>> {
        let watched = self.known.values().filter_map(|known| known.verdict.watched());
        let mut watched: Vec<Arc<Watched>> = watched.cloned().collect();
        watched.sort_by_key(|watched| watched.identity.pid);
        watched
    }

    /// How many processes match but are not in the share.
    pub fn not_in_share(&self) -> usize {
        self.known.values().filter(|known| matches!(known.verdict, Verdict::NotInShare)).count()
    }

    /// How many values of labels were replaced because there were too many.
    pub fn replaced_labels(&self) -> u64 {
        self.caps.replaced()
    }

    /// Reads new processes, and some of the others again.
    pub fn scan(&mut self) -> Changes {
        let mut changes = Changes::default();
        let mut pids = select::all();
        pids.sort_unstable();
        let is_there = |pid: &u32| pids.binary_search(pid).is_ok();
        let gone: Vec<u32> = self.known.keys().copied().filter(|pid| !is_there(pid)).collect();
        for pid in gone {
            if let Some(watched) = self.forget(pid) {
                changes.ended.push(watched);
            }
        }
        self.turn = (self.turn + 1) % TURNS;
        for pid in pids {
            let is_due = |known: &Known| {
                known.since.elapsed() < YOUNG || known.rules != self.version || pid % TURNS == self.turn
            };
            if self.known.get(&pid).is_none_or(is_due) {
                self.read(pid, &mut changes);
            }
        }
        changes
    }

    /// Reads a process for the first time, or again.
    fn read(&mut self, pid: u32, changes: &mut Changes) {
        if self.own.contains(&pid) {
            return;
        }
        let Ok(identity) = identify(pid) else { return };
        let Some(known) = self.known.get(&pid) else {
            let verdict = self.judge(&identity, Duration::ZERO);
            changes.added.extend(verdict.watched().cloned());
            let rules = self.version;
            self.known.insert(pid, Known { identity, verdict, since: Instant::now(), rules });
            return;
        };
        let is_same = known.identity.start_ticks == identity.start_ticks
            && known.identity.name == identity.name
            && known.identity.executable == identity.executable;
        if !is_same || known.rules != self.version || matches!(known.verdict, Verdict::NotYet) {
            self.read_again(identity, changes);
        }
    }

    fn read_again(&mut self, identity: Identity, changes: &mut Changes) {
        let pid = identity.pid;
        let Some(known) = self.known.get(&pid) else { return };
        let (since, is_same) = (known.since, known.identity.start_ticks == identity.start_ticks);
        let since = if is_same { since } else { Instant::now() };
        let before = self.forget(pid);
        let verdict = self.judge(&identity, since.elapsed());
        let now = verdict.watched().cloned();
        match (before, now) {
            (Some(before), Some(now)) if is_same && before.labels == now.labels => {}
            (before, now) => {
                match is_same {
                    true => changes.dropped.extend(before.filter(|_| now.is_none())),
                    false => changes.ended.extend(before),
                }
                changes.added.extend(now);
            }
        }
        self.known.insert(pid, Known { identity, verdict, since, rules: self.version });
    }

    /// Forgets a process; returns it if it was watched.
    fn forget(&mut self, pid: u32) -> Option<Arc<Watched>> {
        let watched = self.known.remove(&pid)?.verdict.watched().cloned()?;
        self.caps.remove(&watched.labels);
        Some(watched)
    }

    /// Whether a process is watched. The cheapest questions come first, and those that open
    /// something of it last.
    fn judge(&mut self, identity: &Identity, age: Duration) -> Verdict {
        if identity.is_kernel_thread || self.is_own(identity) || !self.matches(identity) {
            return Verdict::NoMatch;
        }
        if self.is_excluded(identity) {
            return Verdict::Excluded;
        }
        let environment = surroundings::environment(identity.pid);
        if environment.is_empty() && age < IN_EXEC {
            return Verdict::NotYet;
        }
        let choice = choice(&environment);
        if choice == Some(false) || (self.rules.only_opted_in && choice != Some(true)) {
            return Verdict::Excluded;
        }
        let host = &self.rules.given.host;
        let is_chosen = self.rules.share.has(host, identity.pid, identity.start_ticks);
        if !is_chosen && choice != Some(true) {
            return Verdict::NotInShare;
        }
        let facts = Facts::read(identity, environment);
        if facts.namespace.as_ref().is_some_and(|space| self.rules.exclude_namespaces.contains(space)) {
            return Verdict::Excluded;
        }
        let labels = self.caps.add(facts.labels(&self.rules.given));
        Verdict::Watch(Arc::new(Watched { identity: identity.clone(), labels }))
    }

    /// Whether it is rprof, this one or another.
    fn is_own(&self, identity: &Identity) -> bool {
        self.own_program.is_some() && identity.executable == self.own_program
    }

    fn matches(&mut self, identity: &Identity) -> bool {
        if self.rules.pids.contains(&identity.pid) {
            return true;
        }
        if self.rules.children && self.is_child_of_watched(identity) {
            return true;
        }
        let is_by_pid_only = !self.rules.pids.is_empty() && self.rules.filter.is_empty();
        let is_permitted = self.rules.any_user || identity.uid == self.own_uid;
        !is_by_pid_only && is_permitted && self.matcher.matches(identity)
    }

    fn is_child_of_watched(&self, identity: &Identity) -> bool {
        let Ok(stat) = identity::read_stat(identity.pid) else { return false };
        let parent = self.known.get(&stat.parent_pid);
        parent.is_some_and(|parent| parent.verdict.watched().is_some())
    }

    fn is_excluded(&self, identity: &Identity) -> bool {
        let name = identity.display_name();
        let program = identity.executable.as_deref().map(Path::to_string_lossy).unwrap_or_default();
        let by_name = |pattern: &Regex| {
            pattern.is_match(&name) || pattern.is_match(&identity.name) || pattern.is_match(&program)
        };
        if self.rules.exclude_names.iter().any(by_name) {
            return true;
        }
        !self.excluded_groups.is_empty()
            && cgroup::paths(identity.pid)
                .iter()
                .any(|path| self.excluded_groups.iter().any(|group| Path::new(path).starts_with(group)))
    }
}

impl Verdict {
    fn watched(&self) -> Option<&Arc<Watched>> {
        match self {
            Verdict::Watch(watched) => Some(watched),
            _ => None,
        }
    }
}

fn groups(rules: &Rules) -> Vec<PathBuf> {
    rules.exclude_cgroups.iter().map(|group| cgroup::path_in_hierarchy(group)).collect()
}

/// Whether a process has opted in or out.
fn choice(environment: &[(String, String)]) -> Option<bool> {
    let (_, value) = environment.iter().find(|(name, _)| name == VARIABLE)?;
    match value.trim().to_ascii_lowercase().as_str() {
        "on" | "1" | "true" | "yes" => Some(true),
        "off" | "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    #[test]
    fn a_share_of_the_processes_is_chosen_and_always_the_same() {
        for percent in [1.0, 10.0, 50.0, 90.0] {
            let share = Share::new(percent / 100.0).expect("a share");
            for host in ["node-1", "node-2", "10.0.0.1"] {
                let chosen = |pid: &u32| share.has(host, *pid, 90_000 + u64::from(*pid) * 3);
                let count = (0..1000).filter(chosen).count() as f64;
                assert!((count / 10.0 - percent).abs() <= 3.0, "{count} of 1000 at {percent} % on {host}");
            }
            assert_eq!(share.has("a", 7, 8), share.has("a", 7, 8));
        }
        assert!(Share::new(0.0).is_none() && Share::new(1.1).is_none() && Share::new(f64::NAN).is_none());
        assert!((0..1000).all(|pid| Share::default().has("a", pid, 1)));
    }

    #[test]
    fn a_process_opts_in_or_out_by_its_environment() {
        let of = |value: &str| choice(&[(VARIABLE.to_owned(), value.to_owned())]);
        assert_eq!((of("off"), of("ON"), of("0"), of("maybe")), (Some(false), Some(true), Some(false), None));
        assert_eq!(choice(&[]), None);
    }

    fn sleeper(name: &str, value: &str) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").env_remove(VARIABLE);
        if !name.is_empty() {
            command.env(name, value);
        }
        command.spawn().expect("sleep")
    }

    /// Scans until the children are past their exec.
    fn settled(scanner: &mut Scanner, count: usize) -> Vec<u32> {
        for _ in 0..500 {
            scanner.scan();
            if scanner.watched().len() >= count {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        scanner.watched().iter().map(|watched| watched.identity.pid).collect()
    }

    #[test]
    fn processes_come_and_go_and_those_that_opted_out_are_not_watched() {
        let mut children = [sleeper("", ""), sleeper(VARIABLE, "off"), sleeper(VARIABLE, "on")];
        let pids: Vec<u32> = children.iter().map(Child::id).collect();
        let rules = Rules { pids: pids.clone(), any_user: true, ..Rules::default() };
        let mut scanner = Scanner::new(rules.clone(), 100);
        assert_eq!(settled(&mut scanner, 2), [pids[0], pids[2]]);
        scanner.set_rules(Rules { only_opted_in: true, ..rules.clone() });
        let changes = scanner.scan();
        assert_eq!(changes.dropped.len(), 1);
        assert_eq!(settled(&mut scanner, 1), [pids[2]]);
        // One that has opted in is not subject to the share.
        let share = Share::new(1e-9).expect("a share");
        scanner.set_rules(Rules { share, ..rules.clone() });
        assert_eq!((settled(&mut scanner, 1), scanner.not_in_share()), (vec![pids[2]], 1));
        let excluded = Regex::new("^sleep$").expect("a pattern");
        scanner.set_rules(Rules { exclude_names: vec![excluded], ..rules });
        scanner.scan();
        assert!(scanner.watched().is_empty());
        for child in &mut children {
            child.kill().and_then(|()| child.wait()).expect("own child");
        }
        scanner.scan();
        assert!(pids.iter().all(|pid| !scanner.known.contains_key(pid)), "all that has ended is forgotten");
    }

    #[test]
    fn rprof_itself_and_its_ancestors_are_not_watched() {
        let mut scanner = Scanner::new(Rules { any_user: true, ..Rules::default() }, 100);
        scanner.scan();
        let own = select::own_ancestors();
        assert!(scanner.watched().iter().all(|watched| !own.contains(&watched.identity.pid)));
    }
}
