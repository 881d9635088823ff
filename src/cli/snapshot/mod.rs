//! `rprof snapshot`: an incident bundle, that is, profiles, stacks and facts of a process in one
//! archive.
//!
//! The verbs `attach`, `dump` and `doctor` make the parts. A part that is not available is listed
//! with the reason and does not affect the others. `findings` writes the README.md of the archive.

mod findings;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Error, Result, anyhow};
use flate2::{Compression, write::GzEncoder};

use super::{advice, attach, doctor, output, snapshot_args::SnapshotArgs, summary::no_samples};
use crate::{
    capture::{
        self, Capture, ProfileKind, Request, Stop, dump,
        go_profile::{self, GoKind},
        goroutines::{self, GoDumpRequest, is_go},
    },
    process::{Identity, ProcessHandle, facts, select},
    profile::{encode_gzip, file},
    report::threads::Threads,
    symbolize::SymbolizeOptions,
};
use findings::Findings;

/// A file in the archive.
struct Part {
    name: String,
    bytes: Vec<u8>,
}

/// What was collected, and what is not available.
struct Snapshot {
    /// Each part is read by PID: the handle detects that another process has got it.
    process: ProcessHandle,
    parts: Vec<Part>,
    /// The name of a part that is not available, and the reason.
    missing: Vec<(String, String)>,
    findings: Findings,
    /// Set by a signal.
    stop: Stop,
}

/// Runs the verb.
pub fn run(arguments: &SnapshotArgs) -> Result<()> {
    let pid = arguments.pid.or(arguments.target).ok_or_else(|| anyhow!("no process is given"))?;
    let process = ProcessHandle::open(pid)?;
    let identity = process.identity().clone();
    if identity.is_kernel_thread {
        return Err(Error::new(capture::CaptureError::KernelThread(pid)));
    }
    let path = arguments.output.clone().unwrap_or_else(|| default_name(&identity));
    file::check_writable(&path)?;
    attach::check_debug_options(&arguments.debug)?;
    let stop = attach::stop_on_signals()?;
    let mut snapshot = Snapshot {
        process,
        stop: stop.clone(),
        parts: Vec::new(),
        missing: Vec::new(),
        findings: Findings::default(),
    };
    let taken_at = SystemTime::now();
    // Threads first: the incident may be over when the profiles are done.
    snapshot.threads(pid, arguments);
    if is_go(pid) {
        snapshot.go(pid);
    }
    snapshot.facts(pid);
    snapshot.profiles(pid, arguments, &stop);
    snapshot.command(&identity, arguments.show_arguments);
    snapshot.collect("doctor", || {
        let diagnosis = doctor::diagnose(Some(pid), true)?;
        let json = serde_json::to_vec_pretty(&diagnosis.json)?;
        Ok(vec![part("doctor.txt", diagnosis.text.into_bytes()), part("doctor.json", json)])
    });
    let readme = snapshot.findings.text(&identity, taken_at, arguments.duration, &snapshot.missing);
    snapshot.parts.insert(0, part("README.md", readme.clone().into_bytes()));
    let write = |writer: &mut dyn Write| archive(&snapshot, &folder_name(&path), taken_at, writer);
    let options = output::file_options(None);
    output::write_or_rescue(&path, &options, write, &default_name(&identity), write)?;
    if !arguments.quiet {
        super::say(&format!("{readme}\nwrote {}", path.display()));
    }
    Ok(())
}

fn part(name: impl Into<String>, bytes: Vec<u8>) -> Part {
    Part { name: name.into(), bytes }
}

/// `redis-server-1234-20260824T031500Z.tar.gz`
fn default_name(identity: &Identity) -> PathBuf {
    PathBuf::from(format!("{}.tar.gz", output::name_and_time(std::slice::from_ref(identity))))
}

impl Snapshot {
    /// Collects a part, unless a signal has ended the snapshot: then rprof must end soon.
    fn collect(&mut self, what: &str, make: impl FnOnce() -> Result<Vec<Part>>) {
        if self.stop.is_set() {
            return self.miss(what, &anyhow!("not collected: a signal ended the snapshot first"));
        }
        self.take(what, make);
    }

    /// Adds the parts from `make`, or the reason why there are none.
    fn take(&mut self, what: &str, make: impl FnOnce() -> Result<Vec<Part>>) {
        match self.process.guard(make) {
            Ok(Ok(parts)) => self.parts.extend(parts),
            Ok(Err(error)) => self.miss(what, &error),
            Err(error) => self.miss(what, &Error::new(error)),
        }
    }

    fn miss(&mut self, what: &str, error: &Error) {
        self.missing.push((what.to_owned(), advice::explain(error).trim_start_matches("error: ").to_owned()));
    }

