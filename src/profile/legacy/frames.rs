//! Expressions for frames that belong to the profiler, the allocator or the measured lock. They are
//! added to profiles of the older formats so that reports drop these frames.
//!
//! Not here: dropping them (`Columns::drop_uninteresting`).

use crate::profile::columns::Columns;

/// Allocators: POSIX, tcmalloc, macOS, Go's runtime, C++.
const ALLOCATORS: &[&str] = &[
    "calloc",
    "cfree",
    "malloc",
    "free",
    "memalign",
    "do_memalign",
    "(__)?posix_memalign",
    "pvalloc",
    "valloc",
    "realloc",
    "tcmalloc::.*",
    "tc_calloc",
    "tc_cfree",
    "tc_malloc",
    "tc_free",
    "tc_memalign",
    "tc_posix_memalign",
    "tc_pvalloc",
    "tc_valloc",
    "tc_realloc",
    "tc_new",
    "tc_delete",
    "tc_newarray",
    "tc_deletearray",
    "tc_new_nothrow",
    "tc_newarray_nothrow",
    "malloc_zone_malloc",
    "malloc_zone_calloc",
    "malloc_zone_valloc",
    "malloc_zone_realloc",
    "malloc_zone_memalign",
    "malloc_zone_free",
    "runtime\\..*",
    "BaseArena::.*",
    "(::)?do_malloc_no_errno",
    "(::)?do_malloc_pages",
    "(::)?do_malloc",
    "DoSampledAllocation",
    "MallocedMemBlock::MallocedMemBlock",
    "_M_allocate",
    "__builtin_(vec_)?delete",
    "__builtin_(vec_)?new",
    "__gnu_cxx::new_allocator::allocate",
    "__libc_malloc",
    "__malloc_alloc_template::allocate",
    "allocate",
    "cpp_alloc",
    "operator new(\\[\\])?",
    "simple_alloc::allocate",
];

/// Frames of Go's runtime in the middle of stacks.
const NOT_ALLOCATORS: &[&str] = &["runtime\\.panic", "runtime\\.reflectcall", "runtime\\.call[0-9]*"];

/// The signal handler of a CPU profiler.
const PROFILERS: &[&str] = &[
    "ProfileData::Add",
    "ProfileData::prof_handler",
    "CpuProfiler::prof_handler",
    "__pthread_sighandler",
    "__restore",
];

/// Locks, and functions that record lock contention.
const LOCKS: &[&str] = &[
    "RecordLockProfileData",
    "(base::)?RecordLockProfileData.*",
    "(base::)?SubmitMutexProfileData.*",
    "(base::)?SubmitSpinLockProfileData.*",
    "(base::Mutex::)?AwaitCommon.*",
    "(base::Mutex::)?Unlock.*",
    "(base::Mutex::)?UnlockSlow.*",
    "(base::Mutex::)?ReaderUnlock.*",
    "(base::MutexLock::)?~MutexLock.*",
    "(Mutex::)?AwaitCommon.*",
    "(Mutex::)?Unlock.*",
    "(Mutex::)?UnlockSlow.*",
    "(Mutex::)?ReaderUnlock.*",
    "(MutexLock::)?~MutexLock.*",
    "(SpinLock::)?Unlock.*",
    "(SpinLock::)?SlowUnlock.*",
    "(SpinLockHolder::)?~SpinLockHolder.*",
];

const HEAP_KINDS: &[&[&str]] = &[
    &["allocations", "size"],
    &["objects", "space"],
    &["inuse_objects", "inuse_space"],
    &["alloc_objects", "alloc_space"],
    &["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"],
];

/// Adds the expressions for its kind to the profile.
pub(super) fn name(mut columns: Columns) -> Columns {
    let kinds: Vec<&str> = columns.header.kinds.iter().map(|kind| columns.text(kind.name)).collect();
    let (drop, keep) = if HEAP_KINDS.contains(&&kinds[..]) {
        (ALLOCATORS.join("|"), NOT_ALLOCATORS.join("|"))
    } else if kinds == ["contentions", "delay"] {
        (LOCKS.join("|"), String::new())
    } else {
        (PROFILERS.join("|"), String::new())
    };
    columns.header.drop_frames = columns.intern(&drop);
    columns.header.keep_frames = columns.intern(&keep);
    columns
}
