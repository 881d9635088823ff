//! What was counted in one window of a session, with all that naming and building the profiles
//! need: no process and no sampler. It may be handed to another thread.
//!
//! Not here: counting, and forgetting what has ended (`world`).

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    frames::LanguageFrames,
    images::{ImageKind, Placements},
    world::World,
};
use crate::{
    capture::{
        LabelKeys, Tally,
        collector::{Collector, MappingId, SourceId},
    },
    issue::Issues,
    process::identity,
    runtime::CategoryRule,
};

/// A closed window.
#[derive(Debug)]
pub struct Window {
    /// The counted stacks of all sources.
    pub collector: Collector,
    /// The mappings of their places.
    pub placements: Placements,
    /// The frames of languages among their places.
    pub language_frames: LanguageFrames,
    /// What is to be said about them.
    pub language_notes: LanguageNotes,
    /// Which labels the samples have.
    pub label_keys: LabelKeys,
    /// What is missing in all profiles of the window.
    pub issues: Issues,
    /// Counts of samples and frames, by [`SourceId`].
    pub tallies: Vec<Tally>,
    /// Threads created during the window: process and thread number.
    pub new_threads: FxHashSet<(u32, u32)>,
}

/// How the frames of languages were read.
#[derive(Debug, Default)]
pub struct LanguageNotes {
    /// How well the runtimes of the profiled processes could be read, `key: value`.
    pub quality: Vec<String>,
    /// Why frames have no certain place in stacks, and of how many samples.
    pub unplaced: FxHashMap<&'static str, u64>,
    /// How many frames could not be read.
    pub failed: u64,
    /// How many of these because it was too late.
    pub late: u64,
    /// Which frames are of which category, of all runtimes met.
    pub categories: BTreeSet<CategoryRule>,
}

impl Window {
    /// Takes the counts of samples and frames of a source.
    pub fn take_tally(&mut self, source: SourceId) -> Tally {
        self.tallies.get_mut(source).map(std::mem::take).unwrap_or_default()
    }
}

impl World {
    /// Ends a window and begins the next: returns what was counted, and forgets all that no living
    /// process has any more.
    pub fn close(&mut self) -> Window {
        let collector = std::mem::take(&mut self.collector);
        self.note_generators();
        let quality = self.take_quality();
        let tallies = self.take_tallies();
        let cut_in = tallies.iter().flat_map(Tally::mappings_of_cuts);
        let mappings = collector.places().iter().map(|place| place.mapping).chain(cut_in);
        let frames = collector.places().iter().map(|place| (place.mapping, place.address));
        let is_language = |id: MappingId| self.images.placement(id).image.kind == ImageKind::Language;
        let frames = frames.filter(|(mapping, _)| is_language(*mapping)).map(|(_, frame)| frame);
        let language_notes = LanguageNotes {
            quality,
            unplaced: std::mem::take(&mut self.unplaced),
            failed: std::mem::take(&mut self.language_frames.failed),
            late: std::mem::take(&mut self.language_frames.late),
            categories: self.categories.clone(),
        };
        let window = Window {
            language_notes,
            language_frames: self.language_frames.keep(frames),
            placements: self.images.placements_of(mappings),
            collector,
            label_keys: self.label_keys,
            issues: std::mem::take(&mut self.issues),
            tallies,
            new_threads: std::mem::take(&mut self.new_threads),
        };
        self.forget_gone(identity::monotonic_ns());
        window
    }
}
