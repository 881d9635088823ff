//! rprof's own rights from /proc/self/status: effective capabilities (capabilities(7)) and whether
//! a seccomp filter is in force (seccomp(2)).
//!
//! Not here: a target's rights, advice.

/// Allows sampling other users' processes, the kernel, and whole CPUs (since Linux 5.8).
pub const CAP_PERFMON: u32 = 38;
/// Allows loading BPF programs (since Linux 5.8).
pub const CAP_BPF: u32 = 39;
/// Required for both before Linux 5.8, and still sufficient.
pub const CAP_SYS_ADMIN: u32 = 21;
/// Allows reading the memory and state of other users' processes.
pub const CAP_SYS_PTRACE: u32 = 19;
/// Allows locking memory beyond RLIMIT_MEMLOCK.
pub const CAP_IPC_LOCK: u32 = 14;

/// Allows reading any file.
pub const CAP_DAC_READ_SEARCH: u32 = 2;
/// Allows opening mapped files by /proc/PID/map_files (since Linux 5.9).
pub const CAP_CHECKPOINT_RESTORE: u32 = 40;
/// Allows reading kernel addresses if kernel.kptr_restrict is 1.
pub const CAP_SYSLOG: u32 = 34;

/// The capabilities that a profiler can use: number and name.
pub const NAMES: [(u32, &str); 9] = [
    (CAP_PERFMON, "CAP_PERFMON"),
    (CAP_BPF, "CAP_BPF"),
    (CAP_SYS_PTRACE, "CAP_SYS_PTRACE"),
    (CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CAP_CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE"),
    (CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
    (CAP_SYSLOG, "CAP_SYSLOG"),
    (CAP_IPC_LOCK, "CAP_IPC_LOCK"),
    (1, "CAP_DAC_OVERRIDE"),
];

/// The effective capability set of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether the set holds a capability, by its number.
    pub fn has(self, number: u32) -> bool {
        self.0.checked_shr(number).is_some_and(|shifted| shifted & 1 == 1)
    }

    /// Whether the process is exempt from perf's restrictions (`perfmon_capable` in the kernel).
    pub fn perfmon(self) -> bool {
        self.has(CAP_PERFMON) || self.has(CAP_SYS_ADMIN)
    }
}

/// The effective capabilities of this process; none if /proc cannot be read.
pub fn effective() -> Capabilities {
    Capabilities(status_field("CapEff").and_then(|text| u64::from_str_radix(&text, 16).ok()).unwrap_or(0))
}

/// Whether a seccomp filter is in force for this process. Container runtimes install one.
pub fn seccomp_filtered() -> bool {
    status_field("Seccomp").as_deref() == Some("2")
}

fn status_field(name: &str) -> Option<String> {
    let status = super::proc::read_text("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_its_bits_say() {
        assert!(Capabilities(1 << CAP_PERFMON).has(CAP_PERFMON));
        assert!(Capabilities(1 << CAP_SYS_ADMIN).perfmon());
        assert!(!Capabilities(1 << CAP_BPF).perfmon());
        assert!(!Capabilities(u64::MAX).has(64));
    }
}
