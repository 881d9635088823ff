//! Samples real processes. Needs rights over whole CPUs for the ways that need them; a way for
//! which this user lacks the rights is skipped, any other failure to open fails the test.
//!
//! Not here: what other users may do, which needs other users.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{PerfMethod, PerfSampler, open, probe};
use crate::{
    arch::native,
    process::identity::cpu_time_ns,
    sampler::{Event, Sampler, SamplerError, SamplerOptions, Trigger},
};

/// A child that is killed when the test ends, however it ends.
struct Busy(Child);

impl Busy {
    /// A shell that waits for [`Busy::go`] before it runs the script.
    fn shell(script: &str) -> Busy {
        let script = format!("echo ready; read go; {script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("sh");
        let mut ready = [0; 6];
        child.stdout.take().expect("a pipe").read_exact(&mut ready).expect("ready");
        Busy(child)
    }

    fn go(&mut self) {
        self.0.stdin.take().expect("not gone yet").write_all(b"go\n").expect("a waiting shell");
    }

    fn looping() -> Busy {
        let mut child = Busy::shell("while :; do :; done");
        child.go();
        child
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
        trigger: Trigger::Time,
        frequency_hz: 999,
        pids: vec![pid],
        follow_forks: false,
        kernel: true,
        max_stack_bytes: 65_528,
        // Room for what comes while we are kept waiting.
        language_alone: false,
        buffer_bytes: 32 << 20,
        reports_changes: true,
    }
}

/// What came out of a sampler.
#[derive(Default, Debug)]
struct Observed {
    samples_of: BTreeMap<u32, u64>,
    cpu_time_ns: u64,
    out_of_order: u64,
    without_registers: u64,
    without_stack: u64,
    capped: u64,
    kernel_frames: u64,
    forked: Vec<u32>,
    execed: Vec<u32>,
    mapped: Vec<u32>,
    exited: Vec<u32>,
    lost_samples: u64,
    lost_sideband: u64,
    last_time_ns: u64,
}

impl Observed {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Sample(sample) => {
                *self.samples_of.entry(sample.pid).or_default() += 1;
                self.cpu_time_ns += sample.values.nanoseconds;
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
            Event::Execed { pid, .. } => self.execed.push(pid),
            Event::Mapped { pid, .. } => self.mapped.push(pid),
            Event::Exited { pid, .. } => self.exited.push(pid),
            Event::Renamed { .. } => {}
            Event::LostSamples { count } => self.lost_samples += count,
            Event::LostSideband { count } => self.lost_sideband += count,
        }
    }

    fn samples(&self) -> u64 {
        self.samples_of.values().sum()
    }
}

/// Polls until something is seen (or for very long, should it never be), and stops.
fn watch_until(sampler: &mut PerfSampler, done: impl Fn(&Observed) -> bool) -> Observed {
    let (mut seen, end) = (Observed::default(), Instant::now() + Duration::from_secs(30));
    while !done(&seen) && Instant::now() < end {
        sampler.poll(Duration::from_millis(50), &mut |event| seen.take(event)).expect("poll");
    }
    drain(sampler, &mut seen);
    seen
}

/// Whether a process has used so much more CPU time.
fn has_used(pid: u32, since_ns: u64, at_least_ms: u64) -> bool {
    cpu_time_ns(pid).expect("CPU time") - since_ns >= at_least_ms * 1_000_000
}

fn drain(sampler: &mut PerfSampler, seen: &mut Observed) {
    sampler.stop().expect("stop");
    sampler.poll(Duration::ZERO, &mut |event| seen.take(event)).expect("poll");
    sampler.poll(Duration::ZERO, &mut |event| panic!("after the end: {event:?}")).expect("poll");
}

/// Whether this process has CAP_PERFMON or CAP_SYS_ADMIN.
fn is_privileged() -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_PERFMON: u64 = 1 << 38;
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("capabilities");
    let effective = u64::from_str_radix(effective.trim(), 16).expect("a hexadecimal number");
    effective & (CAP_SYS_ADMIN | CAP_PERFMON) != 0
}

/// Whether this user may open the way, as perf_event_open(2) has it: own processes need
/// `perf_event_paranoid` 2 or less, whole CPUs 0 or less.
fn may_open(way: PerfMethod) -> bool {
    let most = match way {
        PerfMethod::Cpu | PerfMethod::Cgroup => 0,
        PerfMethod::Auto | PerfMethod::Thread => 2,
    };
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid");
    let paranoid = paranoid.ok().and_then(|text| text.trim().parse::<i32>().ok());
    is_privileged() || paranoid.is_some_and(|paranoid| paranoid <= most)
}

/// Opens a sampler; `None` where this user may not open it. Any other failure is a fault.
fn try_open(options: &SamplerOptions, way: PerfMethod) -> Option<PerfSampler> {
    match open(options, way) {
        Ok(sampler) => Some(sampler),
        Err(SamplerError::Unavailable(_) | SamplerError::Perf(_)) if !may_open(way) => None,
        // Where perf_event is a controller of cgroup version 1, a group of version 2 has no events.
        Err(SamplerError::Unavailable(_)) if way == PerfMethod::Cgroup && has_old_cgroups() => None,
        Err(error) => panic!("{way:?}: {error}"),
    }
}

/// Whether a hierarchy of cgroup version 1 has the perf_event controller.
fn has_old_cgroups() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let mut of_cgroups = mounts.lines().filter(|line| line.split(' ').nth(2) == Some("cgroup"));
    of_cgroups.any(|line| line.split(' ').nth(3).is_some_and(|options| options.contains("perf_event")))
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

