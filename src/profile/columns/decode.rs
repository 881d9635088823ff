//! Bytes to [`Columns`]: the profile.proto of google/pprof, gzipped or bare, or, where that fails,
//! one of the older formats ([`super::super::legacy`]).
//!
//! Not here: writing ([`super::encode`]). Memory is bounded by the size of the unpacked file, which
//! is limited.

use std::{io::Read, thread};

use flate2::bufread::MultiGzDecoder;
use rustc_hash::FxHashMap;

use super::{
    Columns, Function, Kind, Label, Line, Location, Mapping, NONE, TextId, Texts,
    wire::{self, Content, Malformed},
};
use crate::profile::legacy;

/// Why bytes are no profile, in the words of the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("decompressing profile: {0}")]
    Gzip(String),
    #[error("parsing profile: empty input file")]
    Empty,
    #[error("parsing profile: concatenated profiles detected")]
    Concatenated,
    #[error("parsing profile: unrecognized profile format")]
    Unrecognized,
    #[error("parsing profile: {0}")]
    Legacy(String),
    #[error("malformed profile: {0}")]
    Invalid(String),
    #[error("the profile is larger than {max_bytes} bytes when unpacked")]
    TooLarge { max_bytes: usize },
    #[error("the profile has more than {max_entries} entries")]
    TooManyEntries { max_entries: usize },
}

/// Most bytes a file may have when unpacked.
pub const MAX_BYTES: usize = 2 << 30;

/// Most entries (samples, locations, functions, texts …) a file may have: an empty one takes two
/// bytes of it and up to 48 of memory.
const MAX_ENTRIES: usize = 64 << 20;

/// Reads a profile of any known format, which is valid when it is given.
pub fn read(bytes: Vec<u8>) -> Result<Columns, ReadError> {
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) { gunzip(&bytes, MAX_BYTES)? } else { bytes };
    let columns = match decode(&bytes) {
        Ok((columns, fault)) => match fault {
            Some(fault) => return Err(ReadError::Invalid(fault)),
            None => columns,
        },
        Err(Failure::Empty) => return Err(ReadError::Empty),
        Err(Failure::Concatenated) => return Err(ReadError::Concatenated),
        Err(Failure::TooManyEntries) => {
            return Err(ReadError::TooManyEntries { max_entries: MAX_ENTRIES });
        }
        Err(Failure::Malformed) => legacy::read(&bytes)?,
    };
    super::check::check(&columns).map_err(ReadError::Invalid)?;
    Ok(columns)
}

fn gunzip(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, ReadError> {
    // The last four bytes say how long the content is; a lie costs at most what gzip can hold.
    let tail = bytes.last_chunk().map_or(0, |tail: &[u8; 4]| u32::from_le_bytes(*tail) as usize);
    let hint = tail.min(bytes.len().saturating_mul(1032)).min(max_bytes);
    let mut unpacked = Vec::with_capacity(hint.saturating_add(1));
    let limit = max_bytes as u64 + 1;
    MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut unpacked).map_err(|error| {
        ReadError::Gzip(match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "unexpected EOF".into(),
            std::io::ErrorKind::InvalidInput if error.to_string().contains("header") => {
                "gzip: invalid header".into()
            }
            _ if error.to_string().contains("checksum") => "gzip: invalid checksum".into(),
            _ => format!("flate: {error}"),
        })
    })?;
    if unpacked.len() > max_bytes {
        return Err(ReadError::TooLarge { max_bytes });
    }
    Ok(unpacked)
}

/// Why bytes are no profile.proto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Empty,
    Concatenated,
    Malformed,
    TooManyEntries,
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Failure {
        Failure::Malformed
    }
}

/// Decodes an unpacked profile.proto. The second part of the answer says what is wrong with its
/// samples, if anything is.
pub fn decode(bytes: &[u8]) -> Result<(Columns, Option<String>), Failure> {
    if bytes.is_empty() {
        return Err(Failure::Empty);
    }
    let raw = Raw::read(bytes)?;
    let mut texts = Texts::default();
    let mut ids = Vec::with_capacity(raw.strings.len());
    for string in &raw.strings {
        ids.push(texts.intern(&String::from_utf8_lossy(string)));
    }
    let strings = Strings { ids };
    let mut columns = Columns { texts: texts.into(), ..Columns::default() };
    raw.header(&strings, &mut columns)?;
    raw.tables(&strings, &mut columns)?;
    let locations = Rows::new(columns.locations.iter().map(|location| location.id));
    let fault = samples(&raw.samples, &strings, &locations, &mut columns)?;
    Ok((columns, fault))
}

