//! The sources of samples: what makes the programs take one, and what a sample of it is worth.
//!
//! Each file has one source, which loads its programs and starts them. All write the same record
//! ([`super::record`]) into one ring. Not here: the ring, side-band records, any language.

mod clock;
mod created;
mod events;
mod faults;
mod waits;

use super::{
    load::{Loaded, Settings, WaitMode},
    program::Room,
    record::Record,
};
use crate::sampler::{Event, RawSample, SamplerError, SamplerOptions, Trigger};

pub(super) use waits::parse as parse_swept;

/// A running source of samples.
pub(super) trait Source {
    /// The event that takes a sample, in words.
    fn event(&self) -> &'static str;
    /// How it samples, in one sentence; stacks are copied up to `max_stack_kib`.
    fn summary(&self, max_stack_kib: u32) -> String;
    /// Whether its samples have kernel frames if the user wants them.
    fn has_kernel_frames(&self) -> bool {
        true
    }
    /// The number of perf events that are open.
    fn event_count(&self) -> usize {
        0
    }
    /// Starts, once the targets are set. Errors: the source cannot read the targets' state.
    fn begin(&mut self, _pids: &[u32]) -> Result<(), SamplerError> {
        Ok(())
    }
    /// The sample of a record, with what it is worth.
    fn read<'a>(&mut self, record: Record<'a>) -> RawSample<'a> {
        record.sample
    }
    /// Occurrences that the programs could not record, besides records that found no room. Errors:
    /// a map cannot be read.
    fn unseen(&self) -> Result<u64, SamplerError> {
        Ok(0)
    }
    /// Ends one profile and begins the next. Errors: the source cannot read the targets' state.
    fn split(&mut self, _pids: &[u32]) -> Result<(), SamplerError> {
        Ok(())
    }
    /// Reports samples that are not in the ring.
    fn hand_over_rest(&mut self, _max_stack_bytes: u32, _sink: &mut dyn FnMut(Event<'_>)) {}
    /// Takes no more samples. Errors: the kernel refuses to stop an event.
    fn stop(&mut self, pids: &[u32]) -> Result<(), SamplerError>;
}

/// What a source needs to begin.
pub(super) struct Opening<'o> {
    /// Trigger, rate, targets.
    pub options: &'o SamplerOptions,
    /// For the programs.
    pub settings: Settings,
    /// The memory of the programs.
    pub room: Room,
    /// The CPUs that are online.
    pub cpus: &'o [u32],
}

/// Loads and starts the source of the options' trigger. Errors: rights or the kernel do not allow
/// it.
pub(super) fn open(opening: &Opening<'_>) -> Result<(Loaded, Box<dyn Source>), SamplerError> {
    match opening.options.trigger {
        Trigger::Time => clock::open(opening),
        Trigger::PageFault => faults::open(opening),
        Trigger::ThreadCreated => created::open(opening),
        Trigger::Waited => waits::open(opening, WaitMode::All),
        Trigger::Blocked => waits::open(opening, WaitMode::Blocked),
        Trigger::Released => waits::open(opening, WaitMode::Released),
    }
}
