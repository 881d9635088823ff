//! Builds the wait graph: a vertex for each thread, its wait, and the holders of what it waits for.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    candidates::{self, Search, Sleeper},
    frames::Frames,
    futex::{self, Futex, FutexWait, Owner},
    graph::{Strength, VertexId},
    look::{Call, Look},
    model::{Holder, Vertex, VertexKind, Wait},
    names,
    space::Space,
};
use crate::{
    addr::RuntimeAddr,
    budget::Budget,
    process::{
        identity,
        thread_state::{self, SchedulerClock, ThreadState},
    },
};

/// Where parking_lot's reentrant mutex may have the mark of its owner, from the lock.
const OWNER_MARKS: [i64; 3] = [-16, -8, 8];

/// A wait graph that is being built.
pub struct Builder<'a> {
    frames: &'a FxHashMap<(u32, u32), Frames<'a>>,
    clock: SchedulerClock,
    spaces: BTreeMap<u32, Space>,
    /// The vertices.
    pub vertices: Vec<Vertex>,
    /// The look at each vertex that is a thread.
    pub looks: Vec<Option<Look>>,
    /// The frames of each vertex that is a thread and has not run since they were read.
    stacks: Vec<Option<&'a Frames<'a>>>,
    /// The vertices by what they stand for.
    pub ids: FxHashMap<VertexKind, VertexId>,
    /// The threads that wait by a futex.
    pub futexes: Vec<FutexVertex>,
    classified: usize,
    budget: &'a Budget,
}

/// A thread that waits by a futex.
pub struct FutexVertex {
    /// Its vertex.
    pub id: VertexId,
    /// The arguments of the call.
    pub futex: Futex,
    /// What was found.
    pub wait: FutexWait,
}

