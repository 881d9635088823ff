//! Explains errors: what happened, why, and what to do.
//!
//! ```text
//! error: cannot profile process 4711 (redis-server)
//!   because  kernel.perf_event_paranoid is 2 (at most 1 is needed) and CAP_PERFMON is missing
//!   try      run rprof as root, or as the same user as the process …
//! ```

use std::{fmt::Write, path::PathBuf};

use anyhow::Error;

use super::picker;
use crate::{
    capture::{CaptureError, kinds},
    process::{Identity, ProcessError},
    profile::WriteError,
    runtime::RuntimeError,
    sampler::{BpfDenial, Denial, PerfError, SamplerError},
    serve::ServeError,
};

/// A name or conditions match no process.
#[derive(Debug, thiserror::Error)]
#[error("no process matches {what}")]
pub struct NothingMatches {
    /// The name or the conditions.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub advice: String,
}

/// A profile cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Unreadable {
    /// Which.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Several processes match where one is needed.
#[derive(Debug, thiserror::Error)]
#[error("{head}")]
pub struct Ambiguous {
    /// What matches how many processes.
    pub head: String,
    /// A line for each process.
    pub lines: Vec<String>,
    /// The commands to run instead.
    pub commands: Vec<String>,
}

/// The profile could not be written to its destination and was saved under this path.
#[derive(Debug, thiserror::Error)]
#[error("the profile could not be written to its destination; it was saved as {}", .0.display())]
pub struct SavedElsewhere(pub PathBuf);

struct Explanation {
    what: String,
    because: Vec<String>,
    advice: Option<String>,
}

/// The text for standard error.
pub fn explain(error: &Error) -> String {
    let explanation = known(error).unwrap_or_else(|| generic(error));
    let mut text = format!("error: {}", explanation.what);
    for reason in &explanation.because {
        let _ = write!(text, "\n  because  {reason}");
    }
    if let Some(advice) = &explanation.advice {
        let _ = write!(text, "\n  try      {advice}");
    }
    text
}

fn known(error: &Error) -> Option<Explanation> {
    if let Some(CaptureError::NotStarted(source)) = error.downcast_ref() {
        return Some(not_started(error.to_string(), source));
    }
    if let Some(error) = error.downcast_ref::<CaptureError>() {
        return Some(capture(error));
    }
    if let Some(error) = error.downcast_ref::<ProcessError>() {
        return Some(process(error));
    }
    if let Some(ServeError::Listen { source, .. }) = error.downcast_ref() {
        let advice = listen_advice(source).map(str::to_owned);
        return Some(Explanation { what: error.to_string(), because: vec![source.to_string()], advice });
    }
    if error.is::<SavedElsewhere>() {
        return Some(generic(error));
    }
    if let Some(error) = error.downcast_ref::<WriteError>() {
        return Some(unwritable(error));
    }
    if let Some(error) = error.downcast_ref::<Ambiguous>() {
        return Some(ambiguous(error));
    }
    if let Some(error) = error.downcast_ref::<Unreadable>() {
        return Some(unreadable(error));
    }
    error.downcast_ref().map(nothing_matches)
}

fn nothing_matches(error: &NothingMatches) -> Explanation {
    Explanation {
        what: error.to_string(),
        because: vec![error.why.clone()],
        advice: Some(error.advice.clone()),
    }
}

fn unreadable(error: &Unreadable) -> Explanation {
    let advice = match &*error.why {
        why if why.contains("no such file") => "check the path; `rprof attach NAME -o FILE` writes a profile",
        why if why.contains("unrecognized profile format") => {
            "profiles of pprof (.pb.gz), perf.data and folded stacks can be read; \
             for a running program: `rprof attach NAME`"
        }
        _ => "check that it is a profile, complete and readable: `file FILE` and `ls -l FILE`",
    };
    Explanation { what: error.to_string(), because: vec![error.why.clone()], advice: Some(advice.to_owned()) }
}

fn ambiguous(error: &Ambiguous) -> Explanation {
    let lines = picker::bounded(&error.lines).join("\n");
    Explanation {
        what: format!("{error}, and one is needed:\n{lines}"),
        because: Vec::new(),
        advice: Some(error.commands.join("\n           ")),
    }
}

/// A language runtime cannot be read, or does not record the profile.
fn runtime(error: &RuntimeError) -> Explanation {
    let (what, because, advice) = match error {
        RuntimeError::NotCollected { why, advice } => {
            let what = "this process does not collect the requested profile".to_owned();
            (what, vec![why.clone()], Some((*advice).to_owned()))
        }
        RuntimeError::Absent { language, .. } => {
            let advice =
                format!("only {language} programs have this profile; `rprof info` shows what a process is");
            (error.to_string(), Vec::new(), Some(advice))
        }
        RuntimeError::NotPermitted { .. } => {
            let advice = "run rprof as the process's user, as root, or with CAP_SYS_PTRACE: `rprof doctor --pid PID` shows what is missing";
            (error.to_string(), Vec::new(), Some(advice.to_owned()))
        }
        RuntimeError::Unreadable { advice, .. } => (error.to_string(), Vec::new(), advice.map(str::to_owned)),
        RuntimeError::Process(source) => return process(source),
    };
    Explanation { what, because, advice }
}

