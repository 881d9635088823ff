//! The threads of a Go runtime (`runtime.allm`), and the stacks that created them.
//!
//! Not here: the kernel's view of threads.

use super::{
    GoError,
    process::GoProcess,
    recognize::{find_link, is_thread, walk_threads},
};
use crate::addr::RuntimeAddr;

/// Words of `m.createstack`.
const CREATE_STACK: usize = 32;
/// How many times a list that changes meanwhile is read.
const TRIES: usize = 5;

/// A thread of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number in the process's own PID namespace; 0: not started yet.
    pub tid: u64,
    /// The address of the `g` that it runs.
    pub current: u64,
    /// The return addresses of the stack that created it, leaf first. Empty for most threads, which
    /// the scheduler creates.
    pub created_at: Vec<u64>,
    /// All words of `createstack` including zeros, as Go 1.23 and newer print them.
    pub created_words: Vec<u64>,
}

impl GoProcess {
    /// All threads of the runtime, the newest first. Errors: the list was not found.
    pub fn threads(&self) -> Result<Vec<Thread>, GoError> {
        let missing = |why| GoError::Variable { what: "list of threads", why };
        let head = self.globals.all_m.ok_or(missing("it was not found in the functions that use it"))?;
        for _ in 0..TRIES {
            let first = RuntimeAddr(self.memory.read_word(head).ok_or(GoError::Memory(self.pid))?);
            let Some((link, _)) = find_link(&self.memory, &self.layout, first) else { continue };
            let Some(all) = walk_threads(&self.memory, first, link) else { continue };
            return Ok(all.into_iter().map(|at| self.thread(at, link)).collect());
        }
        Err(missing("it kept changing while it was read"))
    }

    /// The number of the thread with its `m` at `at`, in the process's own PID namespace.
    pub fn thread_id(&self, at: u64) -> Option<u64> {
        let at = RuntimeAddr(at);
        is_thread(&self.memory, at).then(|| self.memory.read_word(at.offset(self.layout.procid as i64)))?
    }

    fn thread(&self, at: RuntimeAddr, link: usize) -> Thread {
        let word = |offset: usize| self.memory.read_word(at.offset(offset as i64)).unwrap_or(0);
        let mut bytes = [0; CREATE_STACK * 8];
        let stack = at.offset((link + self.layout.createstack_after) as i64);
        if !self.memory.read_exact(stack, &mut bytes) {
            bytes.fill(0);
        }
        let created_words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let created_at = created_words.iter().copied().take_while(|pc| *pc != 0).collect();
        Thread { tid: word(self.layout.procid), current: word(self.layout.curg), created_at, created_words }
    }
}
