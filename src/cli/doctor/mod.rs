//! `rprof doctor`: what this machine and user allow, why something does not work, and the command,
//! capability or container setting that allows it. One line per data source.
//!
//! `sampler::checks` does the checks; `process::host` reads the settings; the table of
//! `capture::kinds` says what each kind of profile needs.

mod fix;
mod kinds;
mod names;
mod runtimes;

use std::io::Write;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    args::DoctorArgs,
    target::{self, Needs},
};
use crate::{
    capture::kinds::{self as kinds_table, DumpOf},
    process::{
        Identity,
        host::{Container, Host, Rights},
        identify,
    },
    sampler::checks::{self, Check, Source},
};
use kinds::Availability;

/// How many lines of the verifier's log `-v` shows.
const LOG_LINES: usize = 25;

/// One line of the result.
struct Line {
    what: String,
    /// How it works, or why it does not.
    result: Result<String, String>,
    /// What to do about it; each is an alternative.
    fixes: Vec<String>,
    /// The whole log of the kernel's verifier, where that refused a BPF program.
    log: Option<String>,
}

/// Runs the verb.
pub fn run(arguments: &DoctorArgs) -> Result<()> {
    let diagnosis = diagnose(pid(arguments)?, arguments.verbose)?;
    let text = if arguments.json { serde_json::to_string_pretty(&diagnosis.json)? } else { diagnosis.text };
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// The process to check. Errors: a name matches no process, or several.
fn pid(arguments: &DoctorArgs) -> Result<Option<u32>> {
    let Some(word) = &arguments.target else { return Ok(arguments.pid) };
    Ok(target::by_word(word, Needs::One, false, true)?.first().copied())
}

/// The result in both formats.
pub struct Diagnosis {
    /// For people.
    pub text: String,
    /// For scripts: the objects `host` and `target`, and the lists `kinds` and `checks`, the last
    /// always with the verifier's whole logs.
    pub json: Value,
}

/// Checks every data source on a process, or on rprof itself. `verbose`: the text has the last
/// lines of the verifier's log for each BPF program that the kernel refuses. Errors: there is no
/// such process.
pub fn diagnose(pid: Option<u32>, verbose: bool) -> Result<Diagnosis> {
    let identity = pid.map(identify).transpose()?;
    let rights = pid.map(Rights::read);
    let host = Host::read();
    let checks = checks::all(pid);
    let mut lines: Vec<Line> =
        checks.iter().map(|check| line(check, &checks, &host, rights.as_ref())).collect();
    let walkers = runtimes::Walkers::check();
    let after_bpf = lines.iter().rposition(|line| line.what.starts_with("BPF: ")).map_or(0, |last| last + 1);
    lines.splice(after_bpf..after_bpf, walkers.lines(&host, rights.as_ref()));
    lines.extend(pid.into_iter().flat_map(|pid| runtimes::lines(pid, &walkers)));
    lines.extend(pid.map(names::line));
    let available = kinds::availability(pid, &checks);
    let found = (&checks[..], &available[..]);
    Ok(Diagnosis {
        text: as_text(&host, identity.as_ref(), rights.as_ref(), &lines, found, verbose),
        json: as_json(&host, identity.as_ref(), rights.as_ref(), &lines, &available),
    })
}

fn line(check: &Check, all: &[Check], host: &Host, rights: Option<&Rights>) -> Line {
    let fixes = match check.result {
        Ok(_) => Vec::new(),
        Err(_) => fix::fixes(check, all, host, rights),
    };
    Line { what: name(check.source).to_owned(), result: check.result.clone(), fixes, log: check.log.clone() }
}

fn name(source: Source) -> &'static str {
    match source {
        Source::PerfThread => "perf: CPU samples of the process",
        Source::PerfCpu => "perf: CPU samples of whole CPUs",
        Source::KernelFrames => "perf: kernel frames",
        Source::Tracepoints => "perf: tracepoints",
        Source::Uprobes => "perf: uprobes",
        Source::BpfCpu => "BPF: CPU samples, page faults",
        Source::BpfForks => "BPF: child processes",
        Source::BpfThreadCreate => "BPF: new threads",
        Source::BpfWaits => "BPF: waits (off-CPU)",
        Source::BpfTrace => "BPF: scheduling (trace)",
        Source::BpfThreads => "BPF: sleeping threads (dump)",
        Source::BpfKernelNames => "BPF: names of kernel functions",
        Source::BpfWalker => "BPF: frames of languages",
        Source::Ptrace => "ptrace",
        Source::ProcessVmReadv => "memory: process_vm_readv",
        Source::ProcMem => "memory: /proc/PID/mem",
        Source::Maps => "/proc/PID/maps",
        Source::ThreadState => "/proc/PID/task/TID/syscall",
        Source::MapFiles => "/proc/PID/map_files",
    }
}

