//! The registers of all threads of a process that sleep, all of them, without stopping or waking one:
//! the kernel's iterator over threads calls a small program (`threads.bpf.c`) for each.
//!
//! Needs CAP_BPF and CAP_PERFMON (or root), Linux 5.15 and the kernel's BTF. Not here: their stacks,
//! which are ordinary memory.

use std::{
    fs,
    io::Read,
    os::{fd::AsFd, unix::fs::MetadataExt},
};

use super::{load, system};
use crate::{
    arch::{Registers, native},
    sampler::SamplerError,
    sys::bpf,
};

/// `struct record` of threads.bpf.c: tid, state, turns, registers.
const RECORD_BYTES: usize = 16 + 8 * native::PT_REGS_WORDS;
/// Far more than the threads that one machine can have.
const MAX_BYTES: u64 = (RECORD_BYTES as u64) << 22;

/// What the kernel knows of one thread.
#[derive(Clone, Copy, Debug)]
pub struct Sleeper {
    pub tid: u32,
    /// With which it left user space.
    pub registers: Registers,
    /// How often it has begun to run: while that stays the same, it has not run.
    pub turns: u64,
}

/// Reads the threads of a process that do not run. Errors: rights or the kernel do not allow it.
pub fn sleepers(pid: u32) -> Result<Vec<Sleeper>, SamplerError> {
    let namespace = fs::metadata("/proc/self/ns/pid").map_err(system("reading /proc/self/ns/pid"))?.ino();
    bpf::lift_locked_memory_limit();
    // Inode numbers of namespaces are 32 bits wide in the kernel.
    let program = load::load_threads(namespace as u32, pid)?;
    let reading = bpf::iterate_threads(program.as_fd(), pid).map_err(system("iterating over threads"))?;
    let mut bytes = Vec::new();
    reading.take(MAX_BYTES).read_to_end(&mut bytes).map_err(system("reading a BPF iterator"))?;
    Ok(bytes.chunks_exact(RECORD_BYTES).filter_map(parse).collect())
}

/// `None`: the thread runs.
fn parse(record: &[u8]) -> Option<Sleeper> {
    let u32_at = |at: usize| Some(u32::from_ne_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let words: Vec<u64> = (record.get(8..)?.chunks_exact(8))
        .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")))
        .collect();
    let (turns, registers) = words.split_first()?;
    let registers = native::registers_from_pt_regs(registers);
    let runs = u32_at(4)? == 0;
    let has_registers = registers.get(native::PC)? != 0 && registers.get(native::SP)? != 0;
    (!runs && has_registers).then_some(Sleeper { tid: u32_at(0)?, registers, turns: *turns })
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
                let found = sleepers(std::process::id()).expect("root may");
                let seen = found.iter().position(|seen| seen.tid == tid)?;
                Some((found, seen))
            })
            .expect("it sleeps");
        let seen = &found[seen];
        assert!(seen.turns > 0 && seen.registers.get(native::FP).is_some());
        let own = nix::unistd::gettid().as_raw() as u32;
        assert!(found.iter().all(|seen| seen.tid != own));
        drop(sender);
        sleeper.join().expect("ended");
    }

    #[test]
    fn a_record_that_is_cut_or_of_a_running_thread_is_none() {
        let mut record = vec![1u8; RECORD_BYTES];
        assert!(parse(&record).is_some());
        assert!(parse(&record[..12]).is_none());
        record[4..8].fill(0);
        assert!(parse(&record).is_none());
    }
}
