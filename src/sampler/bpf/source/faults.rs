//! Page faults: one sample in [`FAULTS_A_SAMPLE`] on each CPU.

use super::{Opening, Source, events::Events};
use crate::{
    sampler::{
        FAULTS_A_SAMPLE, SamplerError,
        bpf::{
            common::from_perf,
            load::{self, Loaded, Program, Settings},
            record::ValueKind,
        },
    },
    sys::perf::{EventKind, EventSpec, Rate},
};

const EVENT: &str = "page-faults";

struct Faults {
    events: Events,
}

pub(super) fn open(opening: &Opening<'_>) -> Result<(Loaded, Box<dyn Source>), SamplerError> {
    let Opening { options, settings, room, cpus } = *opening;
    let settings = Settings { period_kind: ValueKind::Objects, ..settings };
    let loaded = load::load(Program::Sample, settings, room, options.follow_forks)?;
    let rate = Rate::Period(FAULTS_A_SAMPLE);
    let spec = EventSpec { kind: EventKind::PageFaults, rate, ..Default::default() };
    let events = Events::open(cpus, &spec, &loaded).map_err(from_perf)?;
    Ok((loaded, Box::new(Faults { events })))
}

impl Source for Faults {
    fn event(&self) -> &'static str {
        EVENT
    }

    fn summary(&self, max_stack_kib: u32) -> String {
        self.events.summary(EVENT, max_stack_kib)
    }

    fn event_count(&self) -> usize {
        self.events.count()
    }

    fn begin(&mut self, _pids: &[u32]) -> Result<(), SamplerError> {
        self.events.enable()
    }

    fn stop(&mut self, _pids: &[u32]) -> Result<(), SamplerError> {
        self.events.disable()
    }
}
