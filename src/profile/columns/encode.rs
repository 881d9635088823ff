//! [`Columns`] to bytes, with the same fields and strings in the same order as google/pprof.
//!
//! Not here: reading ([`super::decode`]).

use std::{
    io::{self, Write},
    ops::Range,
};

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::{Columns, Label, Location, NONE, SampleKind, TextId, parallel::in_order};

/// Samples, or rows of a table, written in one step.
const BLOCK: usize = 8192;

impl Columns {
    /// Writes the profile gzipped, compressing on all CPUs.
    pub fn write_gzip(&self, mut writer: impl Write) -> io::Result<()> {
        let encoder = Encoder::new(self);
        let last = encoder.parts.len() - 1;
        let (mut checksum, mut written) = (Crc::new(), Ok(()));
        // The header of RFC 1952: deflate, no name, no time, unknown system.
        writer.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])?;
        in_order(
            encoder.parts.len(),
            |at| pack(&encoder.part(at), at == last),
            |packed| {
                written = packed.and_then(|(bytes, own)| {
                    checksum.combine(&own);
                    writer.write_all(&bytes)
                });
                written.is_ok()
            },
        );
        written?;
        writer.write_all(&checksum.sum().to_le_bytes())?;
        writer.write_all(&checksum.amount().to_le_bytes())?;
        writer.flush()
    }

    /// The profile as uncompressed profile.proto.
    pub fn encode(&self) -> Vec<u8> {
        let encoder = Encoder::new(self);
        (0..encoder.parts.len()).flat_map(|at| encoder.part(at)).collect()
    }
}

/// Compresses part of a stream so that the next part can follow, unless it is the last.
fn pack(part: &[u8], is_last: bool) -> io::Result<(Vec<u8>, Crc)> {
    let mut checksum = Crc::new();
    checksum.update(part);
    let mut deflate = Compress::new(Compression::new(2), false);
    let mut packed = Vec::with_capacity(part.len() / 2 + 64);
    let flush = if is_last { FlushCompress::Finish } else { FlushCompress::Sync };
    loop {
        let done = deflate.total_in() as usize;
        deflate.compress_vec(&part[done..], &mut packed, flush)?;
        // Everything is written once room is left in the output.
        if deflate.total_in() as usize == part.len() && packed.len() < packed.capacity() {
            return Ok((packed, checksum));
        }
        packed.reserve(part.len() / 4 + 64);
    }
}

/// A part of the file.
enum Part {
    Kinds,
    Samples(Range<usize>),
    Mappings,
    Locations(Range<usize>),
    Functions(Range<usize>),
    Texts(Range<usize>),
    Rest,
}

/// Prepared before the first byte is written: the index of each text, and the parts.
struct Encoder<'a> {
    columns: &'a Columns,
    strings: Strings,
    /// The IDs of all locations, concatenated.
    ids: Vec<u64>,
    parts: Vec<Part>,
}

