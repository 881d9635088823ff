//! Incidents on disk: their names, their space, and what they say about themselves.
//!
//! `SPOOL/incidents/20261130T012000Z-SERVICE-PID-TRIGGER.tar.gz`. Not here: what makes an incident
//! (`triggers`), the profiles in it (`recorder`, and the snapshot of the command line).

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{recorder::Before, triggers::ProcessKey};

/// The directory of incidents in a spool.
pub const FOLDER: &str = "incidents";
/// The extension of an incident.
const EXTENSION: &str = ".tar.gz";
/// The longest part of a name that a process or a trigger decides about.
const MAX_WORD: usize = 60;

/// An incident that is to be written.
#[derive(Clone, Debug)]
pub struct Incident {
    /// What has happened: the expression of a trigger, `SIGUSR1` or `http`.
    pub trigger: String,
    /// What was measured, for people; may be empty.
    pub value: String,
    /// The service.
    pub service: String,
    /// The processes.
    pub processes: Vec<ProcessKey>,
    /// How many more processes were meant.
    pub more: usize,
    /// Whether the processes have ended, so that nothing can be read of them.
    pub has_ended: bool,
    /// When it was noticed.
    pub at: SystemTime,
    /// The name of the incident before this one of the same process, if there is one.
    pub previous: Option<String>,
}

impl Incident {
    /// The name of its file.
    pub fn file_name(&self) -> String {
        let pid = self.processes.first().map_or(0, |process| process.pid);
        let time = time_of(self.at).strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
        format!("{time}-{}-{pid}-{}{EXTENSION}", word(&self.service), word(&self.trigger))
    }

    /// What it says about itself.
    pub fn to_json(&self, before: Option<&Before>, rate_hz: u32) -> Value {
        let processes: Vec<Value> = self
            .processes
            .iter()
            .map(|process| json!({"pid": process.pid, "start_ticks": process.start_ticks}))
            .collect();
        let windows = before.map(|before| {
            let windows = before.windows.iter().map(|(started_ms, duration, samples)| {
                json!({
                    "start": time_of_ms(*started_ms).to_string(),
                    "seconds": duration.as_secs_f64(),
                    "samples": samples,
                })
            });
            json!({
                "file": before.merged.as_ref().map(|_| BEFORE),
                "rate_hz": rate_hz,
                "windows": windows.collect::<Vec<Value>>(),
            })
        });
        json!({
            "rprof": env!("CARGO_PKG_VERSION"),
            "time": time_of(self.at).to_string(),
            "trigger": self.trigger,
            "value": self.value,
            "service": self.service,
            "processes": processes,
            "more_processes": self.more,
            "has_ended": self.has_ended,
            "before": windows,
            "previous_incident": self.previous,
        })
    }
}

/// The file of what was sampled before, in the archive.
pub const BEFORE: &str = "before.pb.gz";

fn time_of(at: SystemTime) -> jiff::Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    time_of_ms(i64::try_from(since.as_millis()).unwrap_or(0))
}

fn time_of_ms(milliseconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// Text as a part of a file name: letters, digits, `.`, `_` and `-`.
fn word(text: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "._".contains(character);
    let plain: String = text
        .chars()
        .map(|character| if is_plain(character) { character } else { '-' })
        .take(MAX_WORD)
        .collect();
    let trimmed = plain.trim_matches(['-', '.']);
    if trimmed.is_empty() { "none".to_owned() } else { trimmed.to_owned() }
}

/// The directory of incidents, and the disk space that they may take.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    max_bytes: u64,
}

impl Store {
    /// The incidents of a spool, which may take `max_bytes`; 0: no limit.
    pub fn new(spool: &Path, max_bytes: u64) -> Store {
        Store { folder: spool.join(FOLDER), max_bytes }
    }

