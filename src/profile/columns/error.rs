//! Why bytes are not a profile, and the limit of their size.

/// Why bytes are not a profile, worded like the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The gzip data is damaged.
    #[error("decompressing profile: {0}")]
    Gzip(String),
    /// The file is empty.
    #[error("parsing profile: empty input file")]
    Empty,
    /// Several profiles follow each other in one file.
    #[error("parsing profile: concatenated profiles detected")]
    Concatenated,
    /// The file has no known format.
    #[error("parsing profile: unrecognized profile format")]
    Unrecognized,
    /// A damaged profile of an older format.
    #[error("parsing profile: {0}")]
    Legacy(String),
    /// A damaged `perf.data` file.
    #[error("parsing perf.data: {0}")]
    PerfData(String),
    /// Damaged folded stacks.
    #[error("parsing stacks: {0}")]
    Folded(String),
    /// The tables of the profile are inconsistent.
    #[error("malformed profile: {0}")]
    Invalid(String),
    /// The file decompresses to more than the limit.
    #[error("decompressing profile: it would become larger than {max_bytes} bytes")]
    TooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The file has more entries than the limit.
    #[error("parsing profile: it has more than {max_entries} samples, locations, functions and texts")]
    TooManyEntries {
        /// The limit.
        max_entries: usize,
    },
}

/// Most bytes of a file after decompression.
pub const MAX_BYTES: usize = 2 << 30;
