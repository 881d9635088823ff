//! Puts profiles together: equal places become one place, equal stacks with equal labels one sample.
//!
//! Not here: making their kinds and units the same first ([`super::scale`]). What is equal, and the
//! order of what comes out, is as in google/pprof's `profile.Merge`.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::{Columns, Function, Header, Label, Line, Location, Mapping, NONE, TextId, decode};

/// Whether the two say the same of what they measure.
pub(super) fn compatible(one: &Columns, other: &Columns) -> Result<(), String> {
    let show =
        |p: &Columns, kind: super::Kind| format!("&{{{} {} 0 0}}", p.text(kind.name), p.text(kind.unit));
    let equal = |a: super::Kind, b: super::Kind| {
        one.text(a.name) == other.text(b.name) && one.text(a.unit) == other.text(b.unit)
    };
    let (a, b) = (&one.header, &other.header);
    if !equal(a.period_kind, b.period_kind) {
        let (a, b) = (show(one, a.period_kind), show(other, b.period_kind));
        return Err(format!("incompatible period types {a} and {b}"));
    }
    if a.kinds.len() != b.kinds.len() || !a.kinds.iter().zip(&b.kinds).all(|(a, b)| equal(*a, *b)) {
        let list = |p: &Columns| {
            let kinds: Vec<_> = p.header.kinds.iter().map(|kind| show(p, *kind)).collect();
            format!("[{}]", kinds.join(" "))
        };
        return Err(format!("incompatible sample types {} and {}", list(one), list(other)));
    }
    Ok(())
}

/// One profile of all. Samples whose values are all zero are left out.
pub fn merge(profiles: &[Columns]) -> Result<Columns, String> {
    let Some(first) = profiles.first() else { return Err("no profiles to merge".into()) };
    for other in &profiles[1..] {
        compatible(first, other)?;
    }
    let mut merger = Merger::default();
    merger.headers(profiles);
    for profile in profiles {
        merger.add(profile);
    }
    let merged = merger.finish();
    let is_zero = |sample| merged.values(sample).iter().all(|value| *value == 0);
    if (0..merged.sample_count()).any(is_zero) {
        return merge(&[merged]);
    }
    Ok(merged)
}

#[derive(Default)]
struct Merger {
    out: Columns,
    mappings: FxHashMap<(u64, u64, TextId), u32>,
    functions: FxHashMap<(i64, TextId, TextId, TextId), u32>,
    locations: FxHashMap<LocationKey, u32>,
    /// Samples by hash; those with equal hashes are chained by `next_equal`.
    samples: FxHashMap<u64, u32>,
    next_equal: Vec<u32>,
    /// The arrays of the samples, to which `Columns` is given at the end.
    values: Vec<i64>,
    stack_ends: Vec<u32>,
    frames: Vec<u32>,
    label_ends: Vec<u32>,
    labels: Vec<Label>,
}

#[derive(PartialEq, Eq, Hash)]
struct LocationKey {
    address: u64,
    mapping: u32,
    is_folded: bool,
    lines: Vec<Line>,
}

/// The rows that rows of one source became.
struct Rows<'a> {
    source: &'a Columns,
    texts: Vec<TextId>,
    mappings: Vec<(u32, u64)>,
    functions: Vec<u32>,
    locations: Vec<u32>,
}

