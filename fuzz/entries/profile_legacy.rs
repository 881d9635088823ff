//! Any bytes for each reader of the formats older than profile.proto.

use rprof::profile::{columns::check, legacy};

/// See the module.
pub fn run(bytes: &[u8]) {
    for columns in legacy::read_each(bytes).flatten() {
        for sample in 0..columns.sample_count() {
            for location in columns.stack(sample) {
                let _ = columns.lines_of(&columns.locations[*location as usize]);
            }
        }
        if check::check(&columns).is_ok() {
            columns.encode();
        }
    }
}
