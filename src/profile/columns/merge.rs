//! Merges profiles: equal locations become one location, equal stacks with equal labels one sample.
//!
//! Not here: converting kinds and units first ([`super::scale`]). Equality and the order of the
//! result are those of google/pprof's `profile.Merge`.

use std::{
    hash::{BuildHasher, Hasher},
    sync::Arc,
};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable, hash_table::Entry};

use super::{
    Columns, Function, Label, Line, Location, Mapping, NONE, SampleKind, TextId, merge_rows::Rows, scale,
};

/// Merges all profiles into one. Samples whose values are all zero are dropped.
pub fn merge(profiles: Vec<Columns>) -> Result<Columns, String> {
    let Some(first) = profiles.first() else { return Err("no profiles to merge".into()) };
    for other in &profiles[1..] {
        scale::compatible(first, other)?;
    }
    let mut merger = Merger::default();
    for profile in profiles {
        merger.add(profile);
    }
    merger.finish()
}

/// Merges profiles one by one, so that they need not all be in memory. They must measure the same.
pub struct Merger {
    out: Columns,
    hasher: DefaultHashBuilder,
    count: usize,
    /// The last source that was added.
    before: Option<Rows>,
    comments: HashSet<TextId>,
    mappings: HashMap<(u64, u64, TextId), u32>,
    functions: HashTable<u32>,
    locations: HashTable<u32>,
    samples: HashTable<u32>,
    sample_hashes: Vec<u64>,
    /// The arrays of samples, moved into `Columns` at the end.
    values: Vec<i64>,
    stack_ends: Vec<u32>,
    frames: Vec<u32>,
    label_ends: Vec<u32>,
    labels: Vec<Label>,
}

impl Default for Merger {
    fn default() -> Merger {
        Merger {
            out: Columns::default(),
            hasher: super::texts::hasher(),
            count: 0,
            before: None,
            comments: HashSet::new(),
            mappings: HashMap::new(),
            functions: HashTable::new(),
            locations: HashTable::new(),
            samples: HashTable::new(),
            sample_hashes: Vec::new(),
            values: Vec::new(),
            stack_ends: vec![0],
            frames: Vec::new(),
            label_ends: vec![0],
            labels: Vec::new(),
        }
    }
}

impl Merger {
    fn header(&mut self, profile: &Columns) {
        let is_first = self.count == 0;
        self.count += 1;
        let own = &profile.header;
        let texts = Arc::make_mut(&mut self.out.texts);
        let mut text = |id| texts.intern_from(&profile.texts, id);
        let header = &mut self.out.header;
        if is_first {
            let mut kind = |kind: &SampleKind| SampleKind { name: text(kind.name), unit: text(kind.unit) };
            header.kinds = own.kinds.iter().map(&mut kind).collect();
            header.period_kind = kind(&own.period_kind);
            (header.drop_frames, header.keep_frames) = (text(own.drop_frames), text(own.keep_frames));
        }
        if header.time_ns == 0 || own.time_ns < header.time_ns {
            header.time_ns = own.time_ns;
        }
        header.duration_ns = header.duration_ns.wrapping_add(own.duration_ns);
        if header.period == 0 || header.period < own.period {
            header.period = own.period;
        }
        for comment in &own.comments {
            let comment = text(*comment);
            if self.comments.insert(comment) {
                header.comments.push(comment);
            }
        }
        if header.default_kind == 0 {
            header.default_kind = text(own.default_kind);
        }
        if header.doc_url == 0 {
            header.doc_url = text(own.doc_url);
        }
    }

    /// Whether `profile` measures the same as those before, so that no value needs to be converted.
    pub fn takes(&self, profile: &Columns) -> bool {
        // Converting units passes periods through floats.
        let is_exact = |columns: &Columns| columns.header.period.unsigned_abs() < 1 << 53;
        let mut names: Vec<TextId> = profile.header.kinds.iter().map(|kind| kind.name).collect();
        names.sort_unstable();
        let are_distinct = names.windows(2).all(|pair| pair[0] != pair[1]);
        let is_alike = self.count == 0 || scale::compatible(&self.out, profile).is_ok();
        are_distinct && is_alike && is_exact(profile) && is_exact(&self.out)
    }

    /// Adds a profile.
    pub fn add(&mut self, source: Columns) {
        self.header(&source);
        let mut rows = Rows::new(source, self.before.take());
        if self.out.mappings.is_empty() && !rows.source.mappings.is_empty() {
            // The first mapping is the main binary and must stay first.
            self.mapping(&mut rows, 0);
        }
        let (mut stack, mut labels) = (Vec::new(), Vec::new());
        for sample in 0..rows.source.sample_count() {
            if rows.source.values(sample).iter().all(|value| *value == 0) {
                continue;
            }
            stack.clear();
            for at in 0..rows.source.stack(sample).len() {
                let location = rows.source.stack(sample)[at];
                let row = match rows.locations[location as usize] {
                    NONE => self.location(&mut rows, location),
                    row => row,
                };
                stack.push(row);
            }
            labels.clear();
            for at in 0..rows.source.labels(sample).len() {
                let mut label = rows.source.labels(sample)[at];
                label.map_texts(|text| *text = self.text(&mut rows, *text));
                labels.push(label);
            }
            // The order of labels with different keys has no meaning.
            labels.sort_by_key(|label| (label.as_number().is_some(), label.key));
            self.sample(rows.source.values(sample), &stack, &labels);
        }
        self.before = Some(rows);
    }

