//! Errors as a person needs them: what happened, because of what, and what to try.
//!
//! ```text
//! error: may not watch process 4711 (redis-server)
//!   because  kernel.perf_event_paranoid is 2 (at most 1 is needed) and CAP_PERFMON is missing
//!   try      run rprof as root, or as the same user as the process …
//! ```

use std::{fmt::Write, path::PathBuf};

use anyhow::Error;

use crate::{
    capture::CaptureError,
    process::{Identity, ProcessError},
    profile::WriteError,
    runtime::go::{BucketError, GoError},
    sampler::{Denial, PerfError, SamplerError},
    serve::ServeError,
};

/// `--name` fits nobody.
#[derive(Debug, thiserror::Error)]
#[error("no process matches `{0}`")]
pub struct NothingMatches(pub String);

/// The profile could not be written to its place, and was saved under this path.
#[derive(Debug, thiserror::Error)]
#[error("the profile is not where it should be; it was saved as {}", .0.display())]
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
    if let Some(error) = process_of_go(error) {
        return Some(process(error));
    }
    if let Some((what, because, advice)) = super::advice_go::explain(error) {
        let because = because.into_iter().collect();
        return Some(Explanation { what, because, advice: advice.map(str::to_owned) });
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
    error.is::<NothingMatches>().then(|| Explanation {
        what: error.to_string(),
        because: vec!["neither a process's name, nor its program, nor its command line fits".into()],
        advice: Some("`ps -e -o pid,comm,args` lists them; the expression is a regular one".into()),
    })
}

/// The process's trouble, where that is why a Go program could not be read.
fn process_of_go(error: &Error) -> Option<&ProcessError> {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(GoError::Process(error)), _) | (_, Some(BucketError::Go(GoError::Process(error)))) => {
            Some(error)
        }
        _ => None,
    }
}

/// The chain of an error: what failed first, then why, innermost last.
fn generic(error: &Error) -> Explanation {
    let mut chain = error.chain().map(ToString::to_string);
    let what = chain.next().unwrap_or_default();
    let because: Vec<String> = chain.collect();
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    Explanation { what, because, advice: io.and_then(io_advice).map(str::to_owned) }
}

/// exec refused: errno tells why (execve(2)).
fn not_started(what: String, source: &std::io::Error) -> Explanation {
    let advice = match source.raw_os_error() {
        Some(libc::ENOENT) => "check the name: without a slash it is looked for in the folders of $PATH",
        Some(libc::EACCES) => "check that it is a program, not a folder, and may be run (`ls -l`)",
        Some(libc::ENOEXEC) => "name the interpreter too: rprof record -- sh SCRIPT",
        _ => "run it without rprof first",
    };
    Explanation { what, because: vec![source.to_string()], advice: Some(advice.to_owned()) }
}

fn unwritable(error: &WriteError) -> Explanation {
    let advice = match error {
        WriteError::IsDirectory { .. } => "name a file, not a folder",
        WriteError::NoFolder { .. } => "make the folder first, or name another file with -o",
        WriteError::Folder { source, .. } | WriteError::Io { source, .. } => {
            io_advice(source).unwrap_or("name another file with -o")
        }
        WriteError::DiskFull { .. } => "make room, or write to another disk with -o",
    };
    let because = vec!["the profile could not be written; what stood there before is untouched".to_owned()];
    Explanation { what: error.to_string(), because, advice: Some(advice.to_owned()) }
}

fn io_advice(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind;
    Some(match error.kind() {
        ErrorKind::NotFound => "check the path; folders are not made by rprof",
        ErrorKind::PermissionDenied => {
            "choose a place you may write to with -o, for example -o /tmp/out.pb.gz"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room, or write to another disk with -o; what was there before is untouched"
        }
        ErrorKind::ReadOnlyFilesystem => "write to another place with -o, for example -o /tmp/out.pb.gz",
        ErrorKind::IsADirectory => "name a file, not a folder",
        _ => return None,
    })
}

