//! What a thread waits for or releases, by the names of its innermost functions alone; and whether
//! it only waits for work.
//!
//! Not here: owners and the content of locks (`futex`).

use super::futex::Names;
use crate::runtime;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A mutex of any language.
    Mutex,
    /// A read-write lock.
    ReadWriteLock,
    /// The lock of an interpreter.
    InterpreterLock,
    /// The initializer of a static object.
    Initializer,
    /// A condition variable.
    Condition,
    /// A semaphore.
    Semaphore,
    /// A barrier.
    Barrier,
    /// The end of a thread.
    Join,
    /// Being unparked, as channels of Rust do.
    Unpark,
    /// A lock of a file.
    FileLock,
    /// A futex that belongs to no known object.
    Futex,
}

/// What the thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It waits.
    Wait,
    /// It ends the wait of another thread.
    Release,
}

impl Object {
    /// The label's text.
    pub fn name(self) -> &'static str {
        match self {
            Object::Mutex => "mutex",
            Object::ReadWriteLock => "rwlock",
            Object::InterpreterLock => "GIL",
            Object::Initializer => "initializer",
            Object::Condition => "condition variable",
            Object::Semaphore => "semaphore",
            Object::Barrier => "barrier",
            Object::Join => "end of a thread",
            Object::Unpark => "unpark",
            Object::FileLock => "file lock",
            Object::Futex => "futex",
        }
    }

    /// Whether a thread holds it until it releases it.
    pub fn is_lock(self) -> bool {
        use Object::*;
        matches!(self, Mutex | ReadWriteLock | InterpreterLock | Initializer | Futex)
    }
}

/// Functions of objects, the more specific ones first: a condition variable also has a mutex.
const FUNCTIONS: &[(&[&str], Object)] = &[
    (&["pthread_join", "clockjoin", "timedjoin"], Object::Join),
    (&["pthread_once", "__cxa_guard_", "once::futex::Once", "once_futex::Once"], Object::Initializer),
    (&["pthread_rwlock_", "rwlock::futex::RwLock", "futex_rwlock::RwLock"], Object::ReadWriteLock),
    (&["raw_rwlock", "RawRwLock"], Object::ReadWriteLock),
    (&["condvar::futex::Condvar", "futex_condvar::Condvar", "parking_lot::condvar"], Object::Condition),
    (
        &["sem_wait", "sem_post", "sem_timedwait", "sem_clockwait", "new_sem_", "semtimedop"],
        Object::Semaphore,
    ),
    (&["pthread_barrier_"], Object::Barrier),
    (&["mutex::futex::Mutex", "futex_mutex::Mutex", "raw_mutex", "RawMutex"], Object::Mutex),
    (&["remutex", "lll_lock_wait", "lll_lock_wake", "pthread_mutex_", "gomp_mutex"], Object::Mutex),
    (&["thread::park", "Parker::park", "Parker::unpark", "Thread::unpark", "thread_parking"], Object::Unpark),
    (&["flock", "fcntl"], Object::FileLock),
];

/// The condition variables of C and C++.
const CONDITION: &[&str] = &["pthread_cond_", "condition_variable", "cnd_wait", "cnd_signal"];
const CONDITION_WAIT: &[&str] =
    &["pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait", "::wait"];

/// What a thread waits for or releases. `names`: its innermost functions, leaf first. `as_mutex`:
/// it waits as threads wait for a mutex.
pub fn object(names: &[&str], as_mutex: bool, act: Act) -> Object {
    let names = Names(names);
    if names.in_interpreter_lock() {
        return Object::InterpreterLock;
    }
    let known = FUNCTIONS.iter().find(|(functions, _)| names.has(functions)).map(|(_, object)| *object);
    if names.has(CONDITION) {
        // pthread_cond_wait(3) releases its mutex, and takes it again.
        let is_mutex = match act {
            Act::Wait => as_mutex,
            Act::Release => names.has(CONDITION_WAIT),
        };
        return if is_mutex { Object::Mutex } else { Object::Condition };
    }
    match known {
        Some(object) => object,
        None if as_mutex => Object::Mutex,
        None => Object::Futex,
    }
}

