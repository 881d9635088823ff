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
#[cfg(test)]
pub mod fixture;
pub mod go;
mod instance;
mod language;
pub mod python;
mod tasks;

pub use accounts::{Account, AccountSample, AccountValue, CodeMapping};
pub use attach::{Attached, ProcessView, attach, likely};
pub use instance::{
    Category, CategoryRule, CodeRegion, FrameData, Info, Instance, InstanceId, LanguageFrame, MixedFrame,
    MixedStack, SampleView, Splice,
};
pub use language::{Attach, Labels, Language, LoadedRuntime, Refusal, RuntimeError, code_of, detect};
pub use tasks::{
    RunningThread, TaskDump, TaskForm, TaskFrame, TaskRequest, TaskSample, TaskSummary, ThreadStack,
    ThreadStacks,
};

/// All languages: the only place that lists them. If several recognize one file (a program in one
/// with the runtime of another), the first one that has code of its own names and unwinds it.
pub static ALL: &[&dyn Language] = &[
    &go::Go,
    &python::Python,
    #[cfg(test)]
    &fixture::Invented,
];
