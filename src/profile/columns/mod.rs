//! A profile laid out for reading: tables of small plain values, stacks as one array of location
//! numbers, interned texts. Read once from the wire ([`decode`]); every report works on it.
//!
//! Not here: building profiles piece by piece (`Builder`), selecting samples for a report
//! ([`filter`]), output (`report`).
//!
//! The big arrays are shared: a copy is free until one of the copies is changed.

use std::{ops::Range, sync::Arc};

pub mod aggregate;
pub mod check;
pub mod decode;
pub mod encode;
pub mod error;
pub mod filter;
mod gunzip;
pub mod labels;
pub mod merge;
mod merge_rows;
pub mod parallel;
pub mod parse;
pub mod prune;
mod rows;
pub mod scale;
pub mod texts;
mod wire;

pub use texts::{TextId, Texts};

/// Used in place of a row number where there is no row.
pub const NONE: u32 = u32::MAX;

/// The type and unit of a value: `cpu` in `nanoseconds`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SampleKind {
    /// `cpu`, `samples`, `alloc_space` …
    pub name: TextId,
    /// `nanoseconds`, `count`, `bytes` …
    pub unit: TextId,
}

/// A range of a file in memory. Fields as in `profile.proto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Unique, not 0.
    pub id: u64,
    /// First run-time address.
    pub start: u64,
    /// Run-time address after the last byte.
    pub limit: u64,
    /// Offset in the file of the byte at `start`.
    pub offset: u64,
    /// Path of the file, or a name such as `[vdso]`.
    pub file: TextId,
    /// Build ID in hexadecimal; empty if unknown.
    pub build_id: TextId,
    /// Locations of the mapping have function names.
    pub has_functions: bool,
    /// Locations of the mapping have source files.
    pub has_filenames: bool,
    /// Locations of the mapping have line numbers.
    pub has_line_numbers: bool,
    /// Locations of the mapping have inlined frames.
    pub has_inline_frames: bool,
}

/// A function of the program's source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Function {
    /// Unique, not 0.
    pub id: u64,
    /// The name to show.
    pub name: TextId,
    /// The linkage name.
    pub system_name: TextId,
    /// The source file.
    pub file: TextId,
    /// First line of the function; 0 if unknown.
    pub start_line: i64,
}

/// A location in the program; its lines are `lines` of [`Columns::lines`], innermost inlined first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// Unique, not 0.
    pub id: u64,
    /// Row of [`Columns::mappings`], or [`NONE`].
    pub mapping: u32,
    /// Run-time address of the instruction.
    pub address: u64,
    /// Range of [`Columns::lines`].
    pub lines: Range<u32>,
    /// The linker merged several identical functions here.
    pub is_folded: bool,
}

/// A function and a position in its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Line {
    /// Row of [`Columns::functions`], or [`NONE`].
    pub function: u32,
    /// From 1; 0 if unknown.
    pub line: i64,
    /// From 1; 0 if unknown.
    pub column: i64,
}

/// A label of a sample: a text, or a number with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// The label's key.
    pub key: TextId,
    /// Unit of a number (0 if none), or [`Label::TEXT`].
    unit: TextId,
    /// The number, or the [`TextId`] of the text.
    value: i64,
}

impl Label {
    const TEXT: TextId = TextId::MAX;

    /// `key = "text"`.
    pub fn text(key: TextId, text: TextId) -> Label {
        Label { key, unit: Label::TEXT, value: i64::from(text) }
    }

    /// `key = 17 bytes`.
    pub fn number(key: TextId, number: i64, unit: TextId) -> Label {
        Label { key, unit, value: number }
    }

    /// The text, if the value is one.
    pub fn as_text(&self) -> Option<TextId> {
        (self.unit == Label::TEXT).then_some(self.value as TextId)
    }

    /// Renumbers the texts of this label.
    fn map_texts(&mut self, mut name: impl FnMut(&mut TextId)) {
        name(&mut self.key);
        if let Some(mut text) = self.as_text() {
            name(&mut text);
            self.value = text.into();
        } else {
            name(&mut self.unit);
        }
    }

    /// Number and unit, if the value is a number.
    pub fn as_number(&self) -> Option<(i64, TextId)> {
        (self.unit != Label::TEXT).then_some((self.value, self.unit))
    }
}

