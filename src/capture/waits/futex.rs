//! The lock behind a futex wait: its kind, its address and the owner that it records.
//!
//! The kind is known by the names of the waiting functions, and else, for pthread mutexes, by the
//! content of the lock. Sources: nptl/pthread_mutex_lock.c, pthread_rwlock_common.c,
//! pthread_cond_wait.c of glibc; src/thread of musl; library/std/src/sys/sync of Rust; parking_lot
//! and parking_lot_core. Not here: candidates for locks that record no owner.

use super::space::Window;
use crate::{runtime, text::counted};

/// What a thread waits for by a futex.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FutexWait {
    /// The kind of object.
    pub kind: &'static str,
    /// Its address.
    pub address: u64,
    /// More facts.
    pub note: String,
    /// Who can end the wait.
    pub owner: Owner,
    /// The wait has a timeout.
    pub timed: bool,
}

/// What a lock records about its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// Anyone may end the wait.
    #[default]
    Anyone,
    /// This thread, by its ID in the PID namespace of the process.
    Thread(u32),
    /// The thread on whose stack, or in whose thread control block, this address is.
    StackOf(u64),
    /// Not recorded. The holder's stack refers to one of these addresses; earlier ones are better.
    NotRecorded(Vec<u64>),
}

/// A futex wait: the arguments of futex(2).
#[derive(Clone, Copy, Debug)]
pub struct Futex {
    /// Address of the word.
    pub word: u64,
    /// Operation, without FUTEX_CLOCK_REALTIME.
    pub operation: u32,
    /// The expected value.
    pub value: u32,
    /// Whether there is a timeout.
    pub timed: bool,
}

/// The kind of a wait for the lock of an interpreter.
pub const INTERPRETER_LOCK_KIND: &str = "interpreter lock (GIL)";

/// FUTEX_PRIVATE_FLAG.
const PRIVATE: u32 = 128;
/// FUTEX_CLOCK_REALTIME.
const CLOCK_REALTIME: u32 = 256;
/// FUTEX_WAIT.
const WAIT: u32 = 0;
/// FUTEX_LOCK_PI.
const LOCK_PI: u32 = 6;
/// FUTEX_WAIT_BITSET.
const WAIT_BITSET: u32 = 9;
/// FUTEX_LOCK_PI2.
const LOCK_PI2: u32 = 13;
/// FUTEX_TID_MASK.
const TID_MASK: u32 = 0x3fff_ffff;
/// Arc's two counters before its content.
const ARC_HEADER: u64 = 16;

impl Futex {
    /// The arguments of futex(2); the kernel takes the lower halves of operation and value.
    pub fn of(arguments: &[u64; 6]) -> Futex {
        Futex {
            word: arguments[0],
            operation: arguments[1] as u32 & !CLOCK_REALTIME,
            value: arguments[2] as u32,
            timed: arguments[3] != 0,
        }
    }

    fn command(&self) -> u32 {
        self.operation & !PRIVATE
    }

    fn is_private(&self) -> bool {
        self.operation & PRIVATE != 0
    }

    /// Whether the kernel compared the word with the value before the sleep.
    pub fn compares(&self) -> bool {
        matches!(self.command(), WAIT | WAIT_BITSET)
    }

    fn wait(&self, kind: &'static str, address: u64, owner: Owner) -> FutexWait {
        FutexWait { kind, address, note: String::new(), owner, timed: self.timed }
    }
}

/// The names of the functions of a waiting thread, leaf first.
pub struct Names<'a>(pub &'a [&'a str]);

impl Names<'_> {
    /// Whether one of the names contains one of these parts.
    pub fn has(&self, parts: &[&str]) -> bool {
        self.0.iter().any(|name| parts.iter().any(|part| name.contains(part)))
    }

    /// Whether one of them takes the lock of a language's interpreter.
    pub fn take_interpreter_lock(&self) -> bool {
        runtime::ALL.iter().any(|language| self.has(language.interpreter_lock().take))
    }

    /// Whether one of them takes or releases the lock of a language's interpreter.
    pub fn in_interpreter_lock(&self) -> bool {
        self.take_interpreter_lock()
            || runtime::ALL.iter().any(|language| self.has(language.interpreter_lock().release))
    }
}

/// What a futex wait waits for. `is_thread`: whether a thread of the process has this ID in its own
/// PID namespace.
pub fn classify(
    futex: Futex,
    window: Option<&Window>,
    names: &Names<'_>,
    is_thread: &dyn Fn(u32) -> bool,
) -> FutexWait {
    let unknown = || futex.wait("futex", futex.word, Owner::Anyone);
    let Some(window) = window else { return unknown() };
    let found = pthread(futex, window, names, is_thread)
        .or_else(|| parking(futex, window, names))
        .or_else(|| rust(futex, names))
        .or_else(|| by_content(futex, window, is_thread));
    found.unwrap_or_else(unknown)
}

