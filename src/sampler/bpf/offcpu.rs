//! The waits of threads (`offcpu.bpf.c`): a record for each wait that ended and was selected, and
//! at the end of each profile one for each thread that still waits.
//!
//! Not here: the ring and the records' common part (`record`), loading.

use std::{io::Read, os::fd::AsFd, os::fd::OwnedFd};

use aya::maps::{Array, MapData, PerCpuArray};

use super::{
    record::{registers_at, u32_at, u64_at},
    refusal::from_map,
    system,
    threads::Sleeper,
};
use crate::{
    arch::native,
    process::Sections,
    sampler::{
        Event, KernelStack, RawSample, SamplerError, StackCopy,
        look::{Target, asleep},
    },
    sys::{bpf, clock},
};

/// `ONE_WAIT` of offcpu.bpf.c: waits are counted in these parts.
const ONE_WAIT: u64 = 1024;
/// `END` and `SPLIT` of offcpu.bpf.c: what a sweep does with waits.
const END: u64 = 1;
const SPLIT: u64 = 2;
/// `struct swept`: process, thread, turns, bytes of kernel frames, waited, registers.
const TURNS: usize = 8;
const KERNEL_BYTES: usize = 16;
const WAITED: usize = 24;
const REGISTERS: usize = 32;
const SWEPT_BYTES: usize = REGISTERS + 8 * native::PT_REGS_WORDS;
/// More than all threads of a machine take.
const MAX_BYTES: u64 = (SWEPT_BYTES as u64) << 22;

/// The attached programs that record waits, and their maps.
pub struct OffCpu {
    /// The attachment; `None` after the end.
    switched: Option<OwnedFd>,
    sweep: OwnedFd,
    /// The interval, and what a sweep does with waits.
    chance: Array<MapData, [u64; 2]>,
    /// For each CPU: waits, their nanoseconds, and waits that found no room.
    totals: PerCpuArray<MapData, [u64; 3]>,
    /// Parts of a wait that do not make a whole one yet.
    parts: u64,
    /// The threads that still waited at the last sweep, by process.
    left: Vec<Waiting>,
}

/// A thread that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pid: u32,
    waited_ns: u64,
    sleeper: Sleeper,
}

impl OffCpu {
    /// `switched` is the attachment; `sweep`, `chance` and `totals` are as in offcpu.bpf.c.
    pub fn new(
        switched: OwnedFd,
        sweep: OwnedFd,
        chance: Array<MapData, [u64; 2]>,
        totals: PerCpuArray<MapData, [u64; 3]>,
    ) -> OffCpu {
        OffCpu { switched: Some(switched), sweep, chance, totals, parts: 0, left: Vec::new() }
    }

    /// Begins the waits of threads that sleep already. Errors: the iterator failed.
    pub fn begin(&self, pids: &[u32]) -> Result<(), SamplerError> {
        pids.iter().try_for_each(|pid| self.sweep(*pid).map(drop))
    }

    /// Ends all waits; [`OffCpu::hand_over_rest`] reports those that were going on. Errors: the
    /// iterator or a map failed.
    pub fn end(&mut self, pids: &[u32]) -> Result<(), SamplerError> {
        if self.switched.is_some() {
            self.take(END, pids)?;
            self.switched = None;
        }
        Ok(())
    }

    /// Splits all waits: [`OffCpu::hand_over_rest`] reports their time until now, and they go on.
    /// Errors: the iterator or a map failed.
    pub fn split(&mut self, pids: &[u32]) -> Result<(), SamplerError> {
        self.take(SPLIT, pids)
    }

    fn take(&mut self, sweeping: u64, pids: &[u32]) -> Result<(), SamplerError> {
        let interval_ns = self.chance.get(&0, 0).map_err(|error| from_map(&error))?[0];
        self.chance.set(0, [interval_ns, sweeping], 0).map_err(|error| from_map(&error))?;
        for pid in pids {
            let bytes = self.sweep(*pid)?;
            let mut rest = &bytes[..];
            self.left.extend(std::iter::from_fn(|| parse(&mut rest)));
        }
        Ok(())
    }

    fn sweep(&self, pid: u32) -> Result<Vec<u8>, SamplerError> {
        let mut bytes = Vec::new();
        let reading = match bpf::iterate_threads(self.sweep.as_fd(), pid) {
            // The process has ended.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(bytes),
            reading => reading.map_err(system("iterating over threads"))?,
        };
        reading.take(MAX_BYTES).read_to_end(&mut bytes).map_err(system("reading a BPF iterator"))?;
        Ok(bytes)
    }

