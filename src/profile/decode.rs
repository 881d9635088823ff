//! Decodes bytes, gzipped or not, to the messages of profile.proto, for the verbs that write a
//! profile again (`symbolize`, `redact`): what they do not change must stay as it was. The bytes
//! are not trusted: memory is limited, and any input gives a profile or an error.
//!
//! Not here: reading for reports ([`columns::decode`], which leaves out what google/pprof leaves
//! out: labels without content, the order of labels, texts that nothing refers to); validity
//! ([`super::check`]); other formats, which are tried if protobuf fails
//! ([`columns::decode::read_other`]).

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use prost::{
    Message,
    encoding::{self, DecodeContext, WireType},
};

use super::columns::{self, error::ReadError};
use super::proto::{Function, Location, Mapping, Profile, Sample, ValueType};

/// Limits on the size of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Most bytes after decompression.
    pub max_bytes: usize,
    /// Most entries (samples, locations, functions, strings …) of the top level. An empty entry
    /// takes two bytes in the file and up to 72 in memory.
    pub max_entries: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        DecodeLimits { max_bytes: 512 << 20, max_entries: 16_000_000 }
    }
}

/// Why bytes are not a profile.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The gzip data is damaged or truncated.
    #[error("the gzip data is damaged or cut short: {0}")]
    Gzip(#[source] std::io::Error),
    /// The bytes are not valid protobuf.
    #[error("not a pprof profile: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// A damaged file of another format.
    #[error("{0}")]
    Other(#[source] ReadError),
    /// The file decompresses to more than the limit.
    #[error("the profile is larger than {max_bytes} bytes when unpacked")]
    TooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The file has more entries than the limit.
    #[error("the profile has more than {max_entries} entries")]
    TooManyEntries {
        /// The limit.
        max_entries: usize,
    },
}

/// Decodes `bytes`, gzipped or not, within [`DecodeLimits::default`].
pub fn decode(bytes: &[u8]) -> Result<Profile, DecodeError> {
    decode_within(bytes, DecodeLimits::default())
}

/// Decodes `bytes`, gzipped or not, within `limits`.
pub fn decode_within(bytes: &[u8], limits: DecodeLimits) -> Result<Profile, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    let unpacked;
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        unpacked = gunzip(bytes, limits.max_bytes)?;
        &unpacked
    } else {
        bytes
    };
    if bytes.len() > limits.max_bytes {
        return Err(DecodeError::TooLarge { max_bytes: limits.max_bytes });
    }
    match decode_unpacked(bytes, limits) {
        // Formats of other profilers and pprof's older formats.
        Err(DecodeError::Protobuf(error)) => match columns::decode::read_other(bytes) {
            Ok(columns) => decode_unpacked(&columns.encode(), limits),
            Err(ReadError::Unrecognized) => Err(DecodeError::Protobuf(error)),
            Err(error) => Err(DecodeError::Other(error)),
        },
        decoded => decoded,
    }
}

fn decode_unpacked(bytes: &[u8], limits: DecodeLimits) -> Result<Profile, DecodeError> {
    if count_entries(bytes)? > limits.max_entries {
        return Err(DecodeError::TooManyEntries { max_entries: limits.max_entries });
    }
    Ok(LenientProfile::decode(bytes)?.into())
}

fn gunzip(bytes: &[u8], max_bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let mut unpacked = Vec::with_capacity(bytes.len().saturating_mul(3).min(max_bytes));
    let read = MultiGzDecoder::new(bytes).take(max_bytes as u64 + 1).read_to_end(&mut unpacked);
    read.map_err(DecodeError::Gzip)?;
    if unpacked.len() > max_bytes {
        return Err(DecodeError::TooLarge { max_bytes });
    }
    Ok(unpacked)
}

/// Number of fields at the top level, counted without building anything.
fn count_entries(mut bytes: &[u8]) -> Result<usize, prost::DecodeError> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (tag, wire_type) = encoding::decode_key(&mut bytes)?;
        if wire_type == WireType::LengthDelimited {
            let length = encoding::decode_varint(&mut bytes)?;
            let rest = usize::try_from(length).ok().and_then(|length| bytes.get(length..));
            // prost's own error is the most precise: skipping fails where the length does not fit.
            bytes = rest.unwrap_or_default();
        } else {
            encoding::skip_field(wire_type, tag, &mut bytes, DecodeContext::default())?;
        }
        count += 1;
    }
    Ok(count)
}

/// A [`Profile`] whose strings need not be UTF-8: names of functions and files are arbitrary bytes,
/// and not every writer checks them.
#[derive(Clone, PartialEq, prost::Message)]
struct LenientProfile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    string_table: Vec<Vec<u8>>,
    #[prost(int64, tag = "7")]
    drop_frames: i64,
    #[prost(int64, tag = "8")]
    keep_frames: i64,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
    #[prost(int64, tag = "15")]
    doc_url: i64,
}