fn pthread(
    futex: Futex,
    window: &Window,
    names: &Names<'_>,
    is_thread: &dyn Fn(u32) -> bool,
) -> Option<FutexWait> {
    let takes_mutex_again = futex.command() == WAIT && futex.value == 2;
    let in_condition = names.has(&["pthread_cond_", "condition_variable"]);
    match () {
        () if matches!(futex.command(), LOCK_PI | LOCK_PI2) => Some(mutex(futex, window)),
        // The interpreter gives it up on request, every 5 ms: a wait for it ends.
        () if names.take_interpreter_lock() => {
            Some(FutexWait { timed: true, ..futex.wait(INTERPRETER_LOCK_KIND, 0, Owner::Anyone) })
        }
        () if in_condition && !takes_mutex_again => {
            Some(futex.wait("condition variable", futex.word, Owner::Anyone))
        }
        () if in_condition || names.has(&["pthread_mutex_", "lll_lock_wait"]) => Some(mutex(futex, window)),
        () if names.has(&["pthread_rwlock_"]) => Some(rwlock(futex, window, names)),
        () if names.has(&["pthread_join", "clockjoin", "timedjoin"])
            || futex.operation == WAIT_BITSET && is_thread(futex.value) =>
        {
            Some(futex.wait("end of a thread", 0, Owner::Thread(futex.value)))
        }
        () if names.has(&["pthread_once"]) => {
            Some(futex.wait("initializer (pthread_once)", futex.word, Owner::NotRecorded(vec![futex.word])))
        }
        () if names.has(&["__cxa_guard_acquire"]) => {
            Some(futex.wait("initializer of a static", futex.word, Owner::NotRecorded(vec![futex.word])))
        }
        () if names.has(&["sem_wait", "sem_clockwait", "sem_timedwait", "new_sem_wait", "do_sem"]) => {
            Some(futex.wait("semaphore", futex.word, Owner::Anyone))
        }
        () if names.has(&["pthread_barrier_wait"]) => {
            Some(futex.wait("barrier", futex.word.wrapping_sub(4), Owner::Anyone))
        }
        () => None,
    }
}

/// `pthread_mutex_t` of glibc: word, count, owner at 8, users, kind at 16. Of musl: type at 0, the
/// word at 4.
fn mutex(futex: Futex, window: &Window) -> FutexWait {
    const MUSL_WAITS: u32 = 0x8000_0000;
    if futex.command() == WAIT && futex.is_private() && futex.value & MUSL_WAITS != 0 {
        /// EBUSY: a normal mutex records no owner.
        const BUSY: u32 = 16;
        let address = futex.word.wrapping_sub(4);
        let owner = match futex.value & TID_MASK {
            BUSY => Owner::NotRecorded(vec![address]),
            tid => Owner::Thread(tid),
        };
        return futex.wait("mutex", address, owner);
    }
    let kind = window.u32(16).unwrap_or(0);
    let by_word = matches!(futex.command(), LOCK_PI | LOCK_PI2) || kind & 32 != 0;
    let owner = if by_word { window.u32(0).map(|word| word & TID_MASK) } else { window.u32(8) };
    let owner = match owner {
        Some(tid) if tid != 0 => Owner::Thread(tid),
        _ => Owner::NotRecorded(vec![futex.word]),
    };
    FutexWait { note: mutex_note(kind), ..futex.wait("mutex", futex.word, owner) }
}

/// The type and the attributes of a mutex; empty for an ordinary one.
fn mutex_note(kind: u32) -> String {
    let types = ["", "recursive", "error-checking", "adaptive"];
    let attributes = [(16, "robust"), (32, "priority inheritance"), (128, "shared")];
    let words = attributes.iter().filter(|(bit, _)| kind & bit != 0).map(|(_, word)| *word);
    let all: Vec<&str> =
        [types[(kind & 3) as usize]].into_iter().filter(|word| !word.is_empty()).chain(words).collect();
    all.join(", ")
}

