//! The registers of all sleeping threads of a process, without stopping or waking one: the kernel's
//! iterator over threads calls a small program (`threads.bpf.c`) for each.
//!
//! Needs CAP_BPF and CAP_PERFMON (or root), Linux 5.10 and the kernel's BTF. Not here: their
//! stacks, which are ordinary memory.

use std::{
    io::Read,
    os::fd::{AsFd, OwnedFd},
};

pub use super::record::COMM_BYTES;
use super::{
    common::{own_pid_namespace, system},
    load,
    record::{registers_at, u32_at, u64_at},
};
use crate::{
    arch::{Registers, native},
    sampler::SamplerError,
    sys::bpf,
};

/// `struct record` of threads.bpf.c: tid, whether it runs, turns, bytes of kernel frames, CPU time,
/// thread pointer, name, registers.
const RECORD_BYTES: usize = REGISTERS + 8 * native::PT_REGS_WORDS;
const TURNS: usize = 8;
const KERNEL_BYTES: usize = 16;
const CPU_NS: usize = 24;
const THREAD_POINTER: usize = 32;
const COMM: usize = 40;
const REGISTERS: usize = COMM + COMM_BYTES;
/// Far more than the threads that one machine can have.
const MAX_BYTES: u64 = (RECORD_BYTES as u64) << 22;

/// The registers of a thread that is not on a CPU: it sleeps, is ready to run, or is stopped.
#[derive(Clone, Debug)]
pub struct Sleeper {
    /// Thread ID.
    pub tid: u32,
    /// The registers with which it left user space.
    pub registers: Registers,
    /// How often it has started to run: while that stays the same, it has not run.
    pub turns: u64,
    /// Kernel return addresses, leaf first, as [`crate::sampler::KernelStack`] has them; empty
    /// unless requested.
    pub kernel: Vec<u8>,
    /// The base of its thread-local storage; 0 if not read.
    pub thread_pointer: u64,
    /// Its name (`comm`), padded with NUL, if it was read.
    pub comm: Option<[u8; COMM_BYTES]>,
}

/// What the iterator reads of a thread.
#[derive(Clone, Debug)]
pub struct ThreadRecord {
    /// Its registers; meaningless while `running`.
    pub sleeper: Sleeper,
    /// It is on a CPU.
    pub running: bool,
    /// CPU time that the kernel has charged to it, nanoseconds; for a running thread it may lag by
    /// a tick (1 to 10 ms).
    pub run_ns: u64,
}

/// The iterator over the threads of one process, loaded once and read as often as needed.
pub struct ThreadIterator {
    program: OwnedFd,
    pid: u32,
}

impl ThreadIterator {
    /// Loads the program. Errors: rights or the kernel do not allow it.
    pub fn load(pid: u32, kernel_stacks: bool) -> Result<ThreadIterator, SamplerError> {
        let namespace = own_pid_namespace()?;
        bpf::lift_locked_memory_limit();
        Ok(ThreadIterator { program: load::load_threads(namespace, pid, kernel_stacks)?, pid })
    }

    /// Reads all threads that have user-space registers; none once the process has ended. Errors:
    /// bpf(2).
    pub fn read(&self) -> Result<Vec<ThreadRecord>, SamplerError> {
        let reading = match bpf::iterate_threads(self.program.as_fd(), self.pid) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(Vec::new()),
            reading => reading.map_err(system("iterating over threads"))?,
        };
        let mut bytes = Vec::new();
        reading.take(MAX_BYTES).read_to_end(&mut bytes).map_err(system("reading a BPF iterator"))?;
        let mut rest = &bytes[..];
        let records = std::iter::from_fn(|| parse(&mut rest));
        Ok(records.flatten().collect())
    }
}

/// Reads the threads of a process that are not on a CPU, with their kernel stacks if
/// `kernel_stacks`. Errors: rights or the kernel do not allow it.
pub fn sleepers(pid: u32, kernel_stacks: bool) -> Result<Vec<Sleeper>, SamplerError> {
    let records = ThreadIterator::load(pid, kernel_stacks)?.read()?;
    Ok(records.into_iter().filter(|record| !record.running).map(|record| record.sleeper).collect())
}

/// The next record, which it takes off `bytes`: its thread, if that has registers. `None`: there is
/// no more.
pub(super) fn parse(bytes: &mut &[u8]) -> Option<Option<ThreadRecord>> {
    let (tid, running, turns) = (u32_at(bytes, 0)?, u32_at(bytes, 4)? != 0, u64_at(bytes, TURNS)?);
    let kernel_end = RECORD_BYTES.checked_add(usize::try_from(u64_at(bytes, KERNEL_BYTES)?).ok()?)?;
    let kernel = bytes.get(RECORD_BYTES..kernel_end)?.to_vec();
    let (run_ns, thread_pointer) = (u64_at(bytes, CPU_NS)?, u64_at(bytes, THREAD_POINTER)?);
    let comm = Some(*bytes.get(COMM..)?.first_chunk()?);
    let registers = registers_at(bytes, REGISTERS)?;
    *bytes = &bytes[kernel_end..];
    let has_registers = [native::PC, native::SP].iter().all(|number| registers.get(*number) != Some(0));
    let sleeper = Sleeper { tid, registers, turns, kernel, thread_pointer, comm };
    Some((running || has_registers).then_some(ThreadRecord { sleeper, running, run_ns }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeping_thread_has_all_its_registers_and_a_running_one_is_left_out() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw() as u32).expect("heard");
            let _ = receiver.recv();
        });
        let tid = told.recv().expect("told");
        let (found, seen) = (0..200)
            .find_map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                let found = sleepers(std::process::id(), true).expect("root may");
                let seen = found.iter().position(|seen| seen.tid == tid)?;
                Some((found, seen))
            })
            .expect("it sleeps");
        let seen = &found[seen];
        assert!(seen.turns > 0 && seen.registers.get(native::FP).is_some());
        assert!(seen.kernel.len() >= 32 && seen.kernel.len() % 8 == 0, "it waits deep in the kernel");
        let own = nix::unistd::gettid().as_raw() as u32;
        assert!(found.iter().all(|seen| seen.tid != own));
        drop(sender);
        sleeper.join().expect("ended");
    }

    #[test]
    fn a_record_that_is_cut_ends_all_and_one_without_registers_is_left_out() {
        let mut record = vec![1u8; RECORD_BYTES + 16];
        record[KERNEL_BYTES..][..8].copy_from_slice(&16u64.to_ne_bytes());
        let mut rest = &record[..];
        let found = parse(&mut rest).expect("whole").expect("has registers");
        assert!(found.running && found.sleeper.kernel == [1; 16]);
        assert!(rest.is_empty() && parse(&mut rest).is_none());
        assert!(parse(&mut &record[..12]).is_none() && parse(&mut &record[..RECORD_BYTES + 8]).is_none());
        record[4..8].fill(0);
        assert!(!parse(&mut &record[..]).expect("whole").expect("has registers").running);
        record[REGISTERS..RECORD_BYTES].fill(0);
        assert!(parse(&mut &record[..]).expect("whole").is_none());
        record[KERNEL_BYTES..][..8].fill(0xff);
        assert!(parse(&mut &record[..]).is_none());
    }
}
