//! Where pointers to chunks are outside of the heap: global variables, the stacks and thread-local
//! data of threads, and other memory of the program.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{Index, Target};
use crate::{process::Mapping, symbolize::demangle, text::path::base_name};

/// The most symbols that are read of a module.
const MAX_SYMBOLS: usize = 1 << 20;
/// Below the stack pointer, a function that calls no other may have data.
const RED_ZONE: u64 = 128;

/// A range of memory that may have pointers to chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// First address.
    pub start: u64,
    /// Address behind it.
    pub end: u64,
    /// Who holds what it points to.
    pub holder: Holder,
}

/// Who holds chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The global variables of this module: its path.
    Globals(String),
    /// The stack or the thread-local data of this thread.
    Thread(u32),
    /// Memory that the program has mapped itself.
    Mapped,
}

/// All roots: globals first, so that what a global and a stack hold counts for the global.
/// `own_data`: ranges of the allocators' own data, which hold nothing.
pub fn roots(target: &Target, index: &Index, own_data: &[(u64, u64)]) -> Vec<Root> {
    let mut roots = Vec::new();
    let mut add = |start: u64, end: u64, holder: &Holder| {
        for (start, end) in index.outside(start, end).into_iter().flat_map(|part| without(part, own_data)) {
            roots.push(Root { start, end, holder: holder.clone() });
        }
    };
    for (mapping, module) in target.space.module_data() {
        add(mapping.start.0, mapping.end.0, &Holder::Globals(module.path.clone()));
    }
    let mut stacks = BTreeMap::<u64, (u64, u32)>::new();
    for thread in &target.threads {
        for (address, from) in [(thread.stack_pointer, RED_ZONE), (thread.pointer, u64::MAX)] {
            let Some(mapping) = address.and_then(|address| target.space.find(address)) else { continue };
            // Without a stack pointer, all of the mapping is the stack.
            let start = address.unwrap_or(0).saturating_sub(from).max(mapping.start.0);
            let known = stacks.entry(mapping.start.0).or_insert((start, thread.tid));
            if from != u64::MAX {
                *known = (start, thread.tid);
            }
        }
    }
    for mapping in target.space.anonymous() {
        match stacks.get(&mapping.start.0) {
            Some((start, tid)) => add(*start, mapping.end.0, &Holder::Thread(*tid)),
            None => add(mapping.start.0, mapping.end.0, &Holder::Mapped),
        }
    }
    roots
}

/// What is left of a range without others.
fn without(part: (u64, u64), others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = vec![part];
    for (start, end) in others {
        left = left
            .into_iter()
            .flat_map(|(from, to)| [(from, to.min(*start)), (from.max(*end), to)])
            .filter(|(from, to)| from < to)
            .collect();
    }
    left
}

/// Names the global variables of modules.
pub struct Globals<'t> {
    target: &'t Target,
    modules: HashMap<String, Arc<Vec<Symbol>>>,
}

struct Symbol {
    start: u64,
    end: u64,
    name: String,
}

impl<'t> Globals<'t> {
    /// Names those of this process.
    pub fn new(target: &'t Target) -> Globals<'t> {
        Globals { target, modules: HashMap::new() }
    }

    /// The variable at an address in the data of the module with this path, or the module.
    pub fn name(&mut self, path: &str, address: u64) -> String {
        let target = self.target;
        let symbols = self.modules.entry(path.to_owned()).or_insert_with(|| {
            let module = target.space.mappings().iter().find(|mapping| mapping.path == path);
            Arc::new(module.and_then(|module| variables(target, module)).unwrap_or_default())
        });
        let at = symbols.partition_point(|symbol| symbol.start <= address).checked_sub(1);
        match at.map(|at| &symbols[at]).filter(|symbol| address < symbol.end) {
            Some(symbol) => format!("global {}", symbol.name),
            None => format!("data of {}", base_name(path)),
        }
    }
}

/// The sized symbols of a module, by run-time address.
fn variables(target: &Target, module: &Mapping) -> Option<Vec<Symbol>> {
    let (elf, bias) = target.elf(module)?;
    let mut found = Vec::new();
    for table in elf.symbol_tables() {
        for symbol in table.defined_symbols().filter(|symbol| symbol.size > 0).take(MAX_SYMBOLS) {
            let start = symbol.address.0.wrapping_add(bias);
            if target.space.find(start).is_some_and(|mapping| mapping.writable) {
                let name = demangle(&String::from_utf8_lossy(symbol.name));
                found.push(Symbol { start, end: start.saturating_add(symbol.size), name });
            }
        }
    }
    found.sort_by_key(|symbol| symbol.start);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_out() {
        assert_eq!(without((0, 100), &[(10, 20), (90, 200)]), [(0, 10), (20, 90)]);
        assert_eq!(without((0, 100), &[(0, 100)]), []);
    }
}