/// The chain of an error: what failed, then why, innermost last.
fn generic(error: &Error) -> Explanation {
    let mut chain = error.chain().map(ToString::to_string);
    let what = chain.next().unwrap_or_default();
    let because: Vec<String> = chain.collect();
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    Explanation { what, because, advice: io.and_then(io_advice).map(str::to_owned) }
}

/// exec failed: errno gives the reason (execve(2)).
fn not_started(what: String, source: &std::io::Error) -> Explanation {
    let advice = match source.raw_os_error() {
        Some(libc::ENOENT) => "check the name: a name without a slash is searched in $PATH",
        Some(libc::EACCES) => "check that it is a program and executable (`ls -l`)",
        Some(libc::ENOEXEC) => "name the interpreter: rprof record -- sh SCRIPT",
        _ => "run it without rprof first",
    };
    Explanation { what, because: vec![source.to_string()], advice: Some(advice.to_owned()) }
}

fn unwritable(error: &WriteError) -> Explanation {
    let advice = match error {
        WriteError::IsDirectory { .. } => "name a file in it",
        WriteError::NoFolder { .. } => "create the directory first, or name another file with -o",
        WriteError::Folder { source, .. } | WriteError::Io { source, .. } => {
            io_advice(source).unwrap_or("name another file with -o")
        }
        WriteError::FileTooLarge { .. } => "raise the limit (`ulimit -f`), or write to another disk with -o",
        WriteError::DiskFull { .. } => "free some space, or write to another disk with -o",
    };
    let because = vec!["the profile could not be written; an existing file there is unchanged".to_owned()];
    Explanation { what: error.to_string(), because, advice: Some(advice.to_owned()) }
}

fn io_advice(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind;
    Some(match error.kind() {
        ErrorKind::NotFound => "check the path; rprof does not create directories",
        ErrorKind::PermissionDenied => "write to a directory of yours with -o, for example -o /tmp/out.pb.gz",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space, or write to another disk with -o; an existing file there is unchanged"
        }
        ErrorKind::ReadOnlyFilesystem => "write to another directory with -o, for example -o /tmp/out.pb.gz",
        ErrorKind::IsADirectory => "name a file in it",
        _ => return None,
    })
}

/// bind(2) failed.
fn listen_advice(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind;
    Some(match error.kind() {
        ErrorKind::AddrInUse => {
            "another port (0 selects a free one), or end the program that listens there (see `ss -ltnp`)"
        }
        ErrorKind::AddrNotAvailable => "an address of this machine: `ip addr` lists them",
        ErrorKind::PermissionDenied => "a port of 1024 or more, or a socket in a directory you may write to",
        ErrorKind::NotFound => "an existing directory: rprof does not create one for a socket",
        _ => return None,
    })
}

fn capture(error: &CaptureError) -> Explanation {
    match error {
        CaptureError::Process(error) => process(error),
        CaptureError::KernelThread(_) => Explanation {
            what: error.to_string(),
            because: Vec::new(),
            advice: Some("`perf record -g -p PID` shows what the kernel does in this thread".into()),
        },
        CaptureError::NoProcess => Explanation {
            what: "there is no process to profile".into(),
            because: vec!["the processes have ended".into()],
            advice: None,
        },
        CaptureError::NotOffered { kind, why, available } => Explanation {
            what: format!("{} profiles {why}", kind.name),
            because: Vec::new(),
            advice: Some(format!("--kind {}; `rprof info` shows what a process is", kinds::list(available))),
        },
        CaptureError::Runtime(error) => runtime(error),
        CaptureError::WrongSampler { .. } | CaptureError::Incomparable(_) | CaptureError::Bug => {
            Explanation { what: error.to_string(), because: Vec::new(), advice: None }
        }
        CaptureError::Sampler { source, tried, identities } => sampler(source, tried, identities),
        CaptureError::NotStarted(source) => not_started(error.to_string(), source),
        CaptureError::SamplerDied(source) => {
            Explanation { what: error.to_string(), because: causes(source), advice: None }
        }
    }
}

