//! What all parts of the sampler need: the PID namespace, and errors.

use std::{fs, io, os::unix::fs::MetadataExt};

use crate::{sampler::SamplerError, sys::perf::PerfError};

/// Inode number of the first PID namespace (`PROC_PID_INIT_INO`, linux/proc_ns.h).
pub const FIRST_PID_NAMESPACE: u32 = 0xefff_fffc;

/// The inode number of rprof's PID namespace, whose process numbers are used.
pub fn own_pid_namespace() -> Result<u32, SamplerError> {
    let found = fs::metadata("/proc/self/ns/pid").map_err(system("reading /proc/self/ns/pid"))?;
    // Inode numbers of namespaces are 32 bits wide in the kernel.
    Ok(found.ino() as u32)
}

/// An error that says what failed.
pub fn system(what: &'static str) -> impl Fn(io::Error) -> SamplerError {
    move |source| SamplerError::System { what: what.to_owned(), source }
}

/// The error of a sampler for a failed perf call.
pub fn from_perf(error: PerfError) -> SamplerError {
    match error {
        PerfError::System { call, source } => SamplerError::System { what: call.to_owned(), source },
        other => SamplerError::Perf(other),
    }
}
