//! The progress of a capture.

use std::time::Duration;

use super::Tally;
use crate::{process::Identity, sampler::Description};

/// Progress of a capture, reported while it runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Sampling has begun.
    Attached {
        /// The sampler that was opened.
        sampler: &'a Description,
        /// The profiled processes.
        identities: &'a [Identity],
        /// The time to attach.
        took: Duration,
    },
    /// About once per [`super::POLL_EVERY`].
    Sampling {
        /// The time since sampling began.
        elapsed: Duration,
        /// The counts so far.
        tally: &'a Tally,
    },
    /// Sampling is over; addresses are being symbolized.
    Naming {
        /// How many addresses.
        addresses: usize,
    },
}
