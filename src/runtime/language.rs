//! A language, and its runtime in one file. The file is opened and searched once, whichever
//! processes map it.
//!
//! Not here: one process's runtime (`instance`).

use std::{fmt, sync::Arc};

use super::{Instance, attach::ProcessView};
use crate::{
    addr::ElfAddr,
    elf::ElfFile,
    process::{LanguageId, ProcessError},
    symbolize::SourceFrame,
    unwind::Code,
};

/// Labels that a program has set itself, as key and value, sorted by key.
pub type Labels = Arc<Vec<(String, String)>>;

/// A language whose runtime rprof reads.
pub trait Language: fmt::Debug + Sync {
    /// Its number, which no other language has. Walkers and sections carry it.
    fn id(&self) -> LanguageId;

    /// Its name as in messages: `Go`.
    fn name(&self) -> &'static str;

    /// Recognizes a file with the language's code or runtime. `path` is the file's path in the
    /// process's mount namespace. Called once for each file of any process, so it must take at
    /// most a millisecond for the files of other languages: look at section names, not at content.
    fn detect(&self, elf: &Arc<ElfFile>, path: &str) -> Option<Arc<dyn LoadedRuntime>>;

    /// Whether a file seems to be the language's, by its marks alone: reads less than
    /// [`Language::detect`].
    fn is_marked(&self, elf: &ElfFile, path: &str) -> bool;

    /// Recognizes a file by its content, which takes longer. Only for a single process, in whose
    /// files [`Language::detect`] found no runtime.
    fn search(&self, _elf: &Arc<ElfFile>, _path: &str) -> Option<Arc<dyn LoadedRuntime>> {
        None
    }

    /// The profiles that its runtime keeps itself, by their names as in `/debug/pprof/NAME`.
    fn accounts(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether a dump of a process shows the language's tasks after its threads, which run them.
    fn dumps_tasks_after_threads(&self) -> bool {
        false
    }

    /// Whether a dump of a process shows the language's tasks instead of its threads: the tasks run
    /// all of the program.
    fn dumps_tasks(&self) -> bool {
        false
    }
}

/// A file with a language's code or runtime.
pub trait LoadedRuntime: fmt::Debug + Send + Sync {
    /// The language.
    fn language(&self) -> &'static dyn Language;

    /// How the file's code is unwound; `None`: as any native code.
    fn code(self: Arc<Self>) -> Option<Arc<dyn Code>> {
        None
    }

    /// The functions at a lookup address of the file, the innermost inlined one first; `None`: the
    /// file's symbols and debug information name it.
    fn name(&self, _address: ElfAddr) -> Option<Vec<SourceFrame>> {
        None
    }

    /// Finds the runtime of a process that has mapped the file. `bias`: run-time address = address
    /// in the file + bias.
    fn attach(self: Arc<Self>, process: &ProcessView, bias: u64) -> Attach;
}

/// What [`LoadedRuntime::attach`] found.
#[derive(Debug)]
pub enum Attach {
    /// A runtime.
    Ready(Box<dyn Instance>),
    /// The runtime is not initialized yet: it is tried again, less and less often.
    NotYet,
    /// There is none, and never will be.
    No(Refusal),
}

/// Why a file has no runtime to attach to.
#[derive(Debug)]
pub enum Refusal {
    /// The file has code of the language, but not the runtime itself: a plugin, an extension.
    OnlyCode,
    /// The runtime is there and cannot be read: another release, modified, no rights.
    Error(RuntimeError),
}

/// Why a runtime cannot be read, or cannot give what was requested.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The process does not exist or cannot be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The process has no such runtime.
    #[error("process {pid} is not a {language} program")]
    Absent {
        /// The process.
        pid: u32,
        /// [`Language::name`].
        language: &'static str,
    },
    /// Reading the process is not permitted.
    #[error("{what}")]
    NotPermitted {
        /// What is not permitted.
        what: String,
    },
    /// The runtime, or what was requested of it, cannot be read.
    #[error("{what}")]
    Unreadable {
        /// What failed and why.
        what: String,
        /// What to do.
        advice: Option<&'static str>,
    },
    /// The runtime does not have what was requested, because the program did not enable it.
    #[error("{why}")]
    NotCollected {
        /// Why.
        why: String,
        /// How to enable it, and the next best profile.
        advice: &'static str,
    },
}

/// The runtimes of a file.
pub fn detect(elf: &Arc<ElfFile>, path: &str) -> Vec<Arc<dyn LoadedRuntime>> {
    super::ALL.iter().filter_map(|language| language.detect(elf, path)).collect()
}

/// How the code of a file with these runtimes is unwound; `None`: as any native code.
pub fn code_of(runtimes: &[Arc<dyn LoadedRuntime>]) -> Option<Arc<dyn Code>> {
    runtimes.iter().find_map(|runtime| Arc::clone(runtime).code())
}
