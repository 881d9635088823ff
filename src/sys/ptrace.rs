//! Holding a thread for a moment (ptrace(2)): seized, interrupted, read, released. Nothing is left
//! behind: if rprof is killed at any instant the kernel releases whatever it held, and a signal that
//! arrives meanwhile is handed on.
//!
//! Only PTRACE_SEIZE and PTRACE_INTERRUPT are used, never SIGSTOP, which would outlive us. What the
//! kernel traces is tied to the *thread* that asked, so all holding is done inside [`session`], which
//! runs on a thread of its own: when that ends, the kernel lets go of everything.
//!
//! Not here: which threads may be held (a system call that would fail must not be interrupted), and
//! what the registers mean.

use std::{
    io,
    marker::PhantomData,
    mem, ptr,
    time::{Duration, Instant},
};

/// `PTRACE_EVENT_STOP` (linux/ptrace.h): the stop of a seized thread that was interrupted, or that
/// takes part in a stop of its whole process.
const EVENT_STOP: i32 = 128;
/// Register set of the general registers (`NT_PRSTATUS`, linux/elf.h).
const NT_PRSTATUS: libc::c_int = 1;
/// More words than any CPU's general registers have.
const MAX_WORDS: usize = 64;
/// How long the wait for a thread to stop spins before it sleeps: on an idle CPU a stop takes
/// microseconds.
const SPIN: Duration = Duration::from_micros(40);
/// How often a wait that sleeps looks at the clock.
const ALARM_NS: libc::c_long = 4_000_000;
/// Ignored by default by every process, so that one too many harms nobody.
const ALARM_SIGNAL: libc::c_int = libc::SIGURG;

/// Why a thread could not be held. It runs on, untouched.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// It has ended.
    #[error("the thread has ended")]
    Gone,
    /// Refused: another tracer has it, or the rights do not suffice.
    #[error("ptrace: {0}")]
    Refused(io::Error),
    /// It did not stop in time (it is in an uninterruptible part of the kernel). The session must end
    /// now: until then the kernel would still stop it.
    #[error("the thread did not stop in time")]
    NotStopping,
}

/// What stopped the thread that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// Our interruption.
    Interrupted,
    /// Its process is stopped (SIGSTOP, Ctrl-Z): it stays so when released.
    GroupStop,
    /// A signal was about to be delivered; it is, on release.
    Signal(i32),
}

/// Runs `work` on a thread of its own, which may hold threads. However it ends, none is left held.
pub fn session<T: Send>(work: impl FnOnce(&Session) -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("rprof-ptrace".to_owned());
        let handle = builder.spawn_scoped(scope, || {
            hurry();
            let session = Session { alarm: Alarm::new()?, stay: PhantomData };
            Ok(work(&session))
        })?;
        handle.join().map_err(|_| io::Error::other("the thread that holds others failed"))?
    })
}

/// The right to hold threads, tied to the thread of [`session`].
pub struct Session {
    alarm: Alarm,
    stay: PhantomData<*const ()>,
}

/// A thread that stands still; released when dropped.
pub struct StoppedThread<'a> {
    tid: u32,
    cause: StopCause,
    /// When it was last seen not to stand still, and when it was seen to.
    since: Instant,
    seen: Instant,
    session: PhantomData<&'a Session>,
}

/// A thread that has been asked to stop and not been waited for yet.
pub struct PendingStop<'a> {
    tid: u32,
    since: Instant,
    session: &'a Session,
}

impl Session {
    /// Holds a thread: asks it to stop and waits for that, up to `patience`.
    pub fn hold(&self, tid: u32, patience: Duration) -> Result<StoppedThread<'_>, HoldError> {
        self.ask(tid)?.wait(patience)
    }

    /// Whether a thread could be held. It is not disturbed.
    pub fn may_hold(&self, tid: u32) -> Result<(), HoldError> {
        request(libc::PTRACE_SEIZE, tid, 0).map_err(refused)
    }

    /// Asks a thread to stop; it goes on until it notices. If the answer is dropped, the thread is
    /// released only when the session ends.
    pub fn ask(&self, tid: u32) -> Result<PendingStop<'_>, HoldError> {
        request(libc::PTRACE_SEIZE, tid, 0).map_err(refused)?;
        let since = Instant::now();
        match request(libc::PTRACE_INTERRUPT, tid, 0) {
            Ok(()) => Ok(PendingStop { tid, since, session: self }),
            Err(error) => Err(refused(error)),
        }
    }
}