/// Text numbers by index of the file's string table.
struct Strings {
    ids: Vec<TextId>,
}

impl Strings {
    fn get(&self, index: u64) -> Result<TextId, Malformed> {
        usize::try_from(index).ok().and_then(|at| self.ids.get(at).copied()).ok_or(Malformed)
    }
}

/// Row numbers by id: an array where ids are dense, a map for the others. Where an id is given
/// twice, the later row counts.
struct Rows {
    dense: Vec<u32>,
    sparse: FxHashMap<u64, u32>,
}

impl Rows {
    fn new(ids: impl ExactSizeIterator<Item = u64>) -> Rows {
        let mut rows = Rows { dense: vec![NONE; ids.len() + 1], sparse: FxHashMap::default() };
        for (row, id) in ids.enumerate() {
            match usize::try_from(id).ok().and_then(|id| rows.dense.get_mut(id)) {
                Some(slot) => *slot = row as u32,
                None => drop(rows.sparse.insert(id, row as u32)),
            }
        }
        rows
    }

    #[inline]
    fn get(&self, id: u64) -> u32 {
        match self.dense.get(id as usize) {
            Some(row) => *row,
            None => self.sparse.get(&id).copied().unwrap_or(NONE),
        }
    }
}

/// The top level of the file: small messages read, samples only found.
#[derive(Default)]
struct Raw<'a> {
    kinds: Vec<(u64, u64)>,
    samples: Vec<&'a [u8]>,
    mappings: Vec<&'a [u8]>,
    locations: Vec<&'a [u8]>,
    functions: Vec<&'a [u8]>,
    strings: Vec<&'a [u8]>,
    drop_frames: u64,
    keep_frames: u64,
    time_ns: u64,
    duration_ns: u64,
    period_kind: (u64, u64),
    period: u64,
    comments: Vec<u64>,
    default_kind: u64,
    doc_url: u64,
}