impl Merger {
    fn headers(&mut self, profiles: &[Columns]) {
        self.stack_ends.push(0);
        self.label_ends.push(0);
        let first = &profiles[0];
        let out = &mut self.out;
        let mut header = Header::default();
        for kind in &first.header.kinds {
            let (name, unit) = (out.intern(first.text(kind.name)), out.intern(first.text(kind.unit)));
            header.kinds.push(super::Kind { name, unit });
        }
        let period = first.header.period_kind;
        header.period_kind.name = out.intern(first.text(period.name));
        header.period_kind.unit = out.intern(first.text(period.unit));
        header.drop_frames = out.intern(first.text(first.header.drop_frames));
        header.keep_frames = out.intern(first.text(first.header.keep_frames));
        let mut seen = FxHashSet::default();
        for profile in profiles {
            let own = &profile.header;
            if header.time_ns == 0 || own.time_ns < header.time_ns {
                header.time_ns = own.time_ns;
            }
            header.duration_ns = header.duration_ns.wrapping_add(own.duration_ns);
            if header.period == 0 || header.period < own.period {
                header.period = own.period;
            }
            for comment in &own.comments {
                let comment = out.intern(profile.text(*comment));
                if seen.insert(comment) {
                    header.comments.push(comment);
                }
            }
            if header.default_kind == 0 {
                header.default_kind = out.intern(profile.text(own.default_kind));
            }
            if header.doc_url == 0 {
                header.doc_url = out.intern(profile.text(own.doc_url));
            }
        }
        out.header = header;
    }

    fn add(&mut self, source: &Columns) {
        let mut rows = Rows {
            source,
            texts: vec![NONE; source.texts.len()],
            mappings: vec![(NONE, 0); source.mappings.len()],
            functions: vec![NONE; source.functions.len()],
            locations: vec![NONE; source.locations.len()],
        };
        if self.out.mappings.is_empty() && !source.mappings.is_empty() {
            // The first mapping is the main binary and must stay the first.
            self.mapping(&mut rows, 0);
        }
        let mut stack = Vec::new();
        let mut labels = Vec::new();
        for sample in 0..source.sample_count() {
            let values = source.values(sample);
            if values.iter().all(|value| *value == 0) {
                continue;
            }
            stack.clear();
            for location in source.stack(sample) {
                let row = match rows.locations[*location as usize] {
                    NONE => self.location(&mut rows, *location),
                    row => row,
                };
                stack.push(row);
            }
            labels.clear();
            for label in source.labels(sample) {
                labels.push(self.label(&mut rows, *label));
            }
            // Labels with different keys have no order among each other.
            labels.sort_by_key(|label| (label.as_number().is_some(), label.key));
            self.sample(values, &stack, &labels);
        }
    }

