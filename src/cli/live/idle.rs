//! Whether a thread that waits is idle: it waits for work, such as a request, a timer or a task.
//! Other waits (a lock, a disk, a reply) delay work.
//!
//! The function that a thread waits in decides; a wait that is not recognized is not idle.

/// Functions of the C library, the kernel and runtimes in which threads wait for work.
const IDLE: &[&str] = &[
    // Events, connections, timers, signals, children.
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "select",
    "pselect",
    "pselect6",
    "accept",
    "accept4",
    "io_uring_enter",
    "io_getevents",
    "nanosleep",
    "clock_nanosleep",
    "usleep",
    "sleep",
    "pause",
    "sigwait",
    "sigwaitinfo",
    "sigtimedwait",
    "rt_sigtimedwait",
    "sigsuspend",
    "rt_sigsuspend",
    "wait4",
    "waitid",
    "waitpid",
    // Tasks of a pool.
    "pthread_cond_wait",
    "pthread_cond_timedwait",
    "pthread_cond_clockwait",
    "runtime.notesleep",
    "runtime.notetsleepg",
    "runtime.notetsleep_internal",
    "runtime.findRunnable",
    "runtime.stopm",
    "runtime.usleep",
];

/// What the names of such functions begin with.
const IDLE_PREFIXES: &[&str] =
    &["tokio::runtime::park::", "std::thread::park", "std::sys::sync::thread_parking"];

/// What may stand before and after a name: `__x64_sys_epoll_wait`, `__GI___poll`,
/// `accept4@@GLIBC_2.10`, `pthread_cond_wait@@GLIBC_2.3.2`.
const PREFIXES: &[&str] =
    &["__x64_sys_", "__arm64_sys_", "__do_sys_", "__se_sys_", "__GI_", "__libc_", "___", "__"];

/// How many of the innermost frames decide: those of the kernel, of the C library and of a runtime.
const DEPTH: usize = 24;

/// Whether a stack (innermost function first) is that of an idle thread.
pub fn is_idle<'n>(functions: impl Iterator<Item = &'n str>) -> bool {
    functions.take(DEPTH).any(|name| {
        let plain = without_decoration(name);
        IDLE.contains(&plain) || IDLE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

fn without_decoration(name: &str) -> &str {
    let mut name = name.split('@').next().unwrap_or(name);
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    name.strip_suffix("_time64").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle(functions: &[&str]) -> bool {
        is_idle(functions.iter().copied())
    }

    #[test]
    fn waiting_for_work_is_idle() {
        assert!(idle(&["schedule", "do_epoll_wait", "__x64_sys_epoll_wait", "epoll_wait", "aeMain"]));
        assert!(idle(&["__poll", "main"]) && idle(&["__GI___poll", "main"]));
        assert!(idle(&["__futex_abstimed_wait_common", "pthread_cond_wait@@GLIBC_2.3.2", "worker"]));
        assert!(idle(&["runtime.futex", "runtime.notesleep", "runtime.stopm"]));
        assert!(idle(&["syscall", "std::thread::park", "tokio::runtime::scheduler"]));
    }

    #[test]
    fn waiting_for_a_lock_a_file_or_a_reply_is_not_idle() {
        assert!(!idle(&["__lll_lock_wait", "pthread_mutex_lock", "main"]));
        assert!(!idle(&["__x64_sys_read", "read", "load"]));
        assert!(!idle(&["recv", "fetch"]) && !idle(&["io_schedule", "fsync"]));
        assert!(!idle(&["poll_now", "selection"]) && !idle(&[]));
    }

    #[test]
    fn a_function_far_from_the_innermost_one_does_not_decide() {
        let mut stack = vec!["f"; DEPTH];
        stack.push("epoll_wait");
        assert!(!idle(&stack));
    }
}
