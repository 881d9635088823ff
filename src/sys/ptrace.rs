//! Stops a thread for some microseconds (ptrace(2)): seize, interrupt, read, detach. If rprof is
//! killed, the kernel detaches every thread and it continues. A signal that arrives meanwhile is
//! delivered.
//!
//! A stop may break off a system call that the thread was just entering. This is undone as soon as
//! the thread has stopped, and every stop that was requested is waited for: the session's thread
//! stays until then, and rprof does too ([`super::interruptions`]).
//!
//! Only PTRACE_SEIZE and PTRACE_INTERRUPT are used, never SIGSTOP, which would stay in force after
//! rprof has ended. The kernel ties tracing to the *thread* that traces, so all stops happen inside
//! [`session`], which runs on a thread of its own.
//!
//! Not here: which threads may be stopped (a system call that would fail must not be interrupted),
//! and what the registers mean.

use std::{
    cell::RefCell,
    io,
    marker::PhantomData,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::mpsc,
    time::{Duration, Instant},
};

use super::interruptions;

/// `PTRACE_EVENT_STOP` (linux/ptrace.h): the stop of a seized thread that was interrupted, or whose
/// whole process is stopped.
const EVENT_STOP: i32 = 128;
/// Register set of the general registers (`NT_PRSTATUS`, linux/elf.h).
const NT_PRSTATUS: libc::c_int = 1;
/// More words than the general registers of any CPU.
const MAX_WORDS: usize = 64;
/// How long waiting for a stop spins before it sleeps: on an idle CPU a stop takes microseconds.
const SPIN: Duration = Duration::from_micros(40);
/// How often a sleeping wait checks the clock.
const ALARM_NS: libc::c_long = 4_000_000;
/// Ignored by default, so that a late alarm has no effect. It is sent to rprof's own thread only.
const ALARM_SIGNAL: libc::c_int = libc::SIGURG;
/// While this many threads have not stopped in time, no further stop is requested: their CPU quota
/// is used up, or they are frozen, and so are probably the others.
const MAX_LATE: usize = 8;
/// The first and the longest pause between two checks of threads that did not stop in time.
const FIRST_NAP: Duration = Duration::from_micros(200);
const LONGEST_NAP: Duration = Duration::from_millis(2);

/// Why a thread could not be stopped.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// It has ended.
    #[error("the thread has ended")]
    Gone,
    /// Refused: another tracer has it, or the rights do not suffice.
    #[error("ptrace: {0}")]
    Refused(io::Error),
    /// It did not stop in time: it is in an uninterruptible part of the kernel, it gets no CPU, or
    /// it is frozen. The session's thread releases it as soon as it stops (see [`session`]).
    #[error("the thread did not stop in time")]
    NotStopping,
}

/// What stopped the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The interruption that was requested.
    Interrupted,
    /// Its process is stopped (SIGSTOP, Ctrl-Z): it stays so when released.
    GroupStop,
    /// A signal was about to be delivered; it is delivered on release.
    Signal(i32),
}

/// Changes the general registers of a stopped thread so that the system call that the stop broke
/// off starts again; returns whether it changed them.
pub type Undo = fn(&mut [u64]) -> bool;

type Job<'a> = Box<dyn FnOnce(&Session) + Send + 'a>;

/// What the thread of a session gets. Fields are dropped in this order: the job is gone before the
/// sender, whose end the caller waits for.
struct Work {
    job: Job<'static>,
    done: mpsc::Sender<io::Result<()>>,
}

/// Runs `work` on a thread of its own, which may stop threads, and returns when `work` has ended.
/// A thread that did not stop in time is still waited for afterwards, in the background: its
/// interruption is undone and it is released ([`super::interruptions`] tells which are left).
/// Errors: the thread could not be started, or `work` panicked.
pub fn session<T: Send>(work: impl FnOnce(&Session) -> T + Send) -> io::Result<T> {
    let mut result = None;
    let slot = &mut result;
    let job: Job<'_> = Box::new(move |session| *slot = Some(work(session)));
    // SAFETY: only the lifetime changes. The job is called or dropped before its sender is used or
    // dropped (see `Work` and `serve`), and this function returns only after that: what the job
    // borrows lives longer than the job.
    let job: Job<'static> = unsafe { mem::transmute::<Job<'_>, Job<'static>>(job) };
    let (done, ended) = mpsc::channel();
    let work = Work { job, done };
    interruptions::defer_ending();
    std::thread::Builder::new().name("rprof-ptrace".to_owned()).spawn(move || serve(work))?;
    match ended.recv() {
        Ok(started) => started?,
        Err(_) => return Err(io::Error::other("the thread that stops others failed")),
    }
    result.ok_or_else(|| io::Error::other("the thread that stops others failed"))
}

