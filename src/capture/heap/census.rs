//! Takes a census of a process.

use std::time::{Instant, SystemTime};

use super::{
    super::{CaptureError, Request, check_pids},
    reach,
    report::{AllocatorReport, HeapReport},
};
use crate::{
    heap::{self, Allocator as _, Heap, Tally, Target},
    process::identify,
};

/// The share of the allocator's own count that a census must have walked; otherwise it is taken
/// again.
pub const ENOUGH: f64 = 0.95;
/// How often a census is taken at most until one is complete.
const TRIES: usize = 3;

/// Takes the census of a process.
pub fn take(pid: u32, request: &Request) -> Result<HeapReport, CaptureError> {
    let identity = identify(pid)?;
    let began = Instant::now();
    let mut heaps: Vec<AllocatorReport> = Vec::new();
    let target = Target::open(pid, &request.symbolize.budget)?;
    for allocator in heap::ALL {
        heaps.extend(allocator.detect(&target).map(|found| best(&target, &*found)));
    }
    // An allocator that is not read, or not in this release, is named at least.
    for named in &heap::NAMED {
        if heaps.iter().all(|heap| !heap.name.starts_with(named.name)) {
            heaps.extend(named.detect(&target).map(|found| once(&target, &*found)));
        }
    }
    let took = began.elapsed();
    let holders = request.heap.holders.then(|| reach::holders(pid, request)).transpose()?;
    let leaks = request.heap.leaks.then(|| reach::leaks(pid, request)).transpose()?;
    check_pids(std::slice::from_ref(&identity))?;
    Ok(HeapReport { identity, heaps, taken_at: SystemTime::now(), took, holders, leaks })
}

/// The first census that is complete enough, or the most complete one.
fn best(target: &Target, heap: &dyn Heap) -> AllocatorReport {
    let mut best = once(target, heap);
    for _ in 1..TRIES {
        let share = |report: &AllocatorReport| report.coverage.share().unwrap_or(1.0);
        if share(&best) >= ENOUGH || best.coverage.cut.is_some() {
            break;
        }
        let again = once(target, heap);
        if share(&again) > share(&best) {
            best = again;
        }
    }
    best
}

fn once(target: &Target, heap: &dyn Heap) -> AllocatorReport {
    let mut tally = Tally::new(target);
    let coverage = heap.census(target, &mut tally);
    let (rows, types) = tally.finish();
    let arenas = rows.keys().map(|row| (row.arena, heap.arena_name(row.arena))).collect();
    AllocatorReport { name: heap.name(), arenas, rows, types, coverage }
}
