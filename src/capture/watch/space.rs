//! The state of one process in a capture: its mappings and threads.
//!
//! Not here: samples (`world`), opening files (`images`).

use rustc_hash::FxHashSet;

use super::images::{Images, Region};
use crate::{
    addr::RuntimeAddr,
    issue::Issues,
    process::{self, Mapping, ProcessError, ProcessMemory},
    runtime::go::GoSamples,
    sampler::NewMapping,
    unwind::{Module, Modules},
};

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
    pub memory: ProcessMemory,
    /// CLOCK_MONOTONIC of the last read of /proc/PID/maps.
    pub read_at_ns: u64,
    /// How long that read took: it limits how often the file is read again.
    pub read_took_ns: u64,
    /// Threads that have labels.
    pub tids: FxHashSet<u32>,
    /// For a Go program: reads the goroutine of a sample.
    pub go: Option<GoSamples>,
    /// CLOCK_MONOTONIC of the end of its first thread.
    pub ended_at_ns: Option<u64>,
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
        let memory = ProcessMemory::new(reader);
        let mut space = Space { read_at_ns: now_ns, memory, ..Space::empty(pid, name) };
        for mapping in &mappings {
            space.insert(images.module(&region(reader, mapping), issues), images);
        }
        Ok(space)
    }

    /// A process without known mappings: it was forked, or has ended.
    pub fn empty(pid: u32, name: String) -> Space {
        Space {
            pid,
            name,
            modules: Modules::default(),
            memory: ProcessMemory::new(pid),
            read_at_ns: 0,
            read_took_ns: 0,
            tids: FxHashSet::default(),
            go: None,
            ended_at_ns: None,
        }
    }

    fn insert(&mut self, module: Module, images: &Images) {
        if self.go.is_none()
            && let Some(go) = &images.image(images.placement(module.id).image).go
        {
            self.go = GoSamples::of(go, module.bias, &self.memory);
        }
        self.modules.insert(module);
    }

    /// The child of a fork, with the same mappings.
    pub fn forked(&self, pid: u32) -> Space {
        let go = self.go.clone();
        Space { modules: self.modules.clone(), go, ..Space::empty(pid, self.name.clone()) }
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
                self.modules.insert(images.module(&region(self.pid, mapping), issues));
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
