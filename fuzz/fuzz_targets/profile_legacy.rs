//! Any bytes for each reader of the formats older than profile.proto.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rprof::profile::{columns::check, legacy};

fuzz_target!(|bytes: &[u8]| {
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
});
