//! Encodes a profile: protobuf, gzipped as pprof tools expect. Messages are written one by one, so
//! that no second copy of the profile is in memory.
//!
//! Not here: files on disk (see [`super::file`]).

use std::io::{self, Write};

use flate2::{Compression, write::GzEncoder};
use prost::encoding;

use super::proto::{Profile, ValueType};

/// Compression level. With zlib-rs, the usual 6 takes a quarter longer for a file 0.1 to 2.5 %
/// smaller.
const GZIP_LEVEL: u32 = 3;
/// Encoded messages are written in pieces of about this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// The gzipped bytes of `profile`.
pub fn encode_gzip(profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_gzip(profile, &mut bytes).expect("writing to memory does not fail");
    bytes
}

/// Writes `profile` gzipped. The only errors are those of `writer`.
pub fn write_gzip(profile: &Profile, writer: impl Write) -> io::Result<()> {
    let mut encoder = GzEncoder::new(writer, Compression::new(GZIP_LEVEL));
    write_raw(profile, &mut encoder)?;
    encoder.finish()?.flush()
}

/// Writes `profile` as uncompressed protobuf, which pprof tools read too.
pub fn write_raw(profile: &Profile, writer: impl Write) -> io::Result<()> {
    let mut out = Chunks { writer, buffer: Vec::with_capacity(CHUNK_BYTES + 4096) };
    out.messages(1, &profile.sample_type)?;
    out.messages(2, &profile.sample)?;
    out.messages(3, &profile.mapping)?;
    out.messages(4, &profile.location)?;
    out.messages(5, &profile.function)?;
    for text in &profile.string_table {
        encoding::string::encode(6, text, &mut out.buffer);
        out.flush_if_full()?;
    }
    out.number(7, profile.drop_frames);
    out.number(8, profile.keep_frames);
    out.number(9, profile.time_nanos);
    out.number(10, profile.duration_nanos);
    out.messages::<ValueType>(11, profile.period_type.as_slice())?;
    out.number(12, profile.period);
    encoding::int64::encode_packed(13, &profile.comment, &mut out.buffer);
    out.number(14, profile.default_sample_type);
    out.number(15, profile.doc_url);
    out.flush()
}

/// Collects encoded fields and writes them in pieces.
struct Chunks<W> {
    writer: W,
    buffer: Vec<u8>,
}

impl<W: Write> Chunks<W> {
    fn messages<M: prost::Message>(&mut self, tag: u32, messages: &[M]) -> io::Result<()> {
        for message in messages {
            encoding::message::encode(tag, message, &mut self.buffer);
            self.flush_if_full()?;
        }
        Ok(())
    }

    /// A number field; 0 is the default and is omitted.
    fn number(&mut self, tag: u32, value: i64) {
        if value != 0 {
            encoding::int64::encode(tag, &value, &mut self.buffer);
        }
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < CHUNK_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec, MappingSpec, decode};

    fn profile(samples: u64) -> Profile {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        let mapping = builder.mapping(&MappingSpec { filename: "/bin/a", ..MappingSpec::default() });
        for at in 0..samples {
            let function = builder.function(&format!("f{at}"), "f", "a.c", 1);
            let line = LineSpec { function, line: 2, column: 3 };
            let location = builder.location(Some(mapping), at, &[line]);
            builder.sample(&[location], &[1, at as i64], &[("tid", LabelValue::Number(at as i64, ""))]);
        }
        builder.comment("a comment");
        builder.set_period("cpu", "nanoseconds", 10);
        builder.set_time(1_700_000_000_000_000_000, 5);
        builder.set_default_sample_type("cpu");
        builder.set_doc_url("https://example.org");
        builder.finish()
    }

    #[test]
    fn streamed_output_equals_prosts_output() {
        for profile in [profile(0), profile(3), profile(20_000), Profile::default()] {
            let mut streamed = Vec::new();
            write_raw(&profile, &mut streamed).unwrap();
            assert!(streamed == profile.encode_to_vec(), "{} samples", profile.sample.len());
        }
    }

    #[test]
    fn an_encoded_profile_decodes_to_the_same_profile() {
        let profile = profile(2_000);
        assert!(decode(&encode_gzip(&profile)).unwrap() == profile);
    }
}
