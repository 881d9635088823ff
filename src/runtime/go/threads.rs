//! Go's threads (`runtime.allm`), and where each was created.
//!
//! Not here: what the kernel knows of threads.

use super::{
    globals::is_thread,
    layouts::Layout,
    process::{GoError, GoProcess},
};
use crate::{addr::RuntimeAddr, process::ProcessMemory};

/// Words of `m.createstack`.
const CREATE_STACK: usize = 32;
/// Where `m.alllink` may be: patch releases have moved it.
const LINKS: std::ops::Range<usize> = 240..480;
const MAX_THREADS: usize = 1 << 20;
/// Passes over a list that changes while it is read.
const TRIES: usize = 5;

/// A thread of the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// As the process's own PID namespace numbers it; 0: not started yet.
    pub tid: u64,
    /// The goroutine that it runs, as an address.
    pub current: u64,
    /// Return addresses of where it was created, innermost first; empty for most: started by the
    /// scheduler.
    pub created_at: Vec<u64>,
    /// All words of that, the zeros too, as Go 1.23 and newer print them.
    pub created_words: Vec<u64>,
}

/// How long the chain of threads is that begins at `first`; 0: it does not end well.
pub fn chain_length(memory: &ProcessMemory, layout: &Layout, first: RuntimeAddr) -> usize {
    find_link(memory, layout, first).map_or(0, |(_, length)| length)
}

/// Where `m.alllink` is, and how long the chain.
fn find_link(memory: &ProcessMemory, layout: &Layout, first: RuntimeAddr) -> Option<(usize, usize)> {
    if !is_thread(memory, first) {
        return None;
    }
    let candidates = std::iter::once(layout.alllink).chain(LINKS.step_by(8));
    let mut best = None;
    for link in candidates {
        let Some(length) = walk(memory, first, link).map(|all| all.len()) else { continue };
        if best.is_none_or(|(_, longest)| length > longest) {
            best = Some((link, length));
        }
        // The known place is right if it leads anywhere at all.
        if link == layout.alllink && length > 1 {
            break;
        }
    }
    best
}

fn walk(memory: &ProcessMemory, first: RuntimeAddr, link: usize) -> Option<Vec<RuntimeAddr>> {
    let (mut all, mut at) = (Vec::new(), first);
    while at.0 != 0 {
        if !is_thread(memory, at) || all.len() >= MAX_THREADS || all.last() == Some(&at) {
            return None;
        }
        all.push(at);
        at = RuntimeAddr(memory.read_word(at.offset(link as i64))?);
    }
    Some(all)
}

impl GoProcess {
    /// All threads that the runtime knows, the newest first.
    pub fn threads(&self) -> Result<Vec<Thread>, GoError> {
        let missing = |why| GoError::Variable { what: "list of threads", why };
        let head = self.globals.all_m.ok_or(missing("no function that uses it leads to one"))?;
        for _ in 0..TRIES {
            let first = RuntimeAddr(self.memory.read_word(head).ok_or(GoError::Memory(self.pid))?);
            let Some((link, _)) = find_link(&self.memory, &self.layout, first) else { continue };
            let Some(all) = walk(&self.memory, first, link) else { continue };
            return Ok(all.into_iter().map(|at| self.thread(at, link)).collect());
        }
        Err(missing("it changed while it was read, time and again"))
    }

    /// The kernel's number of a thread, as the process's own PID namespace has it.
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
