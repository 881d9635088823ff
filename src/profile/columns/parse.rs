//! Uncompressed profile.proto to [`Columns`], piece by piece as it arrives. A file may refer to
//! entries further down: IDs are kept as they are read and resolved to rows at the end.
//!
//! Not here: gzip and the older formats ([`super::decode`]). Memory is bounded by the bytes read: a
//! byte takes at most four (a frame), an entry of two bytes 48 (the number of entries is limited).

use super::{
    Columns, Function, Label, Line, Location, Mapping, NONE, SampleKind, TextId, Texts,
    parallel::{in_parallel, threads},
    rows::{References, Rows},
    wire::{self, Content, Malformed},
};
use crate::profile::{Profile, write_raw};

/// Why bytes are not profile.proto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There are no bytes.
    Empty,
    /// A second profile follows the first.
    Concatenated,
    /// The bytes are not valid protobuf.
    Malformed,
    /// The number of entries exceeds the limit.
    TooManyEntries,
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Failure {
        Failure::Malformed
    }
}

/// Most entries (samples, locations, functions, texts …) a file may have.
pub const MAX_ENTRIES: usize = 64 << 20;

/// Parses a profile.proto that arrives in pieces of any size.
#[derive(Default)]
pub struct Parser {
    /// The beginning of an incomplete field.
    partial: Vec<u8>,
    entries: usize,
    header: RawHeader,
    texts: Texts,
    text_ids: Vec<TextId>,
    mappings: Vec<Mapping>,
    functions: Vec<Function>,
    locations: Vec<Location>,
    lines: Vec<Line>,
    samples: Samples,
    /// IDs of mappings, functions and locations as referred to.
    references: References,
    /// The largest text index that occurs.
    last_text: u64,
}

/// Fields of the top level, as in the file.
#[derive(Default)]
struct RawHeader {
    kinds: Vec<(u64, u64)>,
    period_kind: (u64, u64),
    comments: Vec<u64>,
    /// Fields 7 to 15, by number.
    numbers: [u64; 16],
}

#[derive(Default)]
struct Samples {
    values: Vec<i64>,
    stack_ends: Vec<u32>,
    frames: Vec<u32>,
    label_ends: Vec<u32>,
    labels: Vec<Label>,
    /// Number of values of the first sample, and the first different number.
    width: Option<usize>,
    odd: Option<(usize, usize)>,
}

/// Number of entries of each kind in a profile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    texts: usize,
    text_bytes: usize,
    functions: usize,
    locations: usize,
    lines: usize,
    samples: usize,
    values: usize,
    frames: usize,
    labels: usize,
}

impl Sizes {
    /// The counts of `columns`.
    pub fn of(columns: &Columns) -> Sizes {
        Sizes {
            texts: columns.texts.len(),
            text_bytes: columns.texts.byte_count(),
            functions: columns.functions.len(),
            locations: columns.locations.len(),
            lines: columns.lines.len(),
            samples: columns.sample_count(),
            values: columns.values.len(),
            frames: columns.frames.len(),
            labels: columns.labels.len(),
        }
    }
}

impl Parser {
    /// Reserves space for the expected counts, because growing arrays are copied repeatedly.
    pub fn with_room(sizes: Sizes) -> Parser {
        Parser {
            texts: Texts::with_room(sizes.texts, sizes.text_bytes),
            text_ids: Vec::with_capacity(sizes.texts),
            functions: Vec::with_capacity(sizes.functions),
            locations: Vec::with_capacity(sizes.locations),
            lines: Vec::with_capacity(sizes.lines),
            samples: Samples {
                values: Vec::with_capacity(sizes.values),
                // Plus one entry before the first.
                stack_ends: Vec::with_capacity(sizes.samples + 1),
                frames: Vec::with_capacity(sizes.frames),
                label_ends: Vec::with_capacity(sizes.samples + 1),
                labels: Vec::with_capacity(sizes.labels),
                ..Samples::default()
            },
            ..Parser::default()
        }
    }