fn process(error: &ProcessError) -> Explanation {
    let advice = match error {
        ProcessError::NoSuchProcess(_) => {
            "`ps -e` or `pgrep -af NAME` lists processes; a container's PID namespace hides others \
             (unless it runs with --pid=host or shareProcessNamespace)"
                .to_owned()
        }
        ProcessError::Zombie(_) => "profile the process that replaced it, if there is one".into(),
        ProcessError::Replaced(pid) => format!("to profile the new process {pid}, start rprof again"),
        ProcessError::IsThread(_, group) => format!("rprof attach --pid {group}"),
        ProcessError::NotPermitted { pid, .. } => format!(
            "run rprof as the process's user, as root, or with CAP_SYS_PTRACE: `rprof doctor --pid {pid}` \
             shows what is missing"
        ),
        ProcessError::Unreadable { .. } => {
            "check that /proc is mounted and belongs to this PID namespace".into()
        }
    };
    let because = match error {
        ProcessError::NoSuchProcess(pid) => {
            vec![format!(
                "/proc/{pid} does not exist: the process has ended, or is not visible in this PID namespace"
            )]
        }
        _ => Vec::new(),
    };
    Explanation { what: error.to_string(), because, advice: Some(advice) }
}

fn sampler(
    last: &SamplerError,
    tried: &[(&'static str, SamplerError)],
    identities: &[Identity],
) -> Explanation {
    let names: Vec<String> =
        identities.iter().take(3).map(|id| format!("{} ({})", id.pid, id.display_name())).collect();
    let mut because: Vec<String> = tried.iter().map(|(name, error)| format!("{name}: {error}")).collect();
    because.push(last.to_string());
    let foreign = identities.iter().find(|id| id.uid != nix::unistd::getuid().as_raw());
    Explanation {
        what: format!(
            "cannot profile {} {}",
            if names.len() == 1 { "process" } else { "processes" },
            names.join(", ")
        ),
        because,
        advice: Some(sampler_advice(last, foreign, see_doctor(identities))),
    }
}

fn see_doctor(identities: &[Identity]) -> String {
    let pid = identities.first().map(|id| format!(" --pid {}", id.pid)).unwrap_or_default();
    format!("`rprof doctor{pid}` shows what works here and what to change for the rest")
}

fn sampler_advice(error: &SamplerError, foreign: Option<&Identity>, see_doctor: String) -> String {
    let other_user =
        foreign.map(|id| format!("run rprof as root or as user {} (`sudo -u '#{}'`)", id.uid, id.uid));
    let advice: String = match error {
        SamplerError::Perf(PerfError::NotPermitted { denial, .. }) => match denial {
            Denial::Seccomp => "in Docker: --cap-add SYS_ADMIN (Docker before 23), or --cap-add PERFMON, or \
                                --security-opt seccomp=unconfined (see `rprof help permissions`)"
                .into(),
            Denial::SecurityModule => {
                "ask this machine's administrator: a security module forbids it, whatever the capabilities"
                    .into()
            }
            Denial::OtherUser => other_user.unwrap_or_else(|| "run rprof as root".into()),
            Denial::Paranoid { needed, .. } => other_user.unwrap_or_else(|| {
                format!(
                    "run rprof as root, or `sysctl kernel.perf_event_paranoid={needed}`, or \
                     `setcap cap_perfmon,cap_bpf,cap_sys_ptrace,cap_ipc_lock+ep` on the rprof binary"
                )
            }),
        },
        SamplerError::Perf(PerfError::TooManyFiles { .. }) => {
            "raise the limit on open files (`ulimit -n`), or run as root: `--sampler bpf` opens few".into()
        }
        SamplerError::Perf(PerfError::LockedMemory { .. }) => {
            "a smaller --buffer-bytes, a higher `ulimit -l`, or `sysctl kernel.perf_event_mlock_kb=4096`"
                .into()
        }
        SamplerError::Only { source, .. } => return sampler_advice(source, foreign, see_doctor),
        SamplerError::BpfDenied(BpfDenial::Capabilities(_)) => {
            "run rprof as root, or `setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep` on the rprof binary".into()
        }
        _ => return see_doctor,
    };
    format!("{advice}\n           {see_doctor}")
}

fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_is_explained_with_what_why_and_what_to_do() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Err::<(), _>(full).context("cannot write /x/y.pb.gz").expect_err("an error");
        let text = explain(&error);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "error: cannot write /x/y.pb.gz");
        assert!(lines[1].starts_with("  because  "));
        assert!(lines[2].starts_with("  try      free some space"));
    }

    #[test]
    fn a_port_in_use_is_explained_with_what_to_do() {
        let source = std::io::Error::from(std::io::ErrorKind::AddrInUse);
        let address = "127.0.0.1:6060".parse().expect("an address");
        let text = explain(&Error::new(ServeError::Listen { address, source }));
        assert!(
            text.contains("cannot listen on 127.0.0.1:6060") && text.contains("try      another port"),
            "{text}"
        );
    }

    #[test]
    fn a_missing_process_is_explained() {
        let error = Error::new(CaptureError::Process(ProcessError::NoSuchProcess(7)));
        let text = explain(&error);
        assert!(
            text.starts_with("error: there is no process 7\n  because  /proc/7 does not exist"),
            "{text}"
        );
    }
}
