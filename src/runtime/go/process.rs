//! A running Go process: its tables, its release, and the addresses of its runtime's variables.
//!
//! Not here: reading goroutines and counters. rprof never writes into the process.

use std::sync::Arc;

use super::{
    GoError,
    find::{GoTables, is_marked},
    globals::Globals,
    layouts::Layout,
    loaded::{Loaded, read_string},
    pclntab::Function,
    version::{BuildInfo, Version},
};
use crate::{
    addr::{ElfAddr, FileOffset, RuntimeAddr},
    budget::Budget,
    process::ProcessMemory,
    runtime::{ProcessView, mapped_files::MappedCode},
};

/// A running Go process.
#[derive(Debug)]
pub struct GoProcess {
    /// Its number.
    pub pid: u32,
    /// The process as runtimes read it.
    pub view: ProcessView,
    /// Its memory.
    pub memory: Arc<ProcessMemory>,
    /// The program (or library) with the runtime, then plugins.
    pub files: Vec<Loaded>,
    /// The release as the runtime reports it: `go1.27.3`.
    pub version_text: String,
    /// The parsed release.
    pub version: Version,
    /// The structure layout used.
    pub layout: Layout,
    /// Whether the layout is that of the program's release, not of the newest known release.
    pub is_known_release: bool,
    /// The addresses of the runtime's variables.
    pub globals: Globals,
    /// The build information, if the program has it.
    pub build_info: Option<BuildInfo>,
    /// What reading the process may cost: lists of its runtime may be crafted.
    pub budget: Budget,
}

impl GoProcess {
    /// As [`GoProcess::attach_within`], with a budget of its own.
    pub fn attach(pid: u32) -> Result<GoProcess, GoError> {
        GoProcess::attach_within(&ProcessView::new(pid, &Budget::session()))
    }

    /// Finds the runtime of a process; reading it draws from the budget of the view. Errors: it is
    /// not a Go program, or cannot be read.
    pub fn attach_within(view: &ProcessView) -> Result<GoProcess, GoError> {
        let (pid, budget, memory) = (view.pid, view.budget.process(), Arc::clone(&view.memory));
        let mut files = loaded_files(view)?;
        let main = files.iter().position(|file| file.tables.function("runtime.schedinit").is_some());
        let main = main.ok_or(GoError::NotGo(pid))?;
        files.swap(0, main);
        let file = &files[0];
        let elf = Arc::clone(file.tables.pclntab.elf());
        if memory.read_word(file.at(file.tables.moduledata)).is_none() {
            return Err(GoError::Memory(pid));
        }
        let build_info = BuildInfo::read(&elf);
        let version_text = (build_info.as_ref().map(|info| info.go_version.clone()))
            .or_else(|| super::globals::build_version(file, &memory))
            .ok_or(GoError::Variable {
                what: "version",
                why: "the program has no build information and no version text",
            })?;
        let version = Version::parse(&version_text).ok_or_else(|| GoError::Release(version_text.clone()))?;
        let (layout, is_known_release) =
            Layout::of(&version).ok_or_else(|| GoError::Release(version_text.clone()))?;
        let globals = Globals::find(file, &memory, &layout)?;
        elf.release_pages();
        Ok(GoProcess {
            pid,
            view: view.clone(),
            memory,
            files,
            version_text,
            version,
            layout,
            is_known_release,
            globals,
            build_info,
            budget,
        })
    }

    /// The function at a run-time address, its file, and the address in it.
    pub fn function_at(&self, address: RuntimeAddr) -> Option<(&Loaded, Function, ElfAddr)> {
        self.files.iter().find_map(|file| {
            let inside = ElfAddr(address.0.wrapping_sub(file.bias));
            Some((file, file.tables.function_at(inside)?, inside))
        })
    }

    /// The linker's name of the function at an address.
    pub fn name_at(&self, address: RuntimeAddr) -> Option<&str> {
        let (file, function, _) = self.function_at(address)?;
        Some(file.tables.pclntab.name(&function))
    }

    /// A Go string whose header (pointer and length) is at `at`, with at most `max` bytes.
    pub fn string_at(&self, at: RuntimeAddr, max: usize) -> Option<String> {
        read_string(&self.memory, at, max)
    }
}

/// The mapped files with Go code. Files without Go's section names are searched only if there is no
/// other.
fn loaded_files(view: &ProcessView) -> Result<Vec<Loaded>, GoError> {
    let opened = view.code_files()?;
    let load = |(mapping, elf): &MappedCode| {
        let tables = GoTables::find(elf)?;
        let stated = elf.address_of(FileOffset(mapping.file_offset))?;
        let bias = mapping.start.0.wrapping_sub(stated.0);
        Some(Loaded { tables: Arc::new(tables), bias, path: mapping.path.clone() })
    };
    let marked: Vec<_> = opened.iter().filter(|(_, elf)| is_marked(elf)).collect();
    let loaded: Vec<Loaded> = marked.iter().filter_map(|one| load(one)).collect();
    if !loaded.is_empty() {
        return Ok(loaded);
    }
    let unmarked: Vec<Loaded> = opened.iter().filter_map(load).collect();
    match marked.first() {
        _ if !unmarked.is_empty() => Ok(unmarked),
        Some((mapping, _)) => Err(GoError::Tables(mapping.path.clone())),
        None => Err(GoError::NotGo(view.pid)),
    }
}
