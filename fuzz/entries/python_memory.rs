//! Any bytes as the memory of a CPython process: threads, frames, code objects, names and tasks.
//! The first byte chooses the release. The same bytes are also given to the readers of single
//! structures.

use rprof::runtime::python::fuzz;

/// See the module.
pub fn run(bytes: &[u8]) {
    let Some((choice, memory)) = bytes.split_first() else { return };
    fuzz::read_all(&fuzz::process(memory.to_vec(), *choice));
    fuzz::read_pieces(memory);
}
