//! Any bytes as records of a perf ring. The kernel writes them, but the target controls the names,
//! paths and stacks in them.

use rprof::{
    arch::native,
    sys::perf::{RawRecord, Record, SampleFields},
};

/// See the module.
pub fn run(bytes: &[u8]) {
    let Some((choice, record)) = bytes.split_first() else { return };
    let Some(raw) = RawRecord::new(record) else { return };
    let fields = SampleFields {
        period: choice & 1 != 0,
        kernel_callchain: choice & 2 != 0,
        user_registers: if choice & 4 != 0 { native::PERF_REGISTER_MASK } else { 0 },
        user_stack_bytes: u32::from(choice >> 3) * 2048,
    };
    let _ = raw.id();
    let Some(Record::Sample(sample)) = Record::parse(&raw, &fields) else { return };
    assert!(sample.user_stack.bytes.len() <= record.len());
    if let Some(registers) = sample.user_registers {
        let words: Vec<u64> = (registers.chunks_exact(8))
            .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
            .collect();
        native::registers_from_perf(&words);
    }
}
