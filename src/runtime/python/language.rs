//! Python behind the interfaces of all languages: the files that have an interpreter.
//!
//! Not here: attaching (`loaded`), a process (`instance`).

use std::sync::Arc;

use super::{
    find::{PythonFile, find},
    program::WALKER,
};
use crate::{
    elf::ElfFile,
    process::{LanguageId, WalkerProgram},
    runtime::{Language, LoadedRuntime, LockFunctions},
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

    /// Those of Python/ceval_gil.c, and the exported ones around them, which stripped programs
    /// have.
    fn interpreter_lock(&self) -> LockFunctions {
        LockFunctions {
            take: &["take_gil", "PyEval_RestoreThread", "PyEval_AcquireThread"],
            release: &["drop_gil", "PyEval_SaveThread", "PyEval_ReleaseThread"],
        }
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
pub struct LoadedPython {
    /// Where the interpreter is in it.
    pub file: PythonFile,
    /// Its path in the mount namespace of a process that maps it.
    pub path: String,
}