    /// Waits that found no room in the programs' map. Errors: the map cannot be read.
    pub fn unseen(&self) -> Result<u64, SamplerError> {
        let totals = self.totals.get(&0, 0).map_err(|error| from_map(&error))?;
        Ok(totals.iter().map(|[_, _, unseen]| unseen).sum())
    }

    /// The sample with its number of waits, which is the first word of its kernel frames.
    pub fn read<'a>(&mut self, sample: RawSample<'a>) -> RawSample<'a> {
        let (first, frames) = sample.kernel_stack.0.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        self.parts = self.parts.saturating_add(u64::from_ne_bytes(*first));
        let count = self.parts / ONE_WAIT;
        self.parts %= ONE_WAIT;
        let comm = sample.comm.filter(|comm| !comm.is_empty());
        RawSample { count, comm, kernel_stack: KernelStack(frames), ..sample }
    }

    /// Reports the threads that still wait, with their stacks.
    pub fn hand_over_rest(&mut self, max_stack_bytes: u32, sink: &mut dyn FnMut(Event<'_>)) {
        let mut target: Option<Target> = None;
        for waiting in self.left.drain(..) {
            if target.as_ref().is_none_or(|target| target.pid != waiting.pid) {
                target = Some(Target::new(waiting.pid, max_stack_bytes));
            }
            let moment = target.as_ref().and_then(|target| asleep::look_at(target, &waiting.sleeper));
            let (time_ns, period) = (clock::monotonic_ns(), waiting.waited_ns);
            match moment {
                Some(moment) => {
                    let sample = moment.as_sample(waiting.pid, time_ns);
                    sink(Event::Sample(RawSample { period, ..sample }));
                }
                // It has run since.
                None => sink(Event::Sample(waiting.without_stack(time_ns))),
            }
        }
    }
}

impl Waiting {
    fn without_stack(&self, time_ns: u64) -> RawSample<'_> {
        let start = self.sleeper.registers.get(native::SP).unwrap_or(0);
        RawSample {
            time_ns,
            pid: self.pid,
            tid: self.sleeper.tid,
            comm: None,
            period: self.waited_ns,
            count: 1,
            registers: Some(self.sleeper.registers),
            stack: StackCopy {
                start: crate::addr::RuntimeAddr(start),
                bytes: &[],
                capped: false,
                has_holes: false,
            },
            kernel_stack: KernelStack(&self.sleeper.kernel),
            task: None,
            interrupted_stack: None,
            sections: Sections::default(),
        }
    }
}

/// Removes the next record of `sweep` from `bytes` and returns it. `None`: no more records.
pub(super) fn parse(bytes: &mut &[u8]) -> Option<Waiting> {
    let kernel_end = SWEPT_BYTES.checked_add(usize::try_from(u64_at(bytes, KERNEL_BYTES)?).ok()?)?;
    let sleeper = Sleeper {
        tid: u32_at(bytes, 4)?,
        registers: registers_at(bytes, REGISTERS)?,
        turns: u64_at(bytes, TURNS)?,
        kernel: bytes.get(SWEPT_BYTES..kernel_end)?.to_vec(),
        thread_pointer: 0,
    };
    let waiting = Waiting { pid: u32_at(bytes, 0)?, waited_ns: u64_at(bytes, WAITED)?, sleeper };
    *bytes = &bytes[kernel_end..];
    Some(waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_of_a_sweep_are_read_one_by_one_up_to_a_cut_one() {
        let mut record = vec![0u8; SWEPT_BYTES + 16];
        record[0] = 7;
        record[4] = 8;
        record[WAITED] = 9;
        record[KERNEL_BYTES] = 16;
        let two = [&record[..], &record[..SWEPT_BYTES + 8]].concat();
        let mut rest = &two[..];
        let waiting = parse(&mut rest).expect("whole");
        assert_eq!((waiting.pid, waiting.sleeper.tid, waiting.waited_ns), (7, 8, 9));
        assert_eq!(waiting.sleeper.kernel.len(), 16);
        assert!(parse(&mut rest).is_none());
        record[KERNEL_BYTES..][..8].fill(0xff);
        assert!(parse(&mut &record[..]).is_none());
    }
}
