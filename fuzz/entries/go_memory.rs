//! Any bytes as the memory of a Go process: goroutines, threads, labels and the lists of the
//! runtime's own profiles. The first byte chooses the release.

use rprof::{
    budget::{Budget, Resource},
    runtime::go::fuzz,
};

const MEMORY_LIMIT: u64 = 8 << 20;

/// See the module.
pub fn run(bytes: &[u8]) {
    let Some((choice, memory)) = bytes.split_first() else { return };
    let budget = Budget::session().with_limits([MEMORY_LIMIT, 0, u64::MAX]);
    let Some(process) = fuzz::process(memory.to_vec(), 18 + u32::from(choice % 10), &budget) else { return };
    fuzz::read_all(&process);
    assert!(budget.used(Resource::Memory) <= MEMORY_LIMIT);
}
