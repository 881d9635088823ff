//! Opens and controls one perf event (perf_event_open(2)).
//!
//! Not here: its ring (`ring`) and what is written there (`record`).

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use nix::errno::Errno;
use perf_event_open_sys::{self as perf, bindings};

use super::{
    error::PerfError,
    spec::{EventKind, EventSpec, Rate, Scope},
};

/// The fields of every record, at the front of samples and at the end of other records.
const COMMON_SAMPLE_TYPE: bindings::perf_event_sample_format = bindings::PERF_SAMPLE_IDENTIFIER
    | bindings::PERF_SAMPLE_TID
    | bindings::PERF_SAMPLE_TIME
    | bindings::PERF_SAMPLE_CPU;

impl EventSpec {
    /// The maximum of [`SampleFields::user_stack_bytes`]: a multiple of 8 below 2^16. A whole
    /// record is below 64 KiB, so the kernel copies a little less than this maximum.
    pub const MAX_USER_STACK_BYTES: u32 = 65528;

    /// Opens the event. If an old kernel does not support counts of lost records (6.0) or
    /// inheriting threads only (5.13), it is opened without them. Errors: see [`PerfError`].
    pub fn open(&self, scope: Scope<'_>) -> Result<Event, PerfError> {
        let mut attr = self.attr();
        let mut opened = open(&mut attr, scope);
        if opened.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::EINVAL as i32)) {
            attr.read_format = 0;
            opened = open(&mut attr, scope);
            if opened.is_err() && self.inherit_threads_only {
                attr.set_inherit_thread(0);
                opened = open(&mut attr, scope);
            }
        }
        match opened {
            Ok(fd) => Ok(Event { fd, counts_lost: attr.read_format != 0 }),
            Err(source) => Err(PerfError::from_open(source, self, scope)),
        }
    }

    /// The highest `kernel.perf_event_paranoid` at which the event needs no CAP_PERFMON.
    pub(super) fn paranoid_needed(&self, scope: Scope<'_>) -> i32 {
        match scope {
            Scope::Cpu(_) | Scope::Cgroup { .. } => 0,
            Scope::Thread { .. } if !self.exclude_kernel => 1,
            Scope::Thread { .. } => 2,
        }
    }

    fn attr(&self) -> bindings::perf_event_attr {
        let mut attr = bindings::perf_event_attr {
            size: size_of::<bindings::perf_event_attr>() as u32,
            ..Default::default()
        };
        self.set_kind_and_rate(&mut attr);
        self.set_sample(&mut attr);
        attr.read_format = bindings::PERF_FORMAT_LOST.into();
        attr.set_disabled((!self.start_enabled).into());
        attr.set_enable_on_exec(self.enable_on_exec.into());
        attr.set_inherit(self.inherit.into());
        attr.set_inherit_thread((self.inherit && self.inherit_threads_only).into());
        attr.set_exclude_kernel(self.exclude_kernel.into());
        attr.set_exclude_hv(1);
        attr.set_exclude_idle(1);
        for set in [
            bindings::perf_event_attr::set_mmap,
            bindings::perf_event_attr::set_mmap2,
            bindings::perf_event_attr::set_comm,
            bindings::perf_event_attr::set_comm_exec,
            bindings::perf_event_attr::set_task,
        ] {
            set(&mut attr, self.sideband.into());
        }
        attr.set_sample_id_all(1);
        attr.set_use_clockid(1);
        attr.clockid = libc::CLOCK_MONOTONIC;
        attr.set_watermark((self.wakeup_bytes > 0).into());
        match self.wakeup_bytes {
            0 => attr.wakeup_events = 1,
            bytes => attr.wakeup_watermark = bytes,
        }
        attr
    }

    fn set_kind_and_rate(&self, attr: &mut bindings::perf_event_attr) {
        let software = |config: bindings::perf_sw_ids| (bindings::PERF_TYPE_SOFTWARE, config.into());
        let (kind, config) = match self.kind {
            EventKind::CpuClock => software(bindings::PERF_COUNT_SW_CPU_CLOCK),
            EventKind::Cycles => (bindings::PERF_TYPE_HARDWARE, bindings::PERF_COUNT_HW_CPU_CYCLES.into()),
            EventKind::PageFaults => software(bindings::PERF_COUNT_SW_PAGE_FAULTS),
            EventKind::Tracepoint { id } => (bindings::PERF_TYPE_TRACEPOINT, id),
            EventKind::Dummy => software(bindings::PERF_COUNT_SW_DUMMY),
        };
        attr.type_ = kind;
        attr.config = config;
        match self.rate {
            Rate::None => {}
            Rate::Period(period) => attr.sample_period = period,
            Rate::FrequencyHz(frequency_hz) => {
                attr.set_freq(1);
                attr.sample_freq = frequency_hz;
            }
        }
    }

    fn set_sample(&self, attr: &mut bindings::perf_event_attr) {
        let sample = &self.sample;
        let mut kind = COMMON_SAMPLE_TYPE;
        if sample.period {
            kind |= bindings::PERF_SAMPLE_PERIOD;
        }
        if sample.kernel_callchain {
            kind |= bindings::PERF_SAMPLE_CALLCHAIN;
            attr.set_exclude_callchain_user(1);
        }
        if sample.user_registers != 0 {
            kind |= bindings::PERF_SAMPLE_REGS_USER;
            attr.sample_regs_user = sample.user_registers;
        }
        if sample.user_stack_bytes != 0 {
            kind |= bindings::PERF_SAMPLE_STACK_USER;
            attr.sample_stack_user = sample.user_stack_bytes;
        }
        attr.sample_type = kind.into();
    }
}