fn as_text(
    host: &Host,
    identity: Option<&Identity>,
    rights: Option<&Rights>,
    lines: &[Line],
    (checks, available): (&[Check], &[Availability]),
    verbose: bool,
) -> String {
    let mut text = verdicts(lines, checks);
    text += &kinds::lines(available);
    text.push('\n');
    for (key, value) in host_facts(host) {
        text += &format!("{key:<32} {value}\n");
    }
    if let (Some(identity), Some(rights)) = (identity, rights) {
        for (key, value) in target_facts(identity, rights, host) {
            text += &format!("{key:<32} {value}\n");
        }
    }
    text.push('\n');
    for line in lines {
        let (mark, words) = match &line.result {
            // Without a process, ptrace cannot be tried.
            Ok(how) if identity.is_none() && line.what == name(Source::Ptrace) => ("?    ", how),
            Ok(how) => ("works", how),
            Err(why) => ("no   ", why),
        };
        text += &format!("{mark} {:<32} {words}\n", line.what);
        for fix in &line.fixes {
            text += &format!("        to allow: {fix}\n");
        }
        text += &line.log.as_deref().filter(|_| verbose).map(log_end).unwrap_or_default();
    }
    text
}

/// Whether the process can be profiled and dumped: the first lines. If it cannot be profiled, the
/// line has the reason and what to do.
fn verdicts(lines: &[Line], checks: &[Check]) -> String {
    let mut text = match kinds::method(kinds_table::DEFAULT, checks) {
        Ok(yes) => format!("attach: {yes}\n"),
        Err(no) => {
            // The sampler that needs the fewest rights.
            let line = lines.iter().find(|line| line.what == name(Source::PerfThread));
            let why = line.and_then(|line| line.result.as_ref().err()).map(|why| format!("no: {why}"));
            let fixes = line.map(|line| &line.fixes[..]).unwrap_or_default();
            let fixes: String = fixes.iter().map(|fix| format!("        to allow: {fix}\n")).collect();
            format!("attach: {}\n{fixes}", why.unwrap_or(no))
        }
    };
    for dump in kinds_table::ALL.iter().filter(|kind| kind.dump == Some(DumpOf::Threads)) {
        text += &format!("dump:   {}\n", kinds::method(dump, checks).unwrap_or_else(|no| no));
    }
    text
}

/// The last lines of the verifier's log, indented.
fn log_end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    let mut text = format!("        verifier log, last {} of {} lines:\n", lines.len() - from, lines.len());
    for line in &lines[from..] {
        text += &format!("          {line}\n");
    }
    text
}