impl<'a> Raw<'a> {
    fn read(mut bytes: &'a [u8]) -> Result<Raw<'a>, Failure> {
        let mut raw = Raw::default();
        let mut entries = 0;
        while !bytes.is_empty() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(Failure::TooManyEntries);
            }
            let (number, content) = wire::field(&mut bytes)?;
            if number == 9 && raw.time_ns != 0 {
                return Err(Failure::Concatenated);
            }
            raw.take(number, content)?;
        }
        Ok(raw)
    }

    fn take(&mut self, number: u64, content: Content<'a>) -> Result<(), Malformed> {
        match number {
            1 => self.kinds.push(kind(content.bytes()?)?),
            2 => self.samples.push(content.bytes()?),
            3 => self.mappings.push(content.bytes()?),
            4 => self.locations.push(content.bytes()?),
            5 => self.functions.push(content.bytes()?),
            6 => {
                self.strings.push(content.bytes()?);
                if !self.strings[0].is_empty() {
                    return Err(Malformed);
                }
            }
            7 => self.drop_frames = content.number()?,
            8 => self.keep_frames = content.number()?,
            9 => self.time_ns = content.number()?,
            10 => self.duration_ns = content.number()?,
            11 => self.period_kind = kind(content.bytes()?)?,
            12 => self.period = content.number()?,
            13 => content.numbers(|number| self.comments.push(number))?,
            14 => self.default_kind = content.number()?,
            15 => self.doc_url = content.number()?,
            _ => {}
        }
        Ok(())
    }

    fn header(&self, strings: &Strings, columns: &mut Columns) -> Result<(), Malformed> {
        let kind = |(name, unit): (u64, u64)| -> Result<Kind, Malformed> {
            Ok(Kind { name: strings.get(name)?, unit: strings.get(unit)? })
        };
        let header = &mut columns.header;
        header.kinds = self.kinds.iter().map(|raw| kind(*raw)).collect::<Result<_, _>>()?;
        header.period_kind = kind(self.period_kind)?;
        header.period = self.period as i64;
        header.time_ns = self.time_ns as i64;
        header.duration_ns = self.duration_ns as i64;
        header.comments = self.comments.iter().map(|at| strings.get(*at)).collect::<Result<_, _>>()?;
        header.default_kind = strings.get(self.default_kind)?;
        header.doc_url = strings.get(self.doc_url)?;
        header.drop_frames = strings.get(self.drop_frames)?;
        header.keep_frames = strings.get(self.keep_frames)?;
        Ok(())
    }

    fn tables(&self, strings: &Strings, columns: &mut Columns) -> Result<(), Malformed> {
        let mappings = self.mappings.iter().map(|bytes| mapping(bytes, strings));
        columns.mappings = mappings.collect::<Result<_, _>>()?;
        let functions = self.functions.iter().map(|bytes| function(bytes, strings));
        columns.functions = functions.collect::<Result<_, _>>()?;
        let mapping_rows = Rows::new(columns.mappings.iter().map(|mapping| mapping.id));
        let function_rows = Rows::new(columns.functions.iter().map(|function| function.id));
        columns.locations.reserve_exact(self.locations.len());
        for bytes in &self.locations {
            location(bytes, &mapping_rows, &function_rows, columns)?;
        }
        Ok(())
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

fn mapping(bytes: &[u8], strings: &Strings) -> Result<Mapping, Malformed> {
    let mut mapping = Mapping::default();
    let (mut file, mut build_id) = (0, 0);
    wire::fields(bytes, |number, content| {
        match number {
            1 => mapping.id = content.number()?,
            2 => mapping.start = content.number()?,
            3 => mapping.limit = content.number()?,
            4 => mapping.offset = content.number()?,
            5 => file = content.number()?,
            6 => build_id = content.number()?,
            7 => mapping.has_functions = content.number()? != 0,
            8 => mapping.has_filenames = content.number()? != 0,
            9 => mapping.has_line_numbers = content.number()? != 0,
            10 => mapping.has_inline_frames = content.number()? != 0,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Mapping { file: strings.get(file)?, build_id: strings.get(build_id)?, ..mapping })
}

fn function(bytes: &[u8], strings: &Strings) -> Result<Function, Malformed> {
    let (mut id, mut start_line) = (0, 0);
    let mut texts = [0; 3];
    wire::fields(bytes, |number, content| {
        match number {
            1 => id = content.number()?,
            2..=4 => texts[number as usize - 2] = content.number()?,
            5 => start_line = content.number()? as i64,
            _ => {}
        }
        Ok(())
    })?;
    let [name, system_name, file] = texts;
    let (name, system_name) = (strings.get(name)?, strings.get(system_name)?);
    Ok(Function { id, name, system_name, file: strings.get(file)?, start_line })
}

fn location(bytes: &[u8], mappings: &Rows, functions: &Rows, columns: &mut Columns) -> Result<(), Malformed> {
    let mut location = Location { mapping: mappings.get(0), ..Location::default() };
    let start = columns.lines.len() as u32;
    wire::fields(bytes, |number, content| {
        match number {
            1 => location.id = content.number()?,
            2 => location.mapping = mappings.get(content.number()?),
            3 => location.address = content.number()?,
            4 => columns.lines.push(line(content.bytes()?, functions)?),
            5 => location.is_folded = content.number()? != 0,
            _ => {}
        }
        Ok(())
    })?;
    location.lines = start..columns.lines.len() as u32;
    columns.locations.push(location);
    Ok(())
}

fn line(bytes: &[u8], functions: &Rows) -> Result<Line, Malformed> {
    let mut line = Line { function: NONE, line: 0, column: 0 };
    wire::fields(bytes, |number, content| {
        match number {
            1 => {
                let id = content.number()?;
                line.function = if id == 0 { NONE } else { functions.get(id) };
            }
            2 => line.line = content.number()? as i64,
            3 => line.column = content.number()? as i64,
            _ => {}
        }
        Ok(())
    })?;
    Ok(line)
}

/// What a part of the samples is made into; parts are decoded side by side and then joined.
struct Part<'a> {
    messages: &'a [&'a [u8]],
    values: &'a mut [i64],
    stack_ends: &'a mut [u32],
    frames: &'a mut [u32],
    first_frame: u32,
    label_ends: Vec<u32>,
    labels: Vec<Label>,
}

fn samples(
    messages: &[&[u8]],
    strings: &Strings,
    locations: &Rows,
    columns: &mut Columns,
) -> Result<Option<String>, Failure> {
    let kinds = columns.header.kinds.len();
    let threads = if messages.len() < 2000 { 1 } else { threads() };
    let share = messages.len().div_ceil(threads).max(1);
    let counts = in_parallel(messages.chunks(share).map(|part| move || count(part)).collect());
    let counts: Vec<usize> = counts.into_iter().collect::<Result<_, _>>()?;
    let total: usize = counts.iter().sum();
    if u32::try_from(total).is_err() {
        return Err(Failure::Malformed);
    }
    let mut values = vec![0; messages.len() * kinds];
    let mut stack_ends = vec![0; messages.len() + 1];
    let mut frames = vec![0; total];
    let mut parts = Vec::new();
    let (mut value_rest, mut end_rest, mut frame_rest) =
        (&mut values[..], &mut stack_ends[1..], &mut frames[..]);
    let mut first_frame = 0;
    for (messages, count) in messages.chunks(share).zip(&counts) {
        let (values, rest) = value_rest.split_at_mut(messages.len() * kinds);
        value_rest = rest;
        let (stack_ends, rest) = end_rest.split_at_mut(messages.len());
        end_rest = rest;
        let (frames, rest) = frame_rest.split_at_mut(*count);
        frame_rest = rest;
        let (label_ends, labels) = (Vec::with_capacity(messages.len()), Vec::new());
        parts.push(Part { messages, values, stack_ends, frames, first_frame, label_ends, labels });
        first_frame += *count as u32;
    }
    let jobs = parts.into_iter().map(|part| move || part.decode(kinds, strings, locations));
    let mut fault = None;
    let (mut label_ends, mut labels) = (Vec::with_capacity(messages.len() + 1), Vec::new());
    label_ends.push(0);
    for result in in_parallel(jobs.collect()) {
        let decoded: Decoded = result?;
        fault = fault.or(decoded.fault);
        let before = labels.len() as u32;
        label_ends.extend(decoded.label_ends.iter().map(|end| end + before));
        labels.extend(decoded.labels);
    }
    columns.values = values.into();
    columns.stack_ends = stack_ends.into();
    columns.frames = frames.into();
    columns.label_ends = label_ends.into();
    columns.labels = labels.into();
    if kinds == 0 && !messages.is_empty() {
        fault = Some("missing sample type information".into());
    }
    Ok(fault)
}

/// How many threads work on a profile.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get().min(8))
}

