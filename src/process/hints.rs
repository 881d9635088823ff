//! What a language runtime tells the samplers about a process, and what samplers read for it with
//! a sample. The runtimes fill in hints; samplers that can use them do, others ignore them.
//!
//! Not here: the layout of any runtime, reading, the meaning of a section.

use std::{fmt, sync::Arc};

use crate::arch::Registers;

/// The number of a language. `runtime` assigns them; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LanguageId(pub u16);

/// What samplers should take with each sample of a process. Without hints: nothing.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    /// Where threads keep the tasks that they run.
    pub tasks: Option<TaskLayout>,
    /// For samplers in the kernel: reads the language's frames, which are not on the native stack.
    pub walker: Option<FrameWalker>,
    /// For samplers that stop threads or read sleeping ones: reads the same by plain reads.
    pub reader: Option<Arc<dyn SectionReader>>,
}

/// Reads the frames that a language keeps of a thread, by plain reads of the process's memory.
pub trait SectionReader: fmt::Debug + Send + Sync {
    /// The language, which understands the section.
    fn language(&self) -> LanguageId;

    /// Appends the frames of a thread to `section`, in the form of the language's walker; `false`:
    /// it has none, or they cannot be read. The result belongs to `registers` only if the thread
    /// does not run meanwhile. Bounded: at most some hundred microseconds.
    fn read(&self, tid: u32, registers: &Registers, section: &mut Vec<u8>) -> bool;

    /// A reader whose sections also have the frames' local variables; `None`: the language has none
    /// that can be read. Its reads take some milliseconds.
    fn with_variables(&self) -> Option<Arc<dyn SectionReader>> {
        None
    }
}

/// A BPF program that reads the frames of a language into a [`Section`], and its settings for one
/// process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameWalker {
    /// The language, which understands the section.
    pub language: LanguageId,
    /// The program.
    pub program: WalkerProgram,
    /// The program's settings for this process: a structure that only the program understands.
    pub settings: Vec<u8>,
}

/// A compiled BPF program of a language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkerProgram {
    /// Its name, for messages.
    pub name: &'static str,
    /// The object file (`sampler/bpf/walker.bpf.h`), for all kernels.
    pub object: &'static [u8],
}

/// How a section was read, which decides how far it belongs to the sample's registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectionOrigin {
    /// With the registers: by a program in the kernel.
    #[default]
    AtSample,
    /// While the thread slept or was stopped, with the same registers.
    AtRest,
    /// Later, while the thread ran: frames may be newer than the registers, or torn. They must not
    /// be combined with the native stack.
    Unsynchronised,
}

/// Frames of one language, read with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// The language, which understands the bytes.
    pub language: LanguageId,
    /// How it was read.
    pub origin: SectionOrigin,
    /// The content, as the language's walker writes it.
    pub bytes: &'a [u8],
}

/// A section with its own memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedSection {
    /// The language, which understands the bytes.
    pub language: LanguageId,
    /// How it was read.
    pub origin: SectionOrigin,
    /// The content.
    pub bytes: Vec<u8>,
}

impl OwnedSection {
    /// Reads the section of a thread; `None`: it has no frames of the language.
    pub fn read(
        reader: &dyn SectionReader,
        tid: u32,
        registers: &Registers,
        origin: SectionOrigin,
    ) -> Option<OwnedSection> {
        let mut bytes = Vec::new();
        let language = reader.language();
        reader.read(tid, registers, &mut bytes).then_some(OwnedSection { language, origin, bytes })
    }

    /// The section as part of a sample.
    pub fn as_section(&self) -> Section<'_> {
        Section { language: self.language, origin: self.origin, bytes: &self.bytes }
    }
}

/// The most sections of one sample: a process rarely has two languages of this kind.
pub const MAX_SECTIONS: usize = 2;

/// The sections of one sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections<'a>([Option<Section<'a>>; MAX_SECTIONS]);

impl<'a> Sections<'a> {
    /// A sample's only section.
    pub fn one(section: Section<'a>) -> Sections<'a> {
        Sections([Some(section), None])
    }

    /// Adds a section; beyond [`MAX_SECTIONS`] it is dropped.
    pub fn push(&mut self, section: Section<'a>) {
        if let Some(free) = self.0.iter_mut().find(|one| one.is_none()) {
            *free = Some(section);
        }
    }

    /// The section of a language.
    pub fn of(&self, language: LanguageId) -> Option<Section<'a>> {
        self.iter().find(|section| section.language == language)
    }

    /// All sections.
    pub fn iter(&self) -> impl Iterator<Item = Section<'a>> + '_ {
        self.0.iter().flatten().copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }
}

/// Where a thread keeps the task that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskPointer {
    /// In the word at this many bytes from the thread pointer (fs base, TPIDR_EL0).
    ThreadPointer(i64),
    /// In the register with this DWARF number.
    Register(u16),
}

/// How to find the task of a thread in a runtime whose tasks have stacks of their own. All offsets
/// are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLayout {
    /// The pointer to the running task's record.
    pub current: TaskPointer,
    /// In a task's record: pointer to the record of its thread.
    pub thread: u32,
    /// In a task's record: first address of its stack.
    pub stack_start: u32,
    /// In a task's record: end address of its stack.
    pub stack_end: u32,
    /// In a task's record: stack pointer saved when it was left.
    pub sp: u32,
    /// In a task's record: program counter saved when it was left.
    pub pc: u32,
    /// In a task's record: frame pointer saved when it was left.
    pub fp: u32,
    /// In a task's record: pointer to its labels.
    pub labels: u32,
    /// In a thread's record: the task that it runs.
    pub task: u32,
    /// In a thread's record: the task that represents the thread's own stack.
    pub own_task: u32,
}
