//! Reads the watched processes and their control groups for the triggers.
//!
//! Only what some trigger needs is read, a control group once for all its processes, and the more
//! that takes, the less often. Not here: /proc (`process::gauges`), decisions (`engine`).

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::{Condition, Measure, ProcessKey, Reading, Trigger};
use crate::process::{
    gauges::{self, GaugeSet},
    group_gauges::{GroupFiles, GroupGauges},
};

/// The shortest and the longest time between two readings.
const EVERY: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(15)];
/// Readings take at most this part of the time.
const SHARE: u32 = 250;

/// A process that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The process.
    pub process: ProcessKey,
    /// Its service.
    pub service: String,
}

/// Reads what triggers need.
pub struct Reader {
    set: GaugeSet,
    needs_groups: bool,
    /// The files of the groups; a group's number is its index.
    groups: HashMap<GroupFiles, usize>,
    of_process: HashMap<ProcessKey, GroupFiles>,
    next_group: usize,
    /// How long the last readings took.
    took: Duration,
}

impl Reader {
    /// A reader for these triggers.
    pub fn new(triggers: &[Trigger]) -> Reader {
        let mut set = GaugeSet::default();
        let mut needs_groups = false;
        for trigger in triggers {
            match trigger.condition {
                Condition::Above { measure: Measure::Cpu, .. } => set.cpu = true,
                Condition::Above { measure: Measure::Memory, .. } | Condition::Growth { .. } => {
                    set.memory = true
                }
                Condition::Above { measure: Measure::OpenFiles, .. } => set.open_files = true,
                Condition::Above { measure: Measure::Threads, .. } | Condition::Exit => {}
                Condition::OomKill => {
                    set.memory = true;
                    needs_groups = true;
                }
                Condition::Above { .. } => needs_groups = true,
            }
        }
        Reader {
            set,
            needs_groups,
            groups: HashMap::new(),
            of_process: HashMap::new(),
            next_group: 0,
            took: Duration::ZERO,
        }
    }

    /// When to read again.
    pub fn interval(&self) -> Duration {
        (self.took * SHARE).clamp(EVERY[0], EVERY[1])
    }

    /// Reads all processes. One that has ended has a reading without usage, and is not watched any
    /// more.
    pub fn read(&mut self, watched: &mut Vec<Target>) -> Vec<Reading> {
        let began = Instant::now();
        self.forget(watched);
        let mut read_groups: HashMap<usize, GroupGauges> = HashMap::new();
        let mut readings = Vec::with_capacity(watched.len());
        watched.retain(|one| {
            let ProcessKey { pid, start_ticks } = one.process;
            let usage = gauges::read(pid, start_ticks, self.set);
            let has_ended = usage.as_ref().is_err_and(has_ended);
            let (group_id, files) = self.group_of(one.process);
            let group = match self.needs_groups {
                // Read after the process: a kill is counted before the process is gone.
                true if has_ended => files.read(),
                true => *read_groups.entry(group_id).or_insert_with(|| files.read()),
                false => GroupGauges::default(),
            };
            if let Ok(usage) = usage.map(Some).or(if has_ended { Ok(None) } else { Err(()) }) {
                let service = one.service.clone();
                readings.push(Reading { process: one.process, service, usage, group, group_id });
            }
            !has_ended
        });
        self.took = began.elapsed();
        readings
    }

    fn group_of(&mut self, process: ProcessKey) -> (usize, GroupFiles) {
        if !self.needs_groups {
            return (0, GroupFiles::default());
        }
        let files = self.of_process.entry(process).or_insert_with(|| GroupFiles::of(process.pid)).clone();
        let id = *self.groups.entry(files.clone()).or_insert_with(|| {
            self.next_group += 1;
            self.next_group
        });
        (id, files)
    }

    fn forget(&mut self, watched: &[Target]) {
        let kept: HashSet<ProcessKey> = watched.iter().map(|one| one.process).collect();
        self.of_process.retain(|process, _| kept.contains(process));
        let used: HashSet<&GroupFiles> = self.of_process.values().collect();
        self.groups.retain(|files, _| used.contains(files));
    }
}

fn has_ended(error: &crate::process::ProcessError) -> bool {
    use crate::process::ProcessError::{NoSuchProcess, Replaced, Zombie};
    matches!(error, NoSuchProcess(_) | Zombie(_) | Replaced(_))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::identify;

    fn watched(pid: u32) -> Target {
        let start_ticks = identify(pid).expect("it runs").start_ticks;
        Target { process: ProcessKey { pid, start_ticks }, service: "app".into() }
    }

    #[test]
    fn a_process_that_ends_has_one_reading_more() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let triggers: Vec<Trigger> =
            ["exit", "oom"].iter().map(|text| text.parse().expect("a trigger")).collect();
        let mut reader = Reader::new(&triggers);
        let mut processes = vec![watched(child.id()), watched(std::process::id())];
        let first = reader.read(&mut processes);
        assert_eq!((first.len(), processes.len()), (2, 2));
        assert!(first.iter().all(|reading| reading.usage.is_some()));
        child.kill().expect("killed");
        child.wait().expect("collected");
        let second = reader.read(&mut processes);
        assert_eq!((second.len(), processes.len()), (2, 1));
        assert_eq!(second[0].usage, None);
        assert_eq!(reader.read(&mut processes).len(), 1);
        assert!(reader.of_process.len() == 1 && reader.interval() >= EVERY[0]);
    }
}
