//! Any bytes as /proc/kallsyms.

use rprof::{addr::RuntimeAddr, symbolize::KernelSymbols};

/// See the module.
pub fn run(bytes: &[u8]) {
    let addresses: Vec<RuntimeAddr> =
        [0, 1, 0x1000, 0xffff_ffff_8100_0000, 0xffff_ffff_8100_0010, u64::MAX].map(RuntimeAddr).into();
    if let Ok(names) = KernelSymbols::names_in(bytes, &addresses) {
        assert_eq!(names.len(), addresses.len());
    }
}
