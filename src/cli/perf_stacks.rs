//! Unwinds the copies of stacks that `perf record --call-graph dwarf` stores, with the files of
//! this machine. A file that was replaced since has another build ID and is not used.
//!
//! Not here: the format of `perf.data` (`profile::perf_data`).

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
    sync::Arc,
};

use crate::{
    addr::{FileOffset, RuntimeAddr},
    elf::ElfFile,
    process::{files, memory::own_mapping},
    profile::perf_data::{MappedCode, StackUnwinder, UserStack},
    runtime,
    symbolize::hex,
    unwind::{CopiedStack, Frame, Module, Modules, UnwindTables, Unwinder, registers_from_perf},
};

/// The most files that are opened.
const MAX_FILES: usize = 4096;

/// A file, and its tables.
type Opened = Option<(Arc<ElfFile>, Arc<UnwindTables>)>;

/// Unwinds the stacks of a file.
#[derive(Default)]
pub struct PerfStacks {
    spaces: HashMap<u32, Modules>,
    /// By path and build ID.
    files: HashMap<(String, String), Opened>,
    unwinder: Unwinder,
    frames: Vec<Frame>,
}

impl PerfStacks {
    fn open(&mut self, path: &str, build_id: &str) -> Opened {
        let count = self.files.len();
        match self.files.entry((path.to_owned(), build_id.to_owned())) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) if count < MAX_FILES => new.insert(open(path, build_id)).clone(),
            Entry::Vacant(_) => None,
        }
    }
}

fn open(path: &str, build_id: &str) -> Opened {
    let elf = match path {
        // That of another kernel has another build ID.
        "[vdso]" => ElfFile::from_bytes(own_mapping("[vdso]")?).ok()?,
        _ if path.starts_with('/') => ElfFile::open(&files::open_plain(Path::new(path)).ok()?).ok()?,
        _ => return None,
    };
    let own = hex(elf.build_id().unwrap_or_default());
    // perf pads short ones with zeros.
    if !build_id.is_empty() && !build_id.starts_with(&own) {
        return None;
    }
    let elf = Arc::new(elf);
    let tables = UnwindTables::new(Arc::clone(&elf));
    let tables = match runtime::code_of(&runtime::detect(&elf, path)) {
        Some(code) => tables.with_code(code),
        None => tables,
    };
    Some((elf, Arc::new(tables)))
}

impl StackUnwinder for PerfStacks {
    fn map(&mut self, pid: u32, code: &MappedCode<'_>) {
        let opened = self.open(code.path, code.build_id);
        let stated = opened.as_ref().and_then(|(elf, _)| elf.address_of(FileOffset(code.offset)));
        let bias = code.start.wrapping_sub(stated.map_or(code.offset, |stated| stated.0));
        let (start, end) = (RuntimeAddr(code.start), RuntimeAddr(code.limit));
        let tables = opened.map(|(_, tables)| tables);
        self.spaces.entry(pid).or_default().insert(Module { start, end, bias, tables, code: None, id: 0 });
    }

    fn copy(&mut self, parent: u32, child: u32) {
        if let Some(space) = self.spaces.get(&parent).cloned() {
            self.spaces.insert(child, space);
        }
    }

    fn forget(&mut self, pid: u32) {
        self.spaces.remove(&pid);
    }

    fn unwind(&mut self, pid: u32, stack: &UserStack<'_>, addresses: &mut Vec<u64>) -> bool {
        let Some(modules) = self.spaces.get(&pid) else { return false };
        let words = stack.registers.as_chunks::<8>().0.iter();
        let words: Vec<u64> = words.map(|word| u64::from_le_bytes(*word)).collect();
        let registers = registers_from_perf(stack.register_mask, &words);
        let Some(start) = registers.stack_pointer() else { return false };
        let mut copy = CopiedStack {
            start: RuntimeAddr(start),
            bytes: stack.bytes,
            capped: stack.capped,
            has_holes: false,
        };
        let end = self.unwinder.unwind(modules, &registers, &mut copy, &mut self.frames);
        addresses.extend(self.frames.iter().map(|frame| frame.addr.lookup().0));
        end.is_whole()
    }
}
