//! Python behind the interfaces of all languages: the files that have an interpreter.
//!
//! Not here: a process (`instance`).

use std::sync::Arc;

use super::{
    find::{PythonFile, find, release_of_paths},
    instance::PythonInstance,
    process::{Found, PythonError, PythonProcess},
    program::WALKER,
};
use crate::{
    elf::ElfFile,
    process::{LanguageId, WalkerProgram},
    runtime::{Attach, Language, LoadedRuntime, ProcessView, Refusal, RuntimeError},
};

/// The Python language, as CPython implements it.
#[derive(Debug)]
pub struct Python;

impl Language for Python {
    fn id(&self) -> LanguageId {
        LanguageId(2)
    }

    fn name(&self) -> &'static str {
        "Python"
    }

    fn detect(&self, elf: &Arc<ElfFile>, path: &str) -> Option<Arc<dyn LoadedRuntime>> {
        let file = find(elf, path)?;
        Some(Arc::new(LoadedPython { file, path: path.to_owned() }))
    }

    fn walker(&self) -> Option<WalkerProgram> {
        Some(WALKER)
    }

    fn dumps_tasks_after_threads(&self) -> bool {
        true
    }

    fn is_marked(&self, elf: &ElfFile, path: &str) -> bool {
        find(elf, path).is_some()
    }
}

/// A file with an interpreter.
#[derive(Debug)]
struct LoadedPython {
    file: PythonFile,
    path: String,
}

impl LoadedRuntime for LoadedPython {
    fn language(&self) -> &'static dyn Language {
        &Python
    }

    fn attach(self: Arc<Self>, process: &ProcessView, bias: u64) -> Attach {
        let mappings = process.mappings().unwrap_or_default();
        let paths = mappings.iter().map(|mapping| mapping.path.as_str());
        let found =
            Found { file: &self.file, path: &self.path, bias, release_of_paths: release_of_paths(paths) };
        match PythonProcess::attach(process.pid, Arc::clone(&process.memory), found) {
            Ok(python) => match PythonInstance::new(python, &mappings, process.reader) {
                instance if instance.is_settled() => Attach::Ready(Box::new(instance)),
                _ => Attach::NotYet,
            },
            Err(PythonError::NotInitialized) => Attach::NotYet,
            Err(error) => Attach::No(Refusal::Error(unreadable(&error))),
        }
    }
}

fn unreadable(error: &PythonError) -> RuntimeError {
    let advice = match error {
        PythonError::TooOld(..) => Some("profile it without Python frames, or run it with a newer Python"),
        PythonError::Memory(_) => Some("run rprof as root or as the same user as the process"),
        _ => None,
    };
    RuntimeError::Unreadable { what: error.to_string(), advice }
}
