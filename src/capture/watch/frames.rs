//! The frames of languages met in a capture, each numbered once. What a frame is (its code object,
//! its method) is read when it is first met and kept, so that it can be named after the process has
//! ended.
//!
//! Addresses of code are used again after the code is gone. Therefore a known frame is checked from
//! time to time by its generation, and a new one must be read soon after its sample. Memory is
//! bounded by [`MAX_FRAMES`]. Not here: names, finding frames in a sample.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{
    process::{LanguageId, identity},
    runtime::{FrameData, Instance, LanguageFrame},
    symbolize::SourceFrame,
};

/// The most frames kept; further ones share one unnamed frame per language.
const MAX_FRAMES: usize = 1 << 18;
/// How long a frame is used without a check of its generation, in nanoseconds.
const CHECK_EVERY_NS: u64 = 10_000_000;

/// The number of a frame.
pub type FrameId = u64;

/// The known frames of all processes.
#[derive(Debug, Default)]
pub struct FrameTable {
    /// By process, so that an ended one is forgotten at once.
    known: FxHashMap<u32, FxHashMap<LanguageFrame, Known>>,
    frames: Vec<Option<Arc<dyn FrameData>>>,
    /// For each language, the frame of those that could not be read.
    unread: FxHashMap<LanguageId, FrameId>,
    /// How many frames could not be read, and how many of these because it was too late.
    pub failed: u64,
    /// See [`FrameTable::failed`].
    pub late: u64,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: FrameId,
    generation: u64,
    checked_at_ns: u64,
}

/// The frames of one window.
#[derive(Clone, Debug, Default)]
pub struct LanguageFrames(FxHashMap<FrameId, Arc<dyn FrameData>>);

impl LanguageFrames {
    /// The functions of a frame, the innermost inlined one first; empty: it could not be read.
    pub fn lines(&self, id: FrameId) -> Vec<SourceFrame> {
        self.0.get(&id).map(|data| data.lines()).unwrap_or_default()
    }
}

impl FrameTable {
    /// These frames, so that they can be named later.
    pub fn keep(&self, ids: impl Iterator<Item = FrameId>) -> LanguageFrames {
        let data = |id: FrameId| self.frames.get(usize::try_from(id).ok()?)?.clone();
        LanguageFrames(ids.filter_map(|id| Some((id, data(id)?))).collect())
    }

    /// Whether the table should be emptied between two windows: code of ended processes and code
    /// that is gone fills it.
    pub fn is_crowded(&self) -> bool {
        self.frames.len() > MAX_FRAMES / 2
    }

    /// The number of a frame of a process's sample.
    pub fn number(
        &mut self,
        pid: u32,
        frame: LanguageFrame,
        instance: &dyn Instance,
        sampled_at_ns: u64,
    ) -> FrameId {
        let known = self.known.get(&pid).and_then(|frames| frames.get(&frame)).copied();
        if let Some(known) = known.filter(|known| sampled_at_ns < known.checked_at_ns + CHECK_EVERY_NS) {
            return known.id;
        }
        let now_ns = identity::monotonic_ns();
        let Some(generation) = instance.generation(frame.key) else {
            // The code is gone, or the process: an older sample's frame is the known one.
            return known.map_or_else(|| self.unread(instance, false), |known| known.id);
        };
        if let Some(known) = known.filter(|known| known.generation == generation) {
            self.remember(pid, frame, Known { checked_at_ns: now_ns, ..known });
            return known.id;
        }
        self.load(pid, frame, instance, generation, (sampled_at_ns, now_ns))
    }

    fn load(
        &mut self,
        pid: u32,
        frame: LanguageFrame,
        instance: &dyn Instance,
        generation: u64,
        (sampled_at_ns, now_ns): (u64, u64),
    ) -> FrameId {
        let is_late = now_ns.saturating_sub(sampled_at_ns) > instance.keeps_frames_ns();
        if is_late || self.frames.len() >= MAX_FRAMES {
            return self.unread(instance, is_late);
        }
        let Some(data) = instance.load(frame.key) else { return self.unread(instance, false) };
        // If it changed while it was read, the parts may not belong together.
        if instance.generation(frame.key) != Some(generation) {
            return self.unread(instance, false);
        }
        let id = self.add(Some(data));
        self.remember(pid, frame, Known { id, generation, checked_at_ns: now_ns });
        id
    }

    fn remember(&mut self, pid: u32, frame: LanguageFrame, known: Known) {
        self.known.entry(pid).or_default().insert(frame, known);
    }

    fn add(&mut self, data: Option<Arc<dyn FrameData>>) -> FrameId {
        self.frames.push(data);
        self.frames.len() as FrameId - 1
    }

    fn unread(&mut self, instance: &dyn Instance, is_late: bool) -> FrameId {
        self.failed += 1;
        self.late += u64::from(is_late);
        let language = instance.language().id();
        if let Some(id) = self.unread.get(&language) {
            return *id;
        }
        let id = self.add(None);
        self.unread.insert(language, id);
        id
    }

    /// Forgets which frames a process had; the frames themselves stay: places refer to them.
    pub fn forget_process(&mut self, pid: u32) {
        self.known.remove(&pid);
    }
}