    fn threads(&mut self, pid: u32, arguments: &SnapshotArgs) {
        let options = attach::symbolize_options(&arguments.debug);
        let budget = options.budget.stopped_by(Arc::clone(&self.stop.0));
        let request = dump::DumpRequest {
            pids: vec![pid],
            kernel: true,
            symbolize: SymbolizeOptions { budget, ..options },
            ..dump::DumpRequest::default()
        };
        let dumped = match self.process.guard(|| dump::dump(&request)) {
            Ok(Ok(dumped)) => dumped,
            Ok(Err(error)) => return self.miss("threads", &Error::new(error)),
            Err(error) => return self.miss("threads", &Error::new(error)),
        };
        self.findings.threads(&dumped);
        self.take("threads", || {
            let threads = Threads::new(&dumped.profile);
            let (mut text, mut json) = (Vec::new(), Vec::new());
            threads.write_text(false, &mut text)?;
            threads.write_json(&mut json)?;
            Ok(vec![
                part("threads.txt", text),
                part("threads.json", json),
                part("threads.pb.gz", encode_gzip(&dumped.profile)),
            ])
        });
    }

    /// The profiles that a Go runtime records.
    fn go(&mut self, pid: u32) {
        self.collect("goroutines", || {
            let dumped = goroutines::dump(&GoDumpRequest { pid, ..GoDumpRequest::default() })?;
            let mut text = Vec::new();
            dumped.write_text(true, &mut text)?;
            let profile = encode_gzip(&dumped.profile(false));
            Ok(vec![part("goroutines.txt", text), part("goroutines.pb.gz", profile)])
        });
        for kind in [GoKind::Heap, GoKind::Allocs, GoKind::Block, GoKind::Mutex] {
            self.collect(kind.name(), || {
                let read = go_profile::read(pid, kind)?;
                Ok(vec![part(format!("{}.pb.gz", kind.name()), encode_gzip(&read.profile))])
            });
        }
    }

    fn facts(&mut self, pid: u32) {
        let facts = match self.process.guard(|| facts::all(pid)) {
            Ok(facts) => facts,
            Err(error) => return self.miss("proc", &Error::new(error)),
        };
        for fact in facts {
            match fact.text {
                Ok(text) => {
                    self.findings.fact(fact.name, &text);
                    self.parts.push(part(format!("proc/{}.txt", fact.name), text.into_bytes()));
                }
                Err(error) => self.miss(&format!("proc/{}", fact.name), &Error::new(error)),
            }
        }
    }

    /// All profiles, captured at the same time.
    fn profiles(&mut self, pid: u32, arguments: &SnapshotArgs, stop: &Stop) {
        const KINDS: [(ProfileKind, &str); 5] = [
            (ProfileKind::Cpu, "cpu"),
            (ProfileKind::Wall, "wall"),
            (ProfileKind::Faults, "faults"),
            (ProfileKind::OffCpu, "offcpu"),
            (ProfileKind::ThreadCreate, "threadcreate"),
        ];
        let request = |kind| Request {
            pids: vec![pid],
            kind,
            duration: Some(arguments.duration),
            symbolize: attach::symbolize_options(&arguments.debug),
            ..Request::default()
        };
        let captured = self.process.guard(|| {
            thread::scope(|scope| {
                let running = KINDS.map(|(kind, name)| {
                    let request = request(kind);
                    (name, scope.spawn(move || capture::run(&request, stop, || Ok(()), &mut |_| {})))
                });
                running.into_iter().map(|(name, thread)| (name, thread.join())).collect::<Vec<_>>()
            })
        });
        let captured = match captured {
            Ok(captured) => captured,
            Err(error) => return self.miss("profiles", &Error::new(error)),
        };
        for (name, result) in captured {
            match result {
                Ok(Ok(captured)) => self.profile(name, &captured),
                Ok(Err(error)) => self.miss(name, &Error::new(error)),
                Err(_) => self.miss(name, &anyhow!("the capture failed: this is a bug in rprof")),
            }
        }
    }

    fn profile(&mut self, name: &str, captured: &Capture) {
        if captured.profile.sample.is_empty() {
            return self.missing.push((name.to_owned(), no_samples(captured)));
        }
        self.findings.profile(captured);
        self.parts.push(part(format!("{name}.pb.gz"), encode_gzip(&captured.profile)));
    }

    /// The program, and with `show_arguments` its arguments.
    fn command(&mut self, identity: &Identity, show_arguments: bool) {
        let words = match show_arguments {
            true => select::arguments_of(identity),
            false => vec![select::program(identity)],
        };
        self.parts.push(part("proc/cmdline.txt", words.join("\n").into_bytes()));
    }
}

/// The directory in the archive: the archive's name without its extension.
fn folder_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.trim_end_matches(".gz").trim_end_matches(".tgz").trim_end_matches(".tar").to_owned()
}

fn archive(
    snapshot: &Snapshot,
    folder: &str,
    taken_at: SystemTime,
    writer: &mut dyn Write,
) -> io::Result<()> {
    let seconds = taken_at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let mut archive = tar::Builder::new(GzEncoder::new(writer, Compression::default()));
    for part in &snapshot.parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(part.bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        archive.append_data(&mut header, format!("{folder}/{}", part.name), &part.bytes[..])?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}