/// Functions of native code in which the threads of a pool wait for work.
const POOLS: &[&str] = &[
    // Rust
    "multi_thread::worker::Context::park",
    "scheduler::multi_thread::park",
    "blocking::pool::Inner::run",
    "rayon_core::sleep::Sleep::sleep",
    "wait_until_cold",
    // C and C++
    "uv__threadpool_cleanup",
    "g_thread_pool_wait_for_new_task",
    "gomp_thread_start",
    "gomp_team_barrier_wait",
    "__kmp_",
    "private_worker",
    "ngx_thread_pool_cycle",
    "bioProcessBackgroundJobs",
];

/// Whether the thread only waits for work: it belongs to a pool, and its queue is empty. `object`:
/// what it waits for. A known lock is not work; it may be one that a task of the pool waits for.
pub fn is_idle(names: &[&str], object: Object) -> bool {
    if object.is_lock() && object != Object::Futex {
        return false;
    }
    let names = Names(names);
    names.has(POOLS) || runtime::ALL.iter().any(|language| names.has(language.idle_functions()))
}

/// Whether the futex that the thread waits for, or wakes, is in the lock. parking_lot uses one in
/// the waiting thread.
pub fn has_futex_of_lock(names: &[&str]) -> bool {
    !Names(names).has(&["parking_lot"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_variable_is_distinguished_from_the_mutex_that_it_takes_again_and_releases() {
        let names = ["__futex_abstimed_wait_common64", "pthread_cond_wait", "consume"];
        assert_eq!(object(&names, false, Act::Wait), Object::Condition);
        assert_eq!(object(&names, true, Act::Wait), Object::Mutex);
        assert_eq!(object(&names, false, Act::Release), Object::Mutex);
        let names = ["pthread_cond_signal", "produce"];
        assert_eq!(object(&names, false, Act::Release), Object::Condition);
        assert!(!Object::Condition.is_lock() && Object::Mutex.is_lock());
    }

    #[test]
    fn locks_of_several_languages_are_known_by_their_functions() {
        let of = |name: &str| object(&["syscall", name, "main"], false, Act::Wait);
        assert_eq!(of("__pthread_mutex_lock"), Object::Mutex);
        assert_eq!(of("std::sys::sync::mutex::futex::Mutex::lock_contended"), Object::Mutex);
        assert_eq!(of("parking_lot::raw_mutex::RawMutex::lock_slow"), Object::Mutex);
        assert_eq!(of("std::sys::sync::rwlock::futex::RwLock::read_contended"), Object::ReadWriteLock);
        assert_eq!(of("std::sys::sync::condvar::futex::Condvar::wait_optional_timeout"), Object::Condition);
        assert_eq!(of("pthread_join"), Object::Join);
        assert_eq!(of("take_gil"), Object::InterpreterLock);
        assert_eq!(of("PyEval_RestoreThread"), Object::InterpreterLock, "of a stripped program");
        assert_eq!(of("std::thread::park"), Object::Unpark);
        assert_eq!(of("something"), Object::Futex);
    }

    #[test]
    fn a_worker_without_work_is_idle_and_one_that_waits_in_its_work_is_not() {
        let pool = "java.util.concurrent.ThreadPoolExecutor.getTask";
        assert!(is_idle(&["LockSupport.park", "LinkedBlockingQueue.take", pool], Object::Condition));
        assert!(!is_idle(
            &["LockSupport.park", "ReentrantLock.lock", "Handler.run", "ThreadPoolExecutor.runWorker"],
            Object::Condition
        ));
        assert!(is_idle(&["futex_wait", "runtime.stopm", "runtime.findRunnable"], Object::Futex));
    }

    #[test]
    fn a_task_of_a_pool_that_waits_for_a_lock_is_not_idle() {
        for pool in
            ["tokio::runtime::blocking::pool::Inner::run", "ForkJoinPool.runWorker", "gomp_thread_start"]
        {
            let names = ["__lll_lock_wait", "pthread_mutex_lock", "work", pool];
            let object = object(&names, true, Act::Wait);
            assert_eq!((object, is_idle(&names, object)), (Object::Mutex, false), "{pool}");
            assert!(is_idle(&["pthread_cond_wait", pool], Object::Condition), "{pool}");
        }
    }
}
