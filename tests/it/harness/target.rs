//! A program under test. It is started, is profiled once it prints "ready", is checked to be
//! unhurt, and is ended with the test.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::User;

/// How long a server may take to start.
const START_SECONDS: u64 = 20;

pub struct Target {
    child: Child,
    /// The process to profile. It differs from the child if a helper program (unshare) is in
    /// between.
    pid: u32,
    output: BufReader<ChildStdout>,
}

/// Starts a program, which a test may just have written: while another test starts one too, the
/// file is open for writing in that child for a moment (`ETXTBSY`).
fn start(command: &mut Command) -> Child {
    for _ in 0..100 {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => sleep(Duration::from_millis(20)),
            started => return started.unwrap_or_else(|error| panic!("{command:?}: {error}")),
        }
    }
    panic!("{command:?} is still open for writing");
}

impl Target {
    pub fn start(program: &Path) -> Target {
        Target::start_with(program, &[])
    }

    pub fn start_with(program: &Path, arguments: &[&str]) -> Target {
        Target::spawn(Command::new(program).args(arguments))
    }

    pub fn start_as(user: User, program: &Path, arguments: &[&str]) -> Target {
        Target::spawn(user.command(program).args(arguments))
    }

    /// Starts `command` and waits until it prints "ready".
    pub fn spawn(command: &mut Command) -> Target {
        let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut target = Target { pid: child.id(), child, output };
        let mut line = String::new();
        target.output.read_line(&mut line).expect("readable");
        assert_eq!(line, "ready\n", "{command:?} did not start");
        target
    }

    /// Starts a server and waits until `is_ready` returns true.
    pub fn spawn_server(command: &mut Command, is_ready: impl FnMut() -> bool) -> Target {
        let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let target = Target { pid: child.id(), child, output };
        assert!(wait_until(START_SECONDS, is_ready), "{command:?} does not respond");
        target
    }

    /// The same target, but the process to profile is the last descendant of the child.
    pub fn descendant(mut self) -> Target {
        while let Some(pid) = children_of(self.pid).first() {
            self.pid = *pid;
        }
        self
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The target still runs, and no thread of it is stopped or traced.
    #[track_caller]
    pub fn assert_unhurt(&mut self) {
        let status = self.child.try_wait().expect("own child");
        assert!(status.is_none(), "the target ended: {status:?}");
        let mut threads = 0;
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid)).expect("a live target") {
            let Ok(entry) = entry else { continue };
            // A thread that ended meanwhile has no status.
            let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.map(str::trim).unwrap_or_default().to_owned()
            };
            let state = field("State:");
            assert!(!state.starts_with(['t', 'T']), "a thread is left stopped: {state}");
            assert_eq!(field("TracerPid:"), "0", "a thread is left traced");
            threads += 1;
        }
        assert!(threads > 0, "the target has no threads");
    }

    /// Waits until the target ends by itself and returns its exit code; `None` if it runs after
    /// `seconds`.
    pub fn exit_code(&mut self, seconds: u64) -> Option<i32> {
        wait_until(seconds, || self.child.try_wait().expect("own child").is_some());
        self.child.try_wait().expect("own child").and_then(|status| status.code())
    }

    /// Ends the target and returns what it printed since "ready".
    pub fn end_and_read_output(mut self) -> String {
        self.end();
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("text");
        text
    }

    fn end(&mut self) {
        if self.pid != self.child.id() && is_alive(self.pid) {
            let _ = Command::new("kill").arg("-KILL").arg(self.pid.to_string()).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.end();
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Polls `condition`; returns whether it became true within `seconds`.
pub fn wait_until(seconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
