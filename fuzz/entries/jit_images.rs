//! Any bytes as the memory of a process with a list of the GDB JIT interface, and as an image of
//! such a list.

use rprof::{budget::Budget, runtime::jit::fuzz};

/// See the module.
pub fn run(bytes: &[u8]) {
    fuzz::read_images(bytes, &Budget::session().with_limits([1 << 22, 0, 1 << 22]));
}
