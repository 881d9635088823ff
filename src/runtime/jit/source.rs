//! What a process states about the code that it generates: the images of the GDB JIT interface and
//! its jitdump file, as one set of pieces of code by address. Where both describe an address, the
//! image counts.
//!
//! Not here: perf maps, which give names only and are read when frames are named (`perf_map`).

use std::{collections::BTreeMap, fs::File, ops::Range, sync::Arc};

use super::{
    gdb::{Entry, Head},
    jitdump::{self, Jitdump},
    language::GeneratedFunction,
    object::{self, Linked},
};
use crate::{
    addr::RuntimeAddr,
    budget::{Budget, Reservation, Resource},
    elf::ElfFile,
    process::ProcessMemory,
    runtime::LoadedRuntime,
};

/// How often a list is read as a whole, in nanoseconds, though its head is the same.
const WHOLE_EVERY_NS: u64 = 5_000_000_000;
/// The most images that are known of one process.
const MAX_IMAGES: usize = 1 << 14;

/// A piece of generated code that can be unwound and named like a file: run-time addresses are its
/// ELF addresses.
#[derive(Debug)]
pub struct Piece {
    /// Where its code is.
    pub code: Vec<Range<u64>>,
    /// Code, call-frame information, symbols, debug information.
    pub elf: Arc<ElfFile>,
    /// What names its addresses, if that is not in `elf`.
    pub runtime: Option<Arc<dyn LoadedRuntime>>,
    _memory: Reservation,
}

/// What one process states.
#[derive(Debug)]
pub struct Generated {
    memory: Arc<ProcessMemory>,
    budget: Budget,
    lists: Vec<List>,
    dump: Option<Jitdump>,
}

/// One list of the GDB JIT interface.
#[derive(Debug)]
struct List {
    at: u64,
    head: Head,
    is_whole: bool,
    read_at_ns: u64,
    /// The entries with where their code is.
    entries: BTreeMap<Entry, Vec<Range<u64>>>,
}

impl Generated {
    /// `descriptors`: the addresses of the heads of the process's lists. `dump`: its jitdump file.
    pub fn new(
        memory: &Arc<ProcessMemory>,
        budget: &Budget,
        descriptors: impl Iterator<Item = u64>,
        dump: Option<File>,
        now_ns: u64,
    ) -> Generated {
        let list =
            |at| List { at, head: Head::default(), is_whole: false, read_at_ns: 0, entries: BTreeMap::new() };
        Generated {
            memory: Arc::clone(memory),
            budget: budget.clone(),
            lists: descriptors.map(list).collect(),
            dump: dump.and_then(|file| Jitdump::open(file, now_ns, budget)),
        }
    }

    /// Whether the process states anything.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.dump.is_none()
    }

    /// Reads the lists again. `gone`: called with code that is no longer what it was.
    pub fn read_on(&mut self, now_ns: u64, mut gone: impl FnMut(Range<u64>)) {
        let known: usize = self.lists.iter().map(|list| list.entries.len()).sum();
        let room = MAX_IMAGES.saturating_sub(known);
        for list in &mut self.lists {
            list.read_on(&self.memory, now_ns, room, &mut gone);
        }
    }

    /// Makes what the jitdump file states up to a time count; `gone` as in [`Generated::read_on`].
    /// Cheap if nothing is new.
    pub fn advance(&mut self, time_ns: u64, gone: impl FnMut(Range<u64>)) {
        if let Some(dump) = &mut self.dump {
            dump.read_on();
            dump.advance(time_ns, gone);
        }
    }

    /// The code that contains an address. `None`: nothing is stated, or it cannot be read.
    pub fn piece_at(&self, address: u64) -> Option<Piece> {
        self.image_at(address).or_else(|| self.function_at(address))
    }

    fn image_at(&self, address: u64) -> Option<Piece> {
        let holds = |ranges: &[Range<u64>]| ranges.iter().any(|range| range.contains(&address));
        let mut entries = self.lists.iter().flat_map(|list| &list.entries);
        let (entry, _) = entries.find(|(_, ranges)| holds(ranges))?;
        let memory = self.budget.reserve(Resource::Memory, entry.size).ok()?;
        let mut bytes = vec![0; usize::try_from(entry.size).ok()?];
        if !self.memory.read_exact(entry.image, &mut bytes) {
            return None;
        }
        let Linked { bytes, code } = object::link(bytes, &self.memory)?;
        let elf = ElfFile::from_bytes_within(bytes, &self.budget).ok()?;
        // It may have changed since its headers were read.
        holds(&code).then(|| Piece { code, elf: Arc::new(elf), runtime: None, _memory: memory })
    }

    fn function_at(&self, address: u64) -> Option<Piece> {
        let dump = self.dump.as_ref()?;
        let (range, _) = dump.find(address)?;
        let function = dump.function(range.start)?;
        let memory = self.budget.reserve(Resource::Memory, function.code.len() as u64).ok()?;
        let jitdump::Function { address, name, code, eh_frame, .. } = &function;
        let file = object::Function { address: *address, code, name, eh_frame }.file();
        let elf = ElfFile::from_bytes_within(file, &self.budget).ok()?;
        let runtime: Arc<dyn LoadedRuntime> = Arc::new(GeneratedFunction::new(function));
        Some(Piece { code: vec![range], elf: Arc::new(elf), runtime: Some(runtime), _memory: memory })
    }
}

impl List {
    fn read_on(
        &mut self,
        memory: &ProcessMemory,
        now_ns: u64,
        mut room: usize,
        gone: &mut impl FnMut(Range<u64>),
    ) {
        let Some(head) = Head::read(memory, self.at) else { return };
        let is_old = now_ns.saturating_sub(self.read_at_ns) > WHOLE_EVERY_NS;
        if head == self.head && self.is_whole && !is_old {
            return;
        }
        let (now, is_whole) = head.entries(memory);
        if is_whole {
            self.entries.retain(|entry, code| {
                let stays = now.contains(entry) && !head.has_replaced(entry, self.head);
                if !stays {
                    code.iter().cloned().for_each(&mut *gone);
                }
                stays
            });
        }
        for entry in now {
            if self.entries.contains_key(&entry) || room == 0 {
                continue;
            }
            if let Some(code) = object::code_of(memory, entry.image, entry.size) {
                room -= 1;
                self.entries.insert(entry, code);
            }
        }
        (self.head, self.is_whole, self.read_at_ns) = (head, is_whole, now_ns);
    }
}

/// The addresses of generated code that the ranges and a mapping have in common.
pub fn parts_in(code: &[Range<u64>], mapping: Range<RuntimeAddr>) -> impl Iterator<Item = Range<u64>> + '_ {
    let clipped = move |range: &Range<u64>| range.start.max(mapping.start.0)..range.end.min(mapping.end.0);
    code.iter().map(clipped).filter(|range| !range.is_empty())
}