/// Runs the jobs, each on a thread of its own where there are several; answers in order.
pub fn in_parallel<T: Send, J: FnOnce() -> T + Send>(mut jobs: Vec<J>) -> Vec<T> {
    let Some(last) = jobs.pop() else { return Vec::new() };
    thread::scope(|scope| {
        let running: Vec<_> = jobs.into_iter().map(|job| scope.spawn(job)).collect();
        let own = last();
        let mut answers: Vec<T> =
            running.into_iter().map(|thread| thread.join().expect("jobs do not panic")).collect();
        answers.push(own);
        answers
    })
}

/// Number of frames of all the samples.
fn count(messages: &[&[u8]]) -> Result<usize, Malformed> {
    let mut frames = 0;
    for message in messages {
        wire::fields(message, |number, content| {
            if number == 1 {
                frames += content.count();
            }
            Ok(())
        })?;
    }
    Ok(frames)
}

struct Decoded {
    label_ends: Vec<u32>,
    labels: Vec<Label>,
    /// What is wrong with the first sample that is not right.
    fault: Option<String>,
}

impl Part<'_> {
    fn decode(mut self, kinds: usize, strings: &Strings, locations: &Rows) -> Result<Decoded, Malformed> {
        let mut fault = None;
        let mut frame = 0;
        for at in 0..self.messages.len() {
            let (stack_start, mut value) = (frame, 0);
            let (values, frames) = (&mut self.values[at * kinds..(at + 1) * kinds], &mut *self.frames);
            let labels = &mut self.labels;
            wire::fields(self.messages[at], |number, content| {
                match number {
                    1 => content.numbers(|id| {
                        if let Some(slot) = frames.get_mut(frame) {
                            *slot = locations.get(id);
                        }
                        frame += 1;
                    })?,
                    2 => content.numbers(|number| {
                        if let Some(slot) = values.get_mut(value) {
                            *slot = number as i64;
                        }
                        value += 1;
                    })?,
                    3 => labels.extend(label(content.bytes()?, strings)?),
                    _ => {}
                }
                Ok(())
            })?;
            self.stack_ends[at] = self.first_frame + frame as u32;
            self.label_ends.push(self.labels.len() as u32);
            if fault.is_none() && value != kinds {
                fault = Some(format!("mismatch: sample has {value} values vs. {kinds} types"));
            }
            let stack = self.frames.get_mut(stack_start..frame).ok_or(Malformed)?;
            for location in stack.iter_mut().filter(|location| **location == NONE) {
                fault = fault.or(Some("sample has nil location".into()));
                *location = 0;
            }
        }
        Ok(Decoded { label_ends: self.label_ends, labels: self.labels, fault })
    }
}

