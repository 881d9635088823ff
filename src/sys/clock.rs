//! The clock of all events: CLOCK_MONOTONIC; and the clock of rprof's own CPU time.
//!
//! Not here: waiting.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC now, in nanoseconds: the clock of every perf event that rprof opens.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC exists on every Linux");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec()).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// The CPU time of all threads of this process, ended ones included, in nanoseconds
/// (clock_gettime(2)).
pub fn own_cpu_ns() -> u64 {
    let now =
        clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("every process has a clock of its CPU time");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(now.tv_nsec()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_monotonic() {
        let before = monotonic_ns();
        assert!(before > 0 && monotonic_ns() >= before);
    }
}