    fn sample(&mut self, values: &[i64], stack: &[u32], labels: &[Label]) {
        let hash = self.hasher.hash_one((stack, labels));
        let (hashes, stack_ends, label_ends) = (&self.sample_hashes, &self.stack_ends, &self.label_ends);
        let (frames, all_labels) = (&self.frames, &self.labels);
        let is_equal = |row: &u32| {
            let at = *row as usize;
            hashes[at] == hash
                && frames[stack_ends[at] as usize..stack_ends[at + 1] as usize] == *stack
                && all_labels[label_ends[at] as usize..label_ends[at + 1] as usize] == *labels
        };
        match self.samples.entry(hash, is_equal, |row| hashes[*row as usize]) {
            Entry::Occupied(row) => {
                let start = *row.get() as usize * values.len();
                for (sum, value) in self.values[start..].iter_mut().zip(values) {
                    *sum = sum.wrapping_add(*value);
                }
            }
            Entry::Vacant(new) => {
                new.insert(self.sample_hashes.len() as u32);
                self.sample_hashes.push(hash);
                self.values.extend_from_slice(values);
                self.frames.extend_from_slice(stack);
                self.stack_ends.push(self.frames.len() as u32);
                self.labels.extend_from_slice(labels);
                self.label_ends.push(self.labels.len() as u32);
            }
        }
    }

    fn text(&mut self, rows: &mut Rows, text: TextId) -> TextId {
        let known = &mut rows.texts[text as usize];
        if *known == NONE {
            *known = Arc::make_mut(&mut self.out.texts).intern_from(&rows.source.texts, text);
        }
        *known
    }

    /// The row of a mapping, and the number to add to addresses in it.
    fn mapping(&mut self, rows: &mut Rows, row: u32) -> (u32, u64) {
        let Some(own) = rows.source.mappings.get(row as usize).copied() else { return (NONE, 0) };
        if rows.mappings[row as usize].0 != NONE {
            return rows.mappings[row as usize];
        }
        let (file, build_id) = (self.text(rows, own.file), self.text(rows, own.build_id));
        // Sizes are compared in whole pages.
        let size = own.limit.wrapping_sub(own.start).wrapping_add(0xfff);
        let size = size - size % 0x1000;
        let key = (size, own.offset, if build_id == 0 { file } else { build_id });
        let new = self.out.mappings.len() as u32;
        let row_out = *self.mappings.entry(key).or_insert(new);
        if row_out == new {
            self.out.mappings.push(Mapping { id: u64::from(new) + 1, file, build_id, ..own });
        }
        let shift = self.out.mappings[row_out as usize].start.wrapping_sub(own.start);
        rows.mappings[row as usize] = (row_out, shift);
        (row_out, shift)
    }

    fn function(&mut self, rows: &mut Rows, row: u32) -> u32 {
        let Some(own) = rows.source.functions.get(row as usize).copied() else { return NONE };
        if rows.functions[row as usize] != NONE {
            return rows.functions[row as usize];
        }
        let [name, system_name, file] =
            [own.name, own.system_name, own.file].map(|text| self.text(rows, text));
        let key =
            |function: &Function| (function.start_line, function.name, function.system_name, function.file);
        let function = Function { id: 0, name, system_name, file, start_line: own.start_line };
        let all = &mut self.out.functions;
        let hash = |function: &Function| self.hasher.hash_one(key(function));
        let entry = self.functions.entry(
            hash(&function),
            |row| key(&all[*row as usize]) == key(&function),
            |row| hash(&all[*row as usize]),
        );
        let row_out = match entry {
            Entry::Occupied(row) => *row.get(),
            Entry::Vacant(new) => {
                let row = all.len() as u32;
                new.insert(row);
                all.push(Function { id: u64::from(row) + 1, ..function });
                row
            }
        };
        rows.functions[row as usize] = row_out;
        row_out
    }