/// The thread of a session.
fn serve(work: Work) {
    raise_priority();
    let session = match Alarm::new() {
        Ok(alarm) => Session { alarm, late: RefCell::default(), stay: PhantomData },
        Err(error) => {
            drop(work.job);
            let _ = work.done.send(Err(error));
            return;
        }
    };
    let job = work.job;
    // A panic is reported by its hook; threads that are stopped then are released by their drop.
    let _ = catch_unwind(AssertUnwindSafe(|| job(&session)));
    let _ = work.done.send(Ok(()));
    session.linger();
}

/// A tracer, tied to the thread of [`session`].
pub struct Session {
    alarm: Alarm,
    /// Threads whose stop was requested and given up waiting for.
    late: RefCell<Vec<(u32, Undo)>>,
    stay: PhantomData<*const ()>,
}

/// A stopped thread; released when dropped. If its system call was broken off, that is undone
/// already.
pub struct StoppedThread<'a> {
    tid: u32,
    cause: StopCause,
    words: [u64; MAX_WORDS],
    word_count: usize,
    /// When it was last known to run, and when it was known to be stopped.
    since: Instant,
    seen: Instant,
    session: PhantomData<&'a Session>,
}

/// A thread whose stop was requested. If it is dropped before it has stopped, the session releases
/// the thread later.
pub struct PendingStop<'a> {
    tid: u32,
    undo: Undo,
    since: Instant,
    session: &'a Session,
    settled: bool,
}

impl Session {
    /// Stops a thread: requests the stop and waits up to `patience` for it. Errors: see
    /// [`HoldError`].
    pub fn hold(&self, tid: u32, patience: Duration, undo: Undo) -> Result<StoppedThread<'_>, HoldError> {
        self.ask(tid, undo)?.wait(patience)
    }

    /// Whether a thread may be traced. It is not disturbed. Errors: see [`HoldError`].
    pub fn may_hold(&self, tid: u32) -> Result<(), HoldError> {
        request(libc::PTRACE_SEIZE, tid, 0).map_err(refused)
    }

    /// Requests a stop; the thread runs until it notices. Errors: see [`HoldError`];
    /// [`HoldError::NotStopping`] also while too many others have not stopped.
    pub fn ask(&self, tid: u32, undo: Undo) -> Result<PendingStop<'_>, HoldError> {
        self.release_late();
        if interruptions::late_count() >= MAX_LATE {
            return Err(HoldError::NotStopping);
        }
        interruptions::begin(tid);
        let requested =
            request(libc::PTRACE_SEIZE, tid, 0).and_then(|()| request(libc::PTRACE_INTERRUPT, tid, 0));
        match requested {
            Ok(()) => Ok(PendingStop { tid, undo, since: Instant::now(), session: self, settled: false }),
            Err(error) => {
                interruptions::end(tid);
                Err(refused(error))
            }
        }
    }

    /// Stops several threads together: requests all stops and waits up to `patience` for all. The
    /// thread that stops first is taken over first, so that its interruption is undone at once.
    /// Threads that could not be stopped are left out.
    pub fn hold_all(&self, threads: &[(u32, Undo)], patience: Duration) -> Vec<StoppedThread<'_>> {
        let (mut pending, mut stopped) = (Vec::new(), Vec::new());
        for (tid, undo) in threads {
            pending.extend(self.ask(*tid, *undo));
            // Those of before have stopped by now, as a rule.
            self.take_stopped(&mut pending, &mut stopped);
        }
        let until = Instant::now() + patience;
        while !pending.is_empty() && Instant::now() < until {
            self.take_stopped(&mut pending, &mut stopped);
            std::thread::sleep(FIRST_NAP / 4);
        }
        // Dropped, the others are left to the session.
        stopped
    }

    /// Moves the threads that have stopped, and drops those that have ended.
    fn take_stopped<'s>(&'s self, pending: &mut Vec<PendingStop<'s>>, stopped: &mut Vec<StoppedThread<'s>>) {
        pending.retain_mut(|thread| match thread.take() {
            Ok(Some(thread)) => {
                stopped.push(thread);
                false
            }
            Ok(None) => true,
            Err(_) => false,
        });
    }

    /// Releases those threads that stopped too late.
    fn release_late(&self) {
        self.late.borrow_mut().retain(|(tid, undo)| {
            let now = Instant::now();
            match stopped(*tid, libc::WNOHANG) {
                Ok(None) => return true,
                Ok(Some(cause)) => drop(StoppedThread::new(*tid, cause, *undo, now)),
                // It has ended: nothing is left to release.
                Err(_) => {}
            }
            interruptions::end(*tid);
            false
        });
    }

    /// Waits until every thread whose stop was requested has been released.
    fn linger(&self) {
        let mut nap = FIRST_NAP;
        loop {
            self.release_late();
            if self.late.borrow().is_empty() {
                return;
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }
}

impl Drop for PendingStop<'_> {
    fn drop(&mut self) {
        if !self.settled {
            interruptions::give_up(self.tid);
            self.session.late.borrow_mut().push((self.tid, self.undo));
        }
    }
}

