//! Decides which perf events to open, from the options and from what rights allow.
//!
//! Not here: opening them.

use std::{ffi::CStr, fs::File, os::fd::AsFd, path::PathBuf};

use crate::{
    arch::native,
    process::{cgroup, identity::read_stat, threads},
    sampler::{FAULTS_A_SAMPLE, SamplerError, SamplerOptions, Trigger, Values},
    sys::{
        cpus, limits,
        perf::{self, EventKind, EventSpec, PerfError, Rate, SampleFields, Scope},
    },
};

/// With more events than this (one per thread and CPU), sampling whole CPUs is always cheaper.
const MANY_EVENTS: usize = 512;
/// Sampling whole CPUs is acceptable if samples of other processes cause at most this memory
/// traffic.
const MAX_FOREIGN_BYTES_PER_SECOND: u64 = 256 << 20;
/// The most stack copied where samples come in bursts.
const BURST_STACK_BYTES: u32 = 16 << 10;
/// The shortest period of the kernel's clock event.
const MIN_PERIOD_NS: u64 = 10_000;

/// How perf events are opened; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerfMethod {
    /// The best method that rights allow: the target's cgroup, else whole CPUs, else single
    /// threads.
    Auto,
    /// One event per CPU.
    Cpu,
    /// One event per CPU, limited to the target's cgroup.
    Cgroup,
    /// One event per thread and CPU.
    Thread,
}

impl PerfMethod {
    /// The name in `--sampler` and in output.
    pub fn name(self) -> &'static str {
        match self {
            PerfMethod::Auto => "perf",
            PerfMethod::Cpu => "perf-cpu",
            PerfMethod::Cgroup => "perf-cgroup",
            PerfMethod::Thread => "perf-thread",
        }
    }
}

/// What one event samples.
pub(super) enum Shape {
    Cpus,
    Cgroup { folder: PathBuf, directory: File },
    Threads,
}

/// What to open.
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) cpus: Vec<u32>,
    pub(super) kind: EventKind,
    pub(super) rate: Rate,
    pub(super) exclude_kernel: bool,
    frequency_hz: u32,
}

impl Plan {
    pub(super) fn make(options: &SamplerOptions, shape: Shape) -> Result<Plan, SamplerError> {
        if options.pids.iter().all(|pid| read_stat(*pid).is_err()) {
            return Err(SamplerError::NoTarget);
        }
        let cpus = online_cpus()?;
        let frequency_hz = options.frequency_hz.max(1);
        let mut plan = Plan {
            shape,
            cpus,
            kind: EventKind::CpuClock,
            rate: clock_rate(frequency_hz),
            exclude_kernel: false,
            frequency_hz,
        };
        if options.trigger == Trigger::PageFault {
            plan.kind = EventKind::PageFaults;
            plan.rate = Rate::Period(FAULTS_A_SAMPLE);
        } else if options.trigger == Trigger::ThreadCreated {
            let id = perf::probe::tracepoint_id("task/task_newtask")
                .map_err(|error| SamplerError::Unavailable(format!("tracepoint task_newtask: {error}")))?;
            plan.kind = EventKind::Tracepoint { id };
            plan.rate = Rate::Period(1);
        } else if perf::counts_cycles() {
            plan.kind = EventKind::Cycles;
            plan.rate = cycles_rate(frequency_hz);
        }
        plan.settle(options)?;
        Ok(plan)
    }

