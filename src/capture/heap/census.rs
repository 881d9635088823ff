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
    let heaps = best(pid, request)?;
    let took = began.elapsed();
    let holders = request.heap.holders.then(|| reach::holders(pid, request)).transpose()?;
    let leaks = request.heap.leaks.then(|| reach::leaks(pid, request)).transpose()?;
    check_pids(std::slice::from_ref(&identity))?;
    Ok(HeapReport { identity, heaps, taken_at: SystemTime::now(), took, holders, leaks })
}

/// The first census that is complete enough, or the most complete one. A heap that grows while it
/// is read has new mappings, so each begins anew.
fn best(pid: u32, request: &Request) -> Result<Vec<AllocatorReport>, CaptureError> {
    let mut best: Option<(f64, Vec<AllocatorReport>)> = None;
    for _ in 0..TRIES {
        let heaps = all(&Target::open(pid, &request.symbolize.budget)?.with_threads());
        let shares = heaps.iter().map(|heap| heap.coverage.share().unwrap_or(1.0));
        let share = shares.fold(1.0, f64::min);
        let is_last = share >= ENOUGH || heaps.iter().any(|heap| heap.coverage.cut.is_some());
        if best.as_ref().is_none_or(|(known, _)| *known < share) {
            best = Some((share, heaps));
        }
        if is_last || request.stop.is_set() {
            break;
        }
    }
    Ok(best.map(|(_, heaps)| heaps).unwrap_or_default())
}

/// A census of each allocator of the process.
fn all(target: &Target) -> Vec<AllocatorReport> {
    let known = heap::ALL.iter().filter_map(|allocator| allocator.detect(target));
    let mut heaps: Vec<_> = known.map(|found| once(target, &*found)).collect();
    // An allocator that is not read, or not in this release, is named at least.
    for named in &heap::NAMED {
        if heaps.iter().all(|heap| !heap.name.starts_with(named.name)) {
            heaps.extend(named.detect(target).map(|found| once(target, &*found)));
        }
    }
    heaps
}

fn once(target: &Target, heap: &dyn Heap) -> AllocatorReport {
    let mut tally = Tally::new(target);
    let coverage = heap.census(target, &mut tally);
    let (rows, types) = tally.finish();
    let arenas = rows.keys().map(|row| (row.arena, heap.arena_name(row.arena))).collect();
    AllocatorReport { name: heap.name(), arenas, rows, types, coverage }
}
