//! The README.md of a snapshot: what was measured, and what is not available.

use std::{
    collections::BTreeMap,
    fmt::Write,
    time::{Duration, SystemTime},
};

use humantime::{format_duration, format_rfc3339_seconds};

use crate::{
    capture::{Capture, ProfileKind, dump::Dump},
    cli::summary::table,
    issue::Issue,
    process::Identity,
    profile::proto::{Profile, Sample},
    text::counted,
};

/// How many functions, kinds of wait and notes are listed.
const SHOWN: usize = 8;
/// The share of a limit from which it is emphasized.
const NEAR_LIMIT: f64 = 0.8;

/// Lines of Markdown by subject.
#[derive(Default)]
pub struct Findings {
    threads: Vec<String>,
    cpu: Vec<String>,
    wall: Vec<String>,
    grown: Vec<String>,
    off_cpu: Vec<String>,
    created: Vec<String>,
    facts: Vec<String>,
    status: BTreeMap<String, String>,
    open_files_limit: Option<u64>,
}

impl Findings {
    /// Adds the dump of all threads.
    pub fn threads(&mut self, dumped: &Dump) {
        let profile = &dumped.profile;
        let mut waits: BTreeMap<String, usize> = BTreeMap::new();
        for sample in &profile.sample {
            let what = match (label(profile, sample, "wait"), label(profile, sample, "state")) {
                (Some(wait), Some("uninterruptible")) => format!("{wait} (uninterruptible)"),
                (Some(wait), _) => wait.to_owned(),
                (None, state) => state.unwrap_or("unknown").to_owned(),
            };
            *waits.entry(what).or_default() += 1;
        }
        self.threads.push(format!(
            "{}, {:.1} % of the stacks whole:",
            counted(dumped.stats.threads, "thread"),
            dumped.stats.whole_share() * 100.0
        ));
        let mut waits: Vec<_> = waits.into_iter().collect();
        waits.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        self.threads.extend(waits.into_iter().take(SHOWN).map(|(what, count)| format!("- {count}: {what}")));
    }

    /// Adds a profile.
    pub fn profile(&mut self, captured: &Capture) {
        let seconds = captured.elapsed.as_secs_f64().max(0.001);
        let table = table(&captured.profile, SHOWN).unwrap_or_default();
        let table = format!("```\n{}\n```", table.trim_end());
        let sampled = captured.tally.amount as f64 / 1e9;
        let (section, mut lines) = match captured.kind {
            ProfileKind::Cpu => {
                let used = sampled / seconds;
                let text = format!("{used:.2} CPUs used for {seconds:.1} s ({sampled:.2} s of CPU time).");
                (&mut self.cpu, vec![text, table])
            }
            ProfileKind::Wall => {
                let text = format!("The time of all threads, {sampled:.1} s in {seconds:.1} s:");
                (&mut self.wall, vec![text, table])
            }
            ProfileKind::Faults => {
                let faults = counted(captured.tally.amount, "page fault");
                let text = format!("About {faults} in {seconds:.1} s, by the code that touched new memory:");
                (&mut self.grown, vec![text, table])
            }
            ProfileKind::OffCpu => {
                let text = format!("Threads waited {sampled:.1} s in all in {seconds:.1} s:");
                (&mut self.off_cpu, vec![text, table])
            }
            ProfileKind::ThreadCreate => {
                let (created, before) = captured.created_threads();
                let created = counted(created, "thread");
                let text = format!("{created} created in {seconds:.1} s; {before} existed before.");
                (&mut self.created, vec![text])
            }
        };
        let lacks = captured.issues.iter().filter(|(issue, _)| !matches!(issue, Issue::UnnamedFrames { .. }));
        lines.extend(lacks.take(SHOWN).map(|(issue, _)| format!("- note: {issue}")));
        *section = lines;
    }

