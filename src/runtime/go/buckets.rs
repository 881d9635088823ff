//! The runtime's own profiles: allocations (`MemProfile`), blocking (`block`) and mutex contention
//! (`mutex`). The runtime counts each by stack, in buckets (source: `src/runtime/mprof.go`).
//!
//! Lists of buckets grow only at their head and buckets are never freed, so they can be walked
//! while the program runs. Counts are read until two consecutive reads agree. Not here: profiles as
//! files.

use super::{
    GoError,
    circle::Circle,
    process::GoProcess,
    recognize::{BucketKind, HEAD_BYTES, MAX_BUCKET_STACK, NSTK, TYPE, kind_of, word},
};
use crate::{
    addr::RuntimeAddr,
    arch,
    budget::{Exhausted, Resource},
    process::identity,
};

/// `bucket`: allnext, typ, size, nstk; then the stack, then the counts.
const ALL_NEXT: usize = 8;
const SIZE: usize = 32;
/// Enough for most buckets, read at once.
const GUESS_BYTES: usize = HEAD_BYTES + 40 * 8;
/// Share of the process's memory budget that buckets may use: the rest is for locations.
const BUCKETS_MEMORY: u64 = 384 << 20;
/// Memory of a bucket besides its stack: the bucket, its counts (read twice) and its record.
const BUCKET_MEMORY: u64 = 640;
/// Maximum number of reads until two consecutive ones agree.
const TRIES: usize = 12;
/// The marker at the start of a frame-pointer stack (`logicalStackSentinel`).
const SENTINEL: u64 = u64::MAX;

/// The sampled allocations with one stack and object size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapRecord {
    /// Return addresses, innermost first; inlined functions have their own.
    pub stack: Vec<u64>,
    /// The size of one object, in bytes.
    pub size: u64,
    /// Number of allocated objects.
    pub allocs: u64,
    /// Number of freed objects.
    pub frees: u64,
    /// Allocated bytes.
    pub alloc_bytes: u64,
    /// Freed bytes.
    pub free_bytes: u64,
}

/// The runtime's heap profile.
#[derive(Clone, Debug)]
pub struct Heap {
    /// The sampled allocations, not scaled up.
    pub records: Vec<HeapRecord>,
    /// One allocation per this many bytes is sampled (`runtime.MemProfileRate`).
    pub rate: u64,
    /// Whether two consecutive reads agreed.
    pub is_consistent: bool,
    /// The number of the heap profile's cycle: about twice the number of garbage collections.
    pub cycle: u32,
    /// Why further buckets were not read, if so.
    pub limit: Option<Exhausted>,
}

/// Blocking, or mutex contention, with one stack.
#[derive(Clone, Debug, PartialEq)]
pub struct ContentionRecord {
    /// Return addresses, innermost first; inlined functions have their own.
    pub stack: Vec<u64>,
    /// Number of events, scaled up.
    pub count: i64,
    /// Delay in cycles of the CPU's time-stamp counter.
    pub cycles: i64,
    /// Delay in nanoseconds, scaled up.
    pub delay_ns: i64,
}

/// A block or mutex profile.
#[derive(Clone, Debug)]
pub struct Contention {
    /// One record per stack.
    pub records: Vec<ContentionRecord>,
    /// Block: one event per this many ticks of waiting is sampled; mutex: one per this many events.
    pub rate: u64,
    /// Whether two consecutive reads agreed.
    pub is_consistent: bool,
    /// Ticks of the CPU's time-stamp counter per second.
    pub ticks_hz: f64,
    /// Why further buckets were not read, if so.
    pub limit: Option<Exhausted>,
}

/// Why the program does not collect a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCollected {
    /// Memory profiling is not linked in.
    #[error(
        "the program does not collect it: the linker removed memory profiling, because nothing in the program reads it"
    )]
    HeapNotLinked,
    /// `runtime.MemProfileRate` is 0.
    #[error("the program does not collect it: runtime.MemProfileRate is 0")]
    HeapRateZero,
    /// `runtime.SetBlockProfileRate` was not called.
    #[error("the program does not collect it: it has not called runtime.SetBlockProfileRate")]
    BlockRateZero,
    /// `runtime.SetMutexProfileFraction` was not called.
    #[error("the program does not collect it: it has not called runtime.SetMutexProfileFraction")]
    MutexFractionZero,
}

