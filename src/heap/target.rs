//! A process whose heap is read: its mappings, memory and threads.

use super::{LiveMemory, Memory, Space};
use crate::{
    arch::native,
    budget::Budget,
    process::{self, ProcessError, thread_state, threads},
    sys::proc::robust_list_head,
};

/// A thread of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub tid: u32,
    /// Its thread pointer, from which thread-local variables are counted; `None`: not known.
    pub pointer: Option<u64>,
    /// Its stack pointer, if it sleeps.
    pub stack_pointer: Option<u64>,
}

/// A process whose heap is read.
pub struct Target {
    /// The process, as rprof's own PID namespace numbers it.
    pub pid: u32,
    /// Its mappings.
    pub space: Space,
    /// Its memory.
    pub memory: Box<dyn Memory>,
    /// Its threads.
    pub threads: Vec<Thread>,
    /// What reading it may cost.
    pub budget: Budget,
}

/// The most threads whose pointers are read.
const MAX_THREADS: usize = 1 << 16;

impl Target {
    /// Reads the mappings and threads of a process. Errors: it has ended or cannot be read.
    pub fn open(pid: u32, budget: &Budget) -> Result<Target, ProcessError> {
        let reader = threads::reader(pid);
        let space = Space::new(process::read_mappings(reader)?);
        let memory = Box::new(LiveMemory::new(reader));
        let mut target = Target { pid, space, memory, threads: Vec::new(), budget: budget.clone() };
        let list = threads::list(pid);
        target.threads = list.into_iter().take(MAX_THREADS).map(|tid| target.thread(tid)).collect();
        Ok(target)
    }

    fn thread(&self, tid: u32) -> Thread {
        let blocked = thread_state::blocked(self.pid, tid).ok();
        let stack_pointer = blocked.and_then(|blocked| blocked.position()).map(|(sp, _)| sp.0);
        Thread { tid, pointer: self.thread_pointer(tid), stack_pointer }
    }

    /// The C library registers the list of robust mutexes of each thread with the kernel
    /// (get_robust_list(2)). Its head is in the thread's descriptor, which the thread pointer
    /// points to, at an offset that has been the same since glibc 2.4.
    fn thread_pointer(&self, tid: u32) -> Option<u64> {
        let pointer = robust_list_head(tid)?.checked_sub(native::ROBUST_LIST_OFFSET?)?;
        let is_self = |at: u64| self.memory.word(at) == Some(pointer);
        (is_self(pointer) && is_self(pointer.checked_add(16)?)).then_some(pointer)
    }

    /// A target without a process: memory with these mappings.
    pub fn of(space: Space, memory: Box<dyn Memory>, budget: &Budget) -> Target {
        Target { pid: 0, space, memory, threads: Vec::new(), budget: budget.clone() }
    }
}