/// `pthread_rwlock_t` of glibc: readers, writers, `wrphase_futex` at 8, `writers_futex` at 12,
/// `cur_writer` at 24. A reader waits at 8; a writer behind a writer at 12, behind readers at 8.
fn rwlock(futex: Futex, window: &Window, names: &Names<'_>) -> FutexWait {
    let reads = names.has(&["rdlock"]);
    let behind_writer = !reads && futex.value == 3;
    let offset: i64 = if behind_writer { 12 } else { 8 };
    let address = futex.word.wrapping_sub(offset as u64);
    let kind = if reads { "read lock" } else { "write lock" };
    match window.u32(24 - offset) {
        Some(writer) if writer != 0 => futex.wait(kind, address, Owner::Thread(writer)),
        _ => {
            let readers = window.u32(-offset).unwrap_or(0) >> 3;
            let note = format!("held by {}, not recorded", counted(readers, "reader"));
            FutexWait { note, ..futex.wait(kind, address, Owner::NotRecorded(vec![address])) }
        }
    }
}

/// parking_lot: the futex word is in the waiting thread, the lock's address 32 bytes before it.
fn parking(futex: Futex, window: &Window, names: &Names<'_>) -> Option<FutexWait> {
    if !names.has(&["parking_lot"]) {
        return None;
    }
    let key = window.u64(-32)? & !1;
    let kind = match () {
        () if names.has(&["condvar"]) => "condition variable (parking_lot)",
        () if names.has(&["remutex"]) => "reentrant mutex (parking_lot)",
        () if names.has(&["raw_rwlock", "RawRwLock"]) => "rwlock (parking_lot)",
        () => "mutex (parking_lot)",
    };
    let owner = match () {
        () if names.has(&["condvar"]) => Owner::Anyone,
        // The owner's mark, an address in its thread control block, is before the lock.
        () if names.has(&["remutex"]) => Owner::StackOf(key.wrapping_sub(16)),
        () => Owner::NotRecorded(vec![key, key.wrapping_sub(ARC_HEADER)]),
    };
    Some(futex.wait(kind, key, owner))
}

fn rust(futex: Futex, names: &Names<'_>) -> Option<FutexWait> {
    let unrecorded = |address: u64| Owner::NotRecorded(vec![address, address.wrapping_sub(ARC_HEADER)]);
    let word = futex.word;
    match () {
        () if names.has(&["mutex::futex::Mutex", "futex_mutex::Mutex"]) => {
            Some(futex.wait("mutex (Rust std)", word, unrecorded(word)))
        }
        () if names.has(&["rwlock::futex::RwLock", "futex_rwlock::RwLock"]) => {
            let writes = names.has(&["write_contended", "::write"]);
            let address = if writes && futex.value != u32::MAX { word.wrapping_sub(4) } else { word };
            let kind = if writes { "write lock (Rust std)" } else { "read lock (Rust std)" };
            Some(futex.wait(kind, address, unrecorded(address)))
        }
        () if names.has(&["condvar::futex::Condvar", "futex_condvar::Condvar"]) => {
            Some(futex.wait("condition variable (Rust std)", word, Owner::Anyone))
        }
        () if names.has(&["once::futex::Once", "once_futex::Once"]) => {
            Some(futex.wait("initializer (Rust std)", word, Owner::NotRecorded(vec![word])))
        }
        () if names.has(&["thread::park", "Parker::park", "thread_parking"]) => {
            Some(futex.wait("unpark", word, Owner::Anyone))
        }
        () => None,
    }
}

