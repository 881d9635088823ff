//! Samples real processes. Needs rights over whole CPUs for the ways that need them; a way that this
//! machine does not offer is skipped.
//!
//! Not here: what other users may do, which needs other users.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{PerfSampler, Way, open, probe};
use crate::{
    arch::native,
    process::identity::cpu_time_ns,
    sampler::{Event, Sampler, SamplerError, SamplerOptions},
};

/// A child that is killed when the test ends, however it ends.
struct Busy(Child);

impl Busy {
    fn shell(script: &str) -> Busy {
        let child = Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn().expect("sh");
        // Let it get through execve(2).
        sleep(Duration::from_millis(50));
        Busy(child)
    }

    fn looping() -> Busy {
        Busy::shell("while :; do :; done")
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn options(pid: u32) -> SamplerOptions {
    SamplerOptions {
        frequency_hz: 999,
        pids: vec![pid],
        follow_forks: false,
        kernel: true,
        max_stack_bytes: 65_528,
        buffer_bytes: 0,
    }
}

/// What came out of a sampler.
#[derive(Default, Debug)]
struct Seen {
    samples_of: BTreeMap<u32, u64>,
    cpu_time_ns: u64,
    out_of_order: u64,
    without_registers: u64,
    without_stack: u64,
    capped: u64,
    kernel_frames: u64,
    forked: Vec<u32>,
    execed: u64,
    mapped: u64,
    exited: u64,
    lost_samples: u64,
    lost_sideband: u64,
    last_time_ns: u64,
}

impl Seen {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Sample(sample) => {
                *self.samples_of.entry(sample.pid).or_default() += 1;
                self.cpu_time_ns += sample.period_ns;
                self.out_of_order += u64::from(sample.time_ns < self.last_time_ns);
                self.last_time_ns = sample.time_ns;
                let pc = sample.registers.and_then(|registers| registers.get(native::PC));
                self.without_registers += u64::from(pc.unwrap_or(0) == 0);
                self.without_stack += u64::from(sample.stack.bytes.is_empty());
                self.capped += u64::from(sample.stack.capped);
                let kernel: Vec<_> = sample.kernel_stack.addresses().collect();
                assert!(kernel.iter().all(|address| address.0 < -4095i64 as u64), "a context marker");
                self.kernel_frames += kernel.len() as u64;
            }
            Event::Forked { pid, tid, .. } => self.forked.extend((pid == tid).then_some(pid)),
            Event::Execed { .. } => self.execed += 1,
            Event::Mapped { .. } => self.mapped += 1,
            Event::Exited { .. } => self.exited += 1,
            Event::Renamed { .. } => {}
            Event::LostSamples { count } => self.lost_samples += count,
            Event::LostSideband { count } => self.lost_sideband += count,
        }
    }

    fn samples(&self) -> u64 {
        self.samples_of.values().sum()
    }
}

fn watch(sampler: &mut PerfSampler, time: Duration) -> Seen {
    let (mut seen, end) = (Seen::default(), Instant::now() + time);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let wait = left.min(Duration::from_millis(100));
        sampler.poll(wait, &mut |event| seen.take(event)).expect("poll");
    }
    drain(sampler, &mut seen);
    seen
}

fn drain(sampler: &mut PerfSampler, seen: &mut Seen) {
    sampler.stop().expect("stop");
    sampler.poll(Duration::ZERO, &mut |event| seen.take(event)).expect("poll");
    sampler.poll(Duration::ZERO, &mut |event| panic!("after the end: {event:?}")).expect("poll");
}

