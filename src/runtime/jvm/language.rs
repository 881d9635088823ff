//! Java behind the interfaces of all languages: the file with the virtual machine.
//!
//! Not here: attaching (`loaded`), a process (`instance`).

use std::sync::Arc;

use super::structs::EXPORTS;
use crate::{
    addr::ElfAddr,
    elf::ElfFile,
    process::LanguageId,
    runtime::{Language, LoadedRuntime},
};

/// The Java language, as HotSpot implements it.
#[derive(Debug)]
pub struct Java;

impl Language for Java {
    fn id(&self) -> LanguageId {
        LanguageId(4)
    }

    fn name(&self) -> &'static str {
        "Java"
    }

    fn idle_functions(&self) -> &'static [&'static str] {
        &[
            "ThreadPoolExecutor.getTask",
            "ForkJoinPool.awaitWork",
            "ForkJoinPool.runWorker",
            "CompileQueue::get",
            "WorkerThread::run",
            "GangWorker",
            "VMThread::wait_for_vm_operations",
            "WatcherThread::sleep",
        ]
    }

    fn detect(&self, elf: &Arc<ElfFile>, path: &str) -> Option<Arc<dyn LoadedRuntime>> {
        is_named(path).then(|| find(elf, path)).flatten().map(|file| Arc::new(file) as Arc<dyn LoadedRuntime>)
    }

    fn is_marked(&self, elf: &ElfFile, path: &str) -> bool {
        is_named(path) && find(elf, path).is_some()
    }
}

/// Whether a file may have the virtual machine: symbols of other files are not read.
fn is_named(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.contains("jvm") || name.starts_with("java")
}

/// The file with the virtual machine.
#[derive(Debug)]
pub struct JavaFile {
    /// The exported variables that describe the virtual machine's structures.
    pub exports: Vec<(&'static str, ElfAddr)>,
    /// The CPU, as ELF files number them.
    pub machine: u16,
    /// Its path in the mount namespace of a process that maps it.
    pub path: String,
}

fn find(elf: &ElfFile, path: &str) -> Option<JavaFile> {
    let mut exports = Vec::new();
    for table in elf.symbol_tables().filter(|table| table.is_dynamic()) {
        for symbol in table.defined_symbols().filter(|symbol| symbol.name.starts_with(b"gHotSpotVM")) {
            let known = EXPORTS.iter().find(|name| name.as_bytes() == symbol.name);
            exports.extend(known.map(|name| (*name, symbol.address)));
        }
    }
    let is_java = exports.iter().any(|(name, _)| *name == EXPORTS[0]);
    is_java.then(|| JavaFile { exports, machine: elf.machine(), path: path.to_owned() })
}
