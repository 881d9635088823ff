//! `rprof snapshot`: an incident bundle, that is, profiles, stacks and facts of processes in one
//! archive.
//!
//! The table of kinds says which profiles are in it. A part that is not available is listed with
//! the reason and does not affect the others. `findings` writes the README.md of the archive.

mod findings;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Error, Result, anyhow};
use flate2::{Compression, write::GzEncoder};

use super::{advice, args::SnapshotArgs, doctor, output, sampling, signals, summary::no_samples};
use crate::{
    capture::{
        self, CaptureError, LabelKeys, Request, Response, StackOptions, Stop, WaitGraph,
        kinds::{self, Bundle, Kind, Make, TextForm},
    },
    process::{Identity, ProcessError, ProcessHandle, facts, select},
    profile::{encode_gzip, file},
    report::threads::Threads,
};
use findings::{Facts, Findings};

/// A file in the archive.
struct Part {
    name: String,
    bytes: Vec<u8>,
}

/// What was collected, and what is not available.
struct Snapshot {
    /// Each part is read by PID: the handles detect that another process has got one.
    processes: Vec<ProcessHandle>,
    /// How the kinds are captured.
    request: Request,
    parts: Vec<Part>,
    /// The name of a part that is not available, and the reason.
    missing: Vec<(String, String)>,
    findings: Findings,
    /// Set by a signal.
    stop: Stop,
    taken_at: SystemTime,
    /// The text of README.md.
    readme: String,
}

/// Runs the verb.
pub fn run(arguments: &SnapshotArgs) -> Result<()> {
    let processes = processes(arguments)?;
    let identities: Vec<Identity> = processes.iter().map(|process| process.identity().clone()).collect();
    let path = arguments.output.clone().unwrap_or_else(|| default_name(&identities));
    file::check_writable(&path)?;
    sampling::check_debug_options(&arguments.debug)?;
    let stop = signals::stop_on_signals()?;
    let request = Request {
        children: arguments.processes.selectors.children,
        duration: Some(arguments.duration),
        symbolize: sampling::symbolize_options(&arguments.debug),
        stop: stop.clone(),
        ..Request::default()
    };
    let snapshot = Snapshot::take(processes, request, arguments.show_arguments);
    let write = |writer: &mut dyn Write| snapshot.write(&path, writer);
    let options = output::file_options(None);
    output::write_or_rescue(&path, &options, write, &default_name(&identities), write)?;
    if !arguments.quiet {
        super::say(&format!("{}\nwrote {}", snapshot.readme, path.display()));
    }
    Ok(())
}

/// Writes an incident of the sidecar: a snapshot of the processes that still run, and these files.
pub fn write_incident(
    path: &Path,
    pids: &[u32],
    request: Request,
    files: Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let processes = pids.iter().filter_map(|pid| ProcessHandle::open(*pid).ok()).collect();
    let mut snapshot = Snapshot::take(processes, request, false);
    snapshot.parts.splice(0..0, files.into_iter().map(|(name, bytes)| part(name, bytes)));
    file::write_file(path, &output::file_options(None), |writer| snapshot.write(path, writer))?;
    Ok(())
}

/// The selected processes, and with `--children` their descendants.
fn processes(arguments: &SnapshotArgs) -> Result<Vec<ProcessHandle>> {
    let pids = arguments.processes.choose(arguments.quiet)?;
    let mut processes = pids.iter().map(|pid| ProcessHandle::open(*pid)).collect::<Result<Vec<_>, _>>()?;
    if let Some(kernel) = processes.iter().find(|process| process.identity().is_kernel_thread) {
        return Err(Error::new(CaptureError::KernelThread(kernel.identity().pid)));
    }
    if arguments.processes.selectors.children {
        let mut children: Vec<u32> = pids.iter().flat_map(|pid| select::descendants(*pid)).collect();
        children.sort_unstable();
        children.dedup();
        children.retain(|pid| !pids.contains(pid));
        // A child may end meanwhile: that is not an error.
        processes.extend(children.into_iter().filter_map(|pid| ProcessHandle::open(pid).ok()));
    }
    Ok(processes)
}

fn part(name: impl Into<String>, bytes: Vec<u8>) -> Part {
    Part { name: name.into(), bytes }
}

/// `redis-server-1234-20260824T031500Z.tar.gz`
fn default_name(identities: &[Identity]) -> PathBuf {
    PathBuf::from(format!("{}.tar.gz", output::name_and_time(identities)))
}