impl<'a> PendingStop<'a> {
    /// The thread, if it has stopped by now. Errors: see [`HoldError`].
    fn take(&mut self) -> Result<Option<StoppedThread<'a>>, HoldError> {
        let now = Instant::now();
        let result = match stopped(self.tid, libc::WNOHANG) {
            Ok(None) => {
                self.since = now;
                return Ok(None);
            }
            Ok(Some(cause)) => StoppedThread::new(self.tid, cause, self.undo, self.since),
            Err(error) => Err(error),
        };
        self.settled = true;
        result.map(Some).inspect_err(|_| interruptions::end(self.tid))
    }

    /// Waits until the thread is stopped. Errors: see [`HoldError`].
    pub fn wait(mut self, patience: Duration) -> Result<StoppedThread<'a>, HoldError> {
        let found = self.poll_until(patience);
        match found {
            Ok(Some((cause, since))) => {
                self.settled = true;
                let stopped = StoppedThread::new(self.tid, cause, self.undo, since);
                stopped.inspect_err(|_| interruptions::end(self.tid))
            }
            // Dropped, it is left to the session.
            Ok(None) => Err(HoldError::NotStopping),
            Err(error) => {
                self.settled = true;
                interruptions::end(self.tid);
                Err(error)
            }
        }
    }

    /// What stopped the thread, and when it was last known to run; `None`: nothing did in time.
    fn poll_until(&self, patience: Duration) -> Result<Option<(StopCause, Instant)>, HoldError> {
        let mut since = self.since;
        while since.duration_since(self.since) < SPIN {
            let now = Instant::now();
            if let Some(cause) = stopped(self.tid, libc::WNOHANG)? {
                return Ok(Some((cause, since)));
            }
            since = now;
            std::hint::spin_loop();
        }
        // It waits for a CPU, perhaps for this one; a blocking wait ends as soon as it stops.
        self.session.alarm.set(ALARM_NS)?;
        let cause = loop {
            match stopped(self.tid, 0) {
                Ok(None) if self.since.elapsed() > patience => break Ok(None),
                Ok(None) => self.session.release_late(),
                cause => break cause,
            }
        };
        self.session.alarm.set(0)?;
        Ok(cause?.map(|cause| (cause, since)))
    }
}

/// Raises the priority of this thread, if rights allow: while it waits for a CPU, the target's
/// thread stays stopped.
fn raise_priority() {
    // The kernel's `struct sched_param`. The system call is made directly: musl's
    // sched_setscheduler refuses always.
    let lowest: libc::c_int = 1;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the parameter is a live local, only read; the policy is this thread's alone and not
    // inherited. Where it is refused, nothing changes.
    unsafe {
        if libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const lowest) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
    }
}

