//! The stops of other threads that rprof has requested and not released yet. Until they are
//! released, rprof must not end: the kernel would release the threads, but a system call that a
//! stop broke off would fail in the target (EINTR).
//!
//! Signals that would end rprof at once (SIGINT, SIGTERM, SIGHUP without a handler) are therefore
//! deferred until the last stop is released. Not here: stopping a thread ([`super::ptrace`]).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// For each thread whose stop was requested: whether waiting for it was given up.
static OPEN: Mutex<BTreeMap<u32, bool>> = Mutex::new(BTreeMap::new());
static CHANGED: Condvar = Condvar::new();
/// The sizes of the above, for signal handlers and for a quick look.
static OPEN_COUNT: AtomicUsize = AtomicUsize::new(0);
static LATE_COUNT: AtomicUsize = AtomicUsize::new(0);
/// The signal that is to end rprof after the last release; 0: none.
static DEFERRED: AtomicI32 = AtomicI32::new(0);

fn open() -> MutexGuard<'static, BTreeMap<u32, bool>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(open: &BTreeMap<u32, bool>) {
    LATE_COUNT.store(open.values().filter(|late| **late).count(), Ordering::SeqCst);
    OPEN_COUNT.store(open.len(), Ordering::SeqCst);
}

/// A stop of this thread is requested from now on.
pub(super) fn begin(tid: u32) {
    let mut open = open();
    open.insert(tid, false);
    count(&open);
}

/// The thread did not stop in time; its session still waits for it.
pub(super) fn give_up(tid: u32) {
    let mut open = open();
    open.insert(tid, true);
    count(&open);
    CHANGED.notify_all();
}

/// The thread is released, or has ended.
pub(super) fn end(tid: u32) {
    let mut open = open();
    open.remove(&tid);
    count(&open);
    CHANGED.notify_all();
    let deferred = if open.is_empty() { DEFERRED.load(Ordering::SeqCst) } else { 0 };
    drop(open);
    if deferred != 0 {
        die_of(deferred);
    }
}

/// How many threads have not stopped in time and are still waited for.
pub(super) fn late_count() -> usize {
    LATE_COUNT.load(Ordering::SeqCst)
}

/// Whether a stop of this thread was requested and not released yet.
pub fn is_open(tid: u32) -> bool {
    OPEN_COUNT.load(Ordering::SeqCst) > 0 && open().contains_key(&tid)
}

/// Whether a stop of any thread was requested and not released yet. Async-signal-safe.
fn any_open() -> bool {
    OPEN_COUNT.load(Ordering::SeqCst) > 0
}

/// Waits up to `timeout` until all requested stops are released; returns the threads that are left.
pub fn wait(timeout: Duration) -> Vec<u32> {
    let until = Instant::now() + timeout;
    let mut open = open();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if open.is_empty() || left.is_zero() {
            return open.keys().copied().collect();
        }
        open = CHANGED.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Defers the signals that would end this process while a stop is not released. Signals that have a
/// handler, or are ignored, are left as they are.
pub(super) fn defer_ending() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            defer(signal);
        }
    });
}

fn defer(signal: libc::c_int) {
    // SAFETY: all-zero is a valid `sigaction`; both point to live locals. The handler only uses
    // atomics, sigaction(2) and raise(3), which are async-signal-safe.
    unsafe {
        let (mut ours, mut theirs): (libc::sigaction, libc::sigaction) =
            (std::mem::zeroed(), std::mem::zeroed());
        ours.sa_sigaction = on_end as extern "C" fn(libc::c_int) as libc::sighandler_t;
        ours.sa_flags = libc::SA_RESTART;
        let asked = libc::sigaction(signal, std::ptr::null(), &mut theirs);
        if asked == 0 && theirs.sa_sigaction == libc::SIG_DFL {
            libc::sigaction(signal, &ours, std::ptr::null_mut());
        }
    }
}

extern "C" fn on_end(signal: libc::c_int) {
    end_soon(signal);
}

/// Ends this process by a signal as soon as no stop is open. Async-signal-safe.
fn end_soon(signal: libc::c_int) {
    DEFERRED.store(signal, Ordering::SeqCst);
    if !any_open() {
        die_of(signal);
    }
}

/// Makes a signal end this process when it arrives after `armed` was set, but not while a stop is
/// open. Errors: sigaction(2).
pub fn end_at_next(signal: i32, armed: Arc<AtomicBool>) -> std::io::Result<()> {
    let on_signal = move || {
        if armed.load(Ordering::SeqCst) {
            end_soon(signal);
        }
    };
    // SAFETY: the handler only uses atomics, sigaction(2), raise(3) and pthread_sigmask(3), which
    // are async-signal-safe.
    unsafe { signal_hook::low_level::register(signal, on_signal) }.map(drop)
}

/// Ends this process by the default action of a signal.
fn die_of(signal: libc::c_int) {
    // SAFETY: plain calls on a signal number; async-signal-safe. In a handler the signal is blocked
    // until that returns, so that it is unblocked first.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_open_until_it_is_released() {
        let tid = 0x3fff_fff1;
        begin(tid);
        assert!(is_open(tid) && any_open());
        give_up(tid);
        assert!(late_count() >= 1 && wait(Duration::from_millis(1)).contains(&tid));
        end(tid);
        assert!(!is_open(tid));
    }
}