/// The fields that occur once in a profile.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// Type and unit of each value of a sample.
    pub kinds: Vec<SampleKind>,
    /// Type and unit of the period.
    pub period_kind: SampleKind,
    /// Number of units between two samples.
    pub period: i64,
    /// Start of collection, in nanoseconds since 1970-01-01 UTC.
    pub time_ns: i64,
    /// Duration of collection, in nanoseconds.
    pub duration_ns: i64,
    /// Free text for the reader.
    pub comments: Vec<TextId>,
    /// Name of the sample type shown first; empty if not stated.
    pub default_kind: TextId,
    /// URL that documents this kind of profile.
    pub doc_url: TextId,
    /// Regular expression of frames to drop, with their callees.
    pub drop_frames: TextId,
    /// Regular expression of frames to keep although `drop_frames` matches.
    pub keep_frames: TextId,
}

/// A profile. Samples are stored in four arrays: sample `i` has the values `i * kinds ..`, the
/// frames `stack_ends[i] .. stack_ends[i + 1]` and the labels `label_ends[i] .. label_ends[i + 1]`.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The fields that occur once.
    pub header: Header,
    /// All texts.
    pub texts: Arc<Texts>,
    /// Mapped files; the first is the main binary.
    pub mappings: Vec<Mapping>,
    /// Functions.
    pub functions: Vec<Function>,
    /// Locations.
    pub locations: Vec<Location>,
    /// Lines of all locations.
    pub lines: Vec<Line>,
    values: Arc<Vec<i64>>,
    stack_ends: Arc<Vec<u32>>,
    frames: Arc<Vec<u32>>,
    label_ends: Arc<Vec<u32>>,
    labels: Arc<Vec<Label>>,
}

impl Default for Columns {
    fn default() -> Columns {
        Columns {
            header: Header::default(),
            texts: Arc::default(),
            mappings: Vec::new(),
            functions: Vec::new(),
            locations: Vec::new(),
            lines: Vec::new(),
            values: Arc::default(),
            stack_ends: Arc::new(vec![0]),
            frames: Arc::default(),
            label_ends: Arc::new(vec![0]),
            labels: Arc::default(),
        }
    }
}

impl Columns {
    /// Number of samples.
    pub fn sample_count(&self) -> usize {
        self.stack_ends.len() - 1
    }

    /// Number of frames of all samples.
    pub fn frame_count(&self) -> usize {
        self.frames.len()
    }

    /// The values of a sample, one per kind.
    pub fn values(&self, sample: usize) -> &[i64] {
        let kinds = self.header.kinds.len();
        self.values.get(sample * kinds..(sample + 1) * kinds).unwrap_or_default()
    }

    /// The locations of a sample, leaf first.
    pub fn stack(&self, sample: usize) -> &[u32] {
        &self.frames[self.stack_ends[sample] as usize..self.stack_ends[sample + 1] as usize]
    }

    /// Range of [`Columns::all_frames`] that has the locations of a sample.
    pub fn stack_range(&self, sample: usize) -> Range<u32> {
        self.stack_ends[sample]..self.stack_ends[sample + 1]
    }

    /// The locations of all samples, each sample leaf first.
    pub fn all_frames(&self) -> &[u32] {
        &self.frames
    }

    /// The labels of a sample in the order of the file.
    pub fn labels(&self, sample: usize) -> &[Label] {
        &self.labels[self.label_ends[sample] as usize..self.label_ends[sample + 1] as usize]
    }

    /// Whether any sample has a label.
    pub fn has_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// The lines of a location.
    pub fn lines_of(&self, location: &Location) -> &[Line] {
        self.lines.get(location.lines.start as usize..location.lines.end as usize).unwrap_or_default()
    }

    /// The text with number `id`.
    pub fn text(&self, id: TextId) -> &str {
        self.texts.get(id)
    }

    /// The number of `text`; a new text gets a new number.
    pub fn intern(&mut self, text: &str) -> TextId {
        match self.texts.find(text) {
            Some(id) => id,
            None => Arc::make_mut(&mut self.texts).intern(text),
        }
    }

    /// The mapping of a location.
    pub fn mapping_of(&self, location: &Location) -> Option<&Mapping> {
        self.mappings.get(location.mapping as usize)
    }

    /// The file of the location's mapping; empty without a mapping.
    pub fn mapping_file(&self, location: &Location) -> TextId {
        self.mapping_of(location).map_or(0, |mapping| mapping.file)
    }