fn label(bytes: &[u8], strings: &Strings) -> Result<Option<Label>, Malformed> {
    let mut parts = [0; 4];
    wire::fields(bytes, |number, content| {
        if let 1..=4 = number {
            parts[number as usize - 1] = content.number()?;
        }
        Ok(())
    })?;
    let [key, text, number, unit] = parts;
    let key = strings.get(key)?;
    Ok(if text != 0 {
        Some(Label::text(key, strings.get(text)?))
    } else if number != 0 || unit != 0 {
        Some(Label::number(key, number as i64, strings.get(unit)?))
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::columns::merge::combine;

    const FIXTURES: [&[u8]; 6] = [
        include_bytes!("../../../tests/fixtures/pprof/labels.pb.gz"),
        include_bytes!("../../../tests/fixtures/pprof/cppbench.heap"),
        include_bytes!("../../../tests/fixtures/pprof/cppbench.cpu"),
        include_bytes!("../../../tests/fixtures/pprof/cppbench.thread"),
        include_bytes!("../../../tests/fixtures/pprof/java.contention"),
        include_bytes!("../../../tests/fixtures/pprof/java.cpu"),
    ];

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        if bytes.starts_with(&[0x1f, 0x8b]) { gunzip(bytes, MAX_BYTES).unwrap() } else { bytes.to_vec() }
    }

    /// Touches everything that reports touch.
    fn walk(bytes: Vec<u8>) {
        let Ok(mut columns) = read(bytes) else { return };
        for sample in 0..columns.sample_count() {
            columns.labels_by_key(sample);
            for location in columns.stack(sample) {
                let _ = columns.lines_of(&columns.locations[*location as usize]);
            }
        }
        columns.drop_uninteresting();
        let _ = combine(vec![columns.clone(), columns.clone()]);
        columns.encode();
    }

    #[test]
    fn what_is_written_is_read_again_as_it_was() {
        for fixture in FIXTURES {
            let columns = read(fixture.to_vec()).unwrap();
            let again = read(columns.encode()).unwrap();
            assert_eq!(again.encode(), columns.encode());
            assert_eq!(again.sample_count(), columns.sample_count());
        }
    }

    #[test]
    fn each_kind_of_damage_has_its_error() {
        let error = |bytes: &[u8]| read(bytes.to_vec()).unwrap_err().to_string();
        assert_eq!(error(b""), "parsing profile: empty input file");
        assert_eq!(error(b"no profile"), "parsing profile: unrecognized profile format");
        assert_eq!(error(&FIXTURES[0][..99]), "decompressing profile: unexpected EOF");
        let twice = [0x32, 0x00, 0x48, 0x01, 0x48, 0x02];
        assert_eq!(error(&twice), "parsing profile: concatenated profiles detected");
        let sample = [0x32, 0x00, 0x12, 0x02, 0x10, 0x01];
        assert_eq!(error(&sample), "malformed profile: missing sample type information");
    }

    proptest! {
        #[test]
        fn no_damage_causes_a_panic(
            which in 0..FIXTURES.len(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = unpacked(FIXTURES[which]);
            let place = at.index(bytes.len());
            bytes[place] = byte;
            walk(bytes.clone());
            bytes.truncate(cut.index(bytes.len()));
            walk(bytes);
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            walk(bytes);
        }
    }
}