    /// Falls back until an event opens: without the kernel, without the hardware counter.
    fn settle(&mut self, options: &SamplerOptions) -> Result<(), SamplerError> {
        loop {
            match self.try_open(options) {
                Ok(()) => return Ok(()),
                // (A tracepoint is in the kernel: without the kernel it never takes a sample.)
                Err(PerfError::NotPermitted { .. }) if !self.exclude_kernel && self.filter().is_none() => {
                    self.exclude_kernel = true;
                }
                Err(PerfError::NoHardware { .. } | PerfError::Unsupported { .. })
                    if self.kind == EventKind::Cycles =>
                {
                    self.kind = EventKind::CpuClock;
                    self.rate = clock_rate(self.frequency_hz);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens and closes one event with the attributes that all will have.
    fn try_open(&self, options: &SamplerOptions) -> Result<(), PerfError> {
        let cpu = self.cpus.first().copied().unwrap_or(0);
        let spec = self.spec(self.fields(options, EventSpec::MAX_USER_STACK_BYTES), options);
        let mut result = Ok(());
        for tid in options.pids.iter().flat_map(|pid| first_then_others(*pid)) {
            result = spec.open(self.scope(tid, cpu)).map(drop);
            if !matches!(result, Err(PerfError::ThreadGone { .. })) {
                break;
            }
        }
        result
    }

    /// The event that takes samples.
    pub(super) fn spec(&self, sample: SampleFields, options: &SamplerOptions) -> EventSpec {
        let threads = matches!(self.shape, Shape::Threads);
        EventSpec {
            kind: self.kind,
            rate: self.rate,
            sample,
            sideband: threads,
            start_enabled: threads,
            inherit: threads,
            inherit_threads_only: threads && !options.follow_forks,
            exclude_kernel: self.exclude_kernel,
            ..Default::default()
        }
    }

    /// What the events are limited to: of new tasks to threads (CLONE_THREAD of linux/sched.h).
    pub(super) fn filter(&self) -> Option<&'static CStr> {
        matches!(self.kind, EventKind::Tracepoint { .. }).then_some(c"clone_flags & 65536")
    }

    /// The fields of a sample, with at most `most_stack_bytes` of stack.
    pub(super) fn fields(&self, options: &SamplerOptions, most_stack_bytes: u32) -> SampleFields {
        // New threads come in bursts.
        let most_stack_bytes = match self.kind {
            EventKind::Tracepoint { .. } => most_stack_bytes.min(BURST_STACK_BYTES),
            _ => most_stack_bytes,
        };
        let user_stack_bytes =
            options.max_stack_bytes.min(most_stack_bytes).min(EventSpec::MAX_USER_STACK_BYTES) & !7;
        SampleFields {
            // If the period is requested, a counting software event takes a sample at every event
            // (perf_swevent_event in kernel/events/core.c).
            period: !matches!(self.kind, EventKind::PageFaults | EventKind::Tracepoint { .. }),
            kernel_callchain: self.has_kernel_frames(options),
            user_registers: native::PERF_REGISTER_MASK,
            user_stack_bytes,
        }
    }

    /// The scope of the event for this CPU and, with one event per thread, this thread.
    pub(super) fn scope(&self, tid: u32, cpu: u32) -> Scope<'_> {
        match &self.shape {
            Shape::Cpus => Scope::Cpu(cpu),
            Shape::Cgroup { directory, .. } => Scope::Cgroup { directory: directory.as_fd(), cpu },
            Shape::Threads => Scope::Thread { tid, cpu: Some(cpu) },
        }
    }

    /// What each sample is worth, if the record's period does not give it.
    pub(super) fn fixed_values(&self) -> Option<Values> {
        match self.kind {
            EventKind::Cycles => Some(Values::of_time(1_000_000_000 / u64::from(self.frequency_hz))),
            EventKind::PageFaults => Some(Values { count: 1, objects: FAULTS_A_SAMPLE, ..Values::default() }),
            EventKind::Tracepoint { .. } => Some(Values::of_time(0)),
            EventKind::CpuClock | EventKind::Dummy => None,
        }
    }

    /// Of a thread's creation the kernel's frames are always the same.
    pub(super) fn has_kernel_frames(&self, options: &SamplerOptions) -> bool {
        options.kernel && !self.exclude_kernel && self.filter().is_none()
    }
}

impl Shape {
    /// The shapes to try, the best first; one for a method that is forced. Errors: a forced method
    /// is not possible.
    pub(super) fn candidates(
        options: &SamplerOptions,
        method: PerfMethod,
    ) -> Result<Vec<Shape>, SamplerError> {
        let cpus = online_cpus()?;
        Ok(match method {
            PerfMethod::Cpu => vec![Shape::Cpus],
            PerfMethod::Thread => vec![Shape::Threads],
            PerfMethod::Cgroup => vec![Shape::own_cgroup(&options.pids)?],
            PerfMethod::Auto if whole_cpus_allowed(&cpus).is_err() => vec![Shape::Threads],
            PerfMethod::Auto => {
                let rest = match whole_cpus_are_cheap(options, &cpus) {
                    true => [Shape::Cpus, Shape::Threads],
                    false => [Shape::Threads, Shape::Cpus],
                };
                Shape::own_cgroup(&options.pids).into_iter().chain(rest).collect()
            }
        })
    }

    fn own_cgroup(pids: &[u32]) -> Result<Shape, SamplerError> {
        let Some(folder) = cgroup::own_folder(pids) else {
            let reason = match cgroup::is_mounted() {
                true => "the processes do not share a cgroup (version 2) of their own",
                false => "no cgroup hierarchy of version 2 is mounted",
            };
            return Err(SamplerError::Unavailable(reason.to_owned()));
        };
        let directory = File::open(&folder)
            .map_err(|source| SamplerError::System { what: format!("open {}", folder.display()), source })?;
        Ok(Shape::Cgroup { folder, directory })
    }

    pub(super) fn way(&self) -> PerfMethod {
        match self {
            Shape::Cpus => PerfMethod::Cpu,
            Shape::Cgroup { .. } => PerfMethod::Cgroup,
            Shape::Threads => PerfMethod::Thread,
        }
    }
}

fn online_cpus() -> Result<Vec<u32>, SamplerError> {
    cpus::online().map_err(|source| SamplerError::System { what: "list of online CPUs".to_owned(), source })
}

/// Whether an event that samples everything on a CPU can be opened.
pub(super) fn whole_cpus_allowed(cpus: &[u32]) -> Result<(), PerfError> {
    let spec = EventSpec { kind: EventKind::CpuClock, exclude_kernel: true, ..Default::default() };
    spec.open(Scope::Cpu(cpus.first().copied().unwrap_or(0))).map(drop)
}

/// Whether events on whole CPUs cost less than events on threads. The former copy the stacks of
/// every process that runs, which is expensive on a large busy machine; the latter need one open
/// file per thread and CPU.
fn whole_cpus_are_cheap(options: &SamplerOptions, cpus: &[u32]) -> bool {
    let sample_bytes = options.max_stack_bytes.min(EventSpec::MAX_USER_STACK_BYTES);
    let foreign_bytes = cpus.len() as u64 * u64::from(options.frequency_hz) * u64::from(sample_bytes);
    let thread_count = || options.pids.iter().map(|pid| threads::list(*pid).len()).sum::<usize>();
    foreign_bytes <= MAX_FOREIGN_BYTES_PER_SECOND || thread_count().saturating_mul(cpus.len()) > MANY_EVENTS
}

/// The threads of a process, listed only if the caller needs more than the first one: the first may
/// have ended, and there may be thousands.
fn first_then_others(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::once(pid).chain(std::iter::once_with(move || threads::list(pid)).flatten())
}

fn clock_rate(frequency_hz: u32) -> Rate {
    Rate::Period((1_000_000_000 / u64::from(frequency_hz)).max(MIN_PERIOD_NS))
}

fn cycles_rate(frequency_hz: u32) -> Rate {
    let most = limits::perf_event_max_sample_rate_hz().unwrap_or(u64::MAX).max(1);
    Rate::FrequencyHz(u64::from(frequency_hz).min(most))
}
