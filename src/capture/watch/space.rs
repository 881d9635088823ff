//! The state of one process in a capture: its mappings and threads.
//!
//! Not here: samples (`world`), opening files (`images`).

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{
    generated::GeneratedCode,
    images::{ImageKind, Images, Region},
    languages::Languages,
    moved_code,
};
use crate::{
    addr::RuntimeAddr,
    core_file::CoreFile,
    elf::ElfFile,
    issue::{Issue, Issues},
    process::{self, Mapping, ProcessError, ProcessMemory},
    runtime::{CodeRegion, EndedProcess, ProcessView},
    sampler::NewMapping,
    unwind::{Module, Modules},
};

/// With fewer mappings there is nothing to gain by searching for those that are gone.
const MIN_MAPPINGS_TO_CLEAN: usize = 256;

/// A profiled process.
#[derive(Debug)]
pub struct Space {
    /// Its number.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
    /// Its executable mappings.
    pub modules: Modules,
    /// Its memory.
    pub memory: Arc<ProcessMemory>,
    /// CLOCK_MONOTONIC of the last read of /proc/PID/maps.
    pub read_at_ns: u64,
    /// How long that read took: it limits how often the file is read again.
    pub read_took_ns: u64,
    /// Threads that have labels.
    pub tids: FxHashSet<u32>,
    /// The language runtimes in it.
    pub languages: Languages,
    /// The code that it generates and describes.
    pub generated: GeneratedCode,
    /// CLOCK_MONOTONIC of the end of its first thread.
    pub ended_at_ns: Option<u64>,
    /// It was not found at the end of the last window, though no record said that it ended.
    pub has_vanished: bool,
    /// What is read instead of /proc: its core file.
    ended: Option<Arc<EndedProcess>>,
    /// With so many mappings, those that are gone are searched for: there is no record of
    /// munmap(2).
    clean_at: usize,
}

impl Space {
    /// Reads the current mappings of a process. Errors: it has ended or cannot be read.
    pub fn read(
        pid: u32,
        now_ns: u64,
        images: &mut Images,
        issues: &mut Issues,
    ) -> Result<Space, ProcessError> {
        let reader = process::threads::reader(pid);
        let mappings = process::read_executable_mappings(reader)?;
        let name = process::threads::name(pid, pid).unwrap_or_default();
        let memory = Arc::new(ProcessMemory::new(reader));
        let mut space = Space { read_at_ns: now_ns, memory, ..Space::empty(pid, name) };
        for mapping in &mappings {
            space.insert_mapping(reader, mapping, &mappings, images, issues);
        }
        Ok(space)
    }

    /// A process without known mappings: it was forked, or has ended.
    pub fn empty(pid: u32, name: String) -> Space {
        Space {
            pid,
            name,
            modules: Modules::default(),
            memory: Arc::new(ProcessMemory::new(pid)),
            read_at_ns: 0,
            read_took_ns: 0,
            tids: FxHashSet::default(),
            languages: Languages::default(),
            generated: GeneratedCode::default(),
            ended_at_ns: None,
            has_vanished: false,
            ended: None,
            clean_at: MIN_MAPPINGS_TO_CLEAN,
        }
    }

    /// A process that has ended, as its core file shows it. Its files are those that the core file
    /// has found.
    pub fn of_core(core: &CoreFile, images: &mut Images, issues: &mut Issues) -> Space {
        let ended = ended_process(core);
        let executable: Vec<Mapping> =
            ended.mappings.iter().filter(|mapping| mapping.executable).cloned().collect();
        let mut space = Space {
            memory: Arc::new(ProcessMemory::of_source(core.memory())),
            // Its mappings are never read from /proc: another process may have its number.
            read_at_ns: u64::MAX,
            ended: Some(Arc::new(ended)),
            ..Space::empty(core.process.pid, process::comm::printable(&core.process.name))
        };
        for mapping in executable.iter().filter(|mapping| mapping.inode != 0) {
            let Some(file) = core.file_of(mapping) else { continue };
            let problem = file.problem.clone();
            let issue = |why| Issue::UnreadableFile { path: file.path.clone(), why };
            issues.extend_with(problem.map(issue));
            let elf = file.elf.as_ref().map(|elf| elf.within(images.budget()));
            images.add_file(&region(0, mapping), elf);
        }
        for mapping in &executable {
            space.insert_mapping(0, mapping, &executable, images, issues);
        }
        space
    }

