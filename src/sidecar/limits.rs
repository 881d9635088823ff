//! Limits on what the sidecar itself takes: CPU time and memory.
//!
//! A closed loop. Every second it gets rprof's CPU time and memory, and it returns the [`Effort`]
//! that sampling may make: first the rate is lowered, then the depth of stacks, then the number of
//! kinds, and last sampling pauses. Effort is raised again slowly, one step at a time. Attaching
//! may use [`BURST_NS`] of CPU time at once, which is repaid. Not here: reading the clocks and
//! applying the effort.

use std::{collections::VecDeque, time::Duration};

/// CPU time that may be used beyond the limit at once, for attaching to processes; in nanoseconds.
pub const BURST_NS: u64 = 2_000_000_000;
/// The time over which CPU time is averaged.
pub const AVERAGED_OVER: Duration = Duration::from_secs(60);
/// The CPU time of this time decides about the next step: it must show the last step alone.
const RECENT_NS: u64 = 20_000_000_000;
/// The shortest and longest time before effort is raised. It doubles each time when raising was too
/// much.
const RAISE_AFTER_NS: [u64; 2] = [90_000_000_000, 3_600_000_000_000];
/// Effort is raised when twice the CPU time would still be below this part of the limit.
const ROOM: f64 = 0.9;

/// What sampling may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Effort {
    step: u8,
}

/// How many steps lower the rate, and the last step of each group.
const LAST_RATE: u8 = 4;
const LAST_DEPTH: u8 = LAST_RATE + 3;
const LAST_KINDS: u8 = LAST_DEPTH + 3;
/// The last step: nothing is sampled.
const PAUSED: u8 = LAST_KINDS + 1;

impl Effort {
    /// The rate to sample at, of a requested one, in samples per second.
    pub fn rate_hz(self, requested: u32) -> u32 {
        (requested >> self.step.min(LAST_RATE)).max(1).min(requested)
    }

    /// The most stack to copy with a sample, of a requested size, in bytes.
    pub fn stack_bytes(self, requested: u32) -> u32 {
        const DEPTHS: [u32; 4] = [u32::MAX, 64 << 10, 16 << 10, 4 << 10];
        let index = self.step.saturating_sub(LAST_RATE).min(LAST_DEPTH - LAST_RATE);
        DEPTHS[usize::from(index)].min(requested)
    }

    /// How many kinds to capture, the first of the requested ones.
    pub fn kinds(self, requested: usize) -> usize {
        match self.step.saturating_sub(LAST_DEPTH) {
            0 => requested,
            1 => requested.div_ceil(2).max(1).min(requested),
            2 => requested.min(2),
            _ => requested.min(1),
        }
    }

    /// Whether nothing is to be sampled.
    pub fn is_paused(self) -> bool {
        self.step >= PAUSED
    }

    /// How far effort is lowered: 0 is all that was requested.
    pub fn step(self) -> u8 {
        self.step
    }

    /// What is lowered, for logs and comments; empty at full effort.
    pub fn describe(self, rate_hz: u32, stack_bytes: u32, kinds: usize) -> String {
        if self.is_paused() {
            return "sampling pauses".to_owned();
        }
        let mut parts = Vec::new();
        let (rate, depth, some) = (self.rate_hz(rate_hz), self.stack_bytes(stack_bytes), self.kinds(kinds));
        if rate < rate_hz {
            parts.push(format!("{rate} Hz instead of {rate_hz} Hz"));
        }
        if depth < stack_bytes {
            parts.push(format!("{} KiB of stack instead of {} KiB", depth >> 10, stack_bytes >> 10));
        }
        if some < kinds {
            parts.push(format!("{some} of {kinds} kinds"));
        }
        parts.join(", ")
    }
}

/// The limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The share of one core, averaged over [`AVERAGED_OVER`]; 0.02 is 2 %.
    pub cpu_share: f64,
    /// Anonymous and shared memory, in bytes.
    pub memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { cpu_share: 0.02, memory_bytes: 128 << 20 }
    }
}

/// What rprof uses at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnUsage {
    /// CLOCK_MONOTONIC in nanoseconds.
    pub now_ns: u64,
    /// CPU time since rprof started, in nanoseconds.
    pub cpu_ns: u64,
    /// Anonymous and shared memory, in bytes.
    pub memory_bytes: u64,
}

/// Why effort was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More CPU time than the limit.
    Cpu,
    /// More memory than the limit.
    Memory,
    /// There is room again.
    Room,
}