    /// Adds a sample. `values` holds one for each kind.
    pub fn push_sample(&mut self, values: &[i64], stack: &[u32], labels: &[Label]) {
        Arc::make_mut(&mut self.values).extend_from_slice(values);
        let frames = Arc::make_mut(&mut self.frames);
        frames.extend_from_slice(stack);
        Arc::make_mut(&mut self.stack_ends).push(frames.len() as u32);
        let all_labels = Arc::make_mut(&mut self.labels);
        all_labels.extend_from_slice(labels);
        Arc::make_mut(&mut self.label_ends).push(all_labels.len() as u32);
    }

    /// Adds a location with these lines and returns its row.
    pub fn push_location(&mut self, location: Location, lines: &[Line]) -> u32 {
        let start = self.lines.len() as u32;
        self.lines.extend_from_slice(lines);
        self.locations.push(Location { lines: start..self.lines.len() as u32, ..location });
        self.locations.len() as u32 - 1
    }

    /// Keeps the samples for which `keep` returns a part of their stack, which becomes their stack.
    /// Frames at locations marked by `hidden` are removed from it, and samples without remaining
    /// frames are dropped.
    pub fn retain(
        &mut self,
        hidden: Option<&[bool]>,
        mut keep: impl FnMut(usize, &[u32]) -> Option<Range<usize>>,
    ) {
        let kinds = self.header.kinds.len();
        let values = Arc::make_mut(&mut self.values);
        let stack_ends = Arc::make_mut(&mut self.stack_ends);
        let frames = Arc::make_mut(&mut self.frames);
        let label_ends = Arc::make_mut(&mut self.label_ends);
        let labels = Arc::make_mut(&mut self.labels);
        let (mut kept, mut frame_end, mut label_end) = (0, 0, 0);
        let (mut stack_start, mut label_start) = (0, 0);
        for sample in 0..stack_ends.len() - 1 {
            let stack = stack_start..stack_ends[sample + 1] as usize;
            let own_labels = label_start..label_ends[sample + 1] as usize;
            (stack_start, label_start) = (stack.end, own_labels.end);
            let Some(part) = keep(sample, &frames[stack.clone()]) else { continue };
            let part = stack.start + part.start..stack.start + part.end;
            let frames_before = frame_end;
            match hidden {
                None => {
                    frames.copy_within(part.clone(), frame_end);
                    frame_end += part.len();
                }
                Some(hidden) => {
                    for at in part {
                        let location = frames[at];
                        if !hidden[location as usize] {
                            frames[frame_end] = location;
                            frame_end += 1;
                        }
                    }
                    if frame_end == frames_before {
                        continue;
                    }
                }
            }
            values.copy_within(sample * kinds..(sample + 1) * kinds, kept * kinds);
            labels.copy_within(own_labels.clone(), label_end);
            label_end += own_labels.len();
            kept += 1;
            stack_ends[kept] = frame_end as u32;
            label_ends[kept] = label_end as u32;
        }
        values.truncate(kept * kinds);
        stack_ends.truncate(kept + 1);
        frames.truncate(frame_end);
        label_ends.truncate(kept + 1);
        labels.truncate(label_end);
    }

    /// Changes the values of each sample; drops samples for which `change` returns false.
    pub fn change_values(&mut self, mut change: impl FnMut(&mut [i64]) -> bool) {
        let kinds = self.header.kinds.len();
        if kinds == 0 {
            return;
        }
        let kept: Vec<bool> = Arc::make_mut(&mut self.values).chunks_mut(kinds).map(&mut change).collect();
        if kept.contains(&false) {
            self.retain(None, |sample, stack| kept[sample].then_some(0..stack.len()));
        }
    }

    /// Adds frames before the leaf and after the root of each sample, as returned by `frames_for`.
    pub fn extend_stacks(&mut self, mut frames_for: impl FnMut(&mut Columns, usize) -> (Vec<u32>, Vec<u32>)) {
        let mut stack_ends = vec![0];
        let mut frames = Vec::with_capacity(self.frames.len() + 2 * self.sample_count());
        for sample in 0..self.sample_count() {
            let (leaves, roots) = frames_for(self, sample);
            frames.extend(leaves);
            frames.extend_from_slice(self.stack(sample));
            frames.extend(roots);
            stack_ends.push(frames.len() as u32);
        }
        self.stack_ends = Arc::new(stack_ends);
        self.frames = Arc::new(frames);
    }

