//! The frames of languages, and how they are combined with the native stack.
//!
//! Frames of a language are found in one of two ways.
//!
//! *On the native stack* (compiled and generated code): the walk meets them, and the language's
//! [`Code`](crate::unwind::Code) gives each a [`FrameKey`]. Whatever changes fast is in the copied
//! stack; what a key stands for is read later.
//!
//! *In the heap* (interpreters): they change within microseconds and are read with the sample, into
//! a [`Section`]. [`Instance::splice`](super::Instance::splice) then replaces the interpreter's
//! native frames by them.
//!
//! Not here: the traits that languages implement (`language`), tasks, counting.

use std::{fmt, sync::Arc};

use crate::{
    addr::RuntimeAddr,
    arch::Registers,
    process::Section,
    symbolize::SourceFrame,
    unwind::{Frame, FrameKey},
};

/// Labels that a program has set itself, as key and value, sorted by key.
pub type Labels = Arc<Vec<(String, String)>>;

/// The number of an instance in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u16);

/// A frame of a language: what its key stands for is known to one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LanguageFrame {
    /// The instance.
    pub instance: InstanceId,
    /// The frame.
    pub key: FrameKey,
}

/// A frame of a mixed stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixedFrame {
    /// A frame of the native stack.
    Native(Frame),
    /// A frame of a language, in place of native ones or beside them.
    Language(LanguageFrame),
}

/// A stack while languages add their frames, leaf first.
#[derive(Debug)]
pub struct MixedStack<'a> {
    /// The frames.
    pub frames: &'a mut Vec<MixedFrame>,
    /// Whether the native stack reaches its root.
    pub is_whole: bool,
    instance: InstanceId,
}

impl<'a> MixedStack<'a> {
    /// A stack to which an instance adds its frames.
    pub fn new(frames: &'a mut Vec<MixedFrame>, is_whole: bool, instance: InstanceId) -> MixedStack<'a> {
        MixedStack { frames, is_whole, instance }
    }

    /// A frame of the instance.
    pub fn frame(&self, key: FrameKey) -> MixedFrame {
        MixedFrame::Language(LanguageFrame { instance: self.instance, key })
    }

    /// The part of the native stack that the frame at `index` occupies: from its stack pointer up
    /// to its canonical frame address, which is the next native frame's stack pointer. `None`: it
    /// is not a native frame, or the next one is on another stack. The outermost frame has no end.
    pub fn bounds(&self, index: usize) -> Option<(RuntimeAddr, RuntimeAddr)> {
        let MixedFrame::Native(frame) = self.frames.get(index)? else { return None };
        let next = self.frames[index + 1..].iter().find_map(|next| match next {
            MixedFrame::Native(next) => Some(next.sp),
            MixedFrame::Language(_) => None,
        });
        let end = next.unwrap_or(RuntimeAddr(u64::MAX));
        (end > frame.sp).then_some((frame.sp, end))
    }

    /// The native frame whose part of the stack holds `address`: a local variable of its function.
    /// `None`: no frame does.
    pub fn holder_of(&self, address: RuntimeAddr) -> Option<usize> {
        (0..self.frames.len())
            .find(|index| self.bounds(*index).is_some_and(|(start, end)| start <= address && address < end))
    }
}

/// How well frames of a section fitted the native stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splice {
    /// All frames have their place.
    Whole,
    /// The section has no frames; the native stack is unchanged.
    Nothing,
    /// Frames are missing or their place is uncertain, for this reason. The stack is the best that
    /// could be made.
    Partial(&'static str),
}

/// A sample, as far as instances need it.
#[derive(Clone, Copy, Debug)]
pub struct SampleView<'a> {
    /// The thread, as rprof's own PID namespace numbers it.
    pub tid: u32,
    /// Its registers.
    pub registers: Option<&'a Registers>,
    /// The word that [`crate::process::TaskLayout::labels`] leads to, read with the sample; `None`:
    /// it was not read.
    pub task_labels: Option<u64>,
    /// The section of the instance's language.
    pub section: Option<Section<'a>>,
}

/// An executable mapping of the process.
#[derive(Clone, Copy, Debug)]
pub struct CodeRegion<'a> {
    /// First address.
    pub start: RuntimeAddr,
    /// End address, exclusive.
    pub end: RuntimeAddr,
    /// Offset of `start` in the file, in bytes.
    pub file_offset: u64,
    /// The path, or a name such as `[vdso]`; empty or `//anon` for memory without a file.
    pub path: &'a str,
}

/// What a frame's key stands for, read from the process and kept.
pub trait FrameData: fmt::Debug + Send + Sync {
    /// The functions, the innermost inlined one first. Called when the frame is named, which is
    /// later and on another thread: the process may have ended.
    fn lines(&self) -> Vec<SourceFrame>;
}

/// A local variable of a frame, as text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable {
    /// The name.
    pub name: String,
    /// The value, in a form that resembles the language's own.
    pub value: String,
}

/// How frames in heap memory are read of threads that run, where no walker may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramesWithoutWalker {
    /// Some time after the sample: marked, and without native frames.
    Late,
    /// Only while the thread sleeps or is stopped.
    AtRest,
}

/// What kind of code a frame is in. Reports can fold frames by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// The native code of an interpreter.
    Interpreter,
    /// A runtime: scheduler, memory management.
    Runtime,
    /// The language's own libraries.
    Library,
}

impl Category {
    /// The name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Category::Interpreter => "interpreter",
            Category::Runtime => "runtime",
            Category::Library => "library",
        }
    }
}

/// Which frames are of a category.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CategoryRule {
    /// All code of the mapping with this path.
    Mapping(Category, String),
    /// Functions whose name begins like this.
    Function(Category, String),
    /// Functions whose source file begins like this.
    Source(Category, String),
}

/// Facts about a runtime, for `rprof info`.
#[derive(Clone, Debug, Default)]
pub struct Info {
    /// Name and release: `go1.22.3, read with the layout of go1.22`.
    pub runtime: String,
    /// The facts in order: name and text.
    pub lines: Vec<(&'static str, String)>,
    /// The facts as JSON.
    pub json: serde_json::Value,
}

/// A frame of a task's stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFrame {
    /// The file with the code, as an index into a list of [`CodeMapping`]; `None`: the frame is in
    /// no file.
    pub mapping: Option<usize>,
    /// The address in the profile; 0: none.
    pub address: u64,
    /// The functions, the innermost inlined one first.
    pub lines: Arc<[SourceFrame]>,
}
