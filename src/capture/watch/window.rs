//! What was counted in one window of a session, with all that naming and building the profiles
//! need: no process and no sampler. It may be handed to another thread.
//!
//! Not here: counting (`world`).

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{frames::LanguageFrames, images::Placements};
use crate::{
    capture::{
        LabelKeys, Tally,
        collector::{Collector, SourceId},
    },
    issue::Issues,
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