    /// The process, as language runtimes read it.
    pub fn view(&self, images: &Images) -> ProcessView {
        // Where it has ended, nothing is read from /proc.
        let pid = if self.ended.is_some() { 0 } else { self.pid };
        ProcessView {
            pid,
            reader: if pid == 0 { 0 } else { process::threads::reader(pid) },
            memory: Arc::clone(&self.memory),
            budget: images.budget().process(),
            ended: self.ended.clone(),
        }
    }

    /// Adds one of a process's executable mappings; `reader` is a thread through which the process
    /// can be read.
    fn insert_mapping(
        &mut self,
        reader: u32,
        mapping: &Mapping,
        executable: &[Mapping],
        images: &mut Images,
        issues: &mut Issues,
    ) {
        let of_file = moved_code::is_candidate(mapping)
            .then(|| {
                moved_code::neighbours(mapping, executable).find_map(|neighbour| {
                    let elf = images.file(&region(reader, neighbour), issues)?;
                    let offset = moved_code::offset_in_file(mapping, neighbour, &elf, &self.memory)?;
                    let (start, end) = (mapping.start, mapping.end);
                    Some(Region { start, end, file_offset: offset, ..region(reader, neighbour) })
                })
            })
            .flatten();
        let region = of_file.unwrap_or_else(|| region(reader, mapping));
        self.insert(images.module(&region, issues), images);
    }

    fn insert(&mut self, mut module: Module, images: &Images) {
        let image = &images.placement(module.id).image;
        for runtime in &image.runtimes {
            self.languages.add(runtime, module.bias);
        }
        module.code = self.languages.claim(0, &region_of(&module, images));
        self.modules.insert(module.clone());
        match image.kind {
            ImageKind::File => self.generated.note_file(&image.path),
            ImageKind::Anonymous { .. } if module.code.is_none() => {
                self.generated.place_again(&module, &mut self.modules);
            }
            _ => {}
        }
    }

    /// Attaches to the language runtimes that are due. `true`: there are new ones.
    pub fn attach_runtimes(&mut self, now_ns: u64, images: &Images) -> bool {
        if !self.languages.is_due(now_ns) {
            return false;
        }
        let process = self.view(images);
        let before = self.languages.count();
        if self.languages.attach_due(&process, now_ns) == 0 {
            return false;
        }
        let languages = &mut self.languages;
        self.modules.claim(|module| languages.claim(before, &region_of(module, images)));
        true
    }

    /// The child of a fork, with the same mappings.
    pub fn forked(&self, pid: u32) -> Space {
        let (mut modules, languages) = (self.modules.clone(), self.languages.forked());
        modules.disown();
        self.generated.remove_from(&mut modules);
        Space { modules, languages, ..Space::empty(pid, self.name.clone()) }
    }

    /// Adds a new executable mapping.
    pub fn map(&mut self, mapping: &NewMapping<'_>, images: &mut Images, issues: &mut Issues) {
        let end = RuntimeAddr(mapping.start.0.saturating_add(mapping.length));
        if end <= mapping.start {
            return;
        }
        let path = String::from_utf8_lossy(mapping.path);
        let region = Region {
            pid: self.pid,
            start: mapping.start,
            end,
            file_offset: mapping.file_offset,
            device_major: mapping.device_major,
            device_minor: mapping.device_minor,
            inode: mapping.inode,
            path: path.strip_suffix(" (deleted)").unwrap_or(&path),
        };
        self.insert(images.module(&region, issues), images);
        if self.modules.as_slice().len() >= self.clean_at {
            self.forget_unmapped(mapping.start);
        }
    }