    fn location(&mut self, rows: &mut Rows, row: u32) -> u32 {
        let own = rows.source.locations[row as usize].clone();
        let (mapping, shift) = self.mapping(rows, own.mapping);
        let address = own.address.wrapping_add(shift);
        let start = self.out.lines.len();
        for at in own.lines {
            let line = rows.source.lines[at as usize];
            let function = self.function(rows, line.function);
            self.out.lines.push(Line { function, ..line });
        }
        // Its lines are appended, and removed again if the location is known.
        let location = Location {
            id: self.out.locations.len() as u64 + 1,
            mapping,
            address,
            lines: start as u32..self.out.lines.len() as u32,
            is_folded: own.is_folded,
        };
        let out = &mut self.out;
        let hash = |location: &Location| hash_location(&self.hasher, location, &out.lines);
        let entry = self.locations.entry(
            hash(&location),
            |row| is_same_place(&out.locations[*row as usize], &location, &out.lines),
            |row| hash(&out.locations[*row as usize]),
        );
        let row_out = match entry {
            Entry::Occupied(row) => {
                out.lines.truncate(start);
                *row.get()
            }
            Entry::Vacant(new) => {
                let row = out.locations.len() as u32;
                new.insert(row);
                out.locations.push(location);
                row
            }
        };
        rows.locations[row as usize] = row_out;
        row_out
    }

    /// The merged profile.
    pub fn finish(self) -> Result<Columns, String> {
        if self.count == 0 {
            return Err("no profiles to merge".into());
        }
        let merged = Columns {
            values: Arc::new(self.values),
            stack_ends: Arc::new(self.stack_ends),
            frames: Arc::new(self.frames),
            label_ends: Arc::new(self.label_ends),
            labels: Arc::new(self.labels),
            ..self.out
        };
        let is_zero = |sample| merged.values(sample).iter().all(|value| *value == 0);
        if (0..merged.sample_count()).any(is_zero) {
            return merge(vec![merged]);
        }
        Ok(merged)
    }
}

fn lines<'a>(location: &Location, lines: &'a [Line]) -> &'a [Line] {
    &lines[location.lines.start as usize..location.lines.end as usize]
}

/// The fields of lines that distinguish locations. The reference drops a line's column if another
/// line follows (its keys overlap), so locations that differ only there are merged.
fn columns_that_count(lines: &[Line]) -> impl Iterator<Item = i64> {
    lines.iter().enumerate().map(|(at, line)| match lines.get(at + 1) {
        Some(next) if next.function != NONE => 0,
        _ => line.column,
    })
}

fn hash_location(hasher: &DefaultHashBuilder, location: &Location, all: &[Line]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u64(location.address);
    hasher.write_u64(u64::from(location.mapping) << 1 | u64::from(location.is_folded));
    for line in lines(location, all) {
        hasher.write_u64(u64::from(line.function) << 32 ^ line.line as u64);
    }
    hasher.finish()
}

fn is_same_place(one: &Location, other: &Location, all: &[Line]) -> bool {
    let place = |location: &Location| (location.address, location.mapping, location.is_folded);
    let (one_lines, other_lines) = (lines(one, all), lines(other, all));
    let line = |line: &Line| (line.function, line.line);
    place(one) == place(other)
        && one_lines.iter().map(line).eq(other_lines.iter().map(line))
        && columns_that_count(one_lines).eq(columns_that_count(other_lines))
}

/// Reads, prepares and merges: the reference's behaviour with several sources. A single source is
/// kept unchanged.
pub fn combine(mut profiles: Vec<Columns>) -> Result<Columns, String> {
    scale::keep_common_kinds(&mut profiles)?;
    scale::to_finest_units(&mut profiles)?;
    if profiles.len() == 1 {
        return profiles.pop().ok_or_else(String::new);
    }
    merge(profiles)
}

/// Profiles that arrive one by one, to be combined.
pub enum Accumulator {
    /// All of them, kept to be combined at the end.
    Kept(Vec<Columns>),
    /// The first profile, or the result of merging those so far.
    Merged(Box<Merger>, Option<Box<Columns>>),
}

impl Accumulator {
    /// Merges each profile as it arrives, as long as all measure the same in the same units.
    pub fn merged() -> Accumulator {
        Accumulator::Merged(Box::default(), None)
    }

    /// Takes a profile. Returns false if it differs, so that all must be kept and combined at the
    /// end.
    pub fn add(&mut self, profile: Columns) -> bool {
        match self {
            Accumulator::Kept(profiles) => profiles.push(profile),
            Accumulator::Merged(merger, first) if merger.count == 0 => match first.take() {
                None => *first = Some(Box::new(profile)),
                Some(before) => {
                    if !merger.takes(&before) {
                        return false;
                    }
                    merger.add(*before);
                    return self.add(profile);
                }
            },
            Accumulator::Merged(merger, _) => {
                if !merger.takes(&profile) {
                    return false;
                }
                merger.add(profile);
            }
        }
        true
    }

    /// The combined profile; `None` if there was none.
    pub fn finish(self) -> Result<Option<Columns>, String> {
        match self {
            Accumulator::Kept(profiles) if profiles.is_empty() => Ok(None),
            Accumulator::Kept(profiles) => combine(profiles).map(Some),
            Accumulator::Merged(_, Some(only)) => Ok(Some(*only)),
            Accumulator::Merged(merger, None) if merger.count == 0 => Ok(None),
            Accumulator::Merged(merger, None) => merger.finish().map(Some),
        }
    }
}
