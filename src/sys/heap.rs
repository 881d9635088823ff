//! The allocator's free memory.
//!
//! Not here: what rprof takes (`process::own_memory`).

/// Buffers from this size on are mapped, and unmapped when they are freed, in bytes.
#[cfg(target_env = "gnu")]
const MAP_FROM_BYTES: libc::c_int = 256 << 10;

/// More free memory than this at the end of a heap is given back at once, in bytes.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 512 << 10;

/// Fixes the sizes from which the allocator gives memory back (mallopt(3) of glibc). By default
/// glibc raises both when a large buffer is freed: after one of 11 MiB it keeps up to 22 MiB of
/// free memory in each heap, and a burst of samples stays in the resident size for ever.
pub fn give_back_early() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and no pointer.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_FROM_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Gives free memory within the heap back to the kernel (malloc_trim(3) of glibc). Windows of
/// samples are allocated on one thread and freed on another one, so free memory is scattered
/// between what is in use, and without this the resident size grows for a long time.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and no pointer.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes that are allocated, in all heaps (`uordblks` and `hblkhd` of mallinfo2(3) of glibc). What
/// is resident beyond them is free memory between allocations. `None` with another allocator.
pub fn allocated_bytes() -> Option<u64> {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and no pointer.
    return Some(unsafe { libc::mallinfo2() }).map(|info| (info.uordblks + info.hblkhd) as u64);
    #[cfg(not(target_env = "gnu"))]
    None
}
