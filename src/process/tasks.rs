//! Where a process keeps the tasks that its threads run, if its runtime has tasks with stacks of
//! their own (Go's goroutines). The runtime's module fills it in; samplers use it.
//!
//! Not here: the layout of any runtime, reading.

/// How to find the task of a thread in a runtime whose tasks have stacks of their own. All offsets
/// are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLayout {
    /// From the thread pointer (fs base, TPIDR_EL0) to the word that points to the running task's
    /// record; `None`: the register that holds it.
    pub thread_pointer_offset: Option<i64>,
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
