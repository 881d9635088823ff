//! Any bytes as the formats of other profilers: `perf.data` or folded stacks. The result must be
//! valid, survive encoding and decoding unchanged, and be no larger than its file allows.

use rprof::profile::{
    columns::{check, decode},
    folded, perf_data,
};

/// See the module.
pub fn run(bytes: &[u8]) {
    let read = match perf_data::is_perf_data(bytes) {
        true => Some(perf_data::read(bytes)),
        false => folded::read(bytes),
    };
    let Some(Ok(columns)) = read else { return };
    check::check(&columns).expect("tables that agree");
    for sample in 0..columns.sample_count() {
        for location in columns.stack(sample) {
            let _ = columns.lines_of(&columns.locations[*location as usize]);
        }
    }
    // In perf.data a sample has at least 8 bytes and a frame 8. In folded stacks each has at least
    // two.
    assert!(columns.sample_count() + columns.frame_count() <= bytes.len());
    let written = columns.encode();
    if columns.sample_count() > 0 {
        let again = decode::read(written.clone()).expect("rprof reads its own output");
        assert_eq!(again.encode(), written);
    }
}