/// Why there is no bucket profile.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The runtime cannot be read.
    #[error(transparent)]
    Go(#[from] GoError),
    /// The program does not collect the profile.
    #[error(transparent)]
    NotCollected(#[from] NotCollected),
}

/// A bucket: its stack, object size, and the address of its counts.
pub(super) struct Bucket {
    stack: Vec<u64>,
    size: u64,
    counts: RuntimeAddr,
}

impl GoProcess {
    /// The heap profile, as `runtime.MemProfile` returns it. Errors: the program does not collect
    /// it, or it cannot be read.
    pub fn heap(&self) -> Result<Heap, BucketError> {
        let rate = self.heap_rate()?;
        let (buckets, limit) = self.buckets(BucketKind::Memory)?;
        let (counts, cycle, is_consistent) = self.read_counts(&buckets, self.cycle_bytes() * 4);
        let records = heap_records(&buckets, &counts, cycle, self.layout.counts_bytes);
        Ok(Heap { records, rate, is_consistent, cycle, limit })
    }

    fn heap_rate(&self) -> Result<u64, BucketError> {
        let reader =
            if self.version.minor >= 23 { "runtime.memProfileInternal" } else { "runtime.MemProfile" };
        let disabled = self.globals.disable_mem_profiling.and_then(|at| {
            let mut byte = [0];
            self.memory.read_exact(at, &mut byte).then_some(byte[0] != 0)
        });
        let rate = self.globals.mem_profile_rate.and_then(|at| self.memory.read_word(at));
        let is_linked = self.files[0].tables.function(reader).is_some();
        match rate {
            Some(0) if disabled == Some(true) || !is_linked => Err(NotCollected::HeapNotLinked.into()),
            Some(0) => Err(NotCollected::HeapRateZero.into()),
            Some(rate) => Ok(rate),
            None if !is_linked => Err(NotCollected::HeapNotLinked.into()),
            None => Err(missing("MemProfileRate").into()),
        }
    }

    fn cycle_bytes(&self) -> usize {
        if self.layout.counts_bytes { 32 } else { 16 }
    }

    /// The block profile (`BucketKind::Block`) or the mutex profile (`BucketKind::Mutex`). Errors:
    /// the program does not collect it, or it cannot be read.
    pub fn contention(&self, kind: BucketKind) -> Result<Contention, BucketError> {
        let (at, name, why) = match kind {
            BucketKind::Mutex => {
                (self.globals.mutex_profile_rate, "mutexprofilerate", NotCollected::MutexFractionZero)
            }
            _ => (self.globals.block_profile_rate, "blockprofilerate", NotCollected::BlockRateZero),
        };
        let rate = at.and_then(|at| self.memory.read_word(at)).ok_or_else(|| missing(name))?;
        let (buckets, limit) = self.buckets(kind)?;
        if rate == 0 && buckets.is_empty() {
            return Err(why.into());
        }
        let (counts, _, is_consistent) = self.read_counts(&buckets, 16);
        let ticks_hz = self.ticks_hz();
        // Before Go 1.20, mutex events were counted unscaled and scaled when read.
        let scale =
            if kind == BucketKind::Mutex && self.version.minor < 20 { rate.max(1) as f64 } else { 1.0 };
        let record = |(bucket, counts): (&Bucket, &[u8])| {
            let count = f64::from_bits(word(counts, 0)) * scale;
            let cycles = word(counts, 8).cast_signed() as f64 * scale;
            ContentionRecord {
                stack: bucket.stack.clone(),
                count: count as i64,
                cycles: cycles as i64,
                delay_ns: (cycles / ticks_hz * 1e9) as i64,
            }
        };
        let records = buckets.iter().zip(counts.chunks_exact(16)).map(record).collect();
        Ok(Contention { records, rate, is_consistent, ticks_hz, limit })
    }

    /// Walks the list of one kind.
    pub(super) fn buckets(&self, kind: BucketKind) -> Result<(Vec<Bucket>, Option<Exhausted>), GoError> {
        let head = self.globals.bucket_lists.iter().find_map(|at| {
            let first = RuntimeAddr(self.memory.read_word(*at)?);
            (kind_of(&self.memory, first) == Some(kind)).then_some(first)
        });
        let Some(mut at) = head else { return Ok((Vec::new(), None)) };
        let mut buckets = Vec::new();
        let mut bytes = Vec::new();
        let mut memory = 0;
        let mut circle = Circle::default();
        while at.0 != 0 {
            if circle.closes_at(at) {
                return Err(GoError::Variable { what: "list of buckets", why: "it is circular" });
            }
            bytes.resize(GUESS_BYTES, 0);
            let count = self.memory.read(at, &mut bytes);
            let stack_length = word(&bytes, NSTK);
            if count < HEAD_BYTES || word(&bytes, TYPE) != kind as u64 || stack_length > MAX_BUCKET_STACK {
                return Err(GoError::Variable {
                    what: "list of buckets",
                    why: "it does not consist of buckets",
                });
            }
            let needed = HEAD_BYTES + stack_length as usize * 8;
            // The stack is kept twice: here and in the record.
            let cost = BUCKET_MEMORY + 2 * needed as u64;
            memory += cost;
            let taken = match memory <= BUCKETS_MEMORY {
                _ if self.budget.is_ending() => Err(Exhausted::Stopped),
                true => self.budget.take(Resource::Memory, cost),
                false => Err(Exhausted::Limit(Resource::Memory, BUCKETS_MEMORY)),
            };
            if let Err(why) = taken {
                return Ok((buckets, Some(why)));
            }
            if count < needed {
                bytes.resize(needed, 0);
                if !self.memory.read_exact(at, &mut bytes) {
                    return Err(GoError::Memory(self.pid));
                }
            }
            let stack = bytes[HEAD_BYTES..needed].as_chunks::<8>().0.iter().map(|pc| u64::from_le_bytes(*pc));
            let stack = stack.filter(|pc| *pc != SENTINEL && *pc != 0).collect();
            buckets.push(Bucket { stack, size: word(&bytes, SIZE), counts: at.offset(needed as i64) });
            at = RuntimeAddr(word(&bytes, ALL_NEXT));
        }
        Ok((buckets, None))
    }

    /// The counts of all buckets (`size` bytes each), read until two consecutive reads agree; the
    /// heap profile's cycle; whether two reads agreed.
    pub(super) fn read_counts(&self, buckets: &[Bucket], size: usize) -> (Vec<u8>, u32, bool) {
        let ranges: Vec<_> = buckets.iter().map(|bucket| (bucket.counts, size)).collect();
        let read = || {
            let mut counts = vec![0; ranges.len() * size];
            let cycle = self.mem_cycle();
            let whole = self.memory.read_ranges(&ranges, &mut counts) == ranges.len();
            (counts, cycle, whole && self.mem_cycle() == cycle)
        };
        let mut last = read();
        for _ in 1..TRIES {
            let now = read();
            if now == last && now.2 {
                return now;
            }
            last = now;
        }
        (last.0, last.1, false)
    }

    /// `mProfCycle`: since Go 1.19 with a flag in its lowest bit.
    fn mem_cycle(&self) -> u32 {
        let value = self.globals.mem_profile_cycle.and_then(|at| self.memory.read_u32(at)).unwrap_or(0);
        if self.version.minor >= 19 { value >> 1 } else { value }
    }

    /// Ticks of the CPU's time-stamp counter per second: the runtime's own figure, or computed as
    /// the runtime does.
    fn ticks_hz(&self) -> f64 {
        let field = |offset: i64| self.globals.ticks.and_then(|at| self.memory.read_word(at.offset(offset)));
        let has_start = self.version.minor >= 22;
        let value = field(if has_start { 24 } else { 8 }).unwrap_or(0);
        if (1_000_000..100_000_000_000).contains(&value) {
            return value as f64;
        }
        let now = (arch::cpu_ticks(), identity::monotonic_ns_in(self.pid));
        if let (true, Some(ticks), Some(time)) = (has_start, field(8), field(16))
            && now.0 > ticks
            && now.1 > time + 1_000_000
        {
            return (now.0 - ticks) as f64 / (now.1 - time) as f64 * 1e9;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        let later = (arch::cpu_ticks(), identity::monotonic_ns_in(self.pid));
        (later.0.saturating_sub(now.0)).max(1) as f64 / (later.1 - now.1).max(1) as f64 * 1e9
    }
}

fn missing(what: &'static str) -> GoError {
    GoError::Variable { what, why: "no function that uses it was found" }
}

/// `memRecord`: the published counts, then those of three future cycles. Before it reads, the
/// runtime publishes the cycle that has ended, and all cycles if nothing has been published yet.
fn heap_records(buckets: &[Bucket], counts: &[u8], cycle: u32, has_bytes: bool) -> Vec<HeapRecord> {
    let cycle_bytes = if has_bytes { 32 } else { 16 };
    let sum = |bucket: &Bucket, counts: &[u8], parts: &[usize]| {
        let field = |part: usize, field: usize| {
            let at = part * cycle_bytes + field * 8;
            match (has_bytes, field) {
                (false, 2 | 3) => word(counts, at - 16).wrapping_mul(bucket.size),
                _ => word(counts, at),
            }
        };
        let total = |index: usize| parts.iter().fold(0u64, |sum, part| sum.wrapping_add(field(*part, index)));
        HeapRecord {
            stack: bucket.stack.clone(),
            size: bucket.size,
            allocs: total(0),
            frees: total(1),
            alloc_bytes: total(2),
            free_bytes: total(3),
        }
    };
    let records = |parts: &[usize]| -> Vec<HeapRecord> {
        let all = buckets.iter().zip(counts.chunks_exact(cycle_bytes * 4));
        all.map(|(bucket, counts)| sum(bucket, counts, parts)).collect()
    };
    let published = records(&[0, 1 + cycle as usize % 3]);
    let is_empty = published.iter().all(|record| record.allocs == 0 && record.frees == 0);
    if is_empty { records(&[0, 1, 2, 3]) } else { published }
}

impl HeapRecord {
    /// Objects that are not freed.
    pub fn in_use_objects(&self) -> u64 {
        self.allocs.saturating_sub(self.frees)
    }

    /// Bytes that are not freed.
    pub fn in_use_bytes(&self) -> u64 {
        self.alloc_bytes.saturating_sub(self.free_bytes)
    }
}

/// Scales up a sample of `count` objects with `bytes` bytes in total, where one byte per `rate` is
/// sampled (Go's `scaleHeapSample`): objects and bytes.
pub fn scaled(count: u64, bytes: u64, rate: u64) -> (i64, i64) {
    if count == 0 || bytes == 0 {
        return (0, 0);
    }
    if rate <= 1 {
        return (count.cast_signed(), bytes.cast_signed());
    }
    let average = bytes as f64 / count as f64;
    let scale = 1.0 / (1.0 - (-average / rate as f64).exp());
    ((count as f64 * scale) as i64, (bytes as f64 * scale) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(size: u64) -> Bucket {
        Bucket { stack: vec![1], size, counts: RuntimeAddr(0) }
    }

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn the_ended_cycle_is_counted_and_later_ones_are_not() {
        // active, then futures 0 to 2, each allocs, frees and their bytes.
        let counts = bytes(&[5, 1, 50, 10, 7, 0, 70, 0, 2, 1, 20, 10, 9, 9, 90, 90]);
        let records = heap_records(&[bucket(10)], &counts, 4, true);
        let record = &records[0];
        assert_eq!((record.allocs, record.frees, record.alloc_bytes, record.free_bytes), (7, 2, 70, 20));
        assert_eq!((record.in_use_objects(), record.in_use_bytes()), (5, 50));
    }

    #[test]
    fn all_cycles_are_counted_before_the_first_collection() {
        let counts = bytes(&[0, 0, 1, 0, 0, 0, 3, 1]);
        let records = heap_records(&[bucket(10)], &counts, 1, false);
        assert_eq!((records[0].allocs, records[0].alloc_bytes, records[0].free_bytes), (4, 40, 10));
    }

    #[test]
    fn small_objects_are_scaled_up_and_large_ones_are_nearly_unchanged() {
        assert_eq!(scaled(0, 0, 512), (0, 0));
        assert_eq!(scaled(3, 30, 1), (3, 30));
        let (objects, space) = scaled(1, 16, 512 << 10);
        assert!((32_760..32_780).contains(&objects) && space / objects == 16, "{objects} {space}");
        assert_eq!(scaled(1, 100 << 20, 512 << 10), (1, 100 << 20));
    }
}
