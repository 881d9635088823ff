//! Decides which triggers fire: a state machine over readings and a monotonic clock.
//!
//! A trigger fires at most once a cooldown for each service: twenty instances of a service with the
//! same problem are one incident. Steps of the wall clock have no effect. Not here: where readings
//! come from (`reader`).

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{Condition, Growth, Measure, ProcessKey, Reading, Trigger, history::History};

/// How long after a kill of the OOM killer the process that ends is taken for the killed one.
const KILLED_WITHIN_NS: u64 = 2_000_000_000;
/// Growth below this is not reported, even if it is a large share of a small process.
const LEAST_GROWTH_BYTES: f64 = 4194304.0;

/// A trigger that has fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firing {
    /// The expression of the trigger.
    pub trigger: String,
    /// The process.
    pub process: ProcessKey,
    /// Its service.
    pub service: String,
    /// What was measured, for people: `93.1 %`; empty where nothing is measured.
    pub value: String,
    /// Whether the process has ended: nothing can be read of it.
    pub has_ended: bool,
}

/// What was found in the readings of one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// The triggers that fire.
    pub firings: Vec<Firing>,
    /// How many conditions were true during the cooldown of their trigger.
    pub suppressed: u64,
}

/// The state of all triggers.
pub struct Engine {
    triggers: Vec<Trigger>,
    cooldown_ns: u64,
    processes: HashMap<ProcessKey, Vec<State>>,
    groups: HashMap<usize, Group>,
    /// By trigger and service, when it fired last.
    fired: HashMap<(usize, String), u64>,
}

/// What one trigger remembers about one process.
enum State {
    /// The part and the whole of a share, in the past.
    Share(History<(u64, u64)>),
    /// Since when the value is greater than the limit.
    GreaterSince(Option<u64>),
    /// Resident memory in the past.
    Memory(History<u64>),
    Nothing,
}

/// What is remembered about a control group.
#[derive(Default)]
struct Group {
    kills: Option<u64>,
    kills_above: Option<u64>,
    /// When a kill was seen whose process is not known yet.
    killed_ns: Option<u64>,
}

impl Engine {
    /// An engine for these triggers.
    pub fn new(triggers: Vec<Trigger>, cooldown: Duration) -> Engine {
        Engine {
            triggers,
            cooldown_ns: u64::try_from(cooldown.as_nanos()).unwrap_or(u64::MAX),
            processes: HashMap::new(),
            groups: HashMap::new(),
            fired: HashMap::new(),
        }
    }

    /// The triggers.
    pub fn triggers(&self) -> &[Trigger] {
        &self.triggers
    }

    /// Evaluates the readings of all watched processes at a time of CLOCK_MONOTONIC. A process
    /// without a reading is no longer watched.
    pub fn evaluate(&mut self, now_ns: u64, readings: &[Reading]) -> Evaluation {
        let mut evaluation = Evaluation::default();
        let victims = self.victims(now_ns, readings);
        for (at, reading) in readings.iter().enumerate() {
            let states = self.processes.entry(reading.process).or_insert_with(|| {
                self.triggers.iter().map(|trigger| State::new(&trigger.condition)).collect()
            });
            let holds = self.triggers.iter().zip(states).map(|(trigger, state)| match trigger.condition {
                Condition::OomKill => victims.contains(&at).then(String::new),
                Condition::Exit => reading.usage.is_none().then(String::new),
                condition => state.holds(condition, now_ns, reading),
            });
            let holds: Vec<Option<String>> = holds.collect();
            for (index, value) in holds.into_iter().enumerate() {
                if let Some(value) = value {
                    self.fire(index, now_ns, reading, value, &mut evaluation);
                }
            }
        }
        self.forget(now_ns, readings);
        evaluation
    }