/// A pthread mutex, if the words at the address are those of a locked one whose owner exists.
fn by_content(futex: Futex, window: &Window, is_thread: &dyn Fn(u32) -> bool) -> Option<FutexWait> {
    let waits_for_lock = futex.command() == WAIT && futex.value == 2;
    let [count, owner, users, kind] = [4, 8, 12, 16].map(|at| window.u32(at).unwrap_or(u32::MAX));
    let plausible = window.u32(0) == Some(2) && count < 1000 && (1..100_000).contains(&users) && kind < 256;
    (waits_for_lock && plausible && is_thread(owner)).then(|| mutex(futex, window))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUTEX: Futex = Futex { word: 0x1000, operation: 0x80, value: 2, timed: false };

    fn window(words: &[u32]) -> Window {
        Window::of(words.iter().flat_map(|word| word.to_le_bytes()).collect(), 0)
    }

    fn classified(futex: Futex, words: &[u32], names: &[&str]) -> FutexWait {
        classify(futex, Some(&window(words)), &Names(names), &|tid| tid == 77)
    }

    #[test]
    fn the_kernel_ignores_the_upper_halves_of_operation_and_value() {
        let futex = Futex::of(&[0x1000, 0x7f40_0000_0189, 0x7f40_ffff_ffff, 0, 0, 0]);
        assert_eq!((futex.operation, futex.value, futex.timed), (0x89, u32::MAX, false));
        assert!(futex.compares());
    }

    #[test]
    fn a_pthread_mutex_records_its_owner() {
        let found = classified(FUTEX, &[2, 1, 77, 1, 1 | 128], &["?", "pthread_mutex_lock", "work"]);
        assert_eq!((found.kind, found.owner, found.address), ("mutex", Owner::Thread(77), 0x1000));
        assert_eq!(found.note, "recursive, shared");
    }

    #[test]
    fn the_owner_of_a_mutex_with_priority_inheritance_is_in_its_word() {
        let futex = Futex { operation: 0x86, value: 0, ..FUTEX };
        let found = classified(futex, &[0x8000_0000 | 77, 1, 0, 1, 32], &[]);
        assert_eq!((found.owner, found.note.as_str()), (Owner::Thread(77), "priority inheritance"));
    }

    #[test]
    fn without_names_a_mutex_is_known_by_its_content() {
        assert_eq!(classified(FUTEX, &[2, 0, 77, 1, 0], &[]).owner, Owner::Thread(77));
        assert_eq!(classified(FUTEX, &[2, 0, 78, 1, 0], &[]).kind, "futex");
        assert_eq!(classified(FUTEX, &[2, 0, 77, 1, 4096], &[]).kind, "futex");
    }

    #[test]
    fn a_wait_for_the_lock_of_an_interpreter_has_an_end_and_no_recorded_owner() {
        let names = ["__futex_abstimed_wait", "pthread_cond_timedwait", "take_gil", "PyEval_RestoreThread"];
        let found = classified(Futex { operation: 0x89, value: 0, timed: true, ..FUTEX }, &[0; 8], &names);
        assert_eq!((found.kind, found.owner, found.timed), (INTERPRETER_LOCK_KIND, Owner::Anyone, true));
    }

    #[test]
    fn a_condition_variable_takes_its_mutex_again_after_the_signal() {
        let names = ["__futex_abstimed_wait", "pthread_cond_wait"];
        let waits = Futex { operation: 0x89, value: 0, ..FUTEX };
        assert_eq!(classified(waits, &[0; 8], &names).kind, "condition variable");
        assert_eq!(classified(FUTEX, &[2, 0, 77, 1, 0], &names).owner, Owner::Thread(77));
    }

    #[test]
    fn a_read_lock_is_held_by_the_writer_or_by_readers_without_names() {
        let futex = Futex { word: 0x1030, operation: 0x89, value: 3, timed: false };
        // The lock is 8 bytes before the word.
        let mut words = [0u32; 20];
        words[0] = 5 << 3;
        let lock = |words: &[u32]| Window::of(words.iter().flat_map(|word| word.to_le_bytes()).collect(), 8);
        let names = ["pthread_rwlock_rdlock"];
        let found = classify(futex, Some(&lock(&words)), &Names(&names), &|_| false);
        assert_eq!((found.address, found.kind), (0x1028, "read lock"));
        assert_eq!(found.owner, Owner::NotRecorded(vec![0x1028]));
        assert!(found.note.starts_with("held by 5 readers"));
        words[6] = 77;
        let found = classify(futex, Some(&lock(&words)), &Names(&names), &|_| false);
        assert_eq!(found.owner, Owner::Thread(77));
    }

    #[test]
    fn joining_a_thread_waits_for_that_thread() {
        let futex = Futex { operation: 0x9, value: 77, ..FUTEX };
        assert_eq!(classified(futex, &[77], &[]).owner, Owner::Thread(77));
    }

    #[test]
    fn a_mutex_of_musl_is_four_bytes_before_its_word() {
        let futex = Futex { value: 0x8000_0010, ..FUTEX };
        let found = classified(futex, &[0x8000_0010], &["pthread_mutex_timedlock"]);
        assert_eq!((found.address, found.owner), (0xffc, Owner::NotRecorded(vec![0xffc])));
        let futex = Futex { value: 0x8000_0000 | 77, ..FUTEX };
        let found = classified(futex, &[0x8000_0000 | 77], &["pthread_mutex_timedlock"]);
        assert_eq!(found.owner, Owner::Thread(77));
    }

    #[test]
    fn a_lock_of_parking_lot_is_named_by_the_key_of_its_waiter() {
        let mut bytes = vec![0; 64];
        bytes[0..8].copy_from_slice(&0x5001u64.to_le_bytes());
        let window = Window::of(bytes, 32);
        let futex = Futex { value: 1, ..FUTEX };
        let names = ["parking_lot::raw_mutex::RawMutex::lock_slow"];
        let found = classify(futex, Some(&window), &Names(&names), &|_| false);
        assert_eq!(found.owner, Owner::NotRecorded(vec![0x5000, 0x4ff0]));
    }

    #[test]
    fn unreadable_memory_is_an_unknown_futex() {
        assert_eq!(classify(FUTEX, None, &Names(&["pthread_mutex_lock"]), &|_| true).kind, "futex");
    }
}