    /// Adds a file of /proc/PID (see proc(5)).
    pub fn fact(&mut self, name: &str, text: &str) {
        match name {
            "status" => {
                let pairs = text.lines().filter_map(|line| line.split_once(':'));
                self.status = pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
                let size = |key: &str| self.status.get(key).map(|value| format!("{key} {value}"));
                let sizes: Vec<String> =
                    ["VmRSS", "VmHWM", "RssAnon", "VmSwap"].into_iter().filter_map(size).collect();
                self.facts.push(format!("Memory: {}.", sizes.join(", ")));
            }
            "limits" => {
                let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
                self.open_files_limit = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            }
            "fds" => {
                let open: f64 = text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0.0);
                let near = self.open_files_limit.filter(|limit| open >= NEAR_LIMIT * *limit as f64);
                self.facts.push(match near {
                    Some(limit) => format!("**Open files: {open} of at most {limit}.**"),
                    None => format!("Open files: {open}."),
                });
            }
            "sockets" => self.facts.push(format!("Sockets: {}.", text.lines().next().unwrap_or_default())),
            _ => {}
        }
    }

    /// The text of README.md.
    pub fn text(
        &self,
        identity: &Identity,
        taken_at: SystemTime,
        duration: Duration,
        missing: &[(String, String)],
    ) -> String {
        let mut text = format!(
            "# {} (process {})\n\nTaken {} by rprof {}; profiles of {}.\n",
            identity.display_name(),
            identity.pid,
            format_rfc3339_seconds(taken_at),
            env!("CARGO_PKG_VERSION"),
            format_duration(duration),
        );
        for (title, lines) in [
            ("CPU", &self.cpu),
            ("Threads", &self.threads),
            ("Wall-clock time", &self.wall),
            ("Memory growth", &self.grown),
            ("Off-CPU time", &self.off_cpu),
            ("Thread creation", &self.created),
            ("Memory, files, sockets", &self.facts),
        ] {
            if !lines.is_empty() {
                let _ = write!(text, "\n## {title}\n\n{}\n", lines.join("\n"));
            }
        }
        let _ = write!(text, "\n## Not available\n\n");
        if missing.is_empty() {
            text.push_str("Nothing is missing.\n");
        }
        for (what, why) in missing {
            let _ = writeln!(text, "- {what}: {}", why.replace('\n', "\n  "));
        }
        text.push_str(
            "\n## Files\n\n\
             - `cpu.pb.gz`, `wall.pb.gz`, `offcpu.pb.gz`, `faults.pb.gz`, `threadcreate.pb.gz`, `threads.pb.gz`: `rprof top FILE`, `rprof flame FILE -o x.html`, \
             `go tool pprof FILE`\n\
             - `goroutines.*`, `heap.pb.gz`, `allocs.pb.gz`, `block.pb.gz`, `mutex.pb.gz`: a Go runtime's own records\n\
             - `threads.txt`, `threads.json`: every thread's stack at the start\n\
             - `proc/`: the kernel's facts about the process (/proc/PID)\n\
             - `doctor.txt`: what this machine and user allow\n",
        );
        text
    }
}

fn label<'p>(profile: &'p Profile, sample: &Sample, key: &str) -> Option<&'p str> {
    let found = sample.label.iter().find(|label| profile.string(label.key) == key)?;
    Some(profile.string(found.str)).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_almost_reached_is_emphasized_and_missing_parts_are_listed() {
        let mut findings = Findings::default();
        findings.fact("status", "Name:\tx\nVmRSS:\t  10 kB\nVmSwap:\t 0 kB\n");
        findings.fact("limits", "Limit  Soft\nMax open files            100                  4096  files\n");
        findings.fact("fds", "81 open\n\n");
        let identity = crate::process::identify(std::process::id()).expect("me");
        let missing = [("wall".to_owned(), "not permitted\n  try  root".to_owned())];
        let text = findings.text(&identity, SystemTime::UNIX_EPOCH, Duration::from_secs(10), &missing);
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
}