    fn fire(
        &mut self,
        index: usize,
        now_ns: u64,
        reading: &Reading,
        value: String,
        evaluation: &mut Evaluation,
    ) {
        let key = (index, reading.service.clone());
        let is_cooling = |last: &u64| now_ns.saturating_sub(*last) < self.cooldown_ns;
        if self.fired.get(&key).is_some_and(is_cooling) {
            evaluation.suppressed += 1;
            return;
        }
        self.fired.insert(key, now_ns);
        evaluation.firings.push(Firing {
            trigger: self.triggers[index].text.clone(),
            process: reading.process,
            service: reading.service.clone(),
            value,
            has_ended: reading.usage.is_none(),
        });
    }

    /// The readings of the processes that the OOM killer has killed, or, where a process that is
    /// not watched was killed, of the largest one of its group.
    fn victims(&mut self, now_ns: u64, readings: &[Reading]) -> HashSet<usize> {
        let mut victims = HashSet::new();
        let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, reading) in readings.iter().enumerate() {
            members.entry(reading.group_id).or_default().push(at);
        }
        for (id, members) in members {
            let group = self.groups.entry(id).or_default();
            members.iter().for_each(|at| group.note(now_ns, &readings[*at]));
            let Some(killed_ns) = group.killed_ns else { continue };
            let ended: Vec<usize> =
                members.iter().copied().filter(|at| readings[*at].usage.is_none()).collect();
            let is_late = now_ns.saturating_sub(killed_ns) >= KILLED_WITHIN_NS;
            if ended.is_empty() && !is_late {
                continue;
            }
            group.killed_ns = None;
            let memory = |at: &usize| readings[*at].usage.and_then(|usage| usage.resident_bytes);
            match ended.is_empty() {
                true => victims.extend(members.into_iter().max_by_key(memory)),
                false => victims.extend(ended),
            }
        }
        victims
    }

    /// Forgets what is not watched any more.
    fn forget(&mut self, now_ns: u64, readings: &[Reading]) {
        let alive: HashSet<ProcessKey> = readings
            .iter()
            .filter(|reading| reading.usage.is_some())
            .map(|reading| reading.process)
            .collect();
        let groups: HashSet<usize> = readings.iter().map(|reading| reading.group_id).collect();
        self.processes.retain(|key, _| alive.contains(key));
        self.groups.retain(|id, _| groups.contains(id));
        self.fired.retain(|_, last| now_ns.saturating_sub(*last) < self.cooldown_ns);
    }
}

impl Group {
    fn note(&mut self, now_ns: u64, reading: &Reading) {
        let (kills, above) = (reading.group.oom_kills, reading.group.oom_kills_above);
        let rose =
            |now: Option<u64>, before: Option<u64>| now.zip(before).is_some_and(|(now, before)| now > before);
        // A group that is gone with its process has no count; that of the group above includes it.
        let is_gone = kills.is_none() && reading.usage.is_none();
        if rose(kills, self.kills) || (is_gone && rose(above, self.kills_above)) {
            self.killed_ns = self.killed_ns.or(Some(now_ns));
        }
        self.kills = kills.or(self.kills);
        self.kills_above = above.or(self.kills_above);
    }
}

impl State {
    fn new(condition: &Condition) -> State {
        match condition {
            Condition::Above { measure, over, .. } if measure.is_average() => {
                State::Share(History::new(*over))
            }
            Condition::Above { .. } => State::GreaterSince(None),
            Condition::Growth { within, .. } => State::Memory(History::new(*within)),
            Condition::OomKill | Condition::Exit => State::Nothing,
        }
    }

