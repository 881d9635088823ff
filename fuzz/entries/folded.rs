//! Any bytes as folded stacks.

use rprof::profile::folded;

/// See the module.
pub fn run(bytes: &[u8]) {
    if let Some(Ok(columns)) = folded::read(bytes) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        assert!(columns.sample_count() <= lines);
    }
}