/// Opens a sampler, or `None` where this machine's rights or set-up do not offer the way.
fn try_open(options: &SamplerOptions, way: Way) -> Option<PerfSampler> {
    match open(options, way) {
        Ok(sampler) => Some(sampler),
        Err(SamplerError::Unavailable(_) | SamplerError::Perf(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// A cgroup of its own for a process, removed at the end.
struct OwnCgroup(std::path::PathBuf);

impl OwnCgroup {
    fn of(pid: u32) -> Option<OwnCgroup> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
        let folder = std::path::Path::new(mount.split(' ').nth(1)?).join(format!("rprof-test-{pid}"));
        std::fs::create_dir(&folder).ok()?;
        std::fs::write(folder.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(OwnCgroup(folder))
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn sees_the_time_of_a_busy_process(way: Way, child: &Busy) {
    let Some(mut sampler) = try_open(&options(child.pid()), way) else { return };
    assert_eq!(sampler.description().name, way.name());
    let before_ns = cpu_time_ns(child.pid()).expect("CPU time");
    let seen = watch(&mut sampler, Duration::from_millis(800));
    let used_ns = cpu_time_ns(child.pid()).expect("CPU time") - before_ns;
    // The kernel accounts in ticks of up to 10 ms; the child may have to share its CPU.
    assert!(used_ns > 50_000_000, "the child hardly ran: {used_ns}");
    let ratio = seen.cpu_time_ns as f64 / used_ns as f64;
    assert!((0.85..1.15).contains(&ratio), "{ratio} of {used_ns} ns: {seen:?}");
    assert_eq!(seen.samples_of.keys().copied().collect::<Vec<_>>(), [child.pid()]);
    assert_eq!((seen.out_of_order, seen.without_registers, seen.without_stack), (0, 0, 0), "{seen:?}");
    assert_eq!((seen.lost_samples, seen.lost_sideband), (0, 0), "{seen:?}");
}

#[test]
fn a_busy_process_is_seen_for_the_time_it_runs_by_whole_cpus() {
    sees_the_time_of_a_busy_process(Way::Cpu, &Busy::looping());
}

#[test]
fn a_busy_process_is_seen_for_the_time_it_runs_by_threads() {
    sees_the_time_of_a_busy_process(Way::Thread, &Busy::looping());
}

#[test]
fn a_busy_process_is_seen_for_the_time_it_runs_by_its_cgroup() {
    let child = Busy::looping();
    let Some(_cgroup) = OwnCgroup::of(child.pid()) else { return };
    sees_the_time_of_a_busy_process(Way::Cgroup, &child);
    drop(child);
}

#[test]
fn forked_processes_are_seen_only_when_they_are_followed() {
    for way in [Way::Cpu, Way::Thread] {
        for follow_forks in [true, false] {
            let script = "sleep 0.2; sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; :'; sleep 9";
            let child = Busy::shell(script);
            let options = SamplerOptions { follow_forks, ..options(child.pid()) };
            let Some(mut sampler) = try_open(&options, way) else { return };
            let seen = watch(&mut sampler, Duration::from_millis(900));
            let of_others: u64 =
                seen.samples_of.iter().filter(|(pid, _)| **pid != child.pid()).map(|(_, n)| n).sum();
            let told = (!seen.forked.is_empty(), seen.execed > 0, seen.mapped > 0, seen.exited > 0);
            match follow_forks {
                true => assert!(of_others > 20 && told == (true, true, true, true), "{way:?} {seen:?}"),
                false => assert_eq!((of_others, told), (0, (false, false, false, false)), "{way:?} {seen:?}"),
            }
        }
    }
}

#[test]
fn what_finds_no_room_is_counted_as_lost() {
    for way in [Way::Cpu, Way::Thread] {
        let child = Busy::looping();
        let options = SamplerOptions { buffer_bytes: 1, ..options(child.pid()) };
        let Some(mut sampler) = try_open(&options, way) else { return };
        let before_ns = cpu_time_ns(child.pid()).expect("CPU time");
        sleep(Duration::from_millis(700));
        let mut seen = Seen::default();
        drain(&mut sampler, &mut seen);
        let used_ms = (cpu_time_ns(child.pid()).expect("CPU time") - before_ns) / 1_000_000;
        let (kept, all) = (seen.samples(), seen.samples() + seen.lost_samples);
        assert!(kept >= 16 && seen.lost_sideband > 0, "{seen:?}");
        // Which of the lost ones were the child's is judged by those kept: few, so that it is coarse.
        assert!(all > used_ms / 3 && all < used_ms * 3, "{all} of {used_ms}: {seen:?}");
    }
}

#[test]
fn a_process_that_is_gone_is_no_target() {
    let mut child = Busy::looping();
    let pid = child.pid();
    child.0.kill().and_then(|()| child.0.wait()).expect("killed");
    for way in [Way::Auto, Way::Cpu, Way::Thread] {
        assert!(matches!(open(&options(pid), way), Err(SamplerError::NoTarget)));
    }
}

#[test]
fn the_time_spent_in_the_kernel_comes_with_its_frames() {
    let child = Busy::shell("exec dd if=/dev/zero of=/dev/null bs=4M 2>&1");
    let Some(mut sampler) = try_open(&options(child.pid()), Way::Auto) else { return };
    let seen = watch(&mut sampler, Duration::from_millis(300));
    assert!(seen.samples() > 0, "{seen:?}");
    assert_eq!(sampler.description().kernel, seen.kernel_frames > 0, "{seen:?}");
}

#[test]
fn the_probe_agrees_with_what_can_be_opened() {
    let child = Busy::looping();
    for way in probe().ways {
        if way.way != Way::Cgroup {
            assert_eq!(way.outcome.is_ok(), open(&options(child.pid()), way.way).is_ok(), "{way:?}");
        }
    }
}