    /// Adds a reading; the measured value if the condition is true now.
    fn holds(&mut self, condition: Condition, now_ns: u64, reading: &Reading) -> Option<String> {
        match (self, condition) {
            (State::Share(history), Condition::Above { measure, limit, .. }) => {
                let now = share_of(measure, now_ns, reading)?;
                let (_, base) = history.push(now_ns, now)?;
                let whole = now.1.saturating_sub(base.1);
                let percent = now.0.saturating_sub(base.0) as f64 * 100.0 / whole as f64;
                (whole > 0 && percent > limit).then(|| measure.show(percent))
            }
            (State::GreaterSince(since), Condition::Above { measure, limit, over }) => {
                let value = value_of(measure, reading).filter(|value| *value > limit);
                let Some(value) = value else {
                    *since = None;
                    return None;
                };
                let held_ns = now_ns.saturating_sub(*since.get_or_insert(now_ns));
                (u128::from(held_ns) >= over.as_nanos()).then(|| measure.show(value))
            }
            (State::Memory(history), Condition::Growth { by, .. }) => {
                let now = reading.usage?.resident_bytes?;
                let (_, base) = history.push(now_ns, now)?;
                let grown = now.saturating_sub(base) as f64;
                let needed = match by {
                    Growth::Percent(percent) => (base as f64 * percent / 100.0).max(LEAST_GROWTH_BYTES),
                    Growth::Bytes(bytes) => bytes,
                };
                (grown > needed).then(|| {
                    let show = |bytes| Measure::Memory.show(bytes as f64);
                    format!("{} → {}", show(base), show(now))
                })
            }
            _ => None,
        }
    }
}

/// The part and the whole of a measure that is averaged, since the start of the process or group.
fn share_of(measure: Measure, now_ns: u64, reading: &Reading) -> Option<(u64, u64)> {
    match measure {
        Measure::Cpu => Some((reading.usage?.cpu_ns?, now_ns)),
        Measure::Throttled => reading.group.periods.map(|(periods, throttled)| (throttled, periods)),
        _ => None,
    }
}

