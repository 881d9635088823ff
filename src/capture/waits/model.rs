//! What a wait graph consists of.

use std::time::Duration;

use super::graph::{Links, Strength, VertexId};

/// A thread, a process or a thread that has ended.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// What it is.
    pub kind: VertexKind,
    /// Its name.
    pub name: String,
    /// The function that it waits in, with file and line if known; empty if not known.
    pub place: String,
    /// What it does, if it waits for nothing that another vertex holds: `epoll wait`, `running`.
    pub doing: String,
    /// What it waits for; `None` if it does not wait, or that is not known.
    pub wait: Option<Wait>,
    /// For how long it has not run, nanoseconds.
    pub waited_ns: Option<u64>,
}

/// What a vertex stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VertexKind {
    /// A thread.
    Thread {
        /// Its process.
        pid: u32,
        /// Its ID.
        tid: u32,
    },
    /// A process, any thread of which can end a wait.
    Process {
        /// Its ID.
        pid: u32,
    },
    /// A thread that has ended and still owns a lock.
    Ended {
        /// Its process.
        pid: u32,
        /// Its ID in the process's PID namespace.
        tid: u32,
    },
}

/// What a thread waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// The kind of object: `mutex`, `read lock`, `pipe` …
    pub kind: String,
    /// The address of the lock; 0: it has none.
    pub address: u64,
    /// Name of the object: a symbol, or the file that a descriptor refers to; may be empty.
    pub name: String,
    /// More facts, such as the type of a mutex; may be empty.
    pub note: String,
    /// Whether the wait has a timeout.
    pub timed: bool,
    /// Whether the holders are all that can end the wait.
    pub complete: bool,
    /// Who can end the wait.
    pub holders: Vec<Holder>,
}

/// A vertex that can end a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The vertex.
    pub vertex: VertexId,
    /// How sure that is.
    pub strength: Strength,
    /// Why it is a candidate; empty if it is recorded.
    pub evidence: String,
}

/// The wait graph of processes, and what follows from it.
#[derive(Clone, Debug, Default)]
pub struct WaitGraph {
    /// All threads of the processes, and the threads and processes that these wait for.
    pub vertices: Vec<Vertex>,
    /// What was found, the most serious first.
    pub verdicts: Vec<Verdict>,
    /// The time to read all of this, without the pause between two looks.
    pub took: Duration,
}

impl WaitGraph {
    /// Whether there is a deadlock; `probable`: or a probable one.
    pub fn has_deadlock(&self, probable: bool) -> bool {
        self.verdicts.iter().any(|verdict| match verdict.finding {
            Finding::Deadlock => true,
            Finding::ProbableDeadlock => probable,
            _ => false,
        })
    }
}

/// The vertices as the algorithms use them.
pub fn links(vertices: &[Vertex]) -> Vec<Links> {
    let links = |vertex: &Vertex| {
        let Some(wait) = &vertex.wait else { return Links::default() };
        let to = wait.holders.iter().map(|holder| (holder.vertex, holder.strength)).collect();
        Links { waits: !wait.timed, complete: wait.complete, to }
    };
    vertices.iter().map(links).collect()
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// The members wait for each other for ever.
    Deadlock,
    /// The same, by evidence.
    ProbableDeadlock,
    /// The members wait for a lock whose owner has ended.
    OwnerEnded,
    /// The members wait for the other end of a pipe that only their process has open.
    OwnEnd,
    /// The members were not woken.
    LostWakeUp,
    /// Others wait for the member.
    Waiters,
}

/// A finding and the vertices that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was found.
    pub finding: Finding,
    /// The vertices.
    pub members: Vec<VertexId>,
    /// How many other threads wait, directly or not, for the members.
    pub waiters: usize,
    /// The time between the two looks.
    pub unchanged_for: Duration,
}