impl From<LenientProfile> for Profile {
    fn from(lenient: LenientProfile) -> Profile {
        Profile {
            sample_type: lenient.sample_type,
            sample: lenient.sample,
            mapping: lenient.mapping,
            location: lenient.location,
            function: lenient.function,
            string_table: lenient.string_table.into_iter().map(text).collect(),
            drop_frames: lenient.drop_frames,
            keep_frames: lenient.keep_frames,
            time_nanos: lenient.time_nanos,
            duration_nanos: lenient.duration_nanos,
            period_type: lenient.period_type,
            period: lenient.period,
            comment: lenient.comment,
            default_sample_type: lenient.default_sample_type,
            doc_url: lenient.doc_url,
        }
    }
}

/// Bytes as text; invalid UTF-8 is replaced by U+FFFD.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec, MappingSpec, check, encode_gzip, write_raw};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_zip_bomb_is_refused() {
        let bomb = gzip(&vec![0; 1 << 20]);
        let limits = DecodeLimits { max_bytes: 1 << 16, ..DecodeLimits::default() };
        assert!(matches!(decode_within(&bomb, limits), Err(DecodeError::TooLarge { max_bytes: 65536 })));
        assert!(matches!(decode_within(&vec![0x12; 1 << 17], limits), Err(DecodeError::TooLarge { .. })));
    }

    #[test]
    fn more_entries_than_allowed_are_refused_before_they_are_built() {
        let limits = DecodeLimits { max_entries: 1000, ..DecodeLimits::default() };
        let samples = [0x12, 0x00].repeat(1001);
        assert!(matches!(
            decode_within(&samples, limits),
            Err(DecodeError::TooManyEntries { max_entries: 1000 })
        ));
        assert_eq!(decode_within(&samples[2..], limits).unwrap().sample.len(), 1000);
    }

    #[test]
    fn names_that_are_not_utf8_are_kept_with_replacement_characters() {
        let bytes = [0x32, 0x00, 0x32, 0x03, b'a', 0xff, b'b'];
        assert_eq!(decode(&bytes).unwrap().string_table, ["", "a\u{fffd}b"]);
    }

    #[test]
    fn each_kind_of_damage_has_its_error() {
        assert!(matches!(decode(b""), Err(DecodeError::Empty)));
        let whole = gzip(&[0x32, 0x00]);
        assert!(matches!(decode(&whole[..whole.len() - 3]), Err(DecodeError::Gzip(_))));
        assert!(matches!(decode(&[0x32, 0x7f, 0x00]), Err(DecodeError::Protobuf(_))));
        assert!(matches!(decode(b"--- heapz 1 ---"), Err(DecodeError::Protobuf(_))));
    }

    prop_compose! {
        fn any_profile()(
            names in proptest::collection::vec(".{0,12}", 1..6),
            mappings in proptest::collection::vec((any::<u64>(), any::<u64>(), ".{0,8}", any::<bool>()), 1..4),
            places in proptest::collection::vec((any::<u64>(), any::<u32>(), 0usize..4, proptest::option::of(0usize..4)), 1..12),
            stacks in proptest::collection::vec((proptest::collection::vec(0usize..12, 0..9), any::<i64>()), 0..20),
            main in 0usize..4,
        ) -> Profile {
            let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
            let mappings: Vec<_> = mappings.iter().map(|(start, limit, filename, symbolized)| builder.mapping(
                &MappingSpec { start: *start, limit: *limit, filename, symbolized: *symbolized, ..MappingSpec::default() },
            )).collect();
            let functions: Vec<_> = names.iter().map(|name| builder.function(name, name, name, 7)).collect();
            let locations: Vec<_> = places.iter().map(|(address, line, depth, mapping)| {
                let lines: Vec<_> = (0..*depth).map(|at| LineSpec {
                    function: functions[at % functions.len()], line: *line, column: 0,
                }).collect();
                builder.location(mapping.map(|at| mappings[at % mappings.len()]), *address, &lines)
            }).collect();
            for (stack, value) in &stacks {
                let stack: Vec<_> = stack.iter().map(|at| locations[at % locations.len()]).collect();
                builder.sample(&stack, &[1, *value], &[(&names[0], LabelValue::Number(*value, &names[0]))]);
            }
            builder.set_main_mapping(mappings[main % mappings.len()]);
            builder.set_time(stacks.len() as i64, -1);
            builder.finish()
        }
    }

    proptest! {
        #[test]
        fn a_built_profile_is_valid_and_survives_encoding(profile in any_profile()) {
            prop_assert_eq!(check(&profile), Ok(()));
            prop_assert_eq!(&decode(&encode_gzip(&profile)).unwrap(), &profile);
            let mut raw = Vec::new();
            write_raw(&profile, &mut raw).unwrap();
            if !raw.is_empty() {
                prop_assert_eq!(&decode(&raw).unwrap(), &profile);
            }
        }

        #[test]
        fn no_bytes_cause_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(profile) = decode(&bytes) {
                let _ = check(&profile);
            }
            if let Ok(profile) = decode(&gzip(&bytes)) {
                let _ = check(&profile);
            }
        }

        #[test]
        fn no_damage_to_a_profile_causes_a_panic(
            profile in any_profile(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut raw = Vec::new();
            write_raw(&profile, &mut raw).unwrap();
            let place = at.index(raw.len());
            raw[place] = byte;
            if let Ok(profile) = decode(&raw) {
                let _ = check(&profile);
            }
            let _ = decode(&raw[..cut.index(raw.len())]);
        }
    }
}