    /// Replaces the labels of each sample by the result of `labels_for`.
    pub fn relabel(&mut self, mut labels_for: impl FnMut(&[Label], &mut Vec<Label>)) {
        let mut label_ends = vec![0];
        let mut labels = Vec::with_capacity(self.labels.len());
        for sample in 0..self.sample_count() {
            labels_for(self.labels(sample), &mut labels);
            label_ends.push(labels.len() as u32);
        }
        self.label_ends = Arc::new(label_ends);
        self.labels = Arc::new(labels);
    }

    /// Keeps the values at the positions in `order` of each sample, in that order.
    pub fn select_values(&mut self, order: &[usize]) {
        let kinds: Vec<SampleKind> = order.iter().map(|at| self.header.kinds[*at]).collect();
        let samples = 0..self.sample_count();
        let values = samples.flat_map(|s| order.iter().map(move |at| (s, *at)));
        let values = values.map(|(sample, at)| self.values(sample)[at]).collect();
        self.values = Arc::new(values);
        self.header.kinds = kinds;
    }

    /// The position of the value named `name`: a number, a kind's name (optionally prefixed by
    /// `inuse_`), or, if empty, the profile's default or else the last.
    pub fn value_index(&self, name: &str) -> Result<usize, String> {
        let kinds = &self.header.kinds;
        if name.is_empty() {
            let default = kinds.iter().position(|kind| kind.name == self.header.default_kind);
            let default = if self.header.default_kind == 0 { None } else { default };
            return Ok(default.unwrap_or(kinds.len().saturating_sub(1)));
        }
        if let Ok(index) = name.parse::<i64>() {
            let valid = usize::try_from(index).ok().filter(|index| *index < kinds.len());
            let last = kinds.len() as i64 - 1;
            return valid.ok_or_else(|| format!("sample_index {name} is outside the range [0..{last}]"));
        }
        let bare = name.strip_prefix("inuse_").unwrap_or(name);
        let found = kinds.iter().position(|kind| [name, bare].contains(&self.text(kind.name)));
        found.ok_or_else(|| {
            let names: Vec<_> = kinds.iter().map(|kind| self.text(kind.name)).collect();
            format!("sample_index {} must be one of: [{}]", crate::text::go::quote(name), names.join(" "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_samples() -> Columns {
        let mut columns = Columns::default();
        columns.header.kinds = vec![SampleKind::default()];
        for (value, stack) in [(1, &[0, 1][..]), (2, &[1]), (3, &[2, 1, 0])] {
            columns.push_sample(&[value], stack, &[Label::number(0, value, 0)]);
        }
        columns
    }

    #[test]
    fn changing_a_profile_does_not_change_its_copy() {
        let mut changed = three_samples();
        let copy = changed.clone();
        changed.retain(None, |sample, stack| (sample != 1).then_some(1..stack.len()));
        assert_eq!((changed.sample_count(), changed.stack(1), changed.values(1)), (2, &[1, 0][..], &[3][..]));
        assert_eq!(changed.labels(1), [Label::number(0, 3, 0)]);
        assert_eq!((copy.sample_count(), copy.stack(2)), (3, &[2, 1, 0][..]));
    }

    #[test]
    fn samples_without_a_visible_frame_are_dropped() {
        let mut columns = three_samples();
        columns.retain(Some(&[false, true, true]), |_, stack| Some(0..stack.len()));
        assert_eq!(columns.sample_count(), 2);
        assert_eq!((columns.stack(0), columns.stack(1), columns.values(1)), (&[0][..], &[0][..], &[3][..]));
    }

    #[test]
    fn a_value_is_found_by_number_name_or_default() {
        let mut columns = three_samples();
        let (space, objects) = (columns.intern("space"), columns.intern("objects"));
        columns.header.kinds =
            vec![SampleKind { name: objects, unit: 0 }, SampleKind { name: space, unit: 0 }];
        assert_eq!(columns.value_index(""), Ok(1));
        assert_eq!(columns.value_index("inuse_objects"), Ok(0));
        assert_eq!(columns.value_index("2"), Err("sample_index 2 is outside the range [0..1]".into()));
        let error = "sample_index \"cpu\" must be one of: [objects space]";
        assert_eq!(columns.value_index("cpu"), Err(error.into()));
    }
}
