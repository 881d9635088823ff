//! Any bytes as the memory of a process with V8: functions, scripts, code and a stack. The first
//! byte chooses the release. The same bytes are also given to the readers of single structures.

use rprof::runtime::v8::fuzz;

/// See the module.
pub fn run(bytes: &[u8]) {
    let Some((choice, memory)) = bytes.split_first() else { return };
    fuzz::read_all(memory, *choice);
    fuzz::read_pieces(memory);
}