    fn sample(&mut self, values: &[i64], stack: &[u32], labels: &[Label]) {
        let mut hasher = FxHasher::default();
        (stack, labels).hash(&mut hasher);
        let row = self.stack_ends.len() as u32 - 1;
        let mut equal = *self.samples.entry(hasher.finish()).or_insert(row);
        while equal != row {
            let at = equal as usize;
            let own_stack = &self.frames[self.stack_ends[at] as usize..self.stack_ends[at + 1] as usize];
            let own_labels = &self.labels[self.label_ends[at] as usize..self.label_ends[at + 1] as usize];
            if own_stack == stack && own_labels == labels {
                let kinds = values.len();
                let sums = &mut self.values[at * kinds..(at + 1) * kinds];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = sum.wrapping_add(*value);
                }
                return;
            }
            if self.next_equal[at] == NONE {
                self.next_equal[at] = row;
            }
            equal = self.next_equal[at];
        }
        self.next_equal.push(NONE);
        self.values.extend_from_slice(values);
        self.frames.extend_from_slice(stack);
        self.stack_ends.push(self.frames.len() as u32);
        self.labels.extend_from_slice(labels);
        self.label_ends.push(self.labels.len() as u32);
    }

    fn text(&mut self, rows: &mut Rows, text: TextId) -> TextId {
        if rows.texts[text as usize] == NONE {
            rows.texts[text as usize] = self.out.intern(rows.source.text(text));
        }
        rows.texts[text as usize]
    }

    fn label(&mut self, rows: &mut Rows, label: Label) -> Label {
        let key = self.text(rows, label.key);
        match (label.as_text(), label.as_number()) {
            (Some(text), _) => Label::text(key, self.text(rows, text)),
            (None, number) => {
                let (number, unit) = number.unwrap_or_default();
                Label::number(key, number, self.text(rows, unit))
            }
        }
    }

    /// The row of a mapping and what to add to addresses in it.
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
        let new = self.out.functions.len() as u32;
        let row_out = *self.functions.entry((own.start_line, name, system_name, file)).or_insert(new);
        if row_out == new {
            let (id, start_line) = (u64::from(new) + 1, own.start_line);
            self.out.functions.push(Function { id, name, system_name, file, start_line });
        }
        rows.functions[row as usize] = row_out;
        row_out
    }

    fn location(&mut self, rows: &mut Rows, row: u32) -> u32 {
        let own = &rows.source.locations[row as usize];
        let (mapping, shift) = self.mapping(rows, own.mapping);
        let address = own.address.wrapping_add(shift);
        let mut lines = Vec::new();
        for line in rows.source.lines_of(own) {
            lines.push(Line { function: self.function(rows, line.function), ..*line });
        }
        let start = self.out.mappings.get(mapping as usize).map_or(0, |mapping| mapping.start);
        let key_lines = key_lines(&lines);
        let key = LocationKey {
            address: address.wrapping_sub(start),
            mapping,
            is_folded: own.is_folded,
            lines: key_lines,
        };
        let new = self.out.locations.len() as u32;
        let row_out = *self.locations.entry(key).or_insert(new);
        if row_out == new {
            let id = u64::from(new) + 1;
            let location = Location { id, mapping, address, is_folded: own.is_folded, lines: 0..0 };
            self.out.push_location(location, &lines);
        }
        rows.locations[row as usize] = row_out;
        row_out
    }

    fn finish(self) -> Columns {
        Columns {
            values: Arc::new(self.values),
            stack_ends: Arc::new(self.stack_ends),
            frames: Arc::new(self.frames),
            label_ends: Arc::new(self.label_ends),
            labels: Arc::new(self.labels),
            ..self.out
        }
    }
}

/// What of the lines tells places apart: the reference forgets a line's column where another line
/// follows (its keys overlap), so that places which differ only there become one.
fn key_lines(lines: &[Line]) -> Vec<Line> {
    let mut parts = vec![(0u8, 0i64); lines.len() * 3];
    for (at, line) in lines.iter().enumerate() {
        if line.function != NONE {
            parts[at * 2] = (1, i64::from(line.function));
        }
        parts[at * 2 + 1] = (2, line.line);
        parts[at * 2 + 2] = (2, line.column);
    }
    let part = |at: usize| parts.get(at).copied().unwrap_or_default();
    let line = |at: usize| {
        let [(kind, value), number, column] = [part(at * 3), part(at * 3 + 1), part(at * 3 + 2)];
        // The kinds go into the row number, so that no two different keys look the same.
        let kinds = u32::from(kind) * 9 + u32::from(number.0) * 3 + u32::from(column.0);
        [
            Line { function: kinds, line: value, column: 0 },
            Line { function: 0, line: number.1, column: column.1 },
        ]
    };
    (0..lines.len()).flat_map(line).collect()
}

/// Reads, prepares and merges: what the reference does with several sources. Of one it keeps
/// everything as it is.
pub fn combine(mut profiles: Vec<Columns>) -> Result<Columns, String> {
    super::scale::keep_common_kinds(&mut profiles)?;
    super::scale::to_finest_units(&mut profiles)?;
    if profiles.len() == 1 {
        return profiles.pop().ok_or_else(String::new);
    }
    merge(&profiles)
}

/// Reads files side by side, in order.
pub fn read_all<T: Send>(count: usize, read: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = decode::threads().min(count.max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if at >= count {
                return done;
            }
            done.push((at, read(at)));
        }
    };
    let mut done: Vec<(usize, T)> =
        decode::in_parallel((0..threads).map(|_| work).collect()).into_iter().flatten().collect();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, value)| value).collect()
}