/// A change of effort.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The effort from now on.
    pub effort: Effort,
    /// Why.
    pub reason: Reason,
    /// The share of one core that was used lately.
    pub cpu_share: f64,
    /// The memory that is used, in bytes.
    pub memory_bytes: u64,
}

/// The closed loop.
pub struct Controller {
    limits: Limits,
    effort: Effort,
    /// What was used at past times, the oldest first.
    past: VecDeque<OwnUsage>,
    /// When effort was changed last.
    changed_ns: Option<u64>,
    /// Whether the last change raised effort.
    has_raised: bool,
    raise_after_ns: u64,
    /// CPU time beyond the limit that is still to be repaid, in nanoseconds.
    debt_ns: f64,
    last: Option<OwnUsage>,
}

impl Controller {
    /// A loop at full effort.
    pub fn new(limits: Limits) -> Controller {
        Controller {
            limits,
            effort: Effort::default(),
            past: VecDeque::new(),
            changed_ns: None,
            has_raised: false,
            raise_after_ns: RAISE_AFTER_NS[0],
            debt_ns: 0.0,
            last: None,
        }
    }

    /// The effort now.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// The share of one core used on average over [`AVERAGED_OVER`], or since the start.
    pub fn cpu_share(&self) -> f64 {
        self.share_since(u64::MAX).unwrap_or(0.0)
    }

    /// Adds what rprof uses now, about once a second; returns a change of effort. As long as the
    /// last change does not apply yet, there is no other.
    pub fn update(&mut self, usage: OwnUsage, is_applied: bool) -> Option<Change> {
        self.note(usage);
        if !is_applied {
            self.changed_ns = Some(usage.now_ns);
            return None;
        }
        let recent = self.share_since(RECENT_NS);
        if usage.memory_bytes > self.limits.memory_bytes && self.is_settled(usage.now_ns, RECENT_NS / 4) {
            return self.lower(usage, 1, Reason::Memory);
        }
        let recent = recent?;
        let allowed = self.allowed_share();
        let average = self.cpu_share();
        // What has been paid for is no reason to do less: only what would go on is.
        let is_too_much = recent > allowed && (self.debt_ns > 0.0 || average > self.limits.cpu_share);
        if is_too_much && self.is_settled(usage.now_ns, RECENT_NS) {
            return self.lower(usage, steps_for(recent / allowed), Reason::Cpu);
        }
        let fits_twice = 2.0 * recent.max(average) < ROOM * self.limits.cpu_share;
        let has_memory = usage.memory_bytes < self.limits.memory_bytes / 10 * 8;
        if self.effort.step > 0
            && fits_twice
            && has_memory
            && self.is_settled(usage.now_ns, self.raise_after_ns)
        {
            return self.raise(usage);
        }
        // A raise that has held is no reason to wait longer next time.
        if self.has_raised && self.is_settled(usage.now_ns, RAISE_AFTER_NS[0] * 4) {
            self.raise_after_ns = (self.raise_after_ns / 2).max(RAISE_AFTER_NS[0]);
            self.has_raised = false;
        }
        None
    }

    fn note(&mut self, usage: OwnUsage) {
        if let Some(last) = self.last.replace(usage) {
            let time = usage.now_ns.saturating_sub(last.now_ns) as f64;
            let used = usage.cpu_ns.saturating_sub(last.cpu_ns) as f64;
            let balance = self.debt_ns + used - time * self.limits.cpu_share;
            self.debt_ns = balance.clamp(0.0, 10.0 * BURST_NS as f64);
        }
        self.past.push_back(usage);
        let from = usage.now_ns.saturating_sub(AVERAGED_OVER.as_nanos() as u64);
        while self.past.get(1).is_some_and(|past| past.now_ns <= from) {
            self.past.pop_front();
        }
    }

    /// The share that brings the balance back: debts beyond the burst are repaid within a minute,
    /// those of the burst within ten.
    fn allowed_share(&self) -> f64 {
        let minute_ns = AVERAGED_OVER.as_nanos() as f64;
        let beyond = (self.debt_ns - BURST_NS as f64).max(0.0);
        let repaid = self.debt_ns / (10.0 * minute_ns) + beyond / minute_ns;
        (self.limits.cpu_share - repaid).max(self.limits.cpu_share / 4.0)
    }

