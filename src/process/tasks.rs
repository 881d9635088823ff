//! Where a process keeps what its threads work for, if its runtime has tasks with stacks of their own
//! (Go's goroutines): told by who knows the runtime, used by who looks at threads.
//!
//! Not here: any runtime's layout, reading.

/// Where a language's runtime whose tasks have stacks of their own keeps a thread's task: offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLayout {
    /// From the thread pointer (fs base, TPIDR_EL0) to the word that points to the running task's record;
    /// `None`: the register that holds it.
    pub thread_pointer_offset: Option<i64>,
    /// In a task's record: its thread's record, first and last address of its stack, and what it was left
    /// with.
    pub thread: u32,
    pub stack_start: u32,
    pub stack_end: u32,
    pub sp: u32,
    pub pc: u32,
    pub fp: u32,
    pub labels: u32,
    /// In a thread's record: the task that it works for, and the one that stands for the thread's own stack.
    pub task: u32,
    pub own_task: u32,
}
