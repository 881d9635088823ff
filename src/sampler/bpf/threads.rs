//! The registers of all sleeping threads of a process, without stopping or waking one: the kernel's
//! iterator over threads calls a small program (`threads.bpf.c`) for each.
//!
//! Needs CAP_BPF and CAP_PERFMON (or root), Linux 5.10 and the kernel's BTF. Not here: their
//! stacks, which are ordinary memory.

use std::{io::Read, os::fd::AsFd};

use super::{
    load, own_pid_namespace,
    record::{registers_at, u32_at, u64_at},
    system,
};
use crate::{
    arch::{Registers, native},
    sampler::SamplerError,
    sys::bpf,
};

/// `struct record` of threads.bpf.c: tid, state, turns, bytes of kernel frames, registers.
const RECORD_BYTES: usize = REGISTERS + 8 * native::PT_REGS_WORDS;
const TURNS: usize = 8;
const KERNEL_BYTES: usize = 16;
const REGISTERS: usize = 24;
/// More than all threads of a machine take.
const MAX_BYTES: u64 = (RECORD_BYTES as u64) << 22;

/// A sleeping thread.
#[derive(Clone, Debug)]
pub struct Sleeper {
    /// The thread's number in rprof's PID namespace.
    pub tid: u32,
    /// The registers with which it left user space.
    pub registers: Registers,
    /// How often it has begun to run: while this stays the same, it has not run.
    pub turns: u64,
    /// Kernel return addresses, leaf first, as in [`crate::sampler::KernelStack`]; empty unless
    /// requested.
    pub kernel: Vec<u8>,
}

/// Reads the sleeping threads of a process, with their kernel stacks if `kernel_stacks`. Errors:
/// rights or the kernel do not allow it.
pub fn sleepers(pid: u32, kernel_stacks: bool) -> Result<Vec<Sleeper>, SamplerError> {
    let namespace = own_pid_namespace()?;
    bpf::lift_locked_memory_limit();
    let program = load::load_threads(namespace, pid, kernel_stacks)?;
    let reading = bpf::iterate_threads(program.as_fd(), pid).map_err(system("iterating over threads"))?;
    let mut bytes = Vec::new();
    reading.take(MAX_BYTES).read_to_end(&mut bytes).map_err(system("reading a BPF iterator"))?;
    let mut rest = &bytes[..];
    let records = std::iter::from_fn(|| parse(&mut rest));
    Ok(records.flatten().collect())
}

/// Removes the next record from `bytes` and returns its thread, unless that runs. `None`: no more
/// records.
fn parse(bytes: &mut &[u8]) -> Option<Option<Sleeper>> {
    let (tid, state, turns) = (u32_at(bytes, 0)?, u32_at(bytes, 4)?, u64_at(bytes, TURNS)?);
    let kernel_end = RECORD_BYTES.checked_add(usize::try_from(u64_at(bytes, KERNEL_BYTES)?).ok()?)?;
    let kernel = bytes.get(RECORD_BYTES..kernel_end)?.to_vec();
    let registers = registers_at(bytes, REGISTERS)?;
    *bytes = &bytes[kernel_end..];
    let has_registers = [native::PC, native::SP].iter().all(|number| registers.get(*number) != Some(0));
    Some((state != 0 && has_registers).then_some(Sleeper { tid, registers, turns, kernel }))
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
    fn a_cut_record_ends_the_list_and_a_running_thread_is_left_out() {
        let mut record = vec![1u8; RECORD_BYTES + 16];
        record[KERNEL_BYTES..][..8].copy_from_slice(&16u64.to_ne_bytes());
        let mut rest = &record[..];
        assert_eq!(parse(&mut rest).expect("whole").expect("sleeps").kernel, [1; 16]);
        assert!(rest.is_empty() && parse(&mut rest).is_none());
        assert!(parse(&mut &record[..12]).is_none() && parse(&mut &record[..RECORD_BYTES + 8]).is_none());
        record[4..8].fill(0);
        assert!(parse(&mut &record[..]).expect("whole").is_none());
        record[KERNEL_BYTES..][..8].fill(0xff);
        assert!(parse(&mut &record[..]).is_none());
    }
}