    /// The share of one core used in the last `span_ns`; `None`: that time is not over yet.
    fn share_since(&self, span_ns: u64) -> Option<f64> {
        let last = self.past.back()?;
        let is_old_enough = |past: &&OwnUsage| last.now_ns.saturating_sub(past.now_ns) >= span_ns;
        let base = match span_ns {
            u64::MAX => self.past.front()?,
            _ => self.past.iter().rev().find(is_old_enough)?,
        };
        let time = last.now_ns.saturating_sub(base.now_ns);
        (time > 0).then(|| last.cpu_ns.saturating_sub(base.cpu_ns) as f64 / time as f64)
    }

    fn is_settled(&self, now_ns: u64, span_ns: u64) -> bool {
        self.changed_ns.is_none_or(|changed| now_ns.saturating_sub(changed) >= span_ns)
    }

    fn lower(&mut self, usage: OwnUsage, steps: u8, reason: Reason) -> Option<Change> {
        let step = self.effort.step.saturating_add(steps).min(PAUSED);
        if std::mem::take(&mut self.has_raised) {
            self.raise_after_ns = (self.raise_after_ns * 2).min(RAISE_AFTER_NS[1]);
        }
        self.change(usage, step, reason)
    }

    fn raise(&mut self, usage: OwnUsage) -> Option<Change> {
        self.has_raised = true;
        self.change(usage, self.effort.step - 1, Reason::Room)
    }

    fn change(&mut self, usage: OwnUsage, step: u8, reason: Reason) -> Option<Change> {
        if step == self.effort.step {
            return None;
        }
        self.effort = Effort { step };
        self.changed_ns = Some(usage.now_ns);
        let cpu_share = self.share_since(RECENT_NS).unwrap_or_else(|| self.cpu_share());
        Some(Change { effort: self.effort, reason, cpu_share, memory_bytes: usage.memory_bytes })
    }
}

