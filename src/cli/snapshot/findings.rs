//! The README.md of a snapshot: what was measured, and what is not available.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, SystemTime},
};

use humantime::{format_duration, format_rfc3339_seconds};

use crate::{
    capture::{
        Response,
        kinds::{self, Bundle, Kind, TextForm},
    },
    cli::summary::table,
    issue::Issue,
    process::Identity,
    text::counted_as,
};

/// How many functions and notes are listed.
const SHOWN: usize = 8;
/// How many processes are described.
const MAX_PROCESSES: usize = 8;
/// The share of a limit from which it is emphasized.
const NEAR_LIMIT: f64 = 0.8;

/// Lines of Markdown by subject.
#[derive(Default)]
pub struct Findings {
    /// The heading and the lines of each kind, in the order of the table.
    kinds: BTreeMap<usize, (&'static str, Vec<String>)>,
    facts: Vec<String>,
    processes: usize,
}

/// The kernel's facts about a process.
pub struct Facts {
    /// Who it is; empty: the only process.
    who: String,
    pid: u32,
    lines: Vec<String>,
    open_files_limit: Option<u64>,
}

impl Findings {
    /// Adds what was captured of a kind.
    pub fn add(&mut self, kind: Kind, bundle: Bundle, response: &Response) {
        let mut lines = (bundle.findings)(response);
        if lines.is_empty() {
            return;
        }
        if let Response::Sampled(capture) = response {
            if bundle.has_table {
                let table = table(&capture.profile, SHOWN).unwrap_or_default();
                lines.push(format!("```\n{}\n```", table.trim_end()));
            }
            let lacks =
                capture.issues.iter().filter(|(issue, _)| !matches!(issue, Issue::UnnamedFrames { .. }));
            lines.extend(lacks.take(SHOWN).map(|(issue, _)| format!("- note: {issue}")));
        }
        let place = kinds::ALL.iter().position(|row| *row == kind).unwrap_or_default();
        self.kinds.entry(place).or_insert((bundle.title, Vec::new())).1.extend(lines);
    }

    /// Adds the facts about a process.
    pub fn facts(&mut self, facts: Facts) {
        self.processes += 1;
        if self.processes > MAX_PROCESSES {
            return;
        }
        if !facts.who.is_empty() {
            self.facts.push(format!("Process {} ({}):", facts.pid, facts.who));
        }
        self.facts.extend(facts.lines);
    }

    /// The text of README.md.
    pub fn text(
        &self,
        identities: &[Identity],
        taken_at: SystemTime,
        duration: Duration,
        missing: &[(String, String)],
    ) -> String {
        let mut text = format!(
            "# {}\n\nTaken {} by rprof {}; profiles of {}.\n",
            heading(identities),
            format_rfc3339_seconds(taken_at),
            env!("CARGO_PKG_VERSION"),
            format_duration(duration),
        );
        let facts = ("Memory, files, sockets", self.facts.clone());
        for (title, lines) in self.kinds.values().chain([&facts]) {
            if !lines.is_empty() {
                let _ = write!(text, "\n## {title}\n\n{}\n", lines.join("\n"));
            }
        }
        if self.processes > MAX_PROCESSES {
            let more = counted_as(self.processes - MAX_PROCESSES, "more process", "more processes");
            let _ = writeln!(text, "\nThe facts about {more} are in `proc/`.");
        }
        let _ = write!(text, "\n## Not available\n\n");
        if missing.is_empty() {
            text.push_str("Nothing is missing.\n");
        }
        for (what, why) in missing {
            let _ = writeln!(text, "- {what}: {}", why.replace('\n', "\n  "));
        }
        let _ = write!(
            text,
            "\n## Files\n\n\
             {}\
             - `proc/`: the kernel's facts about the process (/proc/PID)\n\
             - `doctor.txt`: what this machine and user allow\n",
            files()
        );
        text
    }
}

/// `redis-server (process 1518)`, or the first of several processes and how many more there are.
fn heading(identities: &[Identity]) -> String {
    let first = identities.first();
    let mut text = first.map_or_else(String::new, |identity| {
        format!("{} (process {})", identity.display_name(), identity.pid)
    });
    if identities.len() > 1 {
        let _ = write!(text, " and {}", counted_as(identities.len() - 1, "more process", "more processes"));
    }
    text
}

/// The files of the kinds, and how to read them.
fn files() -> String {
    let mut text = String::from("- `rprof top FILE`, `rprof flame FILE -o x.html`, `go tool pprof FILE`:\n");
    for (kind, bundle) in kinds::ALL.iter().filter_map(|kind| Some((kind, kind.bundle?))) {
        let form = |form: TextForm, end: &str| match kind.texts.contains(&form) {
            true => format!(", `.{end}`"),
            false => String::new(),
        };
        let (each, json) = (form(TextForm::Each, "txt"), form(TextForm::Json, "json"));
        let _ = writeln!(text, "  - `{}.pb.gz`{each}{json}: {}", bundle.file, kind.what);
    }
    text
}

impl Facts {
    /// The facts about a process; `who` is empty if it is the only one.
    pub fn of(who: String, pid: u32) -> Facts {
        Facts { who, pid, lines: Vec::new(), open_files_limit: None }
    }

