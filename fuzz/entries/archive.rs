//! Any bytes as an archive of profiles (`incident.tar`), not compressed.

use rprof::cli::pprof::unpack_any;

/// See the module.
pub fn run(bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    unpack_any(bytes, folder.path());
}
