//! Unwinding the stack of a sample: with what is known of the process's mappings, and again once
//! more is known.
//!
//! Not here: one walk (`crate::unwind`), where frames are (`place`).

use super::{generated::Described, world::World};
use crate::{sampler::RawSample, unwind::StackEnd};

/// The shortest interval between two reads of a process's maps, in nanoseconds.
const REFRESH_EVERY_NS: u64 = 100_000_000;

/// Reading maps again may take at most one part in this many of the time.
const REFRESH_SHARE: u64 = 50;

impl World {
    /// Unwinds into [`World::frames`]. `None`: there is no user stack (a kernel thread).
    pub fn unwind(&mut self, sample: &RawSample<'_>) -> Option<StackEnd> {
        if let Some(space) = self.spaces.get_mut(&sample.pid) {
            space.generated.advance(sample.time_ns, &mut space.modules);
        }
        let end = self.walk(sample)?;
        let end = self.walk_generated(sample, end)?;
        let unknown = self.frames.first().is_some_and(|leaf| leaf.module.is_none())
            || matches!(end, StackEnd::PcUnmapped);
        let space = self.spaces.get_mut(&sample.pid)?;
        let pause_ns = REFRESH_EVERY_NS.max(space.read_took_ns.saturating_mul(REFRESH_SHARE));
        if !unknown || sample.time_ns < space.read_at_ns.saturating_add(pause_ns) {
            return Some(end);
        }
        // New code without a record, or whose record was lost.
        space.refresh(sample.time_ns, &mut self.images, &mut self.issues);
        self.frames.clear();
        let end = self.walk(sample)?;
        self.walk_generated(sample, end)
    }

    /// Walks again while frames are in generated code whose description is new.
    fn walk_generated(&mut self, sample: &RawSample<'_>, first: StackEnd) -> Option<StackEnd> {
        /// Each walk may reach more of such code.
        const MAX_WALKS: usize = 16;
        let mut end = first;
        for _ in 0..MAX_WALKS {
            let space = self.spaces.get_mut(&sample.pid)?;
            let process = Described { pid: sample.pid, memory: &space.memory };
            let met = (&self.frames[..], sample.stack.bytes, sample.time_ns);
            if !space.generated.find(process, met, &mut space.modules, &mut self.images) {
                break;
            }
            self.frames.clear();
            end = self.walk(sample)?;
        }
        Some(end)
    }

    /// Notes what generated the code of a process, for its name in profiles.
    pub(super) fn note_generator(&self, pid: u32) {
        let generator = self.spaces.get(&pid).and_then(|space| space.generated.generator());
        generator.into_iter().for_each(|generator| self.images.note_generator(pid, generator));
    }

    /// The same of all processes.
    pub(super) fn note_generators(&self) {
        self.spaces.keys().for_each(|pid| self.note_generator(*pid));
    }
}
