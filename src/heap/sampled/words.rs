//! Candidates for the tables of an allocator: the words of the data of its library or of the
//! program that contains it.
//!
//! Not here: what a table looks like.

use super::super::{Stream, Target};
use crate::process::surroundings::environment;

/// The most bytes of a mapping that are read.
const MAX_DATA: u64 = 64 << 20;

/// Calls `found` with the address of each word of the data of the program and of modules whose path
/// contains `library`, and with the words from it on, at most `count`; returns the first result.
pub fn search<T>(
    target: &Target,
    library: &str,
    count: usize,
    found: &mut dyn FnMut(u64, &[u64]) -> Option<T>,
) -> Option<T> {
    let program = target.space.module_data().next().map(|(_, module)| module.path.clone());
    for (mapping, module) in target.space.module_data() {
        if !module.path.contains(library) && Some(&module.path) != program.as_ref() {
            continue;
        }
        let (start, end) = (mapping.start.0, mapping.end.0.min(mapping.start.0.saturating_add(MAX_DATA)));
        let mut stream = Stream::new(&*target.memory, &target.budget);
        let mut words = Vec::new();
        for at in (start..end).step_by(8) {
            let Some(word) = stream.word(at, end) else { break };
            words.push(word);
        }
        for (index, window) in words.windows(count).enumerate() {
            if let Some(result) = found(start + index as u64 * 8, window) {
                return Some(result);
            }
        }
    }
    None
}

/// Whether an address is in executable memory.
pub fn is_code(target: &Target, address: u64) -> bool {
    target.space.find(address).is_some_and(|mapping| mapping.executable)
}

/// Whether an address is in memory that may hold data.
pub fn is_data(target: &Target, address: u64) -> bool {
    address.is_multiple_of(8) && target.space.find(address).is_some_and(|mapping| mapping.writable)
}

/// A variable of the environment that the process was started with.
pub fn variable(target: &Target, name: &str) -> Option<String> {
    environment(target.pid).into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}
