//! The companion that keeps the sidecar within its limits, reports what it does as metrics and as a
//! log, and passes the watched processes on to the watcher of incidents.
//!
//! Not here: the decisions (`limits`, `triggers`), the format of the reports (`metrics`, `log`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Action, Companion, Event, Settings, View,
    limits::{Change, Controller, Effort, Limits, OwnUsage, Reason},
    log::{Level, Log},
    metrics::Metrics,
    recorder::RATE_HZ,
    triggers::{ProcessKey, Target},
    watcher::Watcher,
};
use crate::process::{identity::monotonic_ns, own_cpu_ns, own_memory_bytes, release_free_memory};

/// How often memory that is free is given back while it is scarce.
const RELEASE_EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub struct Care {
    limits: Limits,
    controller: Controller,
    /// Settings that were requested and do not apply yet.
    requested: Option<Settings>,
    released_at: Option<Instant>,
    watcher: Option<Watcher>,
    metrics: Arc<Metrics>,
    log: Arc<Log>,
}

impl Care {
    /// Care within these limits. `watcher` gets the processes.
    pub fn new(limits: Limits, watcher: Option<Watcher>, metrics: Arc<Metrics>, log: Arc<Log>) -> Care {
        metrics.cpu_limit_ppm.set((limits.cpu_share * 1e6) as u64);
        metrics.memory_limit_bytes.set(limits.memory_bytes);
        Care {
            limits,
            controller: Controller::new(limits),
            requested: None,
            released_at: None,
            watcher,
            metrics,
            log,
        }
    }

    fn usage(&mut self) -> OwnUsage {
        let mut memory_bytes = own_memory_bytes().unwrap_or(0);
        let is_scarce = memory_bytes > self.limits.memory_bytes / 10 * 8;
        if is_scarce && self.released_at.is_none_or(|at| at.elapsed() >= RELEASE_EVERY) {
            // What is free is not needed.
            release_free_memory();
            self.released_at = Some(Instant::now());
            memory_bytes = own_memory_bytes().unwrap_or(memory_bytes);
        }
        OwnUsage { now_ns: monotonic_ns(), cpu_ns: own_cpu_ns(), memory_bytes }
    }

    fn report(&self, view: &View<'_>, usage: OwnUsage) {
        let metrics = &self.metrics;
        metrics.cpu_ns.set(usage.cpu_ns);
        metrics.memory_bytes.set(usage.memory_bytes);
        metrics.processes.set(view.watched.len() as u64);
        metrics.spool_files.set(view.spool.0 as u64);
        metrics.spool_bytes.set(view.spool.1);
        metrics.capped_labels.set(view.replaced_labels);
        let is_paused = view.settings.kinds.is_empty();
        metrics.rate_hz.set(if is_paused { 0 } else { view.settings.frequency_hz.into() });
        metrics.effort_step.set(self.controller.effort().step().into());
        if view.watched.is_empty() {
            // Without processes there are no windows, and nothing is wrong.
            metrics.last_window_ns.set(usage.now_ns);
        }
    }

    /// Applies a change of effort: to the ring now, to the windows by the returned action.
    fn apply(&mut self, change: Change, base: &Settings) -> Action {
        let effort = change.effort;
        let stack_bytes = effort.stack_bytes(base.max_stack_bytes);
        let ring_hz = if effort.is_paused() { 0 } else { effort.rate_hz(RATE_HZ) };
        if let Some(watcher) = &self.watcher {
            watcher.set_effort(ring_hz, stack_bytes);
        }
        self.metrics.effort_changes.add(1);
        let what = effort.describe(base.frequency_hz, base.max_stack_bytes, base.kinds.len());
        let why = match change.reason {
            Reason::Cpu => "CPU time is above --max-cpu",
            Reason::Memory => "memory is above --max-memory",
            Reason::Room => "there is room again",
        };
        let level = if change.reason == Reason::Room { Level::Info } else { Level::Warn };
        self.log.event(
            level,
            "effort_changed",
            &[
                ("why", json!(why)),
                ("effort", json!(if what.is_empty() { "all that was requested" } else { &what })),
                ("cpu_percent", json!((change.cpu_share * 10_000.0).round() / 100.0)),
                ("memory_bytes", json!(change.memory_bytes)),
            ],
        );
        let settings = lowered(effort, base);
        self.requested = Some(settings.clone());
        match change.reason {
            Reason::Room => Action::Apply(settings),
            Reason::Cpu | Reason::Memory => Action::ApplyNow { settings, reason: "limit".to_owned() },
        }
    }
}

/// The settings that an effort allows.
fn lowered(effort: Effort, base: &Settings) -> Settings {
    let kinds = if effort.is_paused() { 0 } else { effort.kinds(base.kinds.len()) };
    Settings {
        frequency_hz: effort.rate_hz(base.frequency_hz),
        max_stack_bytes: effort.stack_bytes(base.max_stack_bytes),
        kinds: base.kinds.iter().take(kinds).copied().collect(),
    }
}

