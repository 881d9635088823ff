//! Shared code of the live tests: fixtures, targets that end with the test, runs of rprof, and
//! profiles as stacks of names.

mod cgroup;
mod fixtures;
mod redis;
mod rprof;
mod skip;
mod stacks;
mod target;
mod terminal;

pub use self::{
    cgroup::Cgroup,
    fixtures::{Fixture, go_cache, run_tool},
    redis::{Helper, Redis},
    rprof::{Outcome, Rprof, Running, TIERS, wait_for_cpu_time},
    skip::{Skip, skip},
    stacks::{Frame, Stack, Stacks},
    target::{Target, is_alive, wait_until},
    terminal::Terminal,
};

use std::{
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

static ALONE: Mutex<()> = Mutex::new(());

/// A lock that a test holds while it measures, so that no other measuring test runs.
pub fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    effective_uid() == 0
}

pub fn effective_uid() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("status has a Uid line");
    line.split_whitespace().nth(1).and_then(|uid| uid.parse().ok()).expect("Uid has four numbers")
}

/// The path of an installed program.
pub fn installed(program: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').map(str::to_owned);
    let more = ["/usr/sbin", "/usr/local/go/bin"].map(str::to_owned);
    folders.chain(more).map(|folder| format!("{folder}/{program}")).find(|path| Path::new(path).is_file())
}

/// `unshare` with the options for a PID namespace of its own; `None`: it is not installed or not
/// permitted.
pub fn pid_namespace() -> Option<Command> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        command
    };
    installed("unshare")?;
    unshare().arg("true").status().is_ok_and(|status| status.success()).then(unshare)
}

/// The CPU time of all programs that this test process has started and that have ended, with a
/// resolution of 10 ms as a rule.
pub fn cpu_time_of_ended_programs() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc is mounted");
    // After the name: state, ppid …; cutime and cstime are fields 16 and 17 (proc(5)).
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = fields[13..15].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// A temporary folder that every user may enter.
pub fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("rprof-it-").tempdir_in("/tmp").expect("/tmp is writable");
    set_mode(folder.path(), 0o777);
    folder
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("own file");
}

/// The user that a program runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The user of the tests.
    Same,
    /// An ordinary user without any capability.
    Nobody,
    /// An ordinary user with these capabilities, in setpriv's syntax (`+perfmon,+bpf`).
    NobodyWith(&'static str),
}

impl User {
    /// A command that runs `program` as this user.
    pub fn command(self, program: &Path) -> Command {
        if self == User::Same {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        if let User::NobodyWith(capabilities) = self {
            command.arg(format!("--inh-caps={capabilities}"));
            command.arg(format!("--ambient-caps={capabilities}"));
        }
        command.arg(program);
        command
    }
}