    /// Adds a file of /proc/PID (see proc(5)).
    pub fn add(&mut self, name: &str, text: &str) {
        match name {
            "status" => {
                let pairs = text.lines().filter_map(|line| line.split_once(':'));
                let status: BTreeMap<&str, &str> = pairs.map(|(key, value)| (key, value.trim())).collect();
                let size = |key: &str| status.get(key).map(|value| format!("{key} {value}"));
                let sizes: Vec<String> =
                    ["VmRSS", "VmHWM", "RssAnon", "VmSwap"].into_iter().filter_map(size).collect();
                self.lines.push(format!("Memory: {}.", sizes.join(", ")));
            }
            "limits" => {
                let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
                self.open_files_limit = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            }
            "fds" => {
                let open: f64 = text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
                let near = self.open_files_limit.filter(|limit| open >= NEAR_LIMIT * *limit as f64);
                self.lines.push(match near {
                    Some(limit) => format!("**Open files: {open} of at most {limit}.**"),
                    None => format!("Open files: {open}."),
                });
            }
            "sockets" => self.lines.push(format!("Sockets: {}.", text.lines().next().unwrap_or_default())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(facts: Vec<Facts>, identities: &[Identity]) -> String {
        let mut findings = Findings::default();
        facts.into_iter().for_each(|facts| findings.facts(facts));
        let missing = [("wall".to_owned(), "not permitted\n  try  root".to_owned())];
        findings.text(identities, SystemTime::UNIX_EPOCH, Duration::from_secs(10), &missing)
    }

    #[test]
    fn a_limit_almost_reached_is_emphasized_and_missing_parts_are_listed() {
        let mut facts = Facts::of(String::new(), 1);
        facts.add("status", "Name:\tx\nVmRSS:\t  10 kB\nVmSwap:\t 0 kB\n");
        facts.add("limits", "Limit  Soft\nMax open files            100                  4096  files\n");
        facts.add("fds", "81 open\n\n");
        let text = text(vec![facts], &[crate::process::identify(std::process::id()).expect("me")]);
        assert!(
            text.contains("Memory: VmRSS 10 kB, VmSwap 0 kB.")
                && text.contains("**Open files: 81 of at most 100.**"),
            "{text}"
        );
        assert!(
            text.contains("- wall: not permitted\n    try  root") && text.contains("profiles of 10s"),
            "{text}"
        );
        assert!(!text.contains("## CPU"), "{text}");
    }

    #[test]
    fn several_processes_are_described_one_after_the_other() {
        let facts = |pid: u32| {
            let mut facts = Facts::of("worker".to_owned(), pid);
            facts.add("sockets", "3 established\n");
            facts
        };
        let me = crate::process::identify(std::process::id()).expect("me");
        let text = text((1..=10).map(facts).collect(), &[me.clone(), me.clone(), me]);
        assert!(text.lines().next().expect("a heading").ends_with("and 2 more processes"), "{text}");
        assert!(text.contains("Process 8 (worker):\nSockets: 3 established."), "{text}");
        assert!(!text.contains("Process 9") && text.contains("The facts about 2 more processes"), "{text}");
    }
}
