//! CPU time: the cycle counter of each CPU, or a timer.

use super::{Opening, Source, events::Events};
use crate::{
    sampler::{
        RawSample, SamplerError, Values,
        bpf::{
            common::from_perf,
            load::{self, Loaded, Program},
            record::Record,
        },
    },
    sys::{
        self,
        perf::{self, EventKind, EventSpec, PerfError, Rate},
    },
};

struct Clock {
    events: Events,
    name: &'static str,
    /// The nanoseconds of each sample, where its period is not in nanoseconds.
    fixed_period_ns: Option<u64>,
}

pub(super) fn open(opening: &Opening<'_>) -> Result<(Loaded, Box<dyn Source>), SamplerError> {
    let Opening { options, settings, room, cpus } = *opening;
    let loaded = load::load(Program::Sample, settings, room, options.follow_forks)?;
    let clock = Clock::open(cpus, options.frequency_hz, &loaded)?;
    Ok((loaded, Box::new(clock)))
}

impl Clock {
    /// The CPUs' cycle counters where they exist: they also sample code that disables interrupts.
    /// Else timers.
    fn open(cpus: &[u32], frequency_hz: u32, loaded: &Loaded) -> Result<Clock, SamplerError> {
        let period_ns = 1_000_000_000 / u64::from(frequency_hz.max(1));
        if perf::counts_cycles() {
            let most = sys::limits::perf_event_max_sample_rate_hz().unwrap_or(u64::MAX).max(1);
            let rate = Rate::FrequencyHz(u64::from(frequency_hz.max(1)).min(most));
            let spec = EventSpec { kind: EventKind::Cycles, rate, ..Default::default() };
            match Events::open(cpus, &spec, loaded) {
                // All counters are in use, or may not be sampled: timers remain.
                Err(PerfError::NoHardware { .. } | PerfError::Unsupported { .. }) => {}
                events => {
                    let events = events.map_err(from_perf)?;
                    return Ok(Clock { events, name: "cycles", fixed_period_ns: Some(period_ns) });
                }
            }
        }
        let spec =
            EventSpec { kind: EventKind::CpuClock, rate: Rate::Period(period_ns), ..Default::default() };
        let events = Events::open(cpus, &spec, loaded).map_err(from_perf)?;
        Ok(Clock { events, name: "cpu-clock", fixed_period_ns: None })
    }
}

impl Source for Clock {
    fn event(&self) -> &'static str {
        self.name
    }

    fn summary(&self, max_stack_kib: u32) -> String {
        self.events.summary(self.name, max_stack_kib)
    }

    fn event_count(&self) -> usize {
        self.events.count()
    }

    fn begin(&mut self, _pids: &[u32]) -> Result<(), SamplerError> {
        self.events.enable()
    }

    fn read<'a>(&mut self, record: Record<'a>) -> RawSample<'a> {
        let values = record.sample.values;
        let nanoseconds = self.fixed_period_ns.unwrap_or(values.nanoseconds);
        RawSample { values: Values { nanoseconds, ..values }, ..record.sample }
    }

    fn stop(&mut self, _pids: &[u32]) -> Result<(), SamplerError> {
        self.events.disable()
    }
}
