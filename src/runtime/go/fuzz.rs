//! Reads runtime structures from bytes that no Go program wrote, for fuzzing and tests.
//!
//! Not here: a live process.

use std::sync::Arc;

use super::{
    BucketKind, globals::Globals, goroutines::GoroutineOptions, labels, layouts::Layout, process::GoProcess,
    version::Version,
};
use crate::{addr::RuntimeAddr, budget::Budget, process::ProcessMemory, runtime::ProcessView};

/// Where the bytes are in the invented process.
pub const START: RuntimeAddr = RuntimeAddr(0x10_0000);
/// Words at the beginning of the bytes that are the runtime's variables.
pub const VARIABLES: u64 = 16;

/// An invented Go process whose memory is `bytes`. Its first words are the runtime's variables:
/// number and table of goroutines, list of threads, three lists of buckets, and then those that are
/// numbers.
pub fn process(bytes: Vec<u8>, minor: u32, budget: &Budget) -> Option<GoProcess> {
    let version = Version { minor, patch: 0 };
    let (layout, is_known_release) = Layout::of(&version)?;
    let variable = |index: i64| START.offset(index * 8);
    let globals = Globals {
        all_g_count: variable(0),
        all_g_table: variable(1),
        all_m: Some(variable(2)),
        bucket_lists: vec![variable(3), variable(4), variable(5)],
        mem_profile_rate: Some(variable(6)),
        disable_mem_profiling: None,
        block_profile_rate: Some(variable(7)),
        mutex_profile_rate: Some(variable(8)),
        mem_profile_cycle: Some(variable(9)),
        finalizer_state: Some((variable(10), 4)),
        wait_reasons: None,
        traceback_labels: None,
        ticks: Some(variable(11)),
        gomaxprocs: None,
        sched: None,
        memstats: None,
        gc_controller: None,
    };
    let memory = Arc::new(ProcessMemory::of_image(START, bytes));
    let view = ProcessView { memory: Arc::clone(&memory), ..ProcessView::new(0, budget) };
    Some(GoProcess {
        pid: 0,
        view,
        memory,
        files: Vec::new(),
        version_text: format!("go1.{minor}"),
        version,
        layout,
        is_known_release,
        globals,
        build_info: None,
        budget: budget.process(),
    })
}

/// Reads all that a dump and the profiles read.
pub fn read_all(process: &GoProcess) {
    for kind in [BucketKind::Memory, BucketKind::Block, BucketKind::Mutex] {
        if let Ok((buckets, _)) = process.buckets(kind) {
            process.read_counts(&buckets, 16);
        }
    }
    let _ = process.goroutines(GoroutineOptions { arguments: true });
    let _ = process.threads();
    for is_list in [false, true] {
        let _ = labels::read(&process.memory, START.offset(VARIABLES as i64 * 8), is_list);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use crate::budget::{Exhausted, Resource};

    const AFTER_VARIABLES: u64 = START.0 + VARIABLES * 8;

    /// Variables, then other words.
    fn memory(variables: &[(usize, u64)], rest: &[u64]) -> Vec<u8> {
        let mut words = vec![0; VARIABLES as usize];
        variables.iter().for_each(|(index, value)| words[*index] = *value);
        words.extend(rest);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A bucket of allocations with one return address and all its counts: 23 words.
    fn bucket(next: u64) -> Vec<u64> {
        let mut words = vec![0, next, 1, 0, 100, 1, 0x40_1000];
        words.extend([1; 16]);
        words
    }

    #[test]
    fn a_circular_list_of_buckets_is_an_error_and_no_profile() {
        let words = memory(&[(3, AFTER_VARIABLES)], &bucket(AFTER_VARIABLES));
        let process = process(words, 22, &Budget::session()).expect("a layout");
        let error = process.buckets(BucketKind::Memory).err().expect("refused");
        assert!(error.to_string().contains("circular"), "{error}");
        assert!(process.budget.used(Resource::Memory) < 10_000);
    }

    #[test]
    fn buckets_beyond_the_budget_are_left_out_and_reported() {
        let bytes = bucket(0).len() as u64 * 8;
        let all: Vec<u64> = (1..=1000).flat_map(|index| bucket(AFTER_VARIABLES + index * bytes)).collect();
        let budget = Budget::session().with_limits([100_000, 0, u64::MAX]);
        let process = process(memory(&[(3, AFTER_VARIABLES)], &all), 22, &budget).expect("a layout");
        let (buckets, limit) = process.buckets(BucketKind::Memory).expect("some");
        assert!((50..500).contains(&buckets.len()), "{}", buckets.len());
        assert!(limit.is_some() && budget.used(Resource::Memory) <= 100_000);
    }

    #[test]
    fn a_stop_ends_the_reading_of_goroutines_and_buckets() {
        let stop = Arc::new(AtomicBool::new(false));
        let budget = Budget::session().stopped_by(Arc::clone(&stop));
        let variables = [(0, 1), (1, AFTER_VARIABLES), (3, AFTER_VARIABLES)];
        let process = process(memory(&variables, &bucket(0)), 22, &budget).expect("a layout");
        let read = || {
            let goroutines = process.goroutines(GoroutineOptions::default()).expect("a table");
            let (buckets, limit) = process.buckets(BucketKind::Memory).expect("a list");
            (goroutines.limit, limit, buckets.len())
        };
        assert_eq!(read(), (None, None, 1));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(read(), (Some(Exhausted::Stopped), Some(Exhausted::Stopped), 0));
    }

    #[test]
    fn a_table_that_lists_a_goroutine_twice_is_an_error() {
        let words = memory(&[(0, 2), (1, AFTER_VARIABLES)], &[AFTER_VARIABLES + 16, AFTER_VARIABLES + 16]);
        let process = process(words, 22, &Budget::session()).expect("a layout");
        let error = process.goroutines(GoroutineOptions::default()).expect_err("refused");
        assert!(error.to_string().contains("twice"), "{error}");
    }

    #[test]
    fn a_table_larger_than_the_limit_is_not_read() {
        let words = memory(&[(0, 1 << 25), (1, AFTER_VARIABLES)], &[]);
        let budget = Budget::session().with_limits([1 << 20, 0, 0]);
        let process = process(words, 22, &budget).expect("a layout");
        let error = process.goroutines(GoroutineOptions::default()).expect_err("refused");
        assert!(error.to_string().contains("larger than the limit"), "{error}");
        assert_eq!(budget.used(Resource::Memory), 0);
    }
}
