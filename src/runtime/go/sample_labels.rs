//! The labels of the goroutine that a sample was taken of, read from outside right after it.
//!
//! Go keeps the goroutine that runs in a register of its own (r14, x28). It is believed if it is one, and
//! the sample's stack pointer lies in its stack. Its labels are read some microseconds to a millisecond
//! later: a program that changes them meanwhile gets the newer ones, or none. Not here: samples.

use std::sync::Arc;

use super::{
    find::GoTables,
    globals::build_version,
    labels::{Labels, read},
    layouts::{G_SCHED_G, Layout},
    process::Loaded,
    version::{BuildInfo, Version},
};
use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
    process::ProcessMemory,
};

/// How labels are read in one process.
#[derive(Clone, Debug)]
pub struct SampleLabels {
    layout: Layout,
}

impl SampleLabels {
    /// `None`: the file holds no runtime, or one whose layout is not known for sure.
    pub fn of(tables: &Arc<GoTables>, bias: u64, memory: &ProcessMemory) -> Option<SampleLabels> {
        tables.function("runtime.schedinit")?;
        let info = BuildInfo::read(tables.pclntab.elf()).map(|info| info.go_version);
        let text = info.or_else(|| {
            build_version(&Loaded { tables: Arc::clone(tables), bias, path: String::new() }, memory)
        })?;
        let (layout, is_known) = Layout::of(&Version::parse(&text)?)?;
        is_known.then_some(SampleLabels { layout })
    }

    /// The labels of the goroutine that these registers are of.
    pub fn read(&self, registers: &Registers, memory: &ProcessMemory) -> Option<Labels> {
        let g = registers.get(native::GO_G)?;
        let sp = registers.get(native::SP)?;
        let mut bytes = [0; 512];
        let bytes = bytes.get_mut(..self.layout.g_bytes())?;
        if g == 0 || !memory.read_exact(RuntimeAddr(g), bytes) {
            return None;
        }
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
        let (low, high) = (word(0)?, word(8)?);
        let runs_here = word(G_SCHED_G) == Some(g) && low <= sp && sp < high;
        let labels = word(self.layout.labels).filter(|labels| runs_here && *labels != 0)?;
        read(memory, RuntimeAddr(labels), self.layout.labels_are_list)
    }
}
