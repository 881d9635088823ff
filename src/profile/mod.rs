//! pprof's model of a profile, and its encoding: [`proto`] is the model, [`builder`] builds one
//! from addresses and names, [`encode`] and [`decode`] convert it to bytes and back, [`check`]
//! checks its validity, [`file`] writes it to disk completely or not at all.
//!
//! [`columns`] is a profile laid out for reading, with filters and merging. [`legacy`] reads the
//! formats before profile.proto; [`perf_data`] and [`folded`] read the formats of other profilers.
//! [`unit`] and [`go_regexp`] format values and match names like pprof.
//!
//! Not here: where samples come from (this module knows nothing of processes), and what they mean
//! (`report`).

pub mod amend;
pub mod builder;
pub mod check;
pub mod columns;
pub mod decode;
pub mod encode;
pub mod file;
pub mod folded;
pub mod function_starts;
pub mod go_regexp;
pub mod ids;
pub mod legacy;
pub mod perf_data;
pub mod proto;
pub mod redact;
pub mod unit;

pub use builder::{Builder, FunctionId, LabelValue, LineSpec, LocationId, MappingId, MappingSpec};
pub use check::{CheckError, check};
pub use decode::{DecodeError, DecodeLimits, decode};
pub use encode::{encode_gzip, write_gzip, write_raw};
pub use file::{FileOptions, WriteError, write_atomically};
pub use proto::Profile;
