//! The kernel's perf events (perf_event_open(2)): opening them, the ring into which the kernel
//! writes their records, and the records themselves.
//!
//! An [`EventSpec`] says what to count and what to record, [`EventSpec::open`] returns an
//! [`Event`], [`Ring::map`] the memory that the kernel writes to, [`Record::parse`] a record in it.
//! Every event opened here adds the same fields to its records (thread, CLOCK_MONOTONIC time, CPU,
//! identifier), so that records of different events can share a ring and rings can be merged by
//! time.
//!
//! Not here: which events a profiler opens and how it uses their records.

mod error;
mod event;
mod hardware;
pub mod probe;
mod record;
mod ring;
mod spec;

pub use error::{Denial, PerfError};
pub use event::{Counts, Event};
pub use hardware::counts_cycles;
pub use record::{Mmap2, RawRecord, Record, Sample, SampleId, UserStack};
pub use ring::Ring;
pub use spec::{EventKind, EventSpec, Rate, SampleFields, Scope};