    /// Parses the next piece.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.partial.is_empty() {
            let rest = self.fields(piece)?;
            self.partial.extend_from_slice(rest);
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(piece);
        let rest = self.fields(&all)?.len();
        all.drain(..all.len() - rest);
        self.partial = all;
        Ok(())
    }

    /// Parses all complete fields and returns the rest.
    fn fields<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Failure> {
        let mut fields = wire::Fields::new(bytes);
        while let Some((number, content)) = fields.next_whole()? {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(Failure::TooManyEntries);
            }
            if number == 9 && self.header.numbers[9] != 0 {
                return Err(Failure::Concatenated);
            }
            self.field(number, content)?;
        }
        Ok(fields.rest())
    }

    fn field(&mut self, number: u64, content: Content) -> Result<(), Malformed> {
        match number {
            1 => self.header.kinds.push(kind(content.bytes()?)?),
            2 => self.sample(content.bytes()?)?,
            3 => self.mapping(content.bytes()?)?,
            4 => self.location(content.bytes()?)?,
            5 => self.function(content.bytes()?)?,
            6 => {
                let text = content.bytes()?;
                if self.text_ids.is_empty() && !text.is_empty() {
                    return Err(Malformed);
                }
                self.text_ids.push(match str::from_utf8(text) {
                    Ok(text) => self.texts.intern(text),
                    Err(_) => self.texts.intern(&String::from_utf8_lossy(text)),
                });
            }
            11 => self.header.period_kind = kind(content.bytes()?)?,
            13 => content.numbers(|number| self.header.comments.push(number))?,
            7..=15 => self.header.numbers[number as usize] = content.number()?,
            _ => {}
        }
        Ok(())
    }

    fn sample(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let samples = &mut self.samples;
        let before = samples.values.len();
        wire::fields(bytes, |number, content| {
            match number {
                1 => content.numbers(|id| samples.frames.push(self.references.keep(id)))?,
                2 => content.numbers(|value| samples.values.push(value as i64))?,
                3 => {
                    let (label, last_text) = label(content.bytes()?)?;
                    self.last_text = self.last_text.max(last_text);
                    samples.labels.extend(label);
                }
                _ => {}
            }
            Ok(())
        })?;
        let width = samples.values.len() - before;
        if width != *samples.width.get_or_insert(width) && samples.odd.is_none() {
            samples.odd = Some((samples.stack_ends.len(), width));
        }
        samples.stack_ends.push(u32::try_from(samples.frames.len()).map_err(|_| Malformed)?);
        samples.label_ends.push(samples.labels.len() as u32);
        Ok(())
    }

    fn text(&mut self, index: u64) -> TextId {
        self.last_text = self.last_text.max(index);
        index as TextId
    }

    fn mapping(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut numbers = [0; 11];
        wire::fields(bytes, |number, content| {
            if let 1..=10 = number {
                numbers[number as usize] = content.number()?;
            }
            Ok(())
        })?;
        let [_, id, start, limit, offset, file, build_id, flags @ ..] = numbers;
        let (file, build_id) = (self.text(file), self.text(build_id));
        let [has_functions, has_filenames, has_line_numbers, has_inline_frames] = flags.map(|flag| flag != 0);
        self.mappings.push(Mapping {
            id,
            start,
            limit,
            offset,
            file,
            build_id,
            has_functions,
            has_filenames,
            has_line_numbers,
            has_inline_frames,
        });
        Ok(())
    }

    fn function(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut numbers = [0; 6];
        wire::fields(bytes, |number, content| {
            if let 1..=5 = number {
                numbers[number as usize] = content.number()?;
            }
            Ok(())
        })?;
        let [_, id, name, system_name, file, start_line] = numbers;
        let [name, system_name, file] = [name, system_name, file].map(|index| self.text(index));
        self.functions.push(Function { id, name, system_name, file, start_line: start_line as i64 });
        Ok(())
    }

    fn location(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut location = Location { mapping: self.references.keep(0), ..Location::default() };
        let start = self.lines.len() as u32;
        wire::fields(bytes, |number, content| {
            match number {
                1 => location.id = content.number()?,
                2 => location.mapping = self.references.keep(content.number()?),
                3 => location.address = content.number()?,
                4 => self.lines.push(line(content.bytes()?, &mut self.references)?),
                5 => location.is_folded = content.number()? != 0,
                _ => {}
            }
            Ok(())
        })?;
        location.lines = start..u32::try_from(self.lines.len()).map_err(|_| Malformed)?;
        self.locations.push(location);
        Ok(())
    }

    /// The profile, once all pieces have been parsed. The second value describes the first fault in
    /// its samples, if any. Works on the samples with `threads` threads.
    pub fn finish(mut self, threads: usize) -> Result<(Columns, Option<String>), Failure> {
        if !self.partial.is_empty() {
            return Err(Failure::Malformed);
        }
        if self.entries == 0 {
            return Err(Failure::Empty);
        }
        self.name_tables()?;
        let mut columns = Columns { texts: self.texts.into(), ..Columns::default() };
        self.header.resolve(&self.text_ids, &mut columns)?;
        let mapping_rows = Rows::new(self.mappings.iter().map(|mapping| mapping.id));
        let function_rows = Rows::new(self.functions.iter().map(|function| function.id));
        let location_rows = Rows::new(self.locations.iter().map(|location| location.id));
        for location in &mut self.locations {
            location.mapping = self.references.row(location.mapping, &mapping_rows);
        }
        for line in &mut self.lines {
            line.function = self.references.row_of_named(line.function, &function_rows);
        }
        columns.mappings = self.mappings;
        columns.functions = self.functions;
        columns.locations = self.locations;
        columns.lines = self.lines;
        let fault = self.samples.resolve(&self.references, &location_rows, threads, &mut columns);
        Ok((columns, fault))
    }

    /// Replaces text indexes of the file by text numbers.
    fn name_tables(&mut self) -> Result<(), Malformed> {
        let ids = &self.text_ids;
        if self.last_text != 0 && self.last_text >= ids.len() as u64 || ids.is_empty() {
            return Err(Malformed);
        }
        // Mostly each text occurs once, and the index is the number.
        if ids.iter().enumerate().all(|(index, id)| index == *id as usize) {
            return Ok(());
        }
        let name = |text: &mut TextId| *text = ids[*text as usize];
        for mapping in &mut self.mappings {
            [&mut mapping.file, &mut mapping.build_id].into_iter().for_each(name);
        }
        for function in &mut self.functions {
            [&mut function.name, &mut function.system_name, &mut function.file].into_iter().for_each(name);
        }
        for label in &mut self.samples.labels {
            label.map_texts(name);
        }
        Ok(())
    }
}