fn open(attr: &mut bindings::perf_event_attr, scope: Scope<'_>) -> io::Result<OwnedFd> {
    let any_cpu = -1;
    let (pid, cpu, scope_flag) = match scope {
        Scope::Thread { tid, cpu } => (to_c_int(tid)?, cpu.map_or(Ok(any_cpu), to_c_int)?, 0),
        Scope::Cpu(cpu) => (-1, to_c_int(cpu)?, 0),
        Scope::Cgroup { directory, cpu } => {
            (directory.as_raw_fd(), to_c_int(cpu)?, bindings::PERF_FLAG_PID_CGROUP)
        }
    };
    let flags = bindings::PERF_FLAG_FD_CLOEXEC | scope_flag;
    // SAFETY: `attr` is a whole perf_event_attr whose `size` is its own, valid for reads and writes
    // during the call; what it asks for is counting and writing to a ring that is not mapped yet.
    let fd = unsafe { perf::perf_event_open(attr, pid, cpu, -1, flags.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens an event of any kind for this thread, and closes it. Whatever `attr` points to must be
/// static.
pub(super) fn open_for_this_thread(attr: &mut bindings::perf_event_attr) -> io::Result<()> {
    open(attr, Scope::Thread { tid: 0, cpu: None }).map(drop)
}

fn to_c_int(number: u32) -> io::Result<i32> {
    i32::try_from(number).map_err(|_| io::Error::from(Errno::EINVAL))
}

/// An open perf event; closed when dropped, which also ends what it inherited.
#[derive(Debug)]
pub struct Event {
    fd: OwnedFd,
    counts_lost: bool,
}

/// The counts of an event, as read(2) returns them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// What was counted: nanoseconds or cycles.
    pub value: u64,
    /// Records that did not fit into the ring; `None` before Linux 6.0.
    pub lost: Option<u64>,
}

impl Event {
    /// Starts counting, inherited events included.
    pub fn enable(&self) -> Result<(), PerfError> {
        // SAFETY: ENABLE takes an integer flag and touches no memory of ours.
        check("PERF_EVENT_IOC_ENABLE", unsafe { perf::ioctls::ENABLE(self.fd.as_raw_fd(), 0) })
    }

    /// Stops counting, inherited events included.
    pub fn disable(&self) -> Result<(), PerfError> {
        // SAFETY: DISABLE takes an integer flag and touches no memory of ours.
        check("PERF_EVENT_IOC_DISABLE", unsafe { perf::ioctls::DISABLE(self.fd.as_raw_fd(), 0) })
    }

    /// Makes this event write into the ring of another one, which must count on the same CPU.
    pub fn redirect_to(&self, owner: &Event) -> Result<(), PerfError> {
        // SAFETY: SET_OUTPUT takes a descriptor, which is open for the call, and no memory of ours.
        check("PERF_EVENT_IOC_SET_OUTPUT", unsafe {
            perf::ioctls::SET_OUTPUT(self.fd.as_raw_fd(), owner.fd.as_raw_fd())
        })
    }

    /// The identifier that this event's records carry, inherited ones included.
    pub fn id(&self) -> Result<u64, PerfError> {
        let mut id = 0;
        // SAFETY: ID writes one u64 to the address, which is that of a live local.
        check("PERF_EVENT_IOC_ID", unsafe { perf::ioctls::ID(self.fd.as_raw_fd(), &mut id) })?;
        Ok(id)
    }

    /// Lets a tracepoint event take samples only where this expression about the tracepoint's
    /// fields is true (kernel document trace/events, "Event filtering").
    pub fn set_filter(&self, expression: &CStr) -> Result<(), PerfError> {
        let request = bindings::SET_FILTER;
        // SAFETY: the kernel reads a string from the address, which lives through the call.
        check("PERF_EVENT_IOC_SET_FILTER", unsafe {
            libc::ioctl(self.fd.as_raw_fd(), request as _, expression.as_ptr())
        })
    }

    /// Attaches a loaded BPF program of type perf_event. It runs at each overflow of this event
    /// only; if it returns 0, the sample is not written.
    pub fn set_bpf(&self, program: BorrowedFd<'_>) -> Result<(), PerfError> {
        let program = program.as_raw_fd() as u32;
        // SAFETY: SET_BPF takes a descriptor, which is open for the call, and no memory of ours.
        check("PERF_EVENT_IOC_SET_BPF", unsafe { perf::ioctls::SET_BPF(self.fd.as_raw_fd(), program) })
    }

    /// Changes the period (or, for an event opened with a frequency, the frequency).
    pub fn set_period(&self, period: u64) -> Result<(), PerfError> {
        let request = bindings::PERIOD;
        // SAFETY: the kernel reads one u64 from the address, which is that of a live local.
        check("PERF_EVENT_IOC_PERIOD", unsafe {
            libc::ioctl(self.fd.as_raw_fd(), request as _, &period as *const u64)
        })
    }

    /// Reads the counts, inherited events included.
    pub fn counts(&self) -> Result<Counts, PerfError> {
        let mut buffer = [0u8; 16];
        let length = nix::unistd::read(&self.fd, &mut buffer)
            .map_err(|errno| PerfError::System { call: "read of a perf event", source: errno.into() })?;
        let word = |index: usize| {
            let bytes = buffer.get(..length)?.get(index * 8..index * 8 + 8)?;
            Some(u64::from_ne_bytes(bytes.try_into().ok()?))
        };
        let lost = if self.counts_lost { word(1) } else { None };
        Ok(Counts { value: word(0).unwrap_or(0), lost })
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn check(call: &'static str, result: i32) -> Result<(), PerfError> {
    match result {
        0.. => Ok(()),
        _ => Err(PerfError::System { call, source: io::Error::last_os_error() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_clock() -> EventSpec {
        EventSpec { kind: EventKind::CpuClock, exclude_kernel: true, ..Default::default() }
    }

    fn own_thread() -> Scope<'static> {
        Scope::Thread { tid: nix::unistd::gettid().as_raw() as u32, cpu: None }
    }

    #[test]
    fn an_event_counts_only_while_it_is_enabled() {
        let event = own_clock().open(own_thread()).expect("event");
        assert_eq!(event.counts().expect("counts").value, 0);
        event.enable().expect("enable");
        std::hint::black_box((0..100_000u64).fold(0, |sum, step| std::hint::black_box(sum ^ step)));
        event.disable().expect("disable");
        let counts = event.counts().expect("counts");
        assert!(counts.value > 0);
        assert_eq!(event.counts().expect("counts"), counts);
        assert_ne!(event.id().expect("id"), 0);
    }

    #[test]
    fn the_period_can_be_changed() {
        let spec = EventSpec { rate: Rate::Period(1_000_000), ..own_clock() };
        spec.open(own_thread()).expect("event").set_period(2_000_000).expect("period");
    }

    #[test]
    fn a_thread_that_has_ended_is_an_error_of_its_own() {
        let scope = Scope::Thread { tid: 0x3fff_ffff, cpu: None };
        assert!(matches!(own_clock().open(scope), Err(PerfError::ThreadGone { tid: 0x3fff_ffff })));
    }

    #[test]
    fn a_cpu_that_does_not_exist_is_an_error_of_its_own() {
        let error = own_clock().open(Scope::Cpu(60_000)).expect_err("no such CPU");
        assert!(matches!(error, PerfError::CpuOffline { .. } | PerfError::Unsupported { .. }), "{error:?}");
    }
}
