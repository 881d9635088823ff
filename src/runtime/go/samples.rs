//! What is read of a Go process with each sample: the labels of the running goroutine; and how a
//! thread refers to its goroutine.
//!
//! Go keeps the running goroutine in a register (r14, x28), and on amd64 also in thread-local
//! memory. If the sampler could follow the pointers when it took the sample, the labels are exact.
//! Else they are read microseconds to a millisecond later; if the program changes them meanwhile,
//! the sample gets the newer labels or none. Not here: samples.

use std::sync::Arc;

use super::{
    cpu::CPU,
    find::GoTables,
    globals::build_version,
    labels::{Labels, read},
    layouts::{G_M, G_SCHED_G, G_SCHED_PC, G_SCHED_SP, Layout, M_G0},
    loaded::Loaded,
    version::{BuildInfo, Version},
};
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    arch::{Registers, native},
    process::{ProcessMemory, TaskLayout, TaskPointer},
};

/// The release of the runtime in a file, such as `go1.22.3`.
pub fn version_text(tables: &Arc<GoTables>, bias: u64, memory: &ProcessMemory) -> Option<String> {
    let info = BuildInfo::read(tables.pclntab.elf()).map(|info| info.go_version);
    info.or_else(|| build_version(&Loaded { tables: Arc::clone(tables), bias, path: String::new() }, memory))
}

/// Reads the goroutines of one process's samples.
#[derive(Clone, Debug)]
pub struct GoSamples {
    layout: Layout,
    thread_pointer_offset: Option<i64>,
}

impl GoSamples {
    /// `None`: the release with this name has an unknown layout.
    pub fn of(tables: &Arc<GoTables>, version: &str) -> Option<GoSamples> {
        let (layout, is_known) = Layout::of(&Version::parse(version)?)?;
        let thread_pointer_offset = ["runtime.morestack", "runtime.morestack.abi0"].iter().find_map(|name| {
            let entry = ElfAddr(tables.function(name)?.entry);
            (CPU.g_offset)(tables.pclntab.elf().bytes_from(entry)?)
        });
        is_known.then_some(GoSamples { layout, thread_pointer_offset })
    }

    /// How a thread refers to its goroutine.
    pub fn tasks(&self) -> TaskLayout {
        TaskLayout {
            current: match self.thread_pointer_offset {
                Some(offset) => TaskPointer::ThreadPointer(offset),
                None => TaskPointer::Register(CPU.g_register),
            },
            thread: G_M as u32,
            stack_start: 0,
            stack_end: 8,
            sp: G_SCHED_SP as u32,
            pc: G_SCHED_PC as u32,
            fp: self.layout.sched_bp() as u32,
            labels: self.layout.labels as u32,
            task: self.layout.curg as u32,
            own_task: M_G0 as u32,
        }
    }

    /// The labels that `word`, a goroutine's `labels` field, points to.
    pub fn labels_at(&self, word: u64, memory: &ProcessMemory) -> Option<Labels> {
        if word == 0 {
            return None;
        }
        read(memory, RuntimeAddr(word), self.layout.labels_are_list)
    }

    /// The labels of the goroutine with these registers. Its register is used if it points to a `g`
    /// whose stack contains the stack pointer.
    pub fn labels(&self, registers: &Registers, memory: &ProcessMemory) -> Option<Labels> {
        let g = registers.get(CPU.g_register)?;
        let sp = registers.get(native::SP)?;
        let mut bytes = [0; 512];
        let bytes = bytes.get_mut(..self.layout.g_bytes())?;
        if g == 0 || !memory.read_exact(RuntimeAddr(g), bytes) {
            return None;
        }
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
        let (low, high) = (word(0)?, word(8)?);
        let runs_here = word(G_SCHED_G) == Some(g) && low <= sp && sp < high;
        self.labels_at(word(self.layout.labels).filter(|_| runs_here)?, memory)
    }
}