impl RawHeader {
    fn resolve(&self, ids: &[TextId], columns: &mut Columns) -> Result<(), Malformed> {
        let text = |index: u64| {
            let found = usize::try_from(index).ok().and_then(|index| ids.get(index).copied());
            found.ok_or(Malformed)
        };
        let kind = |(name, unit): (u64, u64)| Ok(SampleKind { name: text(name)?, unit: text(unit)? });
        let header = &mut columns.header;
        header.kinds = self.kinds.iter().map(|raw| kind(*raw)).collect::<Result<_, _>>()?;
        header.period_kind = kind(self.period_kind)?;
        header.comments = self.comments.iter().map(|index| text(*index)).collect::<Result<_, _>>()?;
        let [.., drop_frames, keep_frames, time_ns, duration_ns, _, period, _, default_kind, doc_url] =
            self.numbers;
        (header.time_ns, header.duration_ns) = (time_ns as i64, duration_ns as i64);
        header.period = period as i64;
        (header.default_kind, header.doc_url) = (text(default_kind)?, text(doc_url)?);
        (header.drop_frames, header.keep_frames) = (text(drop_frames)?, text(keep_frames)?);
        Ok(())
    }
}

impl Samples {
    /// Replaces the IDs of frames by rows of locations; describes the fault of the first invalid
    /// sample.
    fn resolve(
        mut self,
        references: &References,
        rows: &Rows,
        threads: usize,
        columns: &mut Columns,
    ) -> Option<String> {
        let share = self.frames.len().div_ceil(threads.max(1)).max(1);
        let resolve = |frames: &mut [u32]| {
            let mut missing = None;
            for (at, frame) in frames.iter_mut().enumerate() {
                *frame = references.row(*frame, rows);
                if *frame == NONE {
                    missing = missing.or(Some(at));
                    *frame = 0;
                }
            }
            missing
        };
        let jobs = self.frames.chunks_mut(share).map(|frames| move || resolve(frames)).collect();
        let missing = (0..).zip(in_parallel(jobs)).find_map(|(job, at): (usize, _)| Some(job * share + at?));
        let kinds = columns.header.kinds.len();
        let width = self.width.unwrap_or(kinds);
        let odd = if width == kinds { self.odd } else { Some((0, width)) };
        let missing = missing.map(|frame| self.stack_ends.partition_point(|end| *end as usize <= frame));
        let fault = match (odd, missing) {
            _ if kinds == 0 && self.width.is_some() => Some("missing sample type information".into()),
            (Some((sample, width)), missing) if missing.is_none_or(|missing| sample <= missing) => {
                Some(format!("mismatch: sample has {width} values vs. {kinds} types"))
            }
            (_, Some(_)) => Some("sample has nil location".into()),
            _ => None,
        };
        self.stack_ends.insert(0, 0);
        self.label_ends.insert(0, 0);
        columns.values = self.values.into();
        columns.stack_ends = self.stack_ends.into();
        columns.frames = self.frames.into();
        columns.label_ends = self.label_ends.into();
        columns.labels = self.labels.into();
        fault
    }
}