impl<'a> Encoder<'a> {
    fn new(columns: &'a Columns) -> Encoder<'a> {
        let strings = Strings::new(columns);
        let ids = columns.locations.iter().map(|location| location.id).collect();
        let blocks =
            |count: usize| (0..count.div_ceil(BLOCK)).map(move |at| at * BLOCK..count.min((at + 1) * BLOCK));
        let mut parts = vec![Part::Kinds];
        parts.extend(blocks(columns.sample_count()).map(Part::Samples));
        parts.push(Part::Mappings);
        parts.extend(blocks(columns.locations.len()).map(Part::Locations));
        parts.extend(blocks(columns.functions.len()).map(Part::Functions));
        parts.extend(blocks(strings.order.len()).map(Part::Texts));
        parts.push(Part::Rest);
        Encoder { columns, strings, ids, parts }
    }

    fn part(&self, at: usize) -> Vec<u8> {
        let columns = self.columns;
        let mut out = Message { bytes: Vec::with_capacity(self.expected(&self.parts[at])) };
        match &self.parts[at] {
            Part::Kinds => {
                for kind in &columns.header.kinds {
                    out.message(1, &self.strings.kind(*kind));
                }
            }
            Part::Samples(samples) => {
                let mut message = Message::default();
                for sample in samples.clone() {
                    message.bytes.clear();
                    self.sample(sample, &mut message);
                    out.message(2, &message);
                }
            }
            Part::Mappings => self.mappings(&mut out),
            Part::Locations(rows) => {
                for location in &columns.locations[rows.clone()] {
                    out.message(4, &self.location(location));
                }
            }
            Part::Functions(rows) => {
                for function in &columns.functions[rows.clone()] {
                    let texts = [function.name, function.system_name, function.file];
                    let [name, system_name, file] = texts.map(|text| self.strings.index(text));
                    let fields = [function.id, name, system_name, file, function.start_line as u64];
                    out.message(5, &Message::of(fields.into_iter()));
                }
            }
            Part::Texts(rows) => {
                for text in &self.strings.order[rows.clone()] {
                    out.bytes(6, columns.text(*text).as_bytes());
                }
            }
            Part::Rest => self.rest(&mut out),
        }
        out.bytes
    }

    /// Approximate size of a part in bytes.
    fn expected(&self, part: &Part) -> usize {
        match part {
            Part::Samples(samples) => {
                let ends = &self.columns.stack_ends;
                let frames = (ends[samples.end] - ends[samples.start]) as usize;
                3 * frames + 24 * samples.len()
            }
            Part::Locations(rows) | Part::Functions(rows) | Part::Texts(rows) => 32 * rows.len(),
            Part::Kinds | Part::Mappings | Part::Rest => 0,
        }
    }

    fn sample(&self, sample: usize, message: &mut Message) {
        let columns = self.columns;
        let ids = columns.stack(sample).iter().map(|location| self.ids[*location as usize]);
        message.numbers(1, ids);
        message.numbers(2, columns.values(sample).iter().map(|value| *value as u64));
        columns.each_label(sample, |label, is_number| {
            message.message(3, &self.strings.label(label, is_number));
        });
    }

    fn mappings(&self, out: &mut Message) {
        for mapping in &self.columns.mappings {
            let (file, build_id) = (self.strings.index(mapping.file), self.strings.index(mapping.build_id));
            let numbers =
                [mapping.id, mapping.start, mapping.limit, mapping.offset, file, build_id].into_iter();
            let flags = [
                mapping.has_functions,
                mapping.has_filenames,
                mapping.has_line_numbers,
                mapping.has_inline_frames,
            ];
            out.message(3, &Message::of(numbers.chain(flags.map(u64::from))));
        }
    }

    fn location(&self, location: &Location) -> Message {
        let columns = self.columns;
        let mapping = columns.mapping_of(location).map_or(0, |mapping| mapping.id);
        let mut message = Message::of([location.id, mapping, location.address].into_iter());
        for line in columns.lines_of(location) {
            let function = columns.functions.get(line.function as usize).map_or(0, |function| function.id);
            let fields = [function, line.line as u64, line.column as u64];
            message.message(4, &Message::of(fields.into_iter()));
        }
        message.optional(5, location.is_folded.into());
        message
    }

    fn rest(&self, out: &mut Message) {
        let (header, strings) = (&self.columns.header, &self.strings);
        out.optional(7, strings.index(header.drop_frames));
        out.optional(8, strings.index(header.keep_frames));
        out.optional(9, header.time_ns as u64);
        out.optional(10, header.duration_ns as u64);
        let period_kind = strings.kind(header.period_kind);
        if !period_kind.bytes.is_empty() {
            out.message(11, &period_kind);
        }
        out.optional(12, header.period as u64);
        out.numbers(13, header.comments.iter().map(|comment| strings.index(*comment)));
        out.number(14, strings.index(header.default_kind));
        out.optional(15, strings.index(header.doc_url));
    }
}

impl Columns {
    /// The labels of a sample in the order of writing: texts, then numbers, by key.
    fn each_label(&self, sample: usize, mut each: impl FnMut(Label, bool)) {
        if self.labels(sample).is_empty() {
            return;
        }
        let by_key = self.labels_by_key(sample);
        for (key, texts) in by_key.texts {
            texts.into_iter().for_each(|text| each(Label::text(key, text), false));
        }
        for (key, numbers) in by_key.numbers {
            for (at, number) in numbers.values.iter().enumerate() {
                let unit = numbers.units.get(at).copied().unwrap_or(0);
                each(Label::number(key, *number, unit), true);
            }
        }
    }
}

/// The string table: texts get their index in the order of first use.
struct Strings {
    indexes: Vec<u32>,
    order: Vec<TextId>,
}

impl Strings {
    fn new(columns: &Columns) -> Strings {
        let mut strings = Strings { indexes: vec![NONE; columns.texts.len()], order: Vec::new() };
        let header = &columns.header;
        strings.name([0]);
        header.kinds.iter().for_each(|kind| strings.name([kind.name, kind.unit]));
        if columns.has_labels() {
            for sample in 0..columns.sample_count() {
                columns.each_label(sample, |label, _| {
                    let (_, unit) = label.as_number().unwrap_or_default();
                    strings.name([label.key, label.as_text().unwrap_or(unit)]);
                });
            }
        }
        columns.mappings.iter().for_each(|mapping| strings.name([mapping.file, mapping.build_id]));
        for function in &columns.functions {
            strings.name([function.name, function.system_name, function.file]);
        }
        strings.name([
            header.drop_frames,
            header.keep_frames,
            header.period_kind.name,
            header.period_kind.unit,
        ]);
        header.comments.iter().for_each(|comment| strings.name([*comment]));
        strings.name([header.default_kind, header.doc_url]);
        strings
    }

