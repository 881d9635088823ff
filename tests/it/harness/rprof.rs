//! Runs of the rprof binary, each with a time limit and its own output folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rprof::process::identity;

use super::{Fixture, Stacks, Target, User, open_folder, set_mode, wait_until};

/// The samplers that work on a single process, as `--sampler` names them. All but the last need
/// root or capabilities.
pub const TIERS: [&str; 3] = ["bpf", "perf-cpu", "perf-thread"];

/// The time limit of a run.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds a run.
pub struct Rprof {
    arguments: Vec<String>,
    command_line: Vec<String>,
    user: User,
    forbidden: Vec<String>,
    folder: tempfile::TempDir,
    output: Option<PathBuf>,
}

/// A run that has not ended.
pub struct Running {
    child: Child,
    began: Instant,
    folder: tempfile::TempDir,
    output: PathBuf,
}

/// A finished run.
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub elapsed: Duration,
    /// The requested path of the profile.
    pub output: PathBuf,
    /// The folder of `output`.
    pub folder: tempfile::TempDir,
}

impl Outcome {
    /// Standard output as text.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Rprof {
    /// `rprof VERB` without arguments.
    pub fn verb(verb: &str) -> Rprof {
        Rprof {
            arguments: vec![verb.to_owned()],
            command_line: Vec::new(),
            user: User::Same,
            forbidden: Vec::new(),
            folder: open_folder(),
            output: None,
        }
    }

    /// `rprof attach --pid PID -d 3s -F 999`, with its own output file.
    pub fn attach(target: &Target) -> Rprof {
        Rprof::attach_to(target.pid())
    }

    pub fn attach_to(pid: u32) -> Rprof {
        Rprof::verb("attach").args(&["--pid", &pid.to_string()]).seconds(3).hertz(999)
    }

    /// `rprof record -F 999 -- COMMAND…`.
    pub fn record(command: &[&str]) -> Rprof {
        let mut record = Rprof::verb("record").hertz(999);
        record.command_line = command.iter().map(|word| (*word).to_owned()).collect();
        record
    }

