//! Language runtimes, one folder each: where a runtime keeps its threads, tasks, names and
//! counters, and how its frames are laid out. docs/ADDING-A-RUNTIME.md explains how to add one.
//!
//! ```text
//! Language       detects itself in a mapped file     -> LoadedRuntime, shared by all processes
//! LoadedRuntime  names and unwinds the file's code; attaches to a process -> Instance
//! Instance       one runtime in one process: frames, labels, tasks, facts
//! ```
//!
//! A process may have several instances; an address has one owner. Nothing outside this folder
//! names a language. Not here: sampling threads, profiles, printing. No runtime refers to another
//! one.

mod accounts;
mod attach;
mod error;
#[cfg(test)]
pub mod fixture;
mod frames;
pub mod go;
pub mod jit;
pub mod jvm;
mod language;
mod mapped_files;
mod memory;
pub mod python;
mod registry;
mod tasks;
pub mod v8;
mod view;

pub use accounts::{Account, AccountSample, AccountValue, CodeMapping};
pub use attach::{Attached, attach, attach_to, attach_within, likely, likely_of};
pub use error::RuntimeError;
pub use frames::{
    Category, CategoryRule, CodeRegion, FrameData, FramesWithoutWalker, Info, InstanceId, Labels,
    LanguageFrame, MixedFrame, MixedStack, SampleView, Splice, TaskFrame, Variable,
};
pub use jit::{
    Generated, Generator, PerfMap, PerfMapError, Piece, descriptor_in, is_jitdump, memory_name, parts_in,
};
pub use language::{Attach, Instance, Language, LoadedRuntime, LockFunctions, Refusal};
pub use memory::{MemoryFigure, ObjectRow, RuntimeMemory, RuntimeObjects, SizeRow};
pub use registry::{ALL, code_of, detect};
pub use tasks::{
    RunningThread, TaskDump, TaskForm, TaskRequest, TaskSample, TaskSummary, ThreadStack, ThreadStacks,
};
pub use view::{EndedProcess, ProcessView};
