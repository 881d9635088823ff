//! A command that is run after each incident, with the path of the incident.
//!
//! It is started without a shell, from a list of arguments in the configuration file; the text of a
//! trigger or the name of a process is never part of a command line that something parses. Not
//! here: the configuration file.

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// A command and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program, then its arguments. The path of the incident is added as the last one.
    pub command: Vec<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Why a hook has failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The list is empty.
    #[error("the hook has no program")]
    Empty,
    /// The program cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The error of fork(2) or execve(2).
        source: io::Error,
    },
    /// It ended with a status other than 0.
    #[error("{program} ended with {status}")]
    Failed {
        /// The program.
        program: String,
        /// `exit status 1`, `signal 11`.
        status: String,
    },
    /// It took too long, and was killed with all processes of its group.
    #[error("{program} was killed because it took longer than {} s", .timeout.as_secs())]
    TimedOut {
        /// The program.
        program: String,
        /// How long it was allowed to take.
        timeout: Duration,
    },
}

impl Hook {
    /// Runs the command with `incident` as its last argument and these environment variables, and
    /// waits for it.
    ///
    /// # Errors
    /// See [`HookError`].
    pub fn run(&self, incident: &Path, variables: &[(&str, String)]) -> Result<(), HookError> {
        let (program, arguments) = self.command.split_first().ok_or(HookError::Empty)?;
        let start = |source| HookError::Start { program: program.clone(), source };
        let mut child = Command::new(program)
            .args(arguments)
            .arg(incident)
            .envs(variables.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(start)?;
        let status = match self.wait(&mut child).map_err(start)? {
            Some(status) => status,
            None => return Err(HookError::TimedOut { program: program.clone(), timeout: self.timeout }),
        };
        let text = match (status.code(), status.signal()) {
            (Some(0), _) => return Ok(()),
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        Err(HookError::Failed { program: program.clone(), status: text })
    }

    /// The status; `None`: it took too long and was killed.
    fn wait(&self, child: &mut Child) -> io::Result<Option<std::process::ExitStatus>> {
        let until = Instant::now() + self.timeout;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                // The group: a hook may have started others.
                let group = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
                let _ = killpg(group, Signal::SIGKILL);
                let _ = child.kill();
                child.wait()?;
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(command: &[&str], timeout_ms: u64) -> Hook {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Hook { command, timeout: Duration::from_millis(timeout_ms) }
    }

    #[test]
    fn the_path_is_one_argument_whatever_it_contains() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("a b;$(touch x)`'\"");
        std::fs::write(&source, "content").expect("written");
        // cp SOURCE PATH
        let copy = folder.path().join("copy of $HOME");
        hook(&["cp", source.to_str().expect("text")], 10_000).run(&copy, &[]).expect("cp");
        assert_eq!(std::fs::read_to_string(&copy).expect("copied"), "content");
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 2);
    }

    #[test]
    fn a_hook_that_fails_is_reported() {
        let run = |hook: Hook| hook.run(Path::new("/x"), &[]).expect_err("it fails").to_string();
        assert_eq!(run(hook(&["false"], 10_000)), "false ended with exit status 1");
        assert!(
            run(hook(&["/nowhere/hook"], 10_000)).starts_with("cannot start /nowhere/hook: No such file")
        );
        assert_eq!(run(hook(&[], 1)), "the hook has no program");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed_with_its_children() {
        let began = Instant::now();
        let error =
            hook(&["sh", "-c", "sleep 60 & sleep 60"], 200).run(Path::new("/x"), &[]).expect_err("late");
        assert!(matches!(error, HookError::TimedOut { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_hook_gets_what_has_happened_in_its_environment() {
        let variables = [("RPROF_TRIGGER", "cpu>80%:30s".to_owned())];
        hook(&["sh", "-c", "test \"$RPROF_TRIGGER\" = 'cpu>80%:30s'"], 10_000)
            .run(Path::new("/x"), &variables)
            .expect("the variable is set");
    }
}
