//! What a sleeping thread waits for, as text, and whether it can be stopped without making its
//! system call fail.
//!
//! Not here: reading where it sleeps (`thread_state`).

use std::fs;

use crate::{addr::RuntimeAddr, arch, sys::proc::read_text};

/// Where a sleeping thread left user space: /proc/PID/task/TID/syscall (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// It runs, or is runnable.
    Running,
    /// In the kernel, in this system call.
    InCall {
        /// The system call's number on this CPU.
        number: u64,
        /// Its arguments, as far as the registers still hold them.
        arguments: [u64; 6],
        /// Stack pointer.
        sp: RuntimeAddr,
        /// Program counter: the instruction behind the call.
        pc: RuntimeAddr,
    },
    /// In the kernel for another reason, such as a page fault.
    Elsewhere {
        /// Stack pointer.
        sp: RuntimeAddr,
        /// Program counter.
        pc: RuntimeAddr,
    },
}

impl Blocked {
    /// Where it left user space: stack pointer and program counter; `None`: it runs.
    pub fn position(&self) -> Option<(RuntimeAddr, RuntimeAddr)> {
        match self {
            Blocked::Running => None,
            Blocked::InCall { sp, pc, .. } | Blocked::Elsewhere { sp, pc } => Some((*sp, *pc)),
        }
    }
}

/// What a thread waits in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// As text: `futex wait`, `epoll wait`, `read pipe`, or the kernel function it sleeps in.
    pub what: String,
    /// The system call's name; `None` if it is in none, or rights do not allow reading it.
    pub syscall: Option<&'static str>,
    /// Whether a short stop leaves its system call unaffected (see [`may_interrupt`]).
    pub interruptible: bool,
}

/// The name of the system call with this number; `None`: not known.
pub fn syscall_name(number: u64) -> Option<&'static str> {
    arch::syscall_name(number)
}

/// Describes what a sleeping thread waits in; `None`: not known.
pub fn waiting(pid: u32, tid: u32, blocked: Option<Blocked>) -> Option<Waiting> {
    let Some(Blocked::InCall { number, arguments, .. }) = blocked else {
        let what = kernel_place(pid, tid).or_else(|| {
            matches!(blocked, Some(Blocked::Elsewhere { .. })).then(|| "in the kernel".to_owned())
        })?;
        let interruptible = blocked.is_none() && SAFE_PLACES.contains(&what.as_str());
        return Some(Waiting { what, syscall: None, interruptible });
    };
    let Some(name) = arch::syscall_name(number) else {
        let what = format!("system call {number}");
        return Some(Waiting { what, syscall: None, interruptible: false });
    };
    let file = takes_file(name).then(|| file_kind(pid, arguments[0])).flatten();
    Some(Waiting {
        what: in_words(name, file),
        syscall: Some(name),
        interruptible: may_interrupt(name, &arguments, file),
    })
}

/// What a thread waited in when its process ended, by the number of its system call. What its
/// arguments refer to is gone.
pub fn waited(number: u64) -> Waiting {
    let syscall = arch::syscall_name(number);
    let what = syscall.map_or_else(|| format!("system call {number}"), |name| in_words(name, None));
    Waiting { what, syscall, interruptible: false }
}

/// Kernel functions in which a sleeping thread may be interrupted. They are used where rights do
/// not allow reading the system call.
const SAFE_PLACES: &[&str] = &[
    "hrtimer_nanosleep",
    "do_nanosleep",
    "common_nsleep",
    "poll_schedule_timeout",
    "do_wait",
    "pipe_read",
    "anon_pipe_read",
];

/// The kernel function that a thread sleeps in: /proc/PID/task/TID/wchan (proc(5)).
fn kernel_place(pid: u32, tid: u32) -> Option<String> {
    let text = read_text(format!("/proc/{pid}/task/{tid}/wchan")).ok()?;
    (!text.is_empty() && text != "0").then_some(text)
}

/// `running`; or number, six arguments, sp, pc; or -1, sp, pc.
pub(super) fn parse_blocked(text: &str) -> Option<Blocked> {
    let text = text.trim_end();
    if text == "running" {
        return Some(Blocked::Running);
    }
    let (number, rest) = text.split_once(' ')?;
    let numbers: Vec<u64> = rest
        .split_ascii_whitespace()
        .map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok())
        .collect::<Option<_>>()?;
    match numbers[..] {
        [sp, pc] => Some(Blocked::Elsewhere { sp: RuntimeAddr(sp), pc: RuntimeAddr(pc) }),
        [a, b, c, d, e, f, sp, pc] => Some(Blocked::InCall {
            number: number.parse().ok()?,
            arguments: [a, b, c, d, e, f],
            sp: RuntimeAddr(sp),
            pc: RuntimeAddr(pc),
        }),
        _ => None,
    }
}

