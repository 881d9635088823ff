//! What the sidecar reports about itself, as text for Prometheus (the exposition format, version
//! 0.0.4).
//!
//! Not here: who may read it (`serve`), what is counted when (`rounds`, `watcher`).

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A number that changes while the sidecar runs.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds to a counter.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets a gauge, or a counter that is counted elsewhere.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The numbers of a sidecar. All threads share them.
#[derive(Debug, Default)]
pub struct Metrics {
    /// CPU time of rprof since its start, in nanoseconds.
    pub cpu_ns: Number,
    /// Anonymous and shared memory of rprof, in bytes.
    pub memory_bytes: Number,
    /// The limit of CPU time, in millionths of a core; 0: none.
    pub cpu_limit_ppm: Number,
    /// The limit of memory, in bytes; 0: none.
    pub memory_limit_bytes: Number,
    /// Processes that are watched now.
    pub processes: Number,
    /// Processes that match but cannot be profiled.
    pub processes_failed: Number,
    /// Samples taken.
    pub samples: Number,
    /// Samples that were lost.
    pub lost_samples: Number,
    /// Profiles written.
    pub profiles_written: Number,
    /// Windows that have ended.
    pub windows: Number,
    /// Profiles that could not be written.
    pub write_errors: Number,
    /// Other errors.
    pub errors: Number,
    /// Disk space of the spool, in bytes.
    pub spool_bytes: Number,
    /// Profiles in the spool.
    pub spool_files: Number,
    /// The sampling rate now, in samples per second.
    pub rate_hz: Number,
    /// How far effort is lowered; 0: not.
    pub effort_step: Number,
    /// How often effort was changed.
    pub effort_changes: Number,
    /// Triggers that have fired.
    pub triggers_fired: Number,
    /// Conditions that were true during a cooldown.
    pub triggers_suppressed: Number,
    /// Incidents written.
    pub incidents_written: Number,
    /// Incidents that could not be written.
    pub incident_errors: Number,
    /// Hooks that failed or took too long.
    pub hook_errors: Number,
    /// Profiles in the ring, in bytes.
    pub ring_bytes: Number,
    /// Label values that were replaced by `other`.
    pub capped_labels: Number,
    /// CLOCK_MONOTONIC of the last window, in nanoseconds; 0: none yet.
    pub last_window_ns: Number,
}

/// A counter only grows; a gauge may fall.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
}

impl Metrics {
    /// The text for Prometheus.
    pub fn text(&self) -> String {
        use Type::{Counter, Gauge};
        let mut text = String::new();
        let seconds = |number: &Number| number.get() as f64 / 1e9;
        let version = env!("CARGO_PKG_VERSION");
        let _ = write!(
            text,
            "# HELP rprof_build_info The version.\n# TYPE rprof_build_info gauge\n\
             rprof_build_info{{version=\"{version}\"}} 1\n"
        );
        let floats = [
            ("process_cpu_seconds_total", Counter, "CPU time of rprof itself.", seconds(&self.cpu_ns)),
            (
                "rprof_cpu_limit_cores",
                Gauge,
                "Limit of rprof's own CPU time, averaged over 60 seconds (--max-cpu).",
                self.cpu_limit_ppm.get() as f64 / 1e6,
            ),
        ];
        for (name, kind, help, value) in floats {
            metric(&mut text, name, kind, help, &format!("{value}"));
        }
        for (name, kind, help, number) in self.numbers() {
            metric(&mut text, name, kind, help, &number.get().to_string());
        }
        text
    }

    /// Name, type, meaning, value.
    fn numbers(&self) -> [(&'static str, Type, &'static str, &Number); 22] {
        use Type::{Counter, Gauge};
        [
            ("rprof_memory_bytes", Gauge, "Anonymous and shared memory of rprof itself.", &self.memory_bytes),
            ("rprof_memory_limit_bytes", Gauge, "Limit of it (--max-memory).", &self.memory_limit_bytes),
            ("rprof_processes", Gauge, "Processes that are watched.", &self.processes),
            (
                "rprof_processes_failed_total",
                Counter,
                "Processes that match but cannot be profiled.",
                &self.processes_failed,
            ),
            ("rprof_samples_total", Counter, "Samples taken.", &self.samples),
            ("rprof_lost_samples_total", Counter, "Samples that were lost.", &self.lost_samples),
            ("rprof_windows_total", Counter, "Windows that have ended.", &self.windows),
            ("rprof_profiles_written_total", Counter, "Profiles written.", &self.profiles_written),
            ("rprof_write_errors_total", Counter, "Profiles that could not be written.", &self.write_errors),
            ("rprof_errors_total", Counter, "Other errors; the log has them.", &self.errors),
            ("rprof_spool_bytes", Gauge, "Disk space of the spool.", &self.spool_bytes),
            ("rprof_spool_files", Gauge, "Profiles in the spool.", &self.spool_files),
            ("rprof_rate_hertz", Gauge, "The sampling rate now.", &self.rate_hz),
            ("rprof_effort_step", Gauge, "How far effort is lowered; 0 is not at all.", &self.effort_step),
            ("rprof_effort_changes_total", Counter, "Changes of effort.", &self.effort_changes),
            ("rprof_triggers_fired_total", Counter, "Triggers that have fired.", &self.triggers_fired),
            (
                "rprof_triggers_suppressed_total",
                Counter,
                "Conditions that were true during the cooldown of their trigger.",
                &self.triggers_suppressed,
            ),
            ("rprof_incidents_written_total", Counter, "Incidents written.", &self.incidents_written),
            (
                "rprof_incident_errors_total",
                Counter,
                "Incidents that could not be written.",
                &self.incident_errors,
            ),
            ("rprof_hook_errors_total", Counter, "Hooks that failed or took too long.", &self.hook_errors),
            ("rprof_ring_bytes", Gauge, "Profiles of the last minutes, kept in memory.", &self.ring_bytes),
            (
                "rprof_capped_labels_total",
                Counter,
                "Label values that were replaced by \"other\".",
                &self.capped_labels,
            ),
        ]
    }
}

fn metric(text: &mut String, name: &str, kind: Type, help: &str, value: &str) {
    let kind = if kind == Type::Counter { "counter" } else { "gauge" };
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_text_has_the_format_of_prometheus() {
        let metrics = Metrics::default();
        metrics.cpu_ns.set(1_500_000_000);
        metrics.samples.add(3);
        metrics.samples.add(4);
        metrics.cpu_limit_ppm.set(20_000);
        let text = metrics.text();
        for line in ["process_cpu_seconds_total 1.5", "rprof_samples_total 7", "rprof_cpu_limit_cores 0.02"] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let mut names = HashSet::new();
        let mut declared = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(rest) => {
                    let (name, kind) = rest.split_once(' ').expect("a type");
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                    assert!(names.insert(name), "{name} is declared twice");
                    declared = name;
                }
                None if line.starts_with("# HELP ") => {}
                None => {
                    let (name, value) = line.split_once(' ').expect("a value");
                    assert_eq!(name.split('{').next(), Some(declared));
                    assert!(value.parse::<f64>().is_ok(), "{line}");
                }
            }
        }
        assert!(names.len() > 20 && text.ends_with('\n'));
    }
}
