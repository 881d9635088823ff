//! Any bytes as a perf map (`/tmp/perf-PID.map`).

use rprof::{
    addr::RuntimeAddr,
    budget::{Budget, Resource},
    runtime::jit::perf_map_names_in,
};

const WORK_LIMIT: u64 = 1 << 20;

/// See the module.
pub fn run(bytes: &[u8]) {
    let addresses: Vec<RuntimeAddr> = [u64::MAX, 0, 0x1001, 0x1fff, 0x2000, 0x1001].map(RuntimeAddr).into();
    let budget = Budget::session().with_limits([WORK_LIMIT, 0, WORK_LIMIT]);
    let found = perf_map_names_in(bytes, &addresses, &budget).expect("reading from memory does not fail");
    assert_eq!(found.names.len(), addresses.len());
    assert_eq!(found.names[2], found.names[5], "equal addresses have equal names");
    assert!(budget.used(Resource::Work) <= WORK_LIMIT);
}