impl<'a> PendingStop<'a> {
    /// Waits until the thread stands still.
    pub fn wait(self, patience: Duration) -> Result<StoppedThread<'a>, HoldError> {
        let tid = self.tid;
        // When it was last seen not to stand still.
        let mut since = self.since;
        while since.duration_since(self.since) < SPIN {
            let now = Instant::now();
            if let Some(cause) = stopped(tid, libc::WNOHANG)? {
                return Ok(StoppedThread { tid, cause, since, seen: Instant::now(), session: PhantomData });
            }
            since = now;
            std::hint::spin_loop();
        }
        // It waits for a CPU, perhaps for ours; asleep, we are waked as soon as it stops.
        self.session.alarm.set(ALARM_NS)?;
        let cause = loop {
            match stopped(tid, 0) {
                Ok(None) if self.since.elapsed() > patience => break Err(HoldError::NotStopping),
                Ok(None) => {}
                Ok(Some(cause)) => break Ok(cause),
                Err(error) => break Err(error),
            }
        };
        self.session.alarm.set(0)?;
        Ok(StoppedThread { tid, cause: cause?, since, seen: Instant::now(), session: PhantomData })
    }
}

/// Lets this thread go before others, if it may: while it waits for a CPU, what it holds stands still.
fn hurry() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter is a live local, only read; the policy is this thread's alone and not
    // inherited. Where it is refused, nothing changes.
    unsafe {
        if libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &lowest) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
    }
}

/// A timer that breaks off this thread's system calls, again and again.
struct Alarm(libc::timer_t);

