//! Any bytes as /proc/PID/maps. The target chooses the paths in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rprof::process::maps;

fuzz_target!(|bytes: &[u8]| {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    assert!(maps::parse(bytes).len() <= lines);
});
