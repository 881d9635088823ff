//! The prompt.
//!
//! Not here: what its commands make (`report`).

pub mod pprof;
