//! A language, its runtime in one file, and its runtime in one process. The file is opened and
//! searched once, whichever processes map it.
//!
//! Not here: frames (`frames`), the list of languages (`registry`).

use std::{fmt, sync::Arc};

use super::{
    Account, CategoryRule, CodeRegion, FrameData, FramesWithoutWalker, Info, Labels, MixedStack, ProcessView,
    RuntimeError, RuntimeMemory, RuntimeObjects, SampleView, Splice, Variable,
    tasks::{TaskDump, TaskRequest, ThreadStacks},
};
use crate::{
    addr::ElfAddr,
    elf::ElfFile,
    process::{Hints, LanguageId, Section, WalkerProgram},
    symbolize::SourceFrame,
    unwind::{Code, FrameKey},
};

/// The functions of a lock, as stacks name them; parts of a name suffice.
#[derive(Clone, Copy, Debug, Default)]
pub struct LockFunctions {
    /// They take it, and may wait for it.
    pub take: &'static [&'static str],
    /// They release it.
    pub release: &'static [&'static str],
}

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

    /// The BPF program that reads its frames, if they are in heap memory.
    fn walker(&self) -> Option<WalkerProgram> {
        None
    }

    /// Functions in which its threads wait for work, as stacks name them; parts of a name suffice.
    fn idle_functions(&self) -> &'static [&'static str] {
        &[]
    }

    /// The functions of its interpreter lock, if it has one.
    fn interpreter_lock(&self) -> LockFunctions {
        LockFunctions::default()
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

/// A runtime in a process. All reads are bounded: the process may be crafted.
pub trait Instance: fmt::Debug + Send {
    /// The language.
    fn language(&self) -> &'static dyn Language;

    /// The release, for messages: `go1.22.3`.
    fn version(&self) -> String;

    /// The code that the runtime generated or copied into a mapping, if it did; called for every
    /// executable mapping of the process when it appears. The first instance that claims one owns
    /// it.
    fn claim(&mut self, _region: &CodeRegion<'_>) -> Option<Arc<dyn Code>> {
        None
    }

    /// What samplers should read with a sample.
    fn hints(&self) -> Hints {
        Hints::default()
    }

    /// How frames of running threads are read without [`Hints::walker`].
    fn frames_without_walker(&self) -> FramesWithoutWalker {
        FramesWithoutWalker::AtRest
    }

    /// Puts the frames of a section into the stack. A section of
    /// [`SectionOrigin::Unsynchronised`](crate::process::SectionOrigin) must not be combined with
    /// native frames: it replaces them, or is ignored.
    fn splice(&self, _section: &Section<'_>, _stack: &mut MixedStack<'_>) -> Splice {
        Splice::Nothing
    }

    /// Reads what a key stands for. Called when a frame is first met, soon after its sample.
    /// `None`: it cannot be read.
    fn load(&self, _key: FrameKey) -> Option<Arc<dyn FrameData>> {
        None
    }

    /// How long after its sample a key still stands for the same, in nanoseconds. A runtime whose
    /// code hardly ever goes has a longer time.
    fn keeps_frames_ns(&self) -> u64 {
        50_000_000
    }

    /// A number that changes when a key comes to stand for something else (code was freed, and its
    /// address is used again). Cheap: one small read. `None`: it cannot be read.
    fn generation(&self, _key: FrameKey) -> Option<u64> {
        Some(0)
    }

    /// The labels that the program has set on what the thread ran.
    fn labels(&self, _sample: &SampleView<'_>) -> Option<Labels> {
        None
    }

    /// The local variables of the frames of a section, in the section's order, if it was read with
    /// them ([`SectionReader::with_variables`](crate::process::SectionReader)).
    fn variables(&self, _section: &Section<'_>) -> Vec<(FrameKey, Vec<Variable>)> {
        Vec::new()
    }

    /// What the runtime did on the thread, if that is known: waits for a lock, collects garbage.
    fn thread_state(&self, _sample: &SampleView<'_>) -> Option<&'static str> {
        None
    }

    /// The runtime's tasks (goroutines, coroutines), each with its stack. Errors: it has none, or
    /// they cannot be read.
    fn tasks(
        &self,
        _request: &TaskRequest,
        _threads: &mut dyn ThreadStacks,
    ) -> Result<Box<dyn TaskDump>, RuntimeError> {
        Err(unavailable(self.language(), "has no tasks that rprof reads"))
    }

    /// A profile that the runtime keeps itself. Errors: it keeps none of this name, or it cannot be
    /// read.
    fn account(&self, _name: &str) -> Result<Account, RuntimeError> {
        Err(unavailable(self.language(), "keeps no such profile"))
    }

    /// The same in the language's own text form; `None`: it has none. Errors: as
    /// [`Instance::account`].
    fn account_text(&self, _name: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        Ok(None)
    }

    /// Facts about the runtime. Errors: it cannot be read.
    fn info(&self) -> Result<Info, RuntimeError> {
        Ok(Info { runtime: self.version(), ..Info::default() })
    }

    /// The memory that the runtime manages itself: ranges that are checked, and what it counts.
    fn memory(&self) -> RuntimeMemory {
        RuntimeMemory::default()
    }

    /// The objects of the runtime's own allocator, counted now; `None`: it has none that is read.
    fn objects(&self) -> Option<RuntimeObjects> {
        None
    }

    /// Which frames are of which category.
    fn categories(&self) -> Vec<CategoryRule> {
        Vec::new()
    }

    /// How well frames could be read so far, as a comment of a profile: `key: value`.
    fn quality(&self) -> Option<String> {
        None
    }

    /// What would make profiles of this process better: a sentence each.
    fn advice(&self) -> Vec<String> {
        Vec::new()
    }
}

fn unavailable(language: &dyn Language, what: &str) -> RuntimeError {
    RuntimeError::Unreadable { what: format!("{} {what}", language.name()), advice: None }
}