impl<'a> Builder<'a> {
    /// An empty graph. `frames`: the stacks of threads.
    pub fn new(frames: &'a FxHashMap<(u32, u32), Frames<'a>>, budget: &'a Budget) -> Builder<'a> {
        Builder {
            frames,
            clock: SchedulerClock::read(),
            spaces: BTreeMap::new(),
            vertices: Vec::new(),
            looks: Vec::new(),
            stacks: Vec::new(),
            ids: FxHashMap::default(),
            futexes: Vec::new(),
            classified: 0,
            budget,
        }
    }

    /// Adds a thread that the dump has read.
    pub fn add_thread(&mut self, pid: u32, state: &ThreadState) -> VertexId {
        let kind = VertexKind::Thread { pid, tid: state.tid };
        if let Some(known) = self.ids.get(&kind) {
            return *known;
        }
        let look = Look::at(pid, state.tid);
        // The stack is that of this wait only if the thread has not run since.
        let is_same = look.is_some_and(|look| look.turns.is_some() && look.turns == state.turns);
        let frames = self.frames.get(&(pid, state.tid)).filter(|_| is_same);
        let doing = match (&state.waiting, state.state) {
            (Some(waiting), 'D') => format!("{} (uninterruptible)", waiting.what),
            (Some(waiting), _) => waiting.what.clone(),
            (None, state) => state_in_words(state).to_owned(),
        };
        let place = frames.map(Frames::waits_in).unwrap_or_default();
        let vertex =
            Vertex { kind, name: state.name.clone(), place, doing, wait: None, waited_ns: state.waited_ns };
        let id = self.push(vertex, look);
        self.stacks[id] = frames;
        id
    }

    /// Adds a thread of any process. `None`: it is gone.
    pub fn add_other_thread(&mut self, pid: u32, tid: u32) -> Option<VertexId> {
        if let Some(known) = self.ids.get(&VertexKind::Thread { pid, tid }) {
            return Some(*known);
        }
        let state = thread_state::read(pid, tid, &self.clock).ok()?;
        Some(self.add_thread(pid, &state))
    }

    /// Adds a vertex; `look` for a thread.
    pub fn push(&mut self, vertex: Vertex, look: Option<Look>) -> VertexId {
        let id = self.vertices.len();
        self.ids.insert(vertex.kind, id);
        self.vertices.push(vertex);
        self.looks.push(look);
        self.stacks.push(None);
        id
    }

    /// The memory of a process.
    pub fn space(&mut self, pid: u32) -> &Space {
        self.spaces.entry(pid).or_insert_with(|| Space::of(pid))
    }

    /// The memory of a process that was read before.
    pub fn known_space(&self, pid: u32) -> Option<&Space> {
        self.spaces.get(&pid)
    }

    /// The frames of a thread, if it has not run since they were read.
    pub fn frames(&self, id: VertexId) -> Option<&'a Frames<'a>> {
        self.stacks.get(id).copied().flatten()
    }

    /// Finds the locks that the threads wait for which were added since. Returns the other system
    /// calls that threads wait in, with their process.
    pub fn classify(&mut self) -> Vec<(VertexId, u32, Call)> {
        let mut others = Vec::new();
        while self.classified < self.vertices.len() {
            let id = self.classified;
            self.classified += 1;
            let (VertexKind::Thread { pid, .. }, Some(look)) = (self.vertices[id].kind, self.looks[id])
            else {
                continue;
            };
            match look.call() {
                Some(Call { name: "futex", arguments }) => self.add_futex(id, pid, Futex::of(&arguments)),
                Some(call) => others.push((id, pid, call)),
                None => {}
            }
        }
        others
    }

    fn add_futex(&mut self, id: VertexId, pid: u32, futex: Futex) {
        let leaves = self.frames(id).or_else(|| self.earlier_frames(id, futex)).map(Frames::leaves);
        let leaves = leaves.unwrap_or_default();
        let wait = classify(self.space(pid), futex, &leaves);
        let holders = self.owner(pid, &wait.owner);
        self.vertices[id].wait = Some(Wait {
            kind: wait.kind.to_owned(),
            address: wait.address,
            note: wait.note.clone(),
            timed: wait.timed,
            complete: true,
            holders: holders.into_iter().collect(),
            ..Wait::default()
        });
        self.futexes.push(FutexVertex { id, futex, wait });
    }

    /// The frames of a thread that has run since they were read, if it waited for an interpreter's
    /// lock then and seems to do so again: these waits are short, one after the other.
    fn earlier_frames(&self, id: VertexId, futex: Futex) -> Option<&'a Frames<'a>> {
        let VertexKind::Thread { pid, tid } = self.vertices[id].kind else { return None };
        let earlier = self.frames.get(&(pid, tid)).filter(|_| futex.timed)?;
        futex::Names(&earlier.leaves()).take_interpreter_lock().then_some(earlier)
    }

    /// The recorded owner of a lock.
    fn owner(&mut self, pid: u32, owner: &Owner) -> Option<Holder> {
        let vertex = match owner {
            Owner::Anyone | Owner::NotRecorded(_) => None,
            Owner::Thread(inner) => Some(self.owner_thread(pid, *inner)),
            Owner::StackOf(lock) => self.owner_by_mark(pid, *lock),
        }?;
        Some(Holder { vertex, strength: Strength::Exact, evidence: String::new() })
    }

    fn owner_thread(&mut self, pid: u32, inner: u32) -> VertexId {
        let tid = self.space(pid).thread(inner);
        let found = tid.and_then(|tid| self.add_other_thread(pid, tid));
        // Of a lock in shared memory, or a thread that was created since.
        let found = found.or_else(|| {
            let group = identity::group_of(inner)?;
            self.space(pid).has_own_ids().then(|| self.add_other_thread(group, inner))?
        });
        let kind = VertexKind::Ended { pid, tid: inner };
        found.or_else(|| self.ids.get(&kind).copied()).unwrap_or_else(|| {
            let (name, place, doing) = Default::default();
            self.push(Vertex { kind, name, place, doing, wait: None, waited_ns: None }, None)
        })
    }

    /// The thread in whose stack mapping the mark of the owner is.
    fn owner_by_mark(&mut self, pid: u32, lock: u64) -> Option<VertexId> {
        let space = self.space(pid);
        let mark = |distance: &i64| space.memory.read_word(RuntimeAddr(lock).offset(*distance));
        let mappings: Vec<usize> =
            OWNER_MARKS.iter().filter_map(mark).filter_map(|mark| space.mapping_at(mark)).collect();
        let space = self.known_space(pid)?;
        let of_stack = |(id, look): (VertexId, &Option<Look>)| {
            let look = look.filter(|look| look.pid == pid)?;
            mappings.contains(&space.mapping_at(look.sp()?)?).then_some(id)
        };
        self.looks.iter().enumerate().find_map(of_stack)
    }

    /// Searches the holders of locks that record none.
    pub fn find_candidates(&mut self) {
        let mut by_lock: BTreeMap<(u32, u64), Search> = BTreeMap::new();
        let mut waiting = Vec::new();
        for one in &self.futexes {
            let (Owner::NotRecorded(addresses), VertexKind::Thread { pid, .. }) =
                (&one.wait.owner, self.vertices[one.id].kind)
            else {
                continue;
            };
            let key = (pid, one.wait.address);
            let search = by_lock
                .entry(key)
                .or_insert_with(|| Search { addresses: addresses.clone(), waiters: FxHashSet::default() });
            search.waiters.insert(one.id);
            waiting.push((one.id, key));
        }
        let pids: FxHashSet<u32> = by_lock.keys().map(|(pid, _)| *pid).collect();
        let mut found = BTreeMap::new();
        for pid in pids {
            let (keys, searches): (Vec<_>, Vec<_>) =
                by_lock.iter_mut().filter(|((of, _), _)| *of == pid).map(|(key, one)| (*key, one)).unzip();
            let searches: Vec<Search> = searches
                .into_iter()
                .map(|one| Search {
                    addresses: std::mem::take(&mut one.addresses),
                    waiters: std::mem::take(&mut one.waiters),
                })
                .collect();
            let Some(space) = self.spaces.get(&pid) else { continue };
            let candidates = candidates::find(space, &searches, &self.sleepers(pid));
            found.extend(keys.into_iter().zip(candidates));
        }
        for (id, key) in waiting {
            let Some(candidates) = found.get(&key) else { continue };
            let holders = candidates.iter().map(|(vertex, evidence)| Holder {
                vertex: *vertex,
                strength: Strength::Likely,
                evidence: evidence.clone(),
            });
            let holders: Vec<Holder> = holders.collect();
            if let Some(wait) = &mut self.vertices[id].wait {
                wait.holders = holders;
            }
        }
    }

    /// Adds who held the interpreter's lock to the waits for it.
    pub fn add_interpreter_lock_holders(&mut self, holders: &[(u32, u32)]) {
        let threads: Vec<(u32, VertexId)> = (holders.iter())
            .filter_map(|(pid, tid)| {
                Some((*pid, *self.ids.get(&VertexKind::Thread { pid: *pid, tid: *tid })?))
            })
            .collect();
        for (id, vertex) in self.vertices.iter_mut().enumerate() {
            let (VertexKind::Thread { pid, .. }, Some(wait)) = (vertex.kind, &mut vertex.wait) else {
                continue;
            };
            if wait.kind != futex::INTERPRETER_LOCK_KIND {
                continue;
            }
            let of_process = threads.iter().filter(|(of, holder)| *of == pid && *holder != id);
            wait.holders.extend(of_process.map(|(_, vertex)| Holder {
                vertex: *vertex,
                strength: Strength::Likely,
                evidence: "it held the lock when its stack was read".to_owned(),
            }));
        }
    }

    /// The sleeping threads of a process.
    fn sleepers(&self, pid: u32) -> Vec<Sleeper<'_>> {
        let sleeper = |(id, look): (VertexId, &Option<Look>)| {
            let sp = look.filter(|look| look.pid == pid)?.sp()?;
            Some(Sleeper { id, sp, frames: self.frames(id) })
        };
        self.looks.iter().enumerate().filter_map(sleeper).collect()
    }

