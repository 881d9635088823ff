//! Any bytes as the memory of a Java virtual machine: code, methods, debug information, the tables
//! that describe its structures, and stacks.

use rprof::runtime::jvm::fuzz;

/// See the module.
pub fn run(bytes: &[u8]) {
    fuzz::read_all(bytes);
}
