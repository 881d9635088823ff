//! The memory and the CPU time that the kernel charges to rprof itself.
//!
//! Not here: the target's memory (`memory`).

use std::sync::Once;

use crate::sys::{clock, heap, proc::read_text};

/// Anonymous plus shared memory of rprof (RssAnon + RssShmem of proc_pid_status(5)), in bytes: what
/// it cannot give back without losing data. Pages of mapped files are not in it. `None`: /proc
/// cannot be read.
pub fn own_memory_bytes() -> Option<u64> {
    parse(&read_text("/proc/self/status").ok()?)
}

/// Makes the allocator give free memory back to the kernel soon. For processes that sample for a
/// long time; it costs system calls where large buffers come and go.
pub fn give_memory_back_early() {
    static ONCE: Once = Once::new();
    ONCE.call_once(heap::give_back_early);
}

/// Gives free memory of the heap back to the kernel, where the allocator keeps it.
pub fn release_free_memory() {
    heap::release_free_memory();
}

/// The CPU time that rprof has used since its start, on all threads, in nanoseconds.
pub fn own_cpu_ns() -> u64 {
    clock::own_cpu_ns()
}

fn parse(status: &str) -> Option<u64> {
    let of = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    of("RssAnon:")?.checked_add(of("RssShmem:")?)
}

/// What this process has allocated, in bytes, without free memory between allocations. `None` if
/// the allocator does not tell.
pub fn own_allocated_bytes() -> Option<u64> {
    heap::allocated_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_and_shared_memory_are_added() {
        let status = "VmRSS:\t 900 kB\nRssAnon:\t     300 kB\nRssFile:\t 500 kB\nRssShmem:\t 100 kB\n";
        assert_eq!(parse(status), Some(400 << 10));
        assert_eq!(parse("VmRSS:\t 900 kB\n"), None);
        let held = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(own_memory_bytes().expect("/proc is mounted") >= held.len() as u64);
    }
}