impl Snapshot {
    /// Collects all parts; none if there is no process.
    fn take(processes: Vec<ProcessHandle>, request: Request, show_arguments: bool) -> Snapshot {
        let several = processes.len() > 1;
        let identities: Vec<Identity> = processes.iter().map(|process| process.identity().clone()).collect();
        let stop = request.stop.clone();
        let mut snapshot = Snapshot {
            request: Request {
                labels: LabelKeys { pid: several, process: several, tid: false },
                stacks: StackOptions { kernel: true, ..StackOptions::default() },
                ..request
            },
            processes,
            stop,
            parts: Vec::new(),
            missing: Vec::new(),
            findings: Findings::default(),
            taken_at: SystemTime::now(),
            readme: String::new(),
        };
        let Some(first) = identities.first().map(|identity| identity.pid) else { return snapshot };
        // Instant kinds first: the incident may be over when the profiles are done.
        snapshot.instant_kinds();
        snapshot.facts();
        snapshot.sampled_kinds();
        snapshot.commands(show_arguments);
        snapshot.collect("doctor", || {
            let diagnosis = doctor::diagnose(Some(first), true)?;
            let json = serde_json::to_vec_pretty(&diagnosis.json)?;
            Ok(vec![part("doctor.txt", diagnosis.text.into_bytes()), part("doctor.json", json)])
        });
        let duration = snapshot.request.duration.unwrap_or_default();
        snapshot.readme = snapshot.findings.text(&identities, snapshot.taken_at, duration, &snapshot.missing);
        snapshot.parts.insert(0, part("README.md", snapshot.readme.clone().into_bytes()));
        snapshot
    }

    /// Writes the archive that will be at `path`.
    fn write(&self, path: &Path, writer: &mut dyn Write) -> io::Result<()> {
        archive(self, &folder_name(path), self.taken_at, writer)
    }

    /// Collects a part, unless a signal has ended the snapshot: then rprof must end soon.
    fn collect(&mut self, what: &str, make: impl FnOnce() -> Result<Vec<Part>>) {
        if self.stop.is_set() {
            return self.miss(what, &anyhow!("not collected: a signal ended the snapshot first"));
        }
        match self.guard(|_| make()) {
            Ok(Ok(parts)) => self.parts.extend(parts),
            Ok(Err(error)) => self.miss(what, &error),
            Err(error) => self.miss(what, &Error::new(error)),
        }
    }

    /// Runs `work` on the processes that still run. The result is discarded when another process
    /// has got one of the PIDs meanwhile. Errors: that, or all of them have ended.
    fn guard<T>(&self, work: impl FnOnce(Vec<u32>) -> T) -> Result<T, ProcessError> {
        let checked = self.processes.iter().map(|process| (process, process.check()));
        let (running, ended): (Vec<_>, Vec<_>) = checked.partition(|(_, checked)| checked.is_ok());
        if running.is_empty()
            && let Some((_, Err(error))) = ended.into_iter().next()
        {
            return Err(error);
        }
        let result = work(running.iter().map(|(process, _)| process.identity().pid).collect());
        running.iter().try_for_each(|(process, _)| process.check_pid())?;
        Ok(result)
    }

    fn miss(&mut self, what: &str, error: &Error) {
        self.missing.push((what.to_owned(), advice::explain(error).trim_start_matches("error: ").to_owned()));
    }

    /// The kinds in the archive that are, or are not, sampled for the duration.
    fn kinds(&self, sampled: bool) -> Vec<(Kind, Bundle)> {
        let request = Request { pids: self.pids(), ..self.request.clone() };
        let is_wanted = |kind: Kind| {
            let maker = kind.maker(&request).ok();
            let is_sampled = maker.is_some_and(|maker| matches!(maker.make, Make::Live(_)));
            let is_substitute = maker.is_some_and(|maker| maker.is_substitute);
            is_sampled == sampled && !(sampled && is_substitute)
        };
        let bundled = kinds::ALL.iter().filter_map(|kind| Some((*kind, kind.bundle?)));
        bundled.filter(|(kind, _)| is_wanted(*kind)).collect()
    }

    fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(|process| process.identity().pid).collect()
    }

    /// What is read at one instant: of all processes at once, or else of each one that has it.
    fn instant_kinds(&mut self) {
        let is_offered = |kind: Kind, request: &Request| {
            kind.makers.iter().any(|maker| !maker.is_substitute && (maker.offers)(request).is_ok())
        };
        let now = Request { duration: Some(Duration::ZERO), ..self.request.clone() };
        // The stacks of threads first: they change fastest.
        let mut kinds = self.kinds(false);
        kinds.sort_by_key(|(kind, _)| kind.dump != Some(kinds::DumpOf::Threads));
        for (kind, bundle) in kinds {
            let all = Request { kinds: vec![kind], pids: self.pids(), ..now.clone() };
            if is_offered(kind, &all) {
                self.instant_kind(kind, bundle, bundle.file, &all);
                continue;
            }
            let several = all.pids.len() > 1;
            for pid in self.pids() {
                let stacks = StackOptions::default();
                let one = Request { pids: vec![pid], children: false, stacks, ..all.clone() };
                let file = if several { format!("{}-{pid}", bundle.file) } else { bundle.file.to_owned() };
                if is_offered(kind, &one) {
                    self.instant_kind(kind, bundle, &file, &one);
                }
            }
        }
    }

    /// Adds the files of one kind; `file` is their name without the extension.
    fn instant_kind(&mut self, kind: Kind, bundle: Bundle, file: &str, request: &Request) {
        if self.stop.is_set() {
            return self.miss(file, &anyhow!("not collected: a signal ended the snapshot first"));
        }
        let read = self.guard(|running| {
            let pids = request.pids.iter().copied().filter(|pid| running.contains(pid)).collect();
            capture::once(&Request { pids, ..request.clone() }, &mut |_| {})
        });
        let response = match read {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return self.miss(file, &Error::new(error)),
            Err(error) => return self.miss(file, &Error::new(error)),
        };
        self.findings.add(kind, bundle, &response);
        match texts(kind, &response, file) {
            Ok(texts) => self.parts.extend(texts),
            Err(error) => self.miss(file, &error.into()),
        }
        if let Some(profile) = response.profile() {
            self.parts.push(part(format!("{file}.pb.gz"), encode_gzip(&profile)));
        }
    }

    fn facts(&mut self) {
        let several = self.processes.len() > 1;
        for (at, pid) in self.pids().into_iter().enumerate() {
            if self.stop.is_set() {
                return self.miss("proc", &anyhow!("not collected: a signal ended the snapshot first"));
            }
            let identity = self.processes[at].identity();
            let who = if several { identity.display_name() } else { String::new() };
            let folder = if several { format!("proc/{pid}") } else { "proc".to_owned() };
            let read = match self.processes[at].guard(|| facts::all(pid)) {
                Ok(read) => read,
                Err(error) => {
                    self.miss(&folder, &Error::new(error));
                    continue;
                }
            };
            let mut found = Facts::of(who, pid);
            for fact in read {
                match fact.text {
                    Ok(text) => {
                        found.add(fact.name, &text);
                        self.parts.push(part(format!("{folder}/{}.txt", fact.name), text.into_bytes()));
                    }
                    Err(error) => self.miss(&format!("{folder}/{}", fact.name), &Error::new(error)),
                }
            }
            self.findings.facts(found);
        }
    }

    /// All sampled kinds, captured at the same time.
    fn sampled_kinds(&mut self) {
        let bundled = self.kinds(true);
        let kinds: Vec<Kind> = bundled.iter().map(|(kind, _)| *kind).collect();
        let captured = self.guard(|pids| {
            let request = Request { pids, kinds, ..self.request.clone() };
            Ok::<_, CaptureError>(capture::open(&request)?.next_window(&mut |_| {}).unwrap_or_default())
        });
        let outcomes = match captured {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(error)) => return self.miss("profiles", &Error::new(error)),
            Err(error) => return self.miss("profiles", &Error::new(error)),
        };
        for (outcome, (kind, bundle)) in outcomes.into_iter().zip(bundled) {
            match outcome.result {
                Ok(response) => self.sampled_kind(kind, bundle, &response),
                Err(error) => self.miss(bundle.file, &Error::new(error)),
            }
        }
    }

    fn sampled_kind(&mut self, kind: Kind, bundle: Bundle, response: &Response) {
        let Some(profile) = response.profile() else { return };
        if let (true, Response::Sampled(capture)) = (profile.sample.is_empty(), response) {
            let why = no_samples(capture).unwrap_or_else(|| "nothing was recorded".to_owned());
            return self.missing.push((bundle.file.to_owned(), why));
        }
        self.findings.add(kind, bundle, response);
        self.parts.push(part(format!("{}.pb.gz", bundle.file), encode_gzip(&profile)));
    }

    /// The programs, and with `show_arguments` their arguments.
    fn commands(&mut self, show_arguments: bool) {
        let several = self.processes.len() > 1;
        for process in &self.processes {
            let identity = process.identity();
            let words = match show_arguments {
                true => select::arguments_of(identity),
                false => vec![select::program(identity)],
            };
            let folder = if several { format!("proc/{}", identity.pid) } else { "proc".to_owned() };
            self.parts.push(part(format!("{folder}/cmdline.txt"), words.join("\n").into_bytes()));
        }
    }
}

/// The text forms of a kind as files.
fn texts(kind: Kind, response: &Response, file: &str) -> io::Result<Vec<Part>> {
    let Response::Read(reading) = response else { return Ok(Vec::new()) };
    let mut parts = Vec::new();
    for form in [TextForm::Each, TextForm::Json] {
        let mut text = Vec::new();
        if !kind.texts.contains(&form) {
            continue;
        }
        match reading.content.write_text(form, &mut text) {
            Some(written) => written?,
            None => {
                let profile = reading.content.profile();
                let threads = Threads::new(&profile);
                let waits = reading.content.waits();
                match form {
                    TextForm::Json => threads.write_json(
                        &reading.content.tasks(),
                        waits.map(WaitGraph::to_json),
                        &mut text,
                    )?,
                    _ => {
                        waits.map_or(Ok(()), |waits| waits.write_verdicts(&mut text))?;
                        threads.write_text(false, &mut text)?;
                    }
                }
                if form == TextForm::Each {
                    reading.content.write_more(TextForm::Grouped, &mut text)?;
                }
            }
        }
        let extension = if form == TextForm::Json { "json" } else { "txt" };
        parts.push(part(format!("{file}.{extension}"), text));
    }
    Ok(parts)
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
    // After a signal rprof must end soon.
    let effort = if snapshot.stop.is_set() { Compression::fast() } else { Compression::default() };
    let mut archive = tar::Builder::new(GzEncoder::new(writer, effort));
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
