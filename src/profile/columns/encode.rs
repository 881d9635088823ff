//! [`Columns`] to bytes, field for field and string for string as google/pprof writes them.
//!
//! Not here: reading ([`super::decode`]).

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};

use super::{Columns, Kind, Label, Location, NONE, TextId};

impl Columns {
    /// Writes the profile gzipped.
    pub fn write_gzip(&self, writer: impl Write) -> io::Result<()> {
        let mut encoder = GzEncoder::new(writer, Compression::new(4));
        encoder.write_all(&self.encode())?;
        encoder.finish()?.flush()
    }

    /// The profile as bare profile.proto.
    pub fn encode(&self) -> Vec<u8> {
        let mut strings = Strings { columns: self, indexes: vec![NONE; self.texts.len()], order: vec![0] };
        strings.indexes[0] = 0;
        let mut out = Message::default();
        let header = &self.header;
        for kind in &header.kinds {
            out.message(1, &strings.kind(*kind));
        }
        let mut message = Message::default();
        for sample in 0..self.sample_count() {
            message.bytes.clear();
            self.sample(sample, &mut strings, &mut message);
            out.message(2, &message);
        }
        for mapping in &self.mappings {
            let (file, build_id) = (strings.index(mapping.file), strings.index(mapping.build_id));
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
        for location in &self.locations {
            out.message(4, &self.location(location));
        }
        for function in &self.functions {
            let [name, system_name, file] =
                [function.name, function.system_name, function.file].map(|text| strings.index(text));
            let fields = [function.id, name, system_name, file, function.start_line as u64];
            out.message(5, &Message::of(fields.into_iter()));
        }
        let drop_frames = strings.index(header.drop_frames);
        let keep_frames = strings.index(header.keep_frames);
        let period_kind = strings.kind(header.period_kind);
        let comments: Vec<u64> = header.comments.iter().map(|comment| strings.index(*comment)).collect();
        let default_kind = strings.index(header.default_kind);
        let doc_url = strings.index(header.doc_url);
        for text in &strings.order {
            out.bytes(6, self.text(*text).as_bytes());
        }
        out.optional(7, drop_frames);
        out.optional(8, keep_frames);
        out.optional(9, header.time_ns as u64);
        out.optional(10, header.duration_ns as u64);
        if !period_kind.bytes.is_empty() {
            out.message(11, &period_kind);
        }
        out.optional(12, header.period as u64);
        out.numbers(13, comments.into_iter());
        out.number(14, default_kind);
        out.optional(15, doc_url);
        out.bytes
    }

    fn sample(&self, sample: usize, strings: &mut Strings, message: &mut Message) {
        let ids = self.stack(sample).iter().map(|location| self.locations[*location as usize].id);
        message.numbers(1, ids);
        message.numbers(2, self.values(sample).iter().map(|value| *value as u64));
        if self.labels(sample).is_empty() {
            return;
        }
        let by_key = self.labels_by_key(sample);
        for (key, texts) in by_key.texts {
            for text in texts {
                message.message(3, &strings.label(Label::text(key, text), false));
            }
        }
        for (key, numbers) in by_key.numbers {
            for (at, number) in numbers.values.iter().enumerate() {
                let unit = numbers.units.get(at).copied().unwrap_or(0);
                message.message(3, &strings.label(Label::number(key, *number, unit), true));
            }
        }
    }

    fn location(&self, location: &Location) -> Message {
        let mapping = self.mapping_of(location).map_or(0, |mapping| mapping.id);
        let mut message = Message::of([location.id, mapping, location.address].into_iter());
        for line in self.lines_of(location) {
            let function = self.functions.get(line.function as usize).map_or(0, |function| function.id);
            let fields = [function, line.line as u64, line.column as u64];
            message.message(4, &Message::of(fields.into_iter()));
        }
        message.optional(5, location.is_folded.into());
        message
    }
}

/// The string table: texts get their index when first asked for.
struct Strings<'a> {
    columns: &'a Columns,
    indexes: Vec<u32>,
    order: Vec<TextId>,
}

impl Strings<'_> {
    fn index(&mut self, text: TextId) -> u64 {
        debug_assert!((text as usize) < self.columns.texts.len());
        let index = &mut self.indexes[text as usize];
        if *index == NONE {
            *index = self.order.len() as u32;
            self.order.push(text);
        }
        u64::from(*index)
    }

    fn kind(&mut self, kind: Kind) -> Message {
        let fields = [self.index(kind.name), self.index(kind.unit)];
        Message::of(fields.into_iter())
    }

    fn label(&mut self, label: Label, is_number: bool) -> Message {
        let key = self.index(label.key);
        let text = label.as_text().map_or(0, |text| self.index(text));
        let (number, unit) = label.as_number().filter(|_| is_number).unwrap_or_default();
        let unit = self.index(unit);
        Message::of([key, text, number as u64, unit].into_iter())
    }
}

/// A message being written.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// Numbers as fields 1, 2, 3 …, zeros left out.
    fn of(fields: impl Iterator<Item = u64>) -> Message {
        let mut message = Message::default();
        for (field, number) in (1..).zip(fields) {
            message.optional(field, number);
        }
        message
    }

    fn varint(&mut self, mut number: u64) {
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

    /// More than two numbers are packed, as the reference does it.
    fn numbers(&mut self, field: u64, numbers: impl ExactSizeIterator<Item = u64>) {
        if numbers.len() <= 2 {
            numbers.for_each(|number| self.number(field, number));
            return;
        }
        let mut packed = Message::default();
        numbers.for_each(|number| packed.varint(number));
        self.message(field, &packed);
    }
}
