//! The tasks of a runtime (goroutines, coroutines, virtual threads): what is requested of them and
//! what an instance returns, whatever the language.
//!
//! Not here: how tasks are read, profiles.

use std::{io, time::Duration};

use super::{CodeMapping, Labels, TaskFrame};
use crate::{addr::RuntimeAddr, budget::Exhausted, process::ProcessError};

/// What to read of tasks.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskRequest {
    /// Also read the values of arguments, where the language's own text shows them.
    pub arguments: bool,
    /// Stop all threads while tasks are read, so that all stacks are of the same instant.
    pub consistent: bool,
}

/// The registers and stack of a thread, read now.
#[derive(Clone, Debug)]
pub struct ThreadStack {
    /// The thread, as rprof's own PID namespace numbers it.
    pub tid: u32,
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Address of the first byte of `bytes`.
    pub start: RuntimeAddr,
    /// The stack from the stack pointer up.
    pub bytes: Vec<u8>,
    /// How long the thread was stopped for it.
    pub stopped: Duration,
}

/// Reads threads that run tasks, for an instance. Samplers do it; runtimes only ask.
pub trait ThreadStacks {
    /// The stack of a thread that runs now, without stopping it; waits some milliseconds.
    fn running(&mut self, tid: u32) -> RunningThread;

    /// Stops all threads that may be stopped, calls `read`, and returns their stacks. Errors: none
    /// could be stopped.
    fn stopped(&mut self, read: &mut (dyn FnMut() + Send)) -> Result<Vec<ThreadStack>, ProcessError>;
}

/// A thread that should be running.
#[derive(Clone, Debug)]
pub enum RunningThread {
    /// Its stack.
    Stack(ThreadStack),
    /// It does not run now.
    NotRunning,
    /// Reading running threads is not permitted, or enough time was spent: further requests are in
    /// vain.
    GiveUp,
}

/// A text form of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskForm {
    /// Each task with its stack, as the language's own tools print them.
    Each,
    /// Equal states and stacks together, for readers; a task that is alone as in `Each`.
    Grouped,
    /// Equal stacks counted.
    Counted,
    /// JSON.
    Json,
}

/// Tasks with equal stacks and labels.
#[derive(Clone, Debug, Default)]
pub struct TaskSample {
    /// The stack, leaf first; empty: it could not be read.
    pub frames: Vec<TaskFrame>,
    /// Labels that the program has set.
    pub labels: Option<Labels>,
    /// How many tasks have it.
    pub count: i64,
}

/// Counts and costs of reading tasks.
#[derive(Clone, Debug, Default)]
pub struct TaskSummary {
    /// What a task is called: `goroutine`.
    pub noun: &'static str,
    /// The release of the runtime: `go1.22.3`.
    pub version: String,
    /// Tasks of the program.
    pub shown: usize,
    /// Tasks of the runtime itself.
    pub system: usize,
    /// Tasks that were running.
    pub running: usize,
    /// Running tasks whose stack was captured.
    pub running_captured: usize,
    /// Tasks that had to be read again because they changed.
    pub read_again: u64,
    /// Tasks that changed at every read.
    pub unstable: u64,
    /// Different stacks.
    pub stacks: usize,
    /// Bytes read.
    pub bytes: u64,
    /// The time to find the runtime.
    pub attaching: Duration,
    /// The time to read the tasks.
    pub reading: Duration,
    /// How long threads were stopped: the longest stop.
    pub stopped: Duration,
    /// How many threads were stopped.
    pub stopped_threads: usize,
    /// What makes the result uncertain: a sentence each.
    pub warnings: Vec<String>,
    /// Why further tasks are missing, if so.
    pub limit: Option<Exhausted>,
    /// The release is newer than this one, whose layout was used.
    pub newer_than: Option<&'static str>,
}

/// The tasks of a runtime at one time.
pub trait TaskDump: std::fmt::Debug + Send {
    /// Counts and costs.
    fn summary(&self) -> &TaskSummary;

    /// The tasks by equal stacks and labels, the most frequent first. `system`: with the runtime's
    /// own.
    fn samples(&self, system: bool) -> Vec<TaskSample>;

    /// The files that [`TaskFrame::mapping`] numbers.
    fn mappings(&self) -> Vec<CodeMapping>;

    /// Writes a text form. Errors: those of `writer`.
    fn write(&self, form: TaskForm, system: bool, writer: &mut dyn io::Write) -> io::Result<()>;
}