fn value_of(measure: Measure, reading: &Reading) -> Option<f64> {
    let usage = reading.usage?;
    match measure {
        Measure::Memory => usage.resident_bytes.map(|bytes| bytes as f64),
        Measure::Threads => Some(usage.threads as f64),
        Measure::OpenFiles => {
            let limit = usage.open_file_limit.filter(|limit| *limit > 0)?;
            Some(usage.open_files? as f64 * 100.0 / limit as f64)
        }
        Measure::CpuPressure => reading.group.pressure[0],
        Measure::MemoryPressure => reading.group.pressure[1],
        Measure::IoPressure => reading.group.pressure[2],
        Measure::Cpu | Measure::Throttled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{gauges::Gauges, group_gauges::GroupGauges};

    const SECOND: u64 = 1_000_000_000;

    fn engine(triggers: &[&str], cooldown_s: u64) -> Engine {
        let triggers = triggers.iter().map(|text| text.parse().expect("a trigger")).collect();
        Engine::new(triggers, Duration::from_secs(cooldown_s))
    }

    fn reading(pid: u32, usage: Option<Gauges>) -> Reading {
        let process = ProcessKey { pid, start_ticks: 1 };
        Reading { process, service: "app".into(), usage, group: GroupGauges::default(), group_id: 0 }
    }

    fn using(usage: Gauges) -> Reading {
        reading(7, Some(usage))
    }

    /// The seconds at which the triggers fire.
    fn fires(engine: &mut Engine, seconds: u64, at: impl Fn(u64) -> Reading) -> Vec<u64> {
        let fires_at = |second: &u64| {
            !engine.evaluate(5000 * SECOND + second * SECOND, &[at(*second)]).firings.is_empty()
        };
        (0..seconds).filter(fires_at).collect()
    }

    fn cpu(ns: u64) -> Reading {
        using(Gauges { cpu_ns: Some(ns), threads: 1, ..Gauges::default() })
    }

    #[test]
    fn cpu_time_is_averaged_over_the_time_of_the_condition() {
        let mut engine = engine(&["cpu>80%:30s"], 600);
        // Idle for 60 s, then a full core.
        let busy = |second: u64| cpu(second.saturating_sub(60) * SECOND);
        let fired = fires(&mut engine, 120, busy);
        // Above 80 % of 30 s after 24 s of work.
        assert_eq!(fired.len(), 1, "{fired:?}");
        assert!((84..=87).contains(&fired[0]), "{fired:?}");
    }

    #[test]
    fn a_short_burst_does_not_exceed_an_average() {
        let mut engine = engine(&["cpu>80%:30s"], 600);
        // 20 s of work in each minute.
        let burst = |second: u64| cpu((second / 60 * 20 + (second % 60).min(20)) * SECOND);
        assert_eq!(fires(&mut engine, 300, burst), Vec::<u64>::new());
    }

    #[test]
    fn a_condition_that_stays_true_fires_once_a_cooldown() {
        let mut engine = engine(&["threads>1000"], 600);
        let many = |_| using(Gauges { threads: 1001, ..Gauges::default() });
        assert_eq!(fires(&mut engine, 1300, many), [0, 600, 1200]);
    }

    #[test]
    fn instances_of_a_service_share_the_cooldown_and_services_do_not() {
        let mut engine = engine(&["rss>2GiB"], 600);
        let usage = Gauges { resident_bytes: Some(3 << 30), ..Gauges::default() };
        let mut readings: Vec<Reading> = (1..=20).map(|pid| reading(pid, Some(usage))).collect();
        readings[19].service = "other".into();
        let found = engine.evaluate(9 * SECOND, &readings);
        let services: Vec<&str> = found.firings.iter().map(|firing| &firing.service[..]).collect();
        assert_eq!((services, found.suppressed), (vec!["app", "other"], 18));
        assert_eq!(found.firings[0].value, "3072.0 MiB");
    }

    #[test]
    fn a_value_must_be_greater_for_the_whole_time() {
        let mut engine = engine(&["psi.io>20%:10s"], 600);
        let pressed = |second: u64| {
            let share = if second == 8 { 5.0 } else { 50.0 };
            let group = GroupGauges { pressure: [None, None, Some(share)], ..GroupGauges::default() };
            Reading { group, ..using(Gauges::default()) }
        };
        assert_eq!(fires(&mut engine, 30, pressed), [19]);
    }

    #[test]
    fn throttled_periods_are_a_share_of_all_periods() {
        let group = |second: u64, throttled: u64| GroupGauges {
            periods: Some((second * 10, throttled)),
            ..GroupGauges::default()
        };
        let mut first = engine(&["throttled>20%"], 600);
        let a_tenth = |second| Reading { group: group(second, second), ..using(Gauges::default()) };
        assert_eq!(fires(&mut first, 60, a_tenth), Vec::<u64>::new());
        let mut second = engine(&["throttled>20%"], 600);
        let half = |second| Reading { group: group(second, second * 5), ..using(Gauges::default()) };
        assert_eq!(fires(&mut second, 60, half), [10]);
    }

    #[test]
    fn memory_that_grows_fires_and_memory_that_is_large_does_not() {
        let memory = |bytes: u64| using(Gauges { resident_bytes: Some(bytes), ..Gauges::default() });
        let mut steady = engine(&["rss+10%/min"], 600);
        assert_eq!(fires(&mut steady, 300, |_| memory(8 << 30)), Vec::<u64>::new());
        let mut growing = engine(&["rss+10%/min"], 600);
        // 1 GiB, and 2 MiB a second more: 11.7 % in the first minute.
        assert_eq!(fires(&mut growing, 100, |second| memory((1 << 30) + (second << 21))), [60]);
        let mut small = engine(&["rss+10%/min"], 600);
        assert_eq!(fires(&mut small, 300, |second| memory((1 << 20) + (second << 14))), Vec::<u64>::new());
    }

    #[test]
    fn open_files_are_a_share_of_the_limit() {
        let open = |count| {
            using(Gauges { open_files: Some(count), open_file_limit: Some(1024), ..Gauges::default() })
        };
        let mut engine = engine(&["fd>90%"], 600);
        assert_eq!(fires(&mut engine, 10, |second| open(if second < 5 { 921 } else { 922 })), [5]);
    }

    fn kills(count: u64) -> GroupGauges {
        GroupGauges { oom_kills: Some(count), ..GroupGauges::default() }
    }

    #[test]
    fn an_oom_kill_is_attributed_to_the_process_that_ends() {
        let mut engine = engine(&["oom", "exit"], 600);
        let at = |pid, usage, count| Reading { group: kills(count), ..reading(pid, usage) };
        let alive = Some(Gauges::default());
        // Kills before the sidecar began do not count.
        assert_eq!(engine.evaluate(SECOND, &[at(1, alive, 5), at(2, alive, 5)]), Evaluation::default());
        // The kill is visible before the process is gone.
        assert_eq!(engine.evaluate(2 * SECOND, &[at(1, alive, 6), at(2, alive, 6)]), Evaluation::default());
        let found = engine.evaluate(3 * SECOND, &[at(1, alive, 6), at(2, None, 6)]).firings;
        let fired: Vec<(&str, u32, bool)> =
            found.iter().map(|firing| (&firing.trigger[..], firing.process.pid, firing.has_ended)).collect();
        assert_eq!(fired, [("oom", 2, true), ("exit", 2, true)]);
        assert_eq!(engine.evaluate(4 * SECOND, &[at(1, alive, 6)]), Evaluation::default());
    }

    #[test]
    fn a_killed_child_is_attributed_to_the_largest_process_of_the_group() {
        let mut engine = engine(&["oom"], 600);
        let at = |pid, bytes, count| {
            let usage = Gauges { resident_bytes: Some(bytes), ..Gauges::default() };
            Reading { group: kills(count), ..reading(pid, Some(usage)) }
        };
        assert!(engine.evaluate(0, &[at(1, 10, 0), at(2, 90, 0)]).firings.is_empty());
        assert!(engine.evaluate(SECOND, &[at(1, 10, 1), at(2, 90, 1)]).firings.is_empty());
        let found = engine.evaluate(3 * SECOND, &[at(1, 10, 1), at(2, 90, 1)]).firings;
        assert_eq!((found.len(), found[0].process.pid, found[0].has_ended), (1, 2, false));
    }

    #[test]
    fn a_group_that_is_removed_with_its_process_is_counted_by_the_group_above() {
        let mut engine = engine(&["oom"], 600);
        let above =
            |kills, above| GroupGauges { oom_kills: kills, oom_kills_above: above, ..GroupGauges::default() };
        let alive = Some(Gauges::default());
        engine.evaluate(0, &[Reading { group: above(Some(0), Some(3)), ..reading(1, alive) }]);
        let gone = Reading { group: above(None, Some(4)), ..reading(1, None) };
        assert_eq!(engine.evaluate(SECOND, &[gone]).firings.len(), 1);
    }

    #[test]
    fn a_process_that_ends_for_another_reason_is_no_oom_kill() {
        let mut engine = engine(&["oom"], 600);
        let at = |usage| Reading { group: kills(5), ..reading(1, usage) };
        engine.evaluate(0, &[at(Some(Gauges::default()))]);
        assert_eq!(engine.evaluate(SECOND, &[at(None)]), Evaluation::default());
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut engine = engine(&["cpu>80%:30s", "exit", "rss+10%/min"], 1);
        for pid in 1..2000 {
            let mut born = reading(pid, Some(Gauges::default()));
            born.service = format!("service-{pid}");
            born.group_id = pid as usize;
            engine.evaluate(u64::from(pid) * 2 * SECOND, &[born.clone()]);
            engine.evaluate((u64::from(pid) * 2 + 1) * SECOND, &[Reading { usage: None, ..born }]);
        }
        assert!(engine.processes.is_empty() && engine.groups.len() <= 1 && engine.fired.len() <= 1);
    }
}