    /// Creates the directory. Errors: those of mkdir(2).
    pub fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }

    /// Where to write an incident. A name that exists is not used again.
    pub fn path_of(&self, incident: &Incident) -> PathBuf {
        let name = incident.file_name();
        let path = self.folder.join(&name);
        if !path.exists() {
            return path;
        }
        let stem = name.trim_end_matches(EXTENSION);
        let other = |number| self.folder.join(format!("{stem}-{number}{EXTENSION}"));
        (2..).map(other).find(|path| !path.exists()).unwrap_or(path)
    }

    /// Removes the oldest incidents until the others are within the limit. Returns how many.
    pub fn retain(&self) -> usize {
        let mut found: Vec<(PathBuf, u64)> = self.incidents();
        let mut bytes: u64 = found.iter().map(|(_, bytes)| bytes).sum();
        let mut removed = 0;
        // Names begin with the time.
        found.sort();
        for (path, size) in found {
            if self.max_bytes == 0 || bytes <= self.max_bytes {
                break;
            }
            removed += usize::from(fs::remove_file(path).is_ok());
            bytes -= size;
        }
        removed
    }

    /// The incidents and the disk space that each takes.
    fn incidents(&self) -> Vec<(PathBuf, u64)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let incidents = entries.filter_map(|entry| {
            let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let name = entry.file_name().into_string().ok()?;
            name.ends_with(EXTENSION).then(|| (entry.path(), found.blocks() * 512))
        });
        incidents.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(second: u64, trigger: &str) -> Incident {
        Incident {
            trigger: trigger.into(),
            value: "93.1 %".into(),
            service: "web/../shop\u{1b}".into(),
            processes: vec![ProcessKey { pid: 7, start_ticks: 9 }],
            more: 0,
            has_ended: false,
            at: UNIX_EPOCH + Duration::from_secs(1_795_999_200 + second),
            previous: None,
        }
    }

    #[test]
    fn a_name_has_time_service_pid_and_trigger_and_is_no_path() {
        let name = incident(0, "cpu>80%:30s").file_name();
        assert_eq!(name, "20261130T004000.000Z-web-..-shop-7-cpu-80--30s.tar.gz");
        let nothing = Incident { service: "../..".into(), ..incident(0, "/") };
        assert_eq!(nothing.file_name(), "20261130T004000.000Z-none-7-none.tar.gz");
        assert!(incident(0, &"x".repeat(500)).file_name().len() < 255);
    }

    #[test]
    fn incidents_keep_their_limit_of_disk_space_and_the_oldest_go_first() {
        let spool = tempfile::tempdir().expect("a folder");
        let store = Store::new(spool.path(), 40 << 10);
        store.create().expect("created");
        for second in 0..10 {
            let path = store.path_of(&incident(second, "exit"));
            fs::write(path, vec![1; 10 << 10]).expect("written");
            store.retain();
        }
        let mut left: Vec<PathBuf> = store.incidents().into_iter().map(|(path, _)| path).collect();
        left.sort();
        assert!((2..=4).contains(&left.len()), "{left:?}");
        assert!(left.last().is_some_and(|path| path.to_string_lossy().contains("T004009")));
        // The same millisecond.
        let again = store.path_of(&incident(9, "exit"));
        assert!(again.to_string_lossy().ends_with("exit-2.tar.gz"), "{again:?}");
    }

    #[test]
    fn an_incident_says_what_has_happened_and_what_came_before() {
        let before =
            Before { merged: Some(vec![1]), windows: vec![(1_795_999_190_000, Duration::from_secs(10), 19)] };
        let incident = Incident { previous: Some("earlier.tar.gz".into()), ..incident(0, "oom") };
        let json = incident.to_json(Some(&before), 19);
        assert_eq!(json["before"]["file"], "before.pb.gz");
        assert_eq!(json["before"]["windows"][0]["start"], "2026-11-30T00:39:50Z");
        assert_eq!((&json["trigger"], &json["previous_incident"]), (&json!("oom"), &json!("earlier.tar.gz")));
    }
}