fn sees_the_time_of_a_busy_process(way: PerfMethod, child: &Busy) {
    let Some(mut sampler) = try_open(&options(child.pid()), way) else { return };
    assert_eq!(sampler.description().name, way.name());
    let before_ns = cpu_time_ns(child.pid()).expect("CPU time");
    let seen = watch_until(&mut sampler, |_| has_used(child.pid(), before_ns, 500));
    let used_ns = cpu_time_ns(child.pid()).expect("CPU time") - before_ns;
    let ratio = seen.cpu_time_ns as f64 / used_ns as f64;
    assert!((0.85..1.15).contains(&ratio), "{ratio} of {used_ns} ns: {seen:?}");
    assert_eq!(seen.samples_of.keys().copied().collect::<Vec<_>>(), [child.pid()]);
    assert_eq!((seen.out_of_order, seen.without_registers, seen.without_stack), (0, 0, 0), "{seen:?}");
    assert_eq!((seen.lost_samples, seen.lost_sideband), (0, 0), "{seen:?}");
}

#[test]
fn a_busy_process_is_seen_for_the_time_it_runs_by_whole_cpus() {
    sees_the_time_of_a_busy_process(PerfMethod::Cpu, &Busy::looping());
}

#[test]
fn a_busy_process_is_seen_for_the_time_it_runs_by_threads() {
    sees_the_time_of_a_busy_process(PerfMethod::Thread, &Busy::looping());
}

#[test]
fn a_busy_process_is_seen_for_the_time_it_runs_by_its_cgroup() {
    let child = Busy::looping();
    let Some(_cgroup) = OwnCgroup::of(child.pid()) else { return };
    sees_the_time_of_a_busy_process(PerfMethod::Cgroup, &child);
    drop(child);
}

#[test]
fn forked_processes_are_seen_only_when_they_are_followed() {
    for way in [PerfMethod::Cpu, PerfMethod::Thread] {
        for follow_forks in [true, false] {
            let script = "sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; :'; exec sleep 9";
            let mut child = Busy::shell(script);
            let pid = child.pid();
            let Some(mut sampler) = try_open(&SamplerOptions { follow_forks, ..options(pid) }, way) else {
                return;
            };
            child.go();
            let seen = watch_until(&mut sampler, |seen| seen.execed.contains(&pid));
            assert!(seen.mapped.contains(&pid), "{way:?} {seen:?}");
            let others: Vec<u32> = seen.samples_of.keys().copied().filter(|other| *other != pid).collect();
            let [told_execs, told_maps, told_exits] =
                [&seen.execed, &seen.mapped, &seen.exited].map(|pids| pids.iter().any(|other| *other != pid));
            if follow_forks {
                assert_eq!(others, seen.forked, "{way:?} {seen:?}");
                assert!(seen.samples_of[&others[0]] > 20, "{way:?} {seen:?}");
                assert!(told_execs && told_maps && told_exits, "{way:?} {seen:?}");
            } else {
                assert!(others.is_empty() && seen.forked.is_empty(), "{way:?} {seen:?}");
                assert!(!told_execs && !told_maps && !told_exits, "{way:?} {seen:?}");
            }
        }
    }
}

#[test]
fn what_finds_no_room_is_counted_as_lost() {
    let child = Busy::looping();
    let options = SamplerOptions { buffer_bytes: 1, ..options(child.pid()) };
    let Some(mut sampler) = try_open(&options, PerfMethod::Thread) else { return };
    let before_ns = cpu_time_ns(child.pid()).expect("CPU time");
    while !has_used(child.pid(), before_ns, 500) {
        sleep(Duration::from_millis(20));
    }
    let mut seen = Observed::default();
    drain(&mut sampler, &mut seen);
    let used_ms = (cpu_time_ns(child.pid()).expect("CPU time") - before_ns) / 1_000_000;
    let ratio = (seen.samples() + seen.lost_samples) as f64 / used_ms as f64;
    assert!(seen.samples() > 0 && seen.lost_samples > 0 && seen.lost_sideband > 0, "{seen:?}");
    assert!((0.85..1.15).contains(&ratio), "{ratio} of {used_ms} ms: {seen:?}");
}

#[test]
fn a_process_that_is_gone_is_no_target() {
    let mut child = Busy::looping();
    let pid = child.pid();
    child.0.kill().and_then(|()| child.0.wait()).expect("killed");
    for way in [PerfMethod::Auto, PerfMethod::Cpu, PerfMethod::Thread] {
        assert!(matches!(open(&options(pid), way), Err(SamplerError::NoTarget)));
    }
}

#[test]
fn the_time_spent_in_the_kernel_comes_with_its_frames() {
    let mut child = Busy::shell("exec dd if=/dev/zero of=/dev/null bs=4M");
    let Some(mut sampler) = try_open(&options(child.pid()), PerfMethod::Auto) else { return };
    child.go();
    let seen = watch_until(&mut sampler, |seen| seen.samples() > 100);
    assert_eq!(sampler.description().kernel, seen.kernel_frames > 0, "{seen:?}");
}

#[test]
fn the_probe_agrees_with_what_can_be_opened() {
    let child = Busy::looping();
    for way in probe().ways {
        if way.way != PerfMethod::Cgroup {
            assert_eq!(way.outcome.is_ok(), open(&options(child.pid()), way.way).is_ok(), "{way:?}");
        }
    }
}