    fn name<const COUNT: usize>(&mut self, texts: [TextId; COUNT]) {
        for text in texts {
            let index = &mut self.indexes[text as usize];
            if *index == NONE {
                *index = self.order.len() as u32;
                self.order.push(text);
            }
        }
    }

    fn index(&self, text: TextId) -> u64 {
        u64::from(self.indexes[text as usize])
    }

    fn kind(&self, kind: SampleKind) -> Message {
        let fields = [self.index(kind.name), self.index(kind.unit)];
        Message::of(fields.into_iter())
    }

    fn label(&self, label: Label, is_number: bool) -> Message {
        let text = label.as_text().map_or(0, |text| self.index(text));
        let (number, unit) = label.as_number().filter(|_| is_number).unwrap_or_default();
        Message::of([self.index(label.key), text, number as u64, self.index(unit)].into_iter())
    }
}

/// A message that is being written.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Numbers as fields 1, 2, 3 …; zeros are omitted.
    fn of(fields: impl Iterator<Item = u64>) -> Message {
        let mut message = Message::default();
        for (field, number) in (1..).zip(fields) {
            message.optional(field, number);
        }
        message
    }

    #[inline]
    fn varint(&mut self, mut number: u64) {
        if number < 1 << 21 {
            // Most numbers take one byte; the fixed length makes this fast.
            let [low, middle, high] = [number, number >> 7, number >> 14].map(|part| part as u8);
            match number {
                0..0x80 => self.bytes.push(low),
                0x80..0x4000 => self.bytes.extend_from_slice(&[low | 0x80, middle]),
                _ => self.bytes.extend_from_slice(&[low | 0x80, middle | 0x80, high]),
            }
            return;
        }
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn optional(&mut self, field: u64, number: u64) {
        if number != 0 {
            self.number(field, number);
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Message) {
        self.bytes(field, &message.bytes);
    }

    /// More than two numbers are packed, as in the reference.
    fn numbers(&mut self, field: u64, numbers: impl ExactSizeIterator<Item = u64>) {
        if numbers.len() <= 2 {
            numbers.for_each(|number| self.number(field, number));
            return;
        }
        let mut packed = Message { bytes: Vec::with_capacity(8 + 10 * numbers.len()) };
        numbers.for_each(|number| packed.varint(number));
        self.message(field, &packed);
    }
}
