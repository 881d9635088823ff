//! Names from ELF symbol tables. A table has up to a million entries and a profile some hundred
//! addresses, so each table is read once as a stream, keeping the best symbol of each address.
//! Names are read only if two symbols compete, and of the symbols chosen.
//!
//! Not here: demangling, DWARF, choosing the files whose tables are read.

use super::{Deadline, NameSource};
use crate::{
    addr::ElfAddr,
    elf::{CodeSymbol, SymbolKind, SymbolTable},
};

/// A crafted table could have a million symbols that all cover every address. After this many
/// comparisons, the symbols found first are kept.
const MAX_COMPARISONS: usize = 64 << 20;
/// How much of two names is compared to choose between aliases.
const COMPARED_BYTES: usize = 256;
/// Tables above this size release their pages along the way.
const LARGE_TABLE_BYTES: usize = 16 << 20;
const SYMBOLS_PER_RELEASE: usize = 128 << 10;

/// The best symbol for each of a set of addresses.
#[derive(Debug)]
pub(super) struct SymbolSearch<'s> {
    /// Sorted, each once.
    addresses: Vec<u64>,
    /// For each address the best symbol whose size covers it.
    covering: Vec<Option<Candidate<'s>>>,
    /// For each address, the highest symbol above the previous address and up to it: the last
    /// symbol before an address, once passed on upwards.
    preceding: Vec<Option<Candidate<'s>>>,
    comparisons: usize,
    deadline: &'s Deadline,
}

#[derive(Clone, Debug)]
struct Candidate<'s> {
    symbol: CodeSymbol,
    source: NameSource,
    name: &'s [u8],
}

impl<'s> SymbolSearch<'s> {
    /// `addresses`: sorted, each once.
    pub(super) fn new(addresses: Vec<u64>, deadline: &'s Deadline) -> SymbolSearch<'s> {
        let empty = || vec![None; addresses.len()];
        SymbolSearch { covering: empty(), preceding: empty(), addresses, comparisons: 0, deadline }
    }

    /// Every address is covered by a symbol with a size, so other tables need not be read.
    pub(super) fn is_complete(&self) -> bool {
        self.covering.iter().all(Option::is_some)
    }

    /// Reads a table. If several tables have the same symbol, the first one is used.
    pub(super) fn add(&mut self, table: &SymbolTable<'s>, source: NameSource) {
        let large = table.size() > LARGE_TABLE_BYTES;
        for (at, symbol) in table.code_symbols().enumerate() {
            if large && at % SYMBOLS_PER_RELEASE == 0 {
                table.release_pages();
            }
            if self.deadline.passed() {
                return;
            }
            let first = self.addresses.partition_point(|address| *address < symbol.address.0);
            if first == self.addresses.len() {
                continue;
            }
            let mut name = LazyName { table, symbol: &symbol, read: None };
            offer(&mut self.preceding[first], &mut name, symbol, source);
            let end = symbol.address.0.saturating_add(symbol.size).min(symbol.section_end.0);
            let mut at = first;
            while self.addresses.get(at).is_some_and(|address| *address < end) {
                offer(&mut self.covering[at], &mut name, symbol, source);
                at += 1;
                self.comparisons += 1;
                if self.comparisons > MAX_COMPARISONS || self.deadline.passed() {
                    return;
                }
            }
        }
    }

    /// The name of each address, in the order of the addresses.
    pub(super) fn finish(mut self) -> Vec<Option<(&'s [u8], NameSource)>> {
        for at in 1..self.preceding.len() {
            if self.preceding[at].is_none() {
                self.preceding[at] = self.preceding[at - 1].clone();
            }
        }
        let best = self.covering.into_iter().zip(self.preceding).zip(&self.addresses);
        best.map(|((covering, preceding), address)| {
            // A label without a size extends to the next symbol or the end of its section.
            let unsized_label = preceding
                .filter(|label| label.symbol.size == 0 && ElfAddr(*address) < label.symbol.section_end);
            covering.or(unsized_label).map(|found| (found.name, found.source))
        })
        .collect()
    }
}

/// A symbol's name, which is read at most once: the symbol may cover many addresses.
struct LazyName<'l, 's> {
    table: &'l SymbolTable<'s>,
    symbol: &'l CodeSymbol,
    read: Option<&'s [u8]>,
}

impl<'s> LazyName<'_, 's> {
    fn get(&mut self) -> &'s [u8] {
        let (table, symbol) = (self.table, self.symbol);
        self.read.get_or_insert_with(|| table.name(symbol))
    }
}

fn offer<'s>(
    slot: &mut Option<Candidate<'s>>,
    name: &mut LazyName<'_, 's>,
    symbol: CodeSymbol,
    source: NameSource,
) {
    let worse = slot.as_ref().is_some_and(|held| rank(&symbol) < rank(&held.symbol));
    if worse {
        return;
    }
    let name = name.get();
    // `$x`, `$d`: ARM mapping symbols, which mark the kind of bytes that follow; `.L…`: local
    // labels of an assembler.
    if name.is_empty() || name.starts_with(b"$") || name.starts_with(b".L") {
        return;
    }
    let tied = slot.as_ref().filter(|held| rank(&symbol) == rank(&held.symbol));
    if tied.is_some_and(|held| alias_rank(name) >= alias_rank(held.name)) {
        return;
    }
    *slot = Some(Candidate { symbol, source, name });
}

/// The nearest symbol is preferred, then functions to labels, then global to local.
fn rank(symbol: &CodeSymbol) -> (u64, bool, bool, bool) {
    (symbol.address.0, symbol.kind == SymbolKind::Function, symbol.size > 0, symbol.global)
}

/// Among aliases the plainest name is preferred: `puts` to `_IO_puts`. Lower is better.
fn alias_rank(name: &[u8]) -> (usize, usize, &[u8]) {
    // Mangled names begin with an underscore that has no meaning.
    let mangled = name.starts_with(b"_Z") || name.starts_with(b"_R");
    // Long names are compared by their beginning: there may be very many.
    let name = &name[..name.len().min(COMPARED_BYTES)];
    let underscores = name.iter().take_while(|byte| **byte == b'_').count();
    (if mangled { 0 } else { underscores }, name.len(), name)
}
