//! Any bytes as a jitdump file that grows: the first half is there when it is opened.

use std::io::Write;

use rprof::{budget::Budget, runtime::jit::fuzz};

/// See the module.
pub fn run(bytes: &[u8]) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    file.write_all(first).expect("write");
    let reader = file.try_clone().expect("the same file");
    fuzz::read_dump(reader, &Budget::session().with_limits([1 << 20, 0, 1 << 22]), || {
        file.write_all(rest).expect("write");
    });
}