/// The kind of file that a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Pipe,
    Socket,
    Timer,
    Event,
    Inotify,
    Signals,
    Terminal,
    Other,
}

fn file_kind(pid: u32, descriptor: u64) -> Option<FileKind> {
    // The kernel takes the lower half.
    let link = fs::read_link(format!("/proc/{pid}/fd/{}", descriptor as u32)).ok()?;
    let text = link.to_str()?;
    Some(match text {
        _ if text.starts_with("pipe:") => FileKind::Pipe,
        _ if text.starts_with("socket:") => FileKind::Socket,
        "anon_inode:[timerfd]" => FileKind::Timer,
        "anon_inode:[eventfd]" => FileKind::Event,
        "anon_inode:[signalfd]" => FileKind::Signals,
        "anon_inode:inotify" | "anon_inode:[inotify]" => FileKind::Inotify,
        _ if text.starts_with("/dev/pts/") || text.starts_with("/dev/tty") => FileKind::Terminal,
        _ => FileKind::Other,
    })
}

fn takes_file(syscall: &str) -> bool {
    matches!(syscall, "read" | "readv" | "write" | "writev" | "pread64" | "pwrite64")
}

fn in_words(syscall: &str, file: Option<FileKind>) -> String {
    let words = match syscall {
        "futex" | "futex_wait" | "futex_waitv" => "futex wait",
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => "epoll wait",
        "poll" | "ppoll" => "poll",
        "select" | "pselect6" => "select",
        "nanosleep" | "clock_nanosleep" => "sleep",
        "wait4" | "waitid" => "wait for child",
        "accept" | "accept4" => "accept",
        "connect" => "connect",
        "recvfrom" | "recvmsg" | "recvmmsg" => "socket receive",
        "sendto" | "sendmsg" | "sendmmsg" => "socket send",
        "rt_sigtimedwait" | "rt_sigsuspend" | "pause" => "signal wait",
        "semop" | "semtimedop" => "semaphore wait",
        "msgrcv" | "mq_timedreceive" => "message receive",
        "msgsnd" | "mq_timedsend" => "message send",
        "io_getevents" | "io_pgetevents" => "aio wait",
        "io_uring_enter" => "io_uring wait",
        "flock" => "file lock",
        "fsync" | "fdatasync" | "sync_file_range" | "sync" | "syncfs" => "disk sync",
        "restart_syscall" => "wait (restarted)",
        "vfork" => "vfork",
        "exit_group" | "exit" => "exit",
        other => return file.map_or_else(|| other.to_owned(), |file| on_file(other, file)),
    };
    words.to_owned()
}

fn on_file(syscall: &str, file: FileKind) -> String {
    let verb = if syscall.contains("read") { "read" } else { "write" };
    let noun = match file {
        FileKind::Pipe => "pipe",
        FileKind::Socket => "socket",
        FileKind::Timer => "timer",
        FileKind::Event => "eventfd",
        FileKind::Inotify => "inotify",
        FileKind::Signals => "signalfd",
        FileKind::Terminal => "terminal",
        FileKind::Other => "file",
    };
    format!("{verb} {noun}")
}

/// Whether a thread that sleeps in this call may be stopped and continued: the kernel restarts the
/// call, keeps its deadline, and the program does not notice. All other calls are assumed to fail
/// with EINTR, as epoll_wait, socket calls with a timeout, sigtimedwait, semtimedop, io_getevents
/// and io_uring_enter do (signal(7), "Interruption of system calls"; each was measured).
fn may_interrupt(syscall: &str, arguments: &[u64; 6], file: Option<FileKind>) -> bool {
    match syscall {
        "futex" => may_interrupt_futex(arguments[1]),
        // Continued with the time that is left (ERESTART_RESTARTBLOCK, or ERESTARTNOHAND with an
        // absolute deadline or a time that the kernel updates).
        "nanosleep" | "clock_nanosleep" | "poll" | "ppoll" | "select" | "pselect6" => true,
        // Restarted, without a deadline (ERESTARTSYS, ERESTARTNOHAND) or with an absolute one.
        "futex_wait" | "wait4" | "waitid" | "pause" | "rt_sigsuspend" => true,
        // One of the above, once more.
        "restart_syscall" => true,
        // Nothing was read yet while they sleep (ERESTARTSYS). Of a terminal in raw mode some bytes
        // may have been: the read would end short.
        "read" | "readv" => matches!(
            file,
            Some(FileKind::Pipe | FileKind::Timer | FileKind::Event | FileKind::Inotify | FileKind::Signals)
        ),
        _ => false,
    }
}

