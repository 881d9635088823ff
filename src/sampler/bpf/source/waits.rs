//! The waits of threads (`offcpu.bpf.c`): a record for each wait that ended and was selected, and
//! at the end of each profile one for each thread that still waits. Or a record for each release of
//! a futex that threads have waited for.
//!
//! Not here: the ring and the records' common part (`record`), loading.

use std::{io::Read, os::fd::AsFd};

use super::{Opening, Source};
use crate::{
    addr::RuntimeAddr,
    arch::native,
    process::Sections,
    sampler::{
        Event, KernelStack, LockUse, RawSample, SamplerError, StackCopy, Values,
        bpf::{
            common::system,
            load::{self, Loaded, WaitMode, WaitPrograms},
            record::{ONE, Record, registers_at, u32_at, u64_at},
            refusal::from_map,
            threads::Sleeper,
        },
        look::{Target, asleep},
    },
    sys::{bpf, clock},
};

/// `END` and `SPLIT` of offcpu.bpf.c: what a sweep does with waits.
const END: u64 = 1;
const SPLIT: u64 = 2;
/// `struct swept`: process, thread, turns, bytes of kernel frames, waited, lock, registers.
const TURNS: usize = 8;
const KERNEL_BYTES: usize = 16;
const WAITED: usize = 24;
const LOCK: usize = 32;
const REGISTERS: usize = 40;
const SWEPT_BYTES: usize = REGISTERS + 8 * native::PT_REGS_WORDS;
/// More than all threads of a machine take.
const MAX_BYTES: u64 = (SWEPT_BYTES as u64) << 22;

struct Waits {
    programs: WaitPrograms,
    mode: WaitMode,
    interval_us: u64,
    /// Parts of a wait that do not make a whole one yet.
    parts: u64,
    /// The threads that still waited at the last sweep, by process.
    left: Vec<Waiting>,
}

/// A thread that waits.
#[derive(Debug)]
pub(in crate::sampler::bpf) struct Waiting {
    pid: u32,
    waited_ns: u64,
    lock: u64,
    sleeper: Sleeper,
}

pub(super) fn open(opening: &Opening<'_>, mode: WaitMode) -> Result<(Loaded, Box<dyn Source>), SamplerError> {
    let Opening { options, settings, room, .. } = *opening;
    let interval_ns = 1_000_000_000 / u64::from(options.frequency_hz.max(1));
    let (loaded, programs) = load::load_off_cpu(settings, room, options.follow_forks, (mode, interval_ns))?;
    let interval_us = interval_ns / 1000;
    Ok((loaded, Box::new(Waits { programs, mode, interval_us, parts: 0, left: Vec::new() })))
}

impl Waits {
    fn take(&mut self, sweeping: u64, pids: &[u32]) -> Result<(), SamplerError> {
        let chance = &mut self.programs.chance;
        let [interval_ns, _, mode] = chance.get(&0, 0).map_err(|error| from_map(&error))?;
        chance.set(0, [interval_ns, sweeping, mode], 0).map_err(|error| from_map(&error))?;
        for pid in pids {
            let bytes = self.sweep(*pid)?;
            let mut rest = &bytes[..];
            self.left.extend(std::iter::from_fn(|| parse(&mut rest)));
        }
        Ok(())
    }

    fn sweep(&self, pid: u32) -> Result<Vec<u8>, SamplerError> {
        let mut bytes = Vec::new();
        let reading = match bpf::iterate_threads(self.programs.sweep.as_fd(), pid) {
            // The process has ended.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(bytes),
            reading => reading.map_err(system("iterating over threads"))?,
        };
        reading.take(MAX_BYTES).read_to_end(&mut bytes).map_err(system("reading a BPF iterator"))?;
        Ok(bytes)
    }
}

