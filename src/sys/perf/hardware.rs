//! Whether this machine counts CPU cycles: virtual machines and containers often cannot.
//!
//! Not here: sampling by them.

use perf_event::{Builder, events::Hardware};

/// Whether a hardware counter of this process's own cycles opens and counts. `false` if there is
/// none, rights are missing, or the count stays 0 (as under some hypervisors).
pub fn counts_cycles() -> bool {
    let Ok(mut counter) = Builder::new().kind(Hardware::CPU_CYCLES).build() else { return false };
    if counter.enable().is_err() {
        return false;
    }
    let spun = (0..10_000u64).fold(0, |sum, step| std::hint::black_box(sum ^ step));
    std::hint::black_box(spun);
    counter.disable().is_ok() && counter.read().is_ok_and(|cycles| cycles > 0)
}