/// Whether a sleep in futex(2) with this operation is restarted. FUTEX_WAIT_REQUEUE_PI is not: it
/// returns EWOULDBLOCK or EAGAIN to the program (futex_wait_requeue_pi in kernel/futex/requeue.c).
fn may_interrupt_futex(operation: u64) -> bool {
    /// FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET, FUTEX_LOCK_PI2 (linux/futex.h).
    const RESTARTED: [u64; 4] = [0, 6, 9, 13];
    /// FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME.
    const FLAGS: u64 = 128 | 256;
    // The kernel takes the lower half of the register.
    RESTARTED.contains(&(operation & 0xffff_ffff & !FLAGS))
}

/// Whether a call that failed with EINTR because its thread was stopped can be started again: those
/// that return EINTR only if they have had no effect yet, or (connect) continue where they were. A
/// transfer that was broken off after some bytes returns their number instead. Not close(2), which
/// closes also when it returns EINTR; a call with a timeout begins it anew.
///
/// The kernel's sources: ep_poll, do_sigtimedwait, do_semtimedop, read_events, io_cqring_wait,
/// sock_intr_errno (sockets with SO_RCVTIMEO or SO_SNDTIMEO), inet_stream_connect.
pub fn may_begin_again(syscall: &str) -> bool {
    matches!(
        syscall,
        "epoll_wait"
            | "epoll_pwait"
            | "epoll_pwait2"
            | "accept"
            | "accept4"
            | "connect"
            | "recvfrom"
            | "recvmsg"
            | "recvmmsg"
            | "sendto"
            | "sendmsg"
            | "rt_sigtimedwait"
            | "semop"
            | "semtimedop"
            | "io_getevents"
            | "io_uring_enter"
            | "read"
            | "readv"
            | "write"
            | "writev"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syscall_file_of_a_thread_is_parsed() {
        assert_eq!(parse_blocked("running\n"), Some(Blocked::Running));
        let text = "202 0x7f1 0x189 0x0 0x0 0x0 0xffffffff 0x7ffd10 0x7f9abc\n";
        let Some(Blocked::InCall { number, arguments, sp, pc }) = parse_blocked(text) else {
            panic!("not read")
        };
        assert_eq!((number, arguments[1], arguments[5]), (202, 0x189, 0xffff_ffff));
        assert_eq!((sp.0, pc.0), (0x7ffd10, 0x7f9abc));
        assert!(matches!(parse_blocked("-1 0x10 0x20\n"), Some(Blocked::Elsewhere { .. })));
        for bad in ["", "202", "x 0x1 0x2 0x3", "-1 0x1 2"] {
            assert_eq!(parse_blocked(bad), None, "{bad}");
        }
    }

    #[test]
    fn calls_that_fail_when_interrupted_are_never_interrupted() {
        const NONE: [u64; 6] = [0; 6];
        for call in [
            "epoll_wait",
            "epoll_pwait",
            "epoll_pwait2",
            "recvfrom",
            "recvmsg",
            "accept",
            "accept4",
            "rt_sigtimedwait",
            "semtimedop",
            "io_getevents",
            "io_uring_enter",
            "connect",
            "close",
            "a call of next year",
        ] {
            assert!(!may_interrupt(call, &NONE, None), "{call}");
        }
        assert!(!may_interrupt("read", &NONE, Some(FileKind::Socket)), "it may have a timeout");
        assert!(!may_interrupt("read", &NONE, Some(FileKind::Terminal)), "it may have read bytes");
        assert!(!may_interrupt("read", &NONE, None), "what it reads is not known");
        assert!(may_interrupt("read", &NONE, Some(FileKind::Pipe)));
    }

    #[test]
    fn a_futex_wait_is_interrupted_unless_it_is_requeued() {
        let futex = |operation: u64| may_interrupt("futex", &[1, operation, 0, 0, 0, 0], None);
        // FUTEX_WAIT_PRIVATE, FUTEX_WAIT_BITSET | flags, FUTEX_LOCK_PI_PRIVATE, with bits above 32.
        for operation in [0x80, 0, 0x189, 0x86, 0x7f40_0000_0189] {
            assert!(futex(operation), "{operation:x}");
        }
        // FUTEX_WAIT_REQUEUE_PI, and operations that do not wait.
        for operation in [11, 0x8b, 0x18b, 1, 5, 12, 99] {
            assert!(!futex(operation), "{operation:x}");
        }
    }

    #[test]
    fn waits_are_described() {
        assert_eq!(in_words("futex", None), "futex wait");
        assert_eq!(in_words("read", Some(FileKind::Pipe)), "read pipe");
        assert_eq!(in_words("writev", Some(FileKind::Socket)), "write socket");
        assert_eq!(in_words("mount", None), "mount");
    }
}
