//! Any bytes as a core file: its notes, its mappings and its memory.

use rprof::{addr::RuntimeAddr, core_file};

/// See the module.
pub fn run(bytes: &[u8]) {
    let Some(core) = core_file::read_any(bytes.to_vec()) else { return };
    assert!(core.threads.len() * 336 <= bytes.len());
    assert!(core.mappings.is_sorted_by_key(|mapping| mapping.start));
    let mut buffer = [0; 64];
    for mapping in core.mappings.iter().take(64) {
        let memory = core.memory();
        for at in [mapping.start.0, mapping.end.0.saturating_sub(8), mapping.end.0] {
            assert!(memory.read(RuntimeAddr(at), &mut buffer) <= buffer.len());
        }
    }
    let _ = (core.identity(), core.signal.map(|signal| signal.to_string()));
}