impl Alarm {
    fn new() -> io::Result<Alarm> {
        take_alarm_signal()?;
        // SAFETY: all-zero is a valid `sigevent`.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = ALARM_SIGNAL;
        event.sigev_notify_thread_id = nix::unistd::gettid().as_raw();
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both point to live locals; the timer is written by the call.
        match unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) } {
            0 => Ok(Alarm(timer)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Rings every so many nanoseconds from now on; 0: no more.
    fn set(&self, every_ns: libc::c_long) -> Result<(), HoldError> {
        let every = libc::timespec { tv_sec: 0, tv_nsec: every_ns };
        let times = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: the timer is ours; the times are read only.
        match unsafe { libc::timer_settime(self.0, 0, &times, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(HoldError::Refused(io::Error::last_os_error())),
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is ours and not used again.
        unsafe { libc::timer_delete(self.0) };
    }
}

extern "C" fn on_alarm(_signal: libc::c_int) {}

/// Gives the signal a handler that does nothing: one that is ignored breaks off no system call. If the
/// program has a handler of its own, that serves.
fn take_alarm_signal() -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags, so that calls are broken off.
    let (mut ours, mut theirs): (libc::sigaction, libc::sigaction) = unsafe { mem::zeroed() };
    ours.sa_sigaction = on_alarm as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: both point to live locals; the handler touches nothing.
    let done = unsafe {
        let asked = libc::sigaction(ALARM_SIGNAL, ptr::null(), &mut theirs);
        let free = [libc::SIG_DFL, libc::SIG_IGN].contains(&theirs.sa_sigaction);
        if asked == 0 && free { libc::sigaction(ALARM_SIGNAL, &ours, ptr::null_mut()) } else { asked }
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl StoppedThread<'_> {
    pub fn cause(&self) -> StopCause {
        self.cause
    }

    /// The general registers as the kernel's regset NT_PRSTATUS has them, in words.
    pub fn registers(&self) -> io::Result<Vec<u64>> {
        let mut words = [0u64; MAX_WORDS];
        let mut vector = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
        // SAFETY: the kernel writes at most `iov_len` bytes to `iov_base`, which is `words`, and the
        // length written to `vector`; both live through the call.
        unsafe { registers_request(libc::PTRACE_GETREGSET, self.tid, &mut vector) }?;
        Ok(words[..vector.iov_len / size_of::<u64>()].to_vec())
    }

    /// Gives back the registers, with the same number of words as they were read with. Only for what
    /// undoes an interruption: nothing else of a target is ever changed.
    pub fn restore_registers(&self, words: &[u64]) -> io::Result<()> {
        let mut copy = words.to_vec();
        let length = mem::size_of_val(&copy[..]);
        let mut vector = libc::iovec { iov_base: copy.as_mut_ptr().cast(), iov_len: length };
        // SAFETY: the kernel reads `iov_len` bytes from `iov_base`, which is `copy`, alive through the
        // call.
        unsafe { registers_request(libc::PTRACE_SETREGSET, self.tid, &mut vector) }
    }

    /// How long it may have stood still before that was seen: it may also have waited for a CPU.
    pub fn unseen(&self) -> Duration {
        self.seen.duration_since(self.since)
    }

    /// Lets the thread go on; how long it was seen to stand still.
    pub fn release(self) -> Duration {
        let seen = self.seen;
        drop(self);
        seen.elapsed()
    }
}

impl Drop for StoppedThread<'_> {
    fn drop(&mut self) {
        let signal = if let StopCause::Signal(signal) = self.cause { signal } else { 0 };
        // It fails only if the thread was killed meanwhile.
        let _ = request(libc::PTRACE_DETACH, self.tid, signal as usize);
    }
}

fn refused(error: io::Error) -> HoldError {
    match error.raw_os_error() {
        Some(libc::ESRCH) => HoldError::Gone,
        _ => HoldError::Refused(error),
    }
}

/// Whether the thread stands still, and why; `None` also if a signal broke off the wait (without
/// WNOHANG). Only looks (WNOWAIT): the end of a child of rprof's own is left for whoever waits for it.
fn stopped(tid: u32, how: libc::c_int) -> Result<Option<StopCause>, HoldError> {
    // SAFETY: all-zero is a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let flags = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT | libc::__WALL | how;
    // SAFETY: the kernel writes to `info`, which lives through the call.
    if unsafe { libc::waitid(libc::P_PID, tid, &mut info, flags) } != 0 {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Err(HoldError::Gone),
            error if error.raw_os_error() == Some(libc::EINTR) => Ok(None),
            error => Err(HoldError::Refused(error)),
        };
    }
    // SAFETY: the union's fields for SIGCHLD are those that waitid fills in; nothing reported is zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    match (pid, info.si_code) {
        (0, _) => Ok(None),
        (_, libc::CLD_TRAPPED | libc::CLD_STOPPED) => Ok(Some(cause_of(status))),
        _ => Err(HoldError::Gone),
    }
}

/// A stop's status: the signal, and above it the event, as in ptrace(2).
fn cause_of(status: i32) -> StopCause {
    let (signal, event) = (status & 0xff, status >> 8);
    match (event, signal) {
        (EVENT_STOP, libc::SIGTRAP) => StopCause::Interrupted,
        (EVENT_STOP, _) => StopCause::GroupStop,
        (0, signal) => StopCause::Signal(signal),
        // No other event was asked for.
        _ => StopCause::Interrupted,
    }
}

/// ptrace(2) with a number as its data.
fn request(what: libc::c_uint, tid: u32, data: usize) -> io::Result<()> {
    // SAFETY: the requests made through here (seize, interrupt, detach) take a number as data and
    // touch no memory of ours.
    match unsafe { libc::ptrace(what, tid as libc::pid_t, ptr::null_mut::<libc::c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// ptrace(2) on the general registers.
///
/// # Safety
/// `vector` must describe memory that the request may write to (reading registers) or read.
unsafe fn registers_request(what: libc::c_uint, tid: u32, vector: &mut libc::iovec) -> io::Result<()> {
    // SAFETY: the caller answers for `vector`.
    match unsafe { libc::ptrace(what, tid as libc::pid_t, NT_PRSTATUS, vector as *mut libc::iovec) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