    /// Names the objects that threads wait for.
    pub fn name_objects(&mut self) {
        let mut by_process: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for vertex in &self.vertices {
            if let (VertexKind::Thread { pid, .. }, Some(wait)) = (vertex.kind, &vertex.wait)
                && wait.address != 0
            {
                by_process.entry(pid).or_default().push(wait.address);
            }
        }
        for (pid, mut addresses) in by_process {
            addresses.sort_unstable();
            addresses.dedup();
            let Some(space) = self.spaces.get(&pid) else { continue };
            let names = names::objects(space, &addresses, self.budget);
            for vertex in &mut self.vertices {
                if let (VertexKind::Thread { pid: of, .. }, Some(wait)) = (vertex.kind, &mut vertex.wait)
                    && of == pid
                    && let Some(name) = names.get(&wait.address)
                {
                    wait.name.clone_from(name);
                }
            }
        }
    }
}

/// What a futex wait waits for now.
pub fn classify(space: &Space, futex: Futex, leaves: &[&str]) -> FutexWait {
    let window = space.window(futex.word);
    futex::classify(futex, window.as_ref(), &futex::Names(leaves), &|inner| space.thread(inner).is_some())
}

/// The state letter of proc(5) as a word.
fn state_in_words(state: char) -> &'static str {
    match state {
        'R' => "running",
        'S' | 'I' => "asleep",
        'D' => "uninterruptible",
        'T' => "stopped",
        't' => "stopped by a debugger",
        _ => "ended",
    }
}
