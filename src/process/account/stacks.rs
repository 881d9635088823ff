//! The stacks of threads: the C library keeps a thread's control block, and in it the head of its
//! list of robust futexes, at the top of the thread's stack.
//!
//! Not here: the first thread's stack, which the kernel names.

use std::ops::Range;

use crate::{
    process::{regions::Region, thread_state, threads},
    sys::proc::robust_list_head,
};

/// The part's name.
pub const PART: &str = "thread stacks";
/// The most bytes of a control block after the list's head; x86-64 glibc 2.43 has 1,600.
const AFTER_HEAD: u64 = 0x800;
const PAGE: u64 = 4096;

/// The stacks of all threads but the first, as far as they are anonymous mappings with a guard
/// below.
pub fn find(pid: u32, regions: &[Region]) -> Vec<Range<u64>> {
    let stack = |tid: u32| {
        // Without a list (musl), the stack pointer of a sleeping thread is in its stack.
        let head = robust_list_head(tid);
        let sp = || Some(thread_state::blocked(pid, tid).ok()?.position()?.0.0);
        let address = head.or_else(sp)?;
        let index = regions.partition_point(|region| region.mapping.end.0 <= address);
        let (region, below) = (regions.get(index)?, regions.get(index.checked_sub(1)?)?);
        let mapping = &region.mapping;
        let is_stack = mapping.start.0 <= address && mapping.writable && mapping.inode == 0;
        let has_guard = below.mapping.end == mapping.start && !below.mapping.writable;
        let end = head.map_or(mapping.end.0, |head| (head + AFTER_HEAD).next_multiple_of(PAGE));
        (is_stack && has_guard && !mapping.path.starts_with("[stack"))
            .then(|| mapping.start.0..end.min(mapping.end.0))
    };
    threads::list(pid).into_iter().filter_map(stack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::regions::read_regions;

    #[test]
    fn the_stack_of_a_thread_is_found() {
        let (send, receive) = std::sync::mpsc::channel();
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let local = 0u8;
            send.send(&raw const local as u64).expect("sent");
            let _ = wait.recv();
        });
        let local = receive.recv().expect("an address");
        let pid = std::process::id();
        let stacks = find(pid, &read_regions(pid).expect("own"));
        assert!(stacks.iter().any(|stack| stack.contains(&local)), "{local:x} {stacks:x?}");
        drop(stop);
        thread.join().expect("ended");
    }
}