impl Companion for Care {
    fn tick(&mut self, view: &View<'_>) -> Vec<Action> {
        let usage = self.usage();
        self.report(view, usage);
        if let Some(watcher) = &self.watcher {
            let targets = view.watched.iter().map(|process| Target {
                process: ProcessKey { pid: process.identity.pid, start_ticks: process.identity.start_ticks },
                service: process.labels.service().to_owned(),
            });
            watcher.set_targets(targets.collect());
        }
        if self.requested.as_ref().is_none_or(|requested| requested == view.settings) {
            self.requested = None;
        }
        let is_applied = self.requested.is_none();
        let change = self.controller.update(usage, is_applied);
        change.map(|change| self.apply(change, view.base)).into_iter().collect()
    }

    fn event(&mut self, event: &Event<'_>) {
        let (metrics, log) = (&self.metrics, &self.log);
        match event {
            Event::Opened(recovery) => {
                for (path, why) in &recovery.torn {
                    let path = json!(path.display().to_string());
                    log.warn("damaged_file_set_aside", &[("path", path), ("why", json!(why))]);
                }
                if recovery.damaged_lines > 0 || recovery.missing > 0 {
                    let damaged = ("damaged_lines", json!(recovery.damaged_lines));
                    log.warn("index_rebuilt", &[damaged, ("missing_files", json!(recovery.missing))]);
                }
                metrics.last_window_ns.set(monotonic_ns());
            }
            Event::Watching(process) | Event::Gone(process) => {
                let name = if matches!(event, Event::Watching(_)) { "watching" } else { "not_watching" };
                let pid = ("pid", json!(process.identity.pid));
                let who = ("name", json!(process.identity.display_name()));
                log.info(name, &[pid, who, ("service", json!(process.labels.service()))]);
            }
            Event::Refused { process, error } => {
                metrics.processes_failed.add(1);
                let pid = ("pid", json!(process.identity.pid));
                log.warn("cannot_profile", &[pid, ("why", json!(error.to_string()))]);
            }
            Event::KindRefused { kind, error } => {
                metrics.errors.add(1);
                log.warn("no_profile", &[("kind", json!(kind.name)), ("why", json!(error.to_string()))]);
            }
            Event::WindowEnded { .. } => {
                metrics.windows.add(1);
                metrics.last_window_ns.set(monotonic_ns());
            }
            Event::Saved { path, samples: (samples, lost), .. } => {
                metrics.profiles_written.add(1);
                let path = json!(path.display().to_string());
                log.info(
                    "profile_written",
                    &[("path", path), ("samples", json!(samples)), ("lost", json!(lost))],
                );
            }
            Event::NotSaved(error) => {
                metrics.write_errors.add(1);
                log.event(Level::Error, "profile_not_written", &[("why", json!(error.to_string()))]);
            }
            Event::Removed(count) => log.info("old_profiles_removed", &[("count", json!(count))]),
            Event::Applied(settings) => {
                let kinds: Vec<&str> = settings.kinds.iter().map(|kind| kind.name).collect();
                let rate = ("rate_hz", json!(settings.frequency_hz));
                log.info("settings_applied", &[rate, ("kinds", json!(kinds))]);
            }
            Event::Reloaded => log.info("configuration_read", &[]),
            Event::ReloadFailed(why) => {
                metrics.errors.add(1);
                log.warn("configuration_not_read", &[("why", json!(why))]);
            }
        }
    }
}

/// Whether the sidecar works: windows end in time, and profiles are written. `every` is the time
/// from one window to the next. The error says what does not.
pub fn health(metrics: &Metrics, every: Duration) -> Result<(), String> {
    let patience = every * 3 + Duration::from_secs(60);
    let last = metrics.last_window_ns.get();
    let since = Duration::from_nanos(monotonic_ns().saturating_sub(last));
    if last != 0 && since > patience {
        return Err(format!("no window has ended for {} s", since.as_secs()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::kinds;

    #[test]
    fn settings_are_lowered_in_the_order_of_the_effort_and_a_pause_has_no_kinds() {
        let base = Settings {
            frequency_hz: 99,
            max_stack_bytes: 512 << 10,
            kinds: kinds::ALL.iter().take(4).copied().collect(),
        };
        assert_eq!(lowered(Effort::default(), &base), base);
        let mut controller = Controller::new(Limits { cpu_share: 0.01, ..Limits::default() });
        let mut seen = vec![base.clone()];
        for second in 1..2000_u64 {
            let usage =
                OwnUsage { now_ns: second * 1_000_000_000, cpu_ns: second * 500_000_000, memory_bytes: 0 };
            if let Some(change) = controller.update(usage, true) {
                seen.push(lowered(change.effort, &base));
            }
        }
        let sizes: Vec<(u32, u32, usize)> =
            seen.iter().map(|one| (one.frequency_hz, one.max_stack_bytes, one.kinds.len())).collect();
        assert!(sizes.windows(2).all(|pair| pair[1] <= pair[0]), "{sizes:?}");
        assert!(seen.last().is_some_and(|last| last.kinds.is_empty()), "{sizes:?}");
    }

    #[test]
    fn health_depends_on_the_last_window() {
        let metrics = Metrics::default();
        assert_eq!(health(&metrics, Duration::from_secs(60)), Ok(()));
        metrics.last_window_ns.set(monotonic_ns());
        assert_eq!(health(&metrics, Duration::from_secs(60)), Ok(()));
        metrics.last_window_ns.set(1);
        let is_late = monotonic_ns() > 400_000_000_000;
        assert_eq!(health(&metrics, Duration::from_secs(60)).is_err(), is_late);
    }
}