    /// Removes the mappings that the process has no longer, except the `new` one. (A sample from
    /// before that may still come; it is one of very many.)
    fn forget_unmapped(&mut self, new: RuntimeAddr) {
        if let Ok(mappings) = process::read_executable_mappings(self.pid) {
            let known = Modules::new(mappings.iter().map(range_of).collect());
            let is_mapped = |module: &Module| {
                module.start == new || known.find(module.start).is_some_and(|now| module.end <= now.end)
            };
            self.modules.retain(is_mapped);
        }
        self.clean_at = (2 * self.modules.as_slice().len()).max(MIN_MAPPINGS_TO_CLEAN);
    }

    /// Reads the mappings again and adds those that were missed. Removed mappings stay, because
    /// earlier samples may still arrive.
    pub fn refresh(&mut self, now_ns: u64, images: &mut Images, issues: &mut Issues) {
        self.read_at_ns = now_ns;
        let began_ns = process::identity::monotonic_ns();
        let Ok(mappings) = process::read_executable_mappings(self.pid) else { return };
        for mapping in &mappings {
            let known = self.modules.find(mapping.start);
            if known.is_none_or(|module| module.start != mapping.start || module.end != mapping.end) {
                self.insert_mapping(self.pid, mapping, &mappings, images, issues);
            }
        }
        self.read_took_ns = process::identity::monotonic_ns().saturating_sub(began_ns);
    }

    /// The bounds of the mapping that holds `address` now, such as a stack.
    pub fn memory_around(&self, address: RuntimeAddr) -> Option<(RuntimeAddr, RuntimeAddr)> {
        let mappings = process::read_mappings(self.pid).ok()?;
        let found = mappings.iter().find(|map| map.start <= address && address < map.end)?;
        Some((found.start, found.end))
    }
}

/// What language runtimes read of a core file.
fn ended_process(core: &CoreFile) -> EndedProcess {
    let mut files: Vec<(Mapping, Arc<ElfFile>)> = Vec::new();
    let mut known = FxHashSet::default();
    for mapping in core.mappings.iter().filter(|mapping| mapping.executable) {
        let elf = core.file_of(mapping).and_then(|file| file.elf.clone());
        if let Some(elf) = elf.filter(|_| known.insert(mapping.inode)) {
            files.push((mapping.clone(), elf));
        }
    }
    let threads = core.threads.iter().map(|thread| thread.tid).collect();
    EndedProcess { mappings: core.mappings.clone(), files, threads }
}

fn region_of<'i>(module: &Module, images: &'i Images) -> CodeRegion<'i> {
    let placement = images.placement(module.id);
    let path = &placement.image.path;
    let file_offset = placement.file_offset;
    CodeRegion { start: module.start, end: module.end, file_offset, path }
}

/// The issue for a process whose maps cannot be read; all short-lived processes share one.
pub fn unwatched(pid: u32, error: &ProcessError) -> Issue {
    match error {
        ProcessError::NoSuchProcess(_) => Issue::Unwatched {
            what: "the code of short-lived processes".into(),
            why: "they ended before their memory maps could be read".into(),
        },
        _ => Issue::Unwatched { what: format!("the code of process {pid}"), why: error.to_string() },
    }
}

/// A mapping's range alone.
fn range_of(mapping: &Mapping) -> Module {
    Module { start: mapping.start, end: mapping.end, bias: 0, tables: None, code: None, id: 0 }
}

fn region(pid: u32, mapping: &Mapping) -> Region<'_> {
    Region {
        pid,
        start: mapping.start,
        end: mapping.end,
        file_offset: mapping.file_offset,
        device_major: mapping.device_major,
        device_minor: mapping.device_minor,
        inode: mapping.inode,
        path: &mapping.path,
    }
}