impl Source for Waits {
    fn event(&self) -> &'static str {
        match self.mode {
            WaitMode::All => "context switches",
            WaitMode::Blocked => "context switches in futexes, semaphores and file locks",
            WaitMode::Released => "wake-ups by futexes",
        }
    }

    fn summary(&self, max_stack_kib: u32) -> String {
        let interval_us = self.interval_us;
        if self.mode == WaitMode::Released {
            return format!(
                "BPF programs sum how long threads wait for each futex and charge it to the thread that wakes \
                 them, with its stack up to {max_stack_kib} KiB: all charges of {interval_us} us or more, smaller \
                 ones by chance, so that sums are right on average"
            );
        }
        format!(
            "BPF programs that are called at context switches copy the stacks, up to {max_stack_kib} KiB, of waits \
             when they end: of all that last {interval_us} us or longer, of shorter ones by chance, so that sums are \
             right on average",
        )
    }

    /// Begins the waits of threads that sleep already.
    fn begin(&mut self, pids: &[u32]) -> Result<(), SamplerError> {
        pids.iter().try_for_each(|pid| self.sweep(*pid).map(drop))
    }

    /// The record's sample with its number of waits.
    fn read<'a>(&mut self, record: Record<'a>) -> RawSample<'a> {
        self.parts = self.parts.saturating_add(record.parts);
        let values = Values { count: self.parts / ONE, ..record.sample.values };
        self.parts %= ONE;
        let comm = record.sample.comm.filter(|comm| !comm.is_empty());
        RawSample { values, comm, ..record.sample }
    }

    /// Waits that found no room in the programs' map.
    fn unseen(&self) -> Result<u64, SamplerError> {
        let totals = self.programs.totals.get(&0, 0).map_err(|error| from_map(&error))?;
        Ok(totals.iter().map(|[_, _, unseen]| unseen).sum())
    }

    /// Splits all waits: [`Source::hand_over_rest`] reports their time until now, and they go on.
    fn split(&mut self, pids: &[u32]) -> Result<(), SamplerError> {
        // A wait is charged when it is ended.
        if self.mode == WaitMode::Released {
            return Ok(());
        }
        self.take(SPLIT, pids)
    }

    /// Reports the threads that still wait, with their stacks.
    fn hand_over_rest(&mut self, max_stack_bytes: u32, sink: &mut dyn FnMut(Event<'_>)) {
        let mut target: Option<Target> = None;
        for waiting in self.left.drain(..) {
            if target.as_ref().is_none_or(|target| target.pid != waiting.pid) {
                target = Some(Target::new(waiting.pid, max_stack_bytes));
            }
            let snapshot = target.as_ref().and_then(|target| asleep::look_at(target, &waiting.sleeper));
            let time_ns = clock::monotonic_ns();
            match snapshot {
                Some(snapshot) => {
                    let sample = snapshot.as_sample(waiting.pid, time_ns);
                    sink(Event::Sample(RawSample {
                        values: waiting.values(),
                        lock: waiting.lock(),
                        ..sample
                    }));
                }
                // It has run since.
                None => sink(Event::Sample(waiting.without_stack(time_ns))),
            }
        }
    }

    /// Ends all waits; [`Source::hand_over_rest`] reports those that were going on.
    fn stop(&mut self, pids: &[u32]) -> Result<(), SamplerError> {
        if !self.programs.links.is_empty() {
            if self.mode != WaitMode::Released {
                self.take(END, pids)?;
            }
            self.programs.links.clear();
        }
        Ok(())
    }
}

impl Waiting {
    fn values(&self) -> Values {
        Values { count: 1, nanoseconds: self.waited_ns, ..Values::default() }
    }

    fn lock(&self) -> Option<LockUse> {
        LockUse::of(self.lock, Some(&self.sleeper.registers))
    }

    fn without_stack(&self, time_ns: u64) -> RawSample<'_> {
        let start = self.sleeper.registers.get(native::SP).unwrap_or(0);
        RawSample {
            time_ns,
            pid: self.pid,
            tid: self.sleeper.tid,
            comm: None,
            values: self.values(),
            registers: Some(self.sleeper.registers),
            stack: StackCopy { start: RuntimeAddr(start), ..StackCopy::default() },
            kernel_stack: KernelStack(&self.sleeper.kernel),
            task: None,
            lock: self.lock(),
            interrupted_stack: None,
            sections: Sections::default(),
        }
    }
}

/// Removes the next record of `sweep` from `bytes` and returns it. `None`: no more records.
pub(in crate::sampler::bpf) fn parse(bytes: &mut &[u8]) -> Option<Waiting> {
    let kernel_end = SWEPT_BYTES.checked_add(usize::try_from(u64_at(bytes, KERNEL_BYTES)?).ok()?)?;
    let sleeper = Sleeper {
        tid: u32_at(bytes, 4)?,
        registers: registers_at(bytes, REGISTERS)?,
        turns: u64_at(bytes, TURNS)?,
        kernel: bytes.get(SWEPT_BYTES..kernel_end)?.to_vec(),
        thread_pointer: 0,
        comm: None,
    };
    let (waited_ns, lock) = (u64_at(bytes, WAITED)?, u64_at(bytes, LOCK)?);
    let waiting = Waiting { pid: u32_at(bytes, 0)?, waited_ns, lock, sleeper };
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
        record[LOCK] = 10;
        record[KERNEL_BYTES] = 16;
        let two = [&record[..], &record[..SWEPT_BYTES + 8]].concat();
        let mut rest = &two[..];
        let waiting = parse(&mut rest).expect("whole");
        assert_eq!((waiting.pid, waiting.sleeper.tid, waiting.waited_ns, waiting.lock), (7, 8, 9, 10));
        assert_eq!(waiting.sleeper.kernel.len(), 16);
        assert!(parse(&mut rest).is_none());
        record[KERNEL_BYTES..][..8].fill(0xff);
        assert!(parse(&mut &record[..]).is_none());
    }
}