fn kind(bytes: &[u8]) -> Result<(u64, u64), Malformed> {
    let mut kind = (0, 0);
    wire::fields(bytes, |number, content| {
        match number {
            1 => kind.0 = content.number()?,
            2 => kind.1 = content.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(kind)
}

fn line(bytes: &[u8], references: &mut References) -> Result<Line, Malformed> {
    let mut line = Line { function: references.keep(0), line: 0, column: 0 };
    wire::fields(bytes, |number, content| {
        match number {
            1 => line.function = references.keep(content.number()?),
            2 => line.line = content.number()? as i64,
            3 => line.column = content.number()? as i64,
            _ => {}
        }
        Ok(())
    })?;
    Ok(line)
}

/// A label with text indexes for texts, or none if it has no content; and the largest index used.
fn label(bytes: &[u8]) -> Result<(Option<Label>, u64), Malformed> {
    let mut parts = [0; 4];
    wire::fields(bytes, |number, content| {
        if let 1..=4 = number {
            parts[number as usize - 1] = content.number()?;
        }
        Ok(())
    })?;
    let [key, text, number, unit] = parts;
    Ok(if text != 0 {
        (Some(Label::text(key as TextId, text as TextId)), key.max(text))
    } else if number != 0 || unit != 0 {
        (Some(Label::number(key as TextId, number as i64, unit as TextId)), key.max(unit))
    } else {
        (None, key)
    })
}

/// A profile that was put together piece by piece.
pub fn of_profile(profile: &Profile) -> Result<Columns, Failure> {
    let mut encoded = Vec::new();
    write_raw(profile, &mut encoded).map_err(|_| Failure::Malformed)?;
    match parse(&encoded)? {
        (columns, None) => Ok(columns),
        (_, Some(_)) => Err(Failure::Malformed),
    }
}

/// Decodes a complete uncompressed profile.proto; see [`Parser::finish`].
pub fn parse(bytes: &[u8]) -> Result<(Columns, Option<String>), Failure> {
    let mut parser = Parser::default();
    parser.feed(bytes)?;
    parser.finish(threads())
}