fn host_facts(host: &Host) -> Vec<(&'static str, String)> {
    let mut facts = vec![("kernel", host.kernel_release.clone().unwrap_or_else(|| "?".into()))];
    let or_absent =
        |value: Option<i32>| value.map_or_else(|| "not in this kernel".into(), |value| value.to_string());
    let bytes = |value: Option<u64>| match value {
        Some(u64::MAX) => "unlimited".to_owned(),
        Some(bytes) => format!("{} KiB", bytes / 1024),
        None => "?".to_owned(),
    };
    facts.push(("rprof runs as uid", host.uid.to_string()));
    let held = if host.capabilities.is_empty() { "none".into() } else { host.capabilities.join(" ") };
    facts.push(("capabilities", held));
    facts.push(("seccomp filter", if host.seccomp { "yes" } else { "no" }.into()));
    facts.push(("kernel.perf_event_paranoid", or_absent(host.perf_event_paranoid)));
    facts.push(("kernel.perf_event_mlock_kb", bytes(host.perf_event_mlock_kib.map(|kib| kib << 10))));
    facts.push(("locked memory (ulimit -l)", bytes(host.locked_memory_bytes)));
    facts.push((
        "open files (ulimit -n)",
        host.open_files.map_or_else(|| "?".into(), |files| files.to_string()),
    ));
    facts.push(("kernel.kptr_restrict", or_absent(host.kptr_restrict)));
    facts.push(("kernel.yama.ptrace_scope", or_absent(host.yama_scope)));
    facts.push(("kernel lockdown", host.lockdown.clone().unwrap_or_else(|| "not known".into())));
    facts.push(("security modules", host.security_modules.clone().unwrap_or_else(|| "not known".into())));
    facts.extend(host.security_profile.clone().map(|profile| ("security profile", profile)));
    let mut place = Vec::new();
    place.extend(host.container.map(|container| match container {
        Container::Docker => "a Docker container",
        Container::Podman => "a Podman container",
        Container::Kubernetes => "a Kubernetes pod",
        Container::Other => "a container",
    }));
    place.extend(host.in_user_namespace.then_some("a user namespace (capabilities apply only inside it)"));
    place.extend(host.in_pid_namespace.then_some("a PID namespace"));
    facts.push((
        "rprof runs in",
        if place.is_empty() { "the host, no container".into() } else { place.join(", ") },
    ));
    facts
}

fn target_facts(identity: &Identity, rights: &Rights, host: &Host) -> Vec<(&'static str, String)> {
    let whose = if rights.uid == host.uid { " (same as rprof)" } else { " (another user)" };
    let mut facts = vec![
        ("process", format!("{} {}", identity.pid, identity.display_name())),
        ("its uid", format!("{}{whose}", rights.uid)),
        ("dumpable", if rights.non_dumpable { "no: its /proc files belong to root" } else { "yes" }.into()),
    ];
    let namespaces = match rights.other_namespaces.is_empty() {
        true => "same as rprof".to_owned(),
        false => format!("different from rprof's: {}", rights.other_namespaces.join(" ")),
    };
    facts.push(("namespaces", namespaces));
    facts.extend(rights.tracer.map(|tracer| ("traced by", format!("process {tracer}"))));
    facts
}

fn as_json(
    host: &Host,
    identity: Option<&Identity>,
    rights: Option<&Rights>,
    lines: &[Line],
    available: &[Availability],
) -> Value {
    let facts = |facts: Vec<(&'static str, String)>| -> Value {
        facts
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let target = identity.zip(rights).map(|(identity, rights)| facts(target_facts(identity, rights, host)));
    let checks: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "source": line.what,
                "works": line.result.is_ok(),
                "detail": line.result.as_ref().unwrap_or_else(|why| why),
                "unlock": line.fixes,
                "verifier_log": line.log,
            })
        })
        .collect();
    let kinds = kinds::json(available);
    json!({ "host": facts(host_facts(host)), "target": target, "kinds": kinds, "checks": checks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_verifier_log_is_shown_with_its_last_line_last() {
        let log: String = (0..100).map(|number| format!("{number}: insn\n")).collect();
        let shown = log_end(&log);
        assert!(
            shown.starts_with("        verifier log, last 25 of 100 lines:\n          75: insn\n"),
            "{shown}"
        );
        assert!(shown.ends_with("          99: insn\n"), "{shown}");
    }
}