/// bind(2) refused.
fn listen_advice(error: &std::io::Error) -> Option<&'static str> {
    use std::io::ErrorKind;
    Some(match error.kind() {
        ErrorKind::AddrInUse => {
            "another port (0 takes one that is free), or end who listens there: `ss -ltnp` tells"
        }
        ErrorKind::AddrNotAvailable => "an address that this machine has: `ip addr` lists them",
        ErrorKind::PermissionDenied => "a port of 1024 or more, or a socket in a folder you may write to",
        ErrorKind::NotFound => "a folder that is there: none is made for a socket",
        _ => return None,
    })
}

fn capture(error: &CaptureError) -> Explanation {
    match error {
        CaptureError::Process(error) => process(error),
        CaptureError::KernelThread(_) => Explanation {
            what: error.to_string(),
            because: Vec::new(),
            advice: Some("`perf record -g -p PID` shows what the kernel does in it".into()),
        },
        CaptureError::NoProcess => Explanation {
            what: "there is no process to watch".into(),
            because: vec!["those that were named have ended".into()],
            advice: None,
        },
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
            "`ps -e` or `pgrep -af NAME` lists processes; in a container, its PID namespace may hide others \
             (--pid=host, or shareProcessNamespace, shows them)"
                .to_owned()
        }
        ProcessError::Zombie(_) => "profile the process that took its place, if there is one".into(),
        ProcessError::IsThread(_, group) => format!("rprof attach --pid {group}"),
        ProcessError::NotPermitted { pid, .. } => format!(
            "the same user as the process, root, or CAP_SYS_PTRACE: `rprof doctor --pid {pid}` tells which"
        ),
        ProcessError::Unreadable { .. } => {
            "check that /proc is mounted and belongs to this PID namespace".into()
        }
    };
    let because = match error {
        ProcessError::NoSuchProcess(pid) => {
            vec![format!("/proc/{pid} does not exist: it has ended, or is not seen from here")]
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
        what: format!("may not or cannot watch process {}", names.join(", ")),
        because,
        advice: Some(format!("{}\n           {}", sampler_advice(last, foreign), see_doctor(identities))),
    }
}

fn see_doctor(identities: &[Identity]) -> String {
    let pid = identities.first().map(|id| format!(" --pid {}", id.pid)).unwrap_or_default();
    format!("`rprof doctor{pid}` tells what works here, what does not, and what unlocks it")
}

fn sampler_advice(error: &SamplerError, foreign: Option<&Identity>) -> String {
    let other_user =
        foreign.map(|id| format!("run rprof as root or as user {} (`sudo -u '#{}'`)", id.uid, id.uid));
    match error {
        SamplerError::Perf(PerfError::NotPermitted { denial, .. }) => match denial {
            Denial::Seccomp => "in Docker: --cap-add SYS_ADMIN (Docker before 23), or --cap-add PERFMON, or \
                                --security-opt seccomp=unconfined (see docs/PERMISSIONS.md)"
                .into(),
            Denial::SecurityModule => {
                "ask whoever runs this machine: neither rights nor kernel.perf_event_paranoid are in the way"
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
            "raise the limit on open files (`ulimit -n`), or run as root: `--sampler bpf` needs few".into()
        }
        SamplerError::Perf(PerfError::LockedMemory { .. }) => {
            "a smaller --buffer-bytes, a higher `ulimit -l`, or `sysctl kernel.perf_event_mlock_kb=4096`"
                .into()
        }
        _ => "--sampler auto picks what works here; docs/PERMISSIONS.md lists what each way needs".into(),
    }
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
    fn an_error_says_what_why_and_what_to_do() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Err::<(), _>(full).context("cannot write /x/y.pb.gz").expect_err("an error");
        let text = explain(&error);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "error: cannot write /x/y.pb.gz");
        assert!(lines[1].starts_with("  because  "));
        assert!(lines[2].starts_with("  try      make room"));
    }

    #[test]
    fn who_finds_the_port_taken_is_told_how_to_go_on() {
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
