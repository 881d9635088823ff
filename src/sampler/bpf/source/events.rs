//! Perf events, one on each CPU, that call a program.

use std::os::fd::AsFd;

use super::super::{common::from_perf, load::Loaded};
use crate::{
    sampler::SamplerError,
    sys::perf::{self, EventSpec, PerfError, Scope},
};

/// Events on all CPUs; each calls the program when it overflows.
pub(super) struct Events(Vec<perf::Event>);

impl Events {
    /// Opens an event on each CPU with the program on it. They count from [`Events::enable`] on.
    pub(super) fn open(cpus: &[u32], spec: &EventSpec, loaded: &Loaded) -> Result<Events, PerfError> {
        let mut events = Vec::with_capacity(cpus.len());
        for cpu in cpus {
            let event = match spec.open(Scope::Cpu(*cpu)) {
                // The CPU went offline after the list was read.
                Err(PerfError::CpuOffline { .. }) => continue,
                event => event?,
            };
            event.set_bpf(loaded.program.as_fd())?;
            events.push(event);
        }
        Ok(Events(events))
    }

    pub(super) fn enable(&self) -> Result<(), SamplerError> {
        self.0.iter().try_for_each(perf::Event::enable).map_err(from_perf)
    }

    pub(super) fn disable(&self) -> Result<(), SamplerError> {
        self.0.iter().try_for_each(perf::Event::disable).map_err(from_perf)
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// How the programs are called, for the description.
    pub(super) fn summary(&self, event: &str, max_stack_kib: u32) -> String {
        format!(
            "a BPF program on a {event} event of each of {} CPUs copies registers and whole stacks up to \
             {max_stack_kib} KiB",
            self.count()
        )
    }
}
