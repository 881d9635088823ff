//! Java behind the interfaces of all languages: the file with the virtual machine.
//!
//! Not here: a process (`instance`).

use std::sync::Arc;

use super::{
    instance::JavaInstance,
    process::{Jvm, JvmError},
    structs::{EXPORTS, Exports},
};
use crate::{
    addr::ElfAddr,
    arch::x86_64,
    elf::ElfFile,
    process::LanguageId,
    runtime::{Attach, Language, LoadedRuntime, ProcessView, Refusal, RuntimeError},
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
    exports: Vec<(&'static str, ElfAddr)>,
    machine: u16,
    path: String,
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

impl LoadedRuntime for JavaFile {
    fn language(&self) -> &'static dyn Language {
        &Java
    }

    fn attach(self: Arc<Self>, process: &ProcessView, bias: u64) -> Attach {
        if self.machine != x86_64::ELF_MACHINE {
            return refused(&JvmError::OtherCpu);
        }
        let address = |(name, at): &(&'static str, ElfAddr)| (*name, at.0.wrapping_add(bias));
        let exports: Exports = self.exports.iter().map(address).collect();
        match Jvm::attach(Arc::clone(&process.memory), &exports) {
            Ok(jvm) => Attach::Ready(Box::new(JavaInstance::new(jvm, process.clone(), self.path.clone()))),
            Err(JvmError::NotInitialized) => Attach::NotYet,
            Err(error) => refused(&error),
        }
    }
}

fn refused(error: &JvmError) -> Attach {
    let advice =
        matches!(error, JvmError::NoTables).then_some("run rprof as root or as the same user as the process");
    Attach::No(Refusal::Error(RuntimeError::Unreadable { what: error.to_string(), advice }))
}
