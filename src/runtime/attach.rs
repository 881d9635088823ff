//! Finds the runtimes of a process that is not being sampled.
//!
//! Not here: following a process over time (`capture`).

use std::sync::Arc;

use super::{
    Attach, Instance, Language, LoadedRuntime, ProcessView, Refusal, RuntimeError,
    mapped_files::{MappedCode, mapped_files},
    registry::{ALL, detect},
};
use crate::{
    addr::FileOffset,
    budget::Budget,
    elf::ElfFile,
    process::{ProcessError, threads},
};

/// The runtimes of a process.
#[derive(Debug, Default)]
pub struct Attached {
    /// The instances.
    pub instances: Vec<Box<dyn Instance>>,
    /// Runtimes that are there and cannot be read.
    pub refused: Vec<(&'static dyn Language, RuntimeError)>,
}

/// As [`attach_within`], with a budget of its own.
pub fn attach(pid: u32) -> Result<Attached, ProcessError> {
    attach_within(pid, &Budget::session())
}

/// Attaches to all runtimes of a process; reading them draws from `budget`. Errors: the process has
/// ended or cannot be read.
pub fn attach_within(pid: u32, budget: &Budget) -> Result<Attached, ProcessError> {
    attach_to(&ProcessView::new(pid, budget))
}

/// Attaches to all runtimes of a process. Errors: it has ended or cannot be read.
pub fn attach_to(process: &ProcessView) -> Result<Attached, ProcessError> {
    let files = process.code_files()?;
    let found = attach_by(process, &files, &detect);
    if !found.instances.is_empty() || !found.refused.is_empty() {
        return Ok(found);
    }
    let search = |elf: &Arc<ElfFile>, path: &str| {
        ALL.iter().filter_map(|language| language.search(elf, path)).collect()
    };
    Ok(attach_by(process, &files, &search))
}

type Detect<'d> = &'d dyn Fn(&Arc<ElfFile>, &str) -> Vec<Arc<dyn LoadedRuntime>>;

fn attach_by(process: &ProcessView, files: &[MappedCode], detect: Detect<'_>) -> Attached {
    let mut attached = Attached::default();
    for (mapping, elf) in files {
        let Some(stated) = elf.address_of(FileOffset(mapping.file_offset)) else { continue };
        let bias = mapping.start.0.wrapping_sub(stated.0);
        for loaded in detect(elf, &mapping.path) {
            attached.add(loaded.language(), loaded.attach(process, bias));
        }
        elf.release_pages();
    }
    attached
}

impl Attached {
    fn add(&mut self, language: &'static dyn Language, attach: Attach) {
        match attach {
            Attach::Ready(instance) => self.instances.push(instance),
            Attach::No(Refusal::Error(error)) => self.refused.push((language, error)),
            Attach::NotYet | Attach::No(Refusal::OnlyCode) => {}
        }
    }
}

/// The languages whose code a process seems to run, judged by the marks of its mapped files alone.
pub fn likely(pid: u32) -> Vec<&'static dyn Language> {
    likely_of(&mapped_files(threads::reader(pid)).unwrap_or_default())
}

/// The languages whose code these files seem to have.
pub fn likely_of(files: &[MappedCode]) -> Vec<&'static dyn Language> {
    let is_likely = |language: &&&'static dyn Language| {
        files.iter().any(|(mapping, elf)| language.is_marked(elf, &mapping.path))
    };
    ALL.iter().filter(is_likely).copied().collect()
}
