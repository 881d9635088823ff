//! What the refusal of a BPF call means: which right, limit or setting is in the way, or what the
//! verifier says.
//!
//! Not here: what to do about it (`cli::doctor`).

use std::io;

use aya::maps::MapError;

use crate::{
    process::host::Host,
    sampler::{BpfDenial, SamplerError},
    sys::{
        bpf::{LoadError, counts_as_locked_memory},
        capabilities, limits,
    },
};

/// The embedded object is not what the loader expects: a mistake in rprof, not in the machine.
pub fn broken(error: impl std::fmt::Display) -> SamplerError {
    SamplerError::Unavailable(format!("rprof's BPF object is unusable: {error}"))
}

/// A program was not loaded.
pub fn not_loaded(program: &str, error: LoadError) -> SamplerError {
    match error {
        LoadError::Verifier { ref log, .. } => SamplerError::BpfRefused {
            program: program.to_owned(),
            reason: error.to_string(),
            log: log.clone(),
        },
        LoadError::System(source) => failed(&format!("loading the BPF program `{program}`"), source),
    }
}

/// A call of bpf(2) other than loading failed.
pub fn failed(what: &str, source: io::Error) -> SamplerError {
    denied(&source).unwrap_or(SamplerError::System { what: what.to_owned(), source })
}

/// A map operation failed.
pub fn from_map(error: &MapError) -> SamplerError {
    let source = match error {
        MapError::CreateError { io_error, .. } | MapError::IoError(io_error) => Some(io_error),
        MapError::SyscallError(error) => Some(&error.io_error),
        _ => None,
    };
    let code = source.and_then(io::Error::raw_os_error);
    let source = code.map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error);
    failed(&format!("BPF map: {error}"), source)
}

/// If the kernel refused for lack of rights: which.
fn denied(source: &io::Error) -> Option<SamplerError> {
    match source.raw_os_error()? {
        libc::EPERM | libc::EACCES => Some(SamplerError::BpfDenied(denial())),
        libc::ENOSYS => Some(SamplerError::Unavailable("the kernel has no BPF".to_owned())),
        _ => None,
    }
}

fn denial() -> BpfDenial {
    let held = capabilities::effective();
    if held.has(capabilities::CAP_SYS_ADMIN) || (held.has(capabilities::CAP_BPF) && held.perfmon()) {
        let memory = limits::locked_memory().ok().filter(|_| counts_as_locked_memory());
        return in_the_way(memory.map(|limit| limit.soft));
    }
    let missing = [(capabilities::CAP_BPF, "CAP_BPF"), (capabilities::CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter_map(|(number, name)| (!held.has(number)).then_some(name));
    BpfDenial::Capabilities(missing.collect())
}

/// What refuses BPF to a process with the capabilities; `memory` is the limit of locked memory in
/// bytes where that counts.
fn in_the_way(memory: Option<u64>) -> BpfDenial {
    if let Some(bytes) = memory.filter(|bytes| *bytes != u64::MAX) {
        return BpfDenial::LockedMemory(bytes / 1024);
    }
    if capabilities::seccomp_filtered() {
        return BpfDenial::Seccomp;
    }
    BpfDenial::SecurityModule(Host::read().lockdown.filter(|level| level != "none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_locked_memory_is_named_where_it_counts() {
        assert_eq!(in_the_way(Some(8 << 20)), BpfDenial::LockedMemory(8192));
        for memory in [Some(u64::MAX), None] {
            assert!(!matches!(in_the_way(memory), BpfDenial::LockedMemory(_)));
        }
        let text = SamplerError::BpfDenied(in_the_way(Some(8 << 20))).to_string();
        assert!(text.starts_with("BPF is not permitted: the limit of locked memory is 8192 KiB"), "{text}");
        let missing = BpfDenial::Capabilities(vec!["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing.to_string(), "no CAP_BPF and no CAP_PERFMON");
    }

    #[test]
    fn a_refused_program_keeps_its_name_and_the_verifiers_log() {
        let source = io::Error::from_raw_os_error(libc::EACCES);
        let log = "1: (79) r1\nR3 unbounded memory access\nprocessed 2 insns\n".to_owned();
        let error = not_loaded("sweep", LoadError::Verifier { source, log: log.clone() });
        assert!(
            error.to_string().contains("`sweep`")
                && error.to_string().ends_with("R3 unbounded memory access")
        );
        assert!(matches!(error, SamplerError::BpfRefused { log: kept, .. } if kept == log));
    }
}