    pub fn args(mut self, arguments: &[&str]) -> Rprof {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    pub fn seconds(self, seconds: u32) -> Rprof {
        self.option("--duration", &format!("{seconds}s"))
    }

    pub fn hertz(self, rate: u32) -> Rprof {
        self.option("--frequency", &rate.to_string())
    }

    pub fn sampler(self, name: &str) -> Rprof {
        self.option("--sampler", name)
    }

    /// Sets an option and replaces an earlier value.
    pub fn option(mut self, name: &str, value: &str) -> Rprof {
        if let Some(at) = self.arguments.iter().position(|argument| argument == name) {
            self.arguments.drain(at..at + 2);
        }
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    pub fn run_by(mut self, user: User) -> Rprof {
        self.user = user;
        self
    }

    /// Runs under a seccomp filter that forbids these system calls, as containers do.
    pub fn without(mut self, system_calls: &[&str]) -> Rprof {
        self.forbidden = system_calls.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Writes to this path (a bare name: in the run's own folder).
    pub fn to(mut self, path: &str) -> Rprof {
        self.output = Some(self.folder.path().join(path));
        self
    }

    pub fn start(self) -> Running {
        let mut program = PathBuf::from(env!("CARGO_BIN_EXE_rprof"));
        if self.user != User::Same {
            // Other users may have no access to the build folder.
            let copy = self.folder.path().join("rprof");
            fs::copy(&program, &copy).expect("space in /tmp");
            set_mode(&copy, 0o755);
            program = copy;
        }
        let writes = ["attach", "record"].contains(&self.arguments[0].as_str());
        let given = self.output.is_some();
        let output = self.output.unwrap_or_else(|| self.folder.path().join("profile.pb.gz"));
        let mut command = self.user.command(&program);
        if !self.forbidden.is_empty() {
            let forbid = self.folder.path().join("forbid");
            fs::copy(Fixture::c(&["forbid.c"]).build(), &forbid).expect("space in /tmp");
            set_mode(&forbid, 0o755);
            command = self.user.command(&forbid);
            command.args(&self.forbidden).arg("--").arg(&program);
        }
        command.args(&self.arguments);
        if writes && (given || !self.arguments.iter().any(|argument| argument == "-o")) {
            command.arg("-o").arg(&output);
        }
        if !self.command_line.is_empty() {
            command.arg("--").args(&self.command_line);
        }
        let stream = |name: &str| File::create(self.folder.path().join(name)).expect("own folder");
        command.stdin(Stdio::null()).stdout(stream("stdout")).stderr(stream("stderr"));
        command.current_dir(self.folder.path());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Running { child, began: Instant::now(), folder: self.folder, output }
    }

    pub fn run(self) -> Outcome {
        self.start().wait()
    }

    /// Runs rprof and reads the profile. Panics with rprof's output if it fails.
    #[track_caller]
    pub fn profile(self) -> Stacks {
        self.run().profile()
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The requested path of the profile.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// What it has printed so far on the standard error.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("stderr")).unwrap_or_default()).into_owned()
    }

    /// Waits until rprof has a perf event, that is, samples by any sampler but ptrace's, and the
    /// process has used this much CPU time since.
    #[track_caller]
    pub fn wait_until_sampled(&self, pid: u32, cpu: Duration) {
        let has_event = || {
            let files = fs::read_dir(format!("/proc/{}/fd", self.pid())).into_iter().flatten().flatten();
            files.into_iter().any(|file| {
                fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:[perf_event]")
            })
        };
        assert!(wait_until(PATIENCE.as_secs(), has_event), "rprof opens no perf event");
        wait_for_cpu_time(pid, cpu);
    }

    /// Sends a signal by name (`INT`).
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "rprof is gone");
    }

    pub fn wait(mut self) -> Outcome {
        let ended = wait_until(PATIENCE.as_secs(), || self.child.try_wait().expect("own child").is_some());
        let elapsed = self.began.elapsed();
        if !ended {
            let _ = self.child.kill();
        }
        let status = self.child.wait().expect("own child");
        let read = |name: &str| fs::read(self.folder.path().join(name)).expect("own folder");
        let stderr = String::from_utf8_lossy(&read("stderr")).into_owned();
        assert!(ended, "rprof did not end in {PATIENCE:?}; it printed:\n{stderr}");
        let stdout = read("stdout");
        Outcome { code: status.code(), stdout, stderr, elapsed, output: self.output, folder: self.folder }
    }
}

/// Waits until a process has used so much more CPU time.
#[track_caller]
pub fn wait_for_cpu_time(pid: u32, more: Duration) {
    let used = || identity::cpu_time_ns(pid).map(Duration::from_nanos);
    let before = used().expect("a process that runs");
    let is_over = || used().is_none_or(|now| now - before >= more);
    assert!(wait_until(PATIENCE.as_secs(), is_over), "process {pid} does not use {more:?} of CPU time");
}

impl Outcome {
    #[track_caller]
    pub fn profile(self) -> Stacks {
        assert_eq!(self.code, Some(0), "rprof failed; it printed:\n{}", self.stderr);
        self.profile_whatever_the_code()
    }

    #[track_caller]
    pub fn profile_whatever_the_code(self) -> Stacks {
        let stderr = self.stderr.clone();
        Stacks::read(&self.output).unwrap_or_else(|error| panic!("{error}; rprof printed:\n{stderr}"))
    }

    /// Fails unless rprof refused with this exit code and each of these words on standard error.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "it printed:\n{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing from:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    /// Files in the output folder that rprof left behind besides the requested ones.
    pub fn leftovers(&self) -> Vec<String> {
        let known = ["stdout", "stderr", "rprof", "forbid"].map(Path::new);
        let entries = fs::read_dir(self.folder.path()).expect("own folder");
        (entries.filter_map(|entry| Some(entry.ok()?.path())))
            .filter(|path| *path != self.output)
            .filter(|path| !known.iter().any(|name| path.file_name() == Some(name.as_os_str())))
            .map(|path| path.display().to_string())
            .collect()
    }
}