/// By how many steps to lower effort if so many times too much is used. The first steps halve what
/// sampling costs.
fn steps_for(times: f64) -> u8 {
    match times {
        times if times > 6.0 => 3,
        times if times > 3.0 => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A sidecar whose CPU time follows the effort: a part that is always used, and one that grows
    /// with the rate and a little less with the depth and the kinds.
    struct Plant {
        fixed_share: f64,
        sampling_share: f64,
        memory_bytes: u64,
        cpu_ns: f64,
        now_ns: u64,
        changes: Vec<(u64, Change)>,
        /// CPU time in each second.
        used: Vec<f64>,
    }

    impl Plant {
        fn new(fixed_share: f64, sampling_share: f64) -> Plant {
            Plant {
                fixed_share,
                sampling_share,
                memory_bytes: 50 << 20,
                cpu_ns: 0.0,
                now_ns: 77 * SECOND,
                changes: Vec::new(),
                used: Vec::new(),
            }
        }

        fn run(&mut self, controller: &mut Controller, seconds: u64) {
            for _ in 0..seconds {
                let effort = controller.effort();
                let rate = f64::from(effort.rate_hz(32)) / 32.0;
                let depth = f64::from(effort.stack_bytes(128 << 10)).sqrt() / f64::from(128 << 10).sqrt();
                let kinds = effort.kinds(6) as f64 / 6.0;
                let sampling = if effort.is_paused() { 0.0 } else { rate * depth * kinds };
                // Names are looked up every ten seconds: the cost is not even.
                let burst = if self.used.len().is_multiple_of(10) { 5.5 } else { 0.5 };
                let share = self.fixed_share + self.sampling_share * sampling * burst;
                self.used.push(share);
                self.cpu_ns += share * SECOND as f64;
                self.now_ns += SECOND;
                let usage = OwnUsage {
                    now_ns: self.now_ns,
                    cpu_ns: self.cpu_ns as u64,
                    memory_bytes: self.memory_bytes,
                };
                if let Some(change) = controller.update(usage, true) {
                    self.changes.push((self.used.len() as u64, change));
                }
            }
        }

        /// The average share of the last seconds.
        fn average(&self, seconds: usize) -> f64 {
            let last = &self.used[self.used.len() - seconds..];
            last.iter().sum::<f64>() / last.len() as f64
        }
    }

    fn controller() -> Controller {
        Controller::new(Limits::default())
    }

    #[test]
    fn below_the_limit_nothing_changes() {
        let (mut controller, mut plant) = (controller(), Plant::new(0.004, 0.012));
        plant.run(&mut controller, 3600);
        assert!(plant.changes.is_empty(), "{:?}", plant.changes);
        assert!((controller.cpu_share() - 0.016).abs() < 0.002, "{}", controller.cpu_share());
    }

    #[test]
    fn above_the_limit_it_converges_within_minutes_and_stays() {
        for sampling in [0.03, 0.06, 0.15, 0.5, 2.0] {
            let (mut controller, mut plant) = (controller(), Plant::new(0.003, sampling));
            plant.run(&mut controller, 240);
            let settled = plant.changes.len();
            plant.run(&mut controller, 3600);
            assert!(plant.average(3600) <= 0.02, "{sampling}: {}", plant.average(3600));
            // No oscillation: at most some careful attempts to do more.
            assert!(plant.changes.len() - settled <= 8, "{sampling}: {:?}", plant.changes);
        }
    }

    #[test]
    fn attaching_may_use_two_seconds_at_once_and_nothing_is_lowered() {
        let (mut controller, mut plant) = (controller(), Plant::new(0.002, 0.008));
        plant.cpu_ns += BURST_NS as f64;
        plant.run(&mut controller, 600);
        assert!(plant.changes.is_empty(), "{:?}", plant.changes);
        // Repaid: over ten minutes the average is within the limit.
        assert!((2.0 + plant.average(600) * 600.0) / 600.0 <= 0.02);
    }

    #[test]
    fn the_rate_is_lowered_first_then_the_depth_then_the_kinds() {
        let efforts: Vec<(u32, u32, usize, bool)> = (0..=PAUSED)
            .map(|step| Effort { step })
            .map(|effort| {
                (effort.rate_hz(99), effort.stack_bytes(512 << 10) >> 10, effort.kinds(6), effort.is_paused())
            })
            .collect();
        let expected = [
            (99, 512, 6, false),
            (49, 512, 6, false),
            (24, 512, 6, false),
            (12, 512, 6, false),
            (6, 512, 6, false),
            (6, 64, 6, false),
            (6, 16, 6, false),
            (6, 4, 6, false),
            (6, 4, 3, false),
            (6, 4, 2, false),
            (6, 4, 1, false),
            (6, 4, 1, true),
        ];
        assert_eq!(efforts, expected);
        assert_eq!(Effort { step: 0 }.describe(99, 512 << 10, 6), "");
        assert_eq!(
            Effort { step: 8 }.describe(99, 512 << 10, 6),
            "6 Hz instead of 99 Hz, 4 KiB of stack instead of 512 KiB, 3 of 6 kinds"
        );
    }

    #[test]
    fn when_the_load_is_gone_full_effort_comes_back() {
        let (mut controller, mut plant) = (controller(), Plant::new(0.003, 0.5));
        plant.run(&mut controller, 300);
        assert!(controller.effort().step() >= 3, "{:?}", controller.effort());
        plant.sampling_share = 0.004;
        plant.run(&mut controller, 3600);
        assert_eq!(controller.effort().step(), 0, "{:?}", plant.changes);
        assert!(plant.changes.iter().rev().take(3).all(|(_, change)| change.reason == Reason::Room));
    }

    #[test]
    fn a_fixed_cost_above_the_limit_ends_in_a_pause_and_not_in_a_loop() {
        let (mut controller, mut plant) = (controller(), Plant::new(0.03, 0.01));
        plant.run(&mut controller, 1200);
        assert!(controller.effort().is_paused());
        let settled = plant.changes.len();
        plant.run(&mut controller, 3600);
        assert_eq!(plant.changes.len(), settled);
    }

    #[test]
    fn too_much_memory_lowers_effort_and_says_why() {
        let (mut controller, mut plant) = (controller(), Plant::new(0.002, 0.004));
        plant.memory_bytes = 129 << 20;
        plant.run(&mut controller, 3);
        assert_eq!(plant.changes[0].1.reason, Reason::Memory);
        plant.memory_bytes = 90 << 20;
        plant.run(&mut controller, 1200);
        assert_eq!(controller.effort().step(), 0, "{:?}", plant.changes);
    }

    #[test]
    fn a_limit_above_one_core_is_a_limit_too() {
        let mut controller = Controller::new(Limits { cpu_share: 1.5, ..Limits::default() });
        let mut plant = Plant::new(0.1, 1.2);
        plant.run(&mut controller, 600);
        assert!(plant.changes.is_empty());
    }
}
