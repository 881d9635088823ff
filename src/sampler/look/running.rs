//! Samples a running thread once: a perf event with a timer on the thread's CPU time is opened and
//! closed after its first sample. The thread is not stopped; a thread that does not run in time
//! gives no sample.
//!
//! Not here: profiles.

use std::time::{Duration, Instant};

use super::{LookMethod, StackSnapshot, Target};
use crate::{
    addr::RuntimeAddr,
    arch::native,
    sys::perf::{EventKind, EventSpec, PerfError, Rate, Record, Ring, SampleFields, Scope},
};

/// CPU time until the sample is taken.
const PERIOD_NS: u64 = 50_000;
/// Room for some samples, within the locked memory that every user may have.
const RING_BYTES: usize = 256 << 10;
const NAP: Duration = Duration::from_micros(100);

/// Waits up to `patience` for a sample; `None`: the thread did not run. Errors: the event could not
/// be opened.
pub fn look(target: &Target, tid: u32, patience: Duration) -> Result<Option<StackSnapshot>, PerfError> {
    let stack_bytes = (target.max_stack_bytes as u32).min(EventSpec::MAX_USER_STACK_BYTES) & !7;
    let fields = SampleFields {
        user_registers: native::PERF_REGISTER_MASK,
        user_stack_bytes: stack_bytes,
        ..SampleFields::default()
    };
    let spec = EventSpec {
        kind: EventKind::CpuClock,
        rate: Rate::Period(PERIOD_NS),
        sample: fields,
        exclude_kernel: true,
        ..EventSpec::default()
    };
    let event = spec.open(Scope::Thread { tid, cpu: None })?;
    let mut ring = Ring::map(&event, RING_BYTES)?;
    event.enable()?;
    let until = Instant::now() + patience;
    loop {
        ring.refresh();
        while let Some(raw) = ring.peek() {
            if let Some(moment) = Record::parse(&raw, &fields).and_then(|record| moment(record, tid, &fields))
            {
                return Ok(Some(moment));
            }
            ring.consume();
        }
        if Instant::now() > until {
            return Ok(None);
        }
        std::thread::sleep(NAP);
    }
}

fn moment(record: Record<'_>, tid: u32, fields: &SampleFields) -> Option<StackSnapshot> {
    let Record::Sample(sample) = record else { return None };
    let words: Vec<u64> = (sample.user_registers?.chunks_exact(8))
        .map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")))
        .collect();
    let registers = native::registers_from_perf(&words);
    let copied = sample.user_stack;
    // A record is below 64 KiB, so that the copy may be cut although there is room.
    let near_limit = copied.bytes.len() + 4096 > fields.user_stack_bytes as usize;
    Some(StackSnapshot {
        kernel: Vec::new(),
        tid,
        comm: None,
        registers,
        stack_start: RuntimeAddr(registers.get(native::SP)?),
        stack: copied.bytes.to_vec(),
        capped: near_limit || copied.room_bytes == u64::from(fields.user_stack_bytes),
        way: LookMethod::Perf,
        in_stop: false,
        stopped: Duration::ZERO,
        task: None,
        section: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_thread_is_sampled_and_a_sleeping_one_is_not() {
        let mut busy =
            std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh");
        let target = Target::new(busy.id(), 64 << 10);
        let moment = look(&target, busy.id(), Duration::from_secs(2));
        busy.kill().expect("kill");
        busy.wait().expect("wait");
        let moment = moment.expect("allowed").expect("it runs");
        assert!(moment.stack.len() > 256 && moment.registers.get(native::PC).is_some());

        let mut idle = std::process::Command::new("sleep").arg("30").spawn().expect("sleep");
        std::thread::sleep(Duration::from_millis(100));
        let target = Target::new(idle.id(), 64 << 10);
        let moment = look(&target, idle.id(), Duration::from_millis(20));
        idle.kill().expect("kill");
        idle.wait().expect("wait");
        assert!(moment.expect("allowed").is_none());
    }
}