/// A periodic timer that interrupts this thread's system calls.
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

    /// Sets the period in nanoseconds; 0: off.
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

/// Installs a handler that does nothing, because an ignored signal interrupts no system call. A
/// handler that is already installed is kept.
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
    /// Takes over a thread that has stopped. First of all the interruption is undone: until then
    /// the end of rprof would make a system call of the target fail. Errors: it was killed
    /// meanwhile.
    fn new(
        tid: u32,
        cause: StopCause,
        undo: Undo,
        since: Instant,
    ) -> Result<StoppedThread<'static>, HoldError> {
        let seen = Instant::now();
        let (words, word_count) = ([0; MAX_WORDS], 0);
        let mut stopped = StoppedThread { tid, cause, words, word_count, since, seen, session: PhantomData };
        stopped.word_count = read_registers(tid, &mut stopped.words).map_err(refused)?;
        // With a signal too: the call starts again unless a handler of the target runs. (While a
        // thread is traced, signals that the target ignores break off calls too.)
        if cause != StopCause::GroupStop && undo(&mut stopped.words[..stopped.word_count]) {
            write_registers(tid, &mut stopped.words[..stopped.word_count]).map_err(refused)?;
        }
        Ok(stopped)
    }

    /// Thread ID.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// What stopped it.
    pub fn cause(&self) -> StopCause {
        self.cause
    }

    /// The general registers in words, in the order of the kernel's regset NT_PRSTATUS.
    pub fn registers(&self) -> &[u64] {
        &self.words[..self.word_count]
    }

    /// How long it may have been stopped before that was noticed. It may also have waited for a
    /// CPU.
    pub fn unseen(&self) -> Duration {
        self.seen.duration_since(self.since)
    }

    /// Releases the thread; returns how long it was known to be stopped.
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
        interruptions::end(self.tid);
    }
}

fn refused(error: io::Error) -> HoldError {
    match error.raw_os_error() {
        Some(libc::ESRCH) => HoldError::Gone,
        _ => HoldError::Refused(error),
    }
}

/// Whether the thread is stopped, and why; `None` also if a signal interrupted the wait (without
/// WNOHANG). WNOWAIT leaves the exit status of rprof's own children to the code that waits for
/// them.
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
    // SAFETY: the union's fields for SIGCHLD are those that waitid fills in; nothing reported is
    // zero.
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

/// The type of a ptrace request: C libraries differ in its sign.
#[cfg(target_env = "musl")]
type Request = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

/// ptrace(2) with a number as its data.
fn request(what: Request, tid: u32, data: usize) -> io::Result<()> {
    // SAFETY: the requests made through here (seize, interrupt, detach) take a number as data and
    // touch no memory of ours.
    match unsafe { libc::ptrace(what, tid as libc::pid_t, ptr::null_mut::<libc::c_void>(), data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Reads the general registers into `words`; returns how many there are.
fn read_registers(tid: u32, words: &mut [u64]) -> io::Result<usize> {
    let mut vector = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: mem::size_of_val(words) };
    // SAFETY: the kernel writes at most `iov_len` bytes to `iov_base`, which is `words`, and the
    // length written to `vector`; both live through the call.
    unsafe { registers_request(libc::PTRACE_GETREGSET, tid, &mut vector) }?;
    Ok(vector.iov_len / size_of::<u64>())
}

/// Writes the general registers back. Only to undo an interruption: nothing else of a target is
/// ever changed.
fn write_registers(tid: u32, words: &mut [u64]) -> io::Result<()> {
    let mut vector = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: mem::size_of_val(words) };
    // SAFETY: the kernel reads `iov_len` bytes from `iov_base`, which is `words`, alive through the
    // call.
    unsafe { registers_request(libc::PTRACE_SETREGSET, tid, &mut vector) }
}

/// ptrace(2) on the general registers.
///
/// # Safety
/// `vector` must describe memory that the request may write to (reading registers) or read.
unsafe fn registers_request(what: Request, tid: u32, vector: &mut libc::iovec) -> io::Result<()> {
    // SAFETY: the caller answers for `vector`.
    match unsafe { libc::ptrace(what, tid as libc::pid_t, NT_PRSTATUS, vector as *mut libc::iovec) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
