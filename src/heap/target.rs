//! A process whose heap is read: its mappings, memory and threads.

use super::{LiveMemory, Memory, Space};
use crate::{
    addr::FileOffset,
    arch::native,
    budget::Budget,
    elf::{ElfFile, cache},
    process::{
        self, Mapping, ProcessError,
        files::{self, MappedFile},
        thread_state, threads,
    },
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
    /// Its threads, if they were read ([`Target::with_threads`]).
    pub threads: Vec<Thread>,
    /// What reading it may cost.
    pub budget: Budget,
}

/// The most threads whose pointers are read.
const MAX_THREADS: usize = 1 << 16;

impl Target {
    /// Reads the mappings of a process. Errors: it has ended or cannot be read.
    pub fn open(pid: u32, budget: &Budget) -> Result<Target, ProcessError> {
        let reader = threads::reader(pid);
        let space = Space::new(process::read_mappings(reader)?);
        let memory = Box::new(LiveMemory::new(reader));
        Ok(Target { pid, space, memory, threads: Vec::new(), budget: budget.clone() })
    }

    /// With the threads of the process, which takes some system calls for each of them.
    pub fn with_threads(mut self) -> Target {
        let list = threads::list(self.pid);
        self.threads = list.into_iter().take(MAX_THREADS).map(|tid| self.thread(tid)).collect();
        self
    }

    /// The file of a module, and what an address of the process is more than one in the file.
    pub fn elf(&self, module: &Mapping) -> Option<(ElfFile, u64)> {
        let file = files::open(&MappedFile::of(threads::reader(self.pid), module)).ok()?;
        let elf = cache::open(&file, &self.budget).ok()?;
        let stated = elf.address_of(FileOffset(module.file_offset))?;
        Some((elf, module.start.0.wrapping_sub(stated.0)))
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
