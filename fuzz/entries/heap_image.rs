//! Any bytes as damage to a small heap: words that replace others in its chunks and arena.

use rprof::heap::walk_damaged;

/// See the module.
pub fn run(bytes: &[u8]) {
    walk_damaged(bytes);
}
