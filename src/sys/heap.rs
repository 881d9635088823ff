//! The allocator's free memory.
//!
//! Not here: what rprof takes (`process::own_memory`).

/// Gives free memory of the heap back to the kernel where the allocator keeps it (malloc_trim(3) of
/// glibc). Windows of samples allocate on one thread what another one frees, so free memory is
/// scattered between what is in use, and without this the resident size grows for a long time.
pub fn release_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and no pointer.
    unsafe {
        libc::malloc_trim(0);
    }
}
