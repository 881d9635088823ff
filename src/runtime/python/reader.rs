//! Which thread state a thread of the kernel has, kept and refreshed while a process is profiled.
//!
//! Not here: what the thread state leads to (`frames`).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    language::Python,
    process::PythonProcess,
    threads::PythonThread,
    walker::{NO_THREAD_STATE, Section},
};
use crate::{addr::RuntimeAddr, process::FrameWalker, runtime::Language as _};

/// How often a thread that is not known makes the list of threads be read again: threads of other
/// languages are never known.
const REFRESH: Duration = Duration::from_millis(20);
/// How long the names of threads are kept at least, and how many times as long as reading them
/// took.
const NAMES: Duration = Duration::from_secs(5);
const NAMES_PAUSE: u32 = 100;

/// The most threads without a name that are remembered.
const MAX_UNNAMED: usize = 1 << 16;

/// Reads the frames of threads by their number.
#[derive(Debug)]
pub struct PythonReader {
    process: Arc<PythonProcess>,
    /// From the thread pointer to the word with the thread state; 0: unknown.
    slot: i64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    threads: HashMap<u32, Vec<PythonThread>>,
    read_at: Option<Instant>,
    names: HashMap<u64, Arc<str>>,
    /// Thread states without a name at the last reading.
    unnamed: HashSet<u64>,
    unnamed_pause: Duration,
    names_read_at: Option<Instant>,
    /// When the names are to be read again.
    names_due: Option<Instant>,
}

impl Table {
    /// Whether a thread that is not known may have the names read before they are due.
    fn may_read_again(&self, now: Instant) -> bool {
        self.names_read_at.is_none_or(|at| now.duration_since(at) >= self.unnamed_pause)
    }
}

impl PythonReader {
    /// A reader of a process.
    pub fn new(process: Arc<PythonProcess>) -> PythonReader {
        let threads = process.threads();
        let slot = process.slot(&threads);
        let reader = PythonReader { process, slot, table: Mutex::default() };
        reader.refresh(&mut reader.lock(), threads);
        reader
    }

    /// Whether the interpreter is far enough that its threads can be found with each sample: the
    /// place of their thread states is known, or one of them runs Python code.
    pub fn is_settled(&self) -> bool {
        let has_frames = |thread: &PythonThread| !self.process.frames(thread.state).frames.is_empty();
        self.slot != 0 || self.process.threads().iter().any(has_frames)
    }

    /// The process.
    pub fn process(&self) -> &Arc<PythonProcess> {
        &self.process
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refresh(&self, table: &mut Table, threads: Vec<PythonThread>) {
        let tids = self.process.namespace_tids();
        table.threads.clear();
        for thread in threads {
            if let Some(tid) = tids.get(&thread.inner_tid) {
                table.threads.entry(*tid).or_default().push(thread);
            }
        }
        table.read_at = Some(Instant::now());
    }

    /// The thread state that a thread uses now.
    pub fn thread(&self, tid: u32) -> Option<PythonThread> {
        let mut table = self.lock();
        if let Some(thread) = table.threads.get(&tid).and_then(|states| self.current(states)) {
            return Some(thread);
        }
        if table.read_at.is_some_and(|at| at.elapsed() < REFRESH) {
            return None;
        }
        let threads = self.process.threads();
        self.refresh(&mut table, threads);
        table.threads.get(&tid).and_then(|states| self.current(states))
    }

    /// Of a thread's states the one that it uses; `None`: they are no longer this thread's.
    fn current(&self, states: &[PythonThread]) -> Option<PythonThread> {
        let objects = self.process.objects();
        let layout = &self.process.layout;
        let is_valid = |thread: &&PythonThread| {
            objects.word(thread.state, layout.thread_id) == Some(thread.id)
                && objects.word(thread.state, layout.thread_interpreter) == Some(thread.interpreter)
        };
        let valid: Vec<&PythonThread> = states.iter().filter(is_valid).collect();
        if valid.len() > 1 && self.slot != 0 {
            let place = valid[0].id.wrapping_add_signed(self.slot);
            let used = self.process.memory.read_word(RuntimeAddr(place));
            if let Some(thread) = valid.iter().find(|thread| Some(thread.state) == used) {
                return Some(**thread);
            }
        }
        valid.last().map(|thread| **thread)
    }

    /// The BPF program that reads the same with each sample, and its settings.
    pub fn walker(&self) -> FrameWalker {
        self.process.walker_settings(self.slot).walker(Python.id())
    }

    /// Appends the frames of a thread to `section`; `false`: it has none.
    pub fn read(&self, tid: u32, section: &mut Vec<u8>) -> bool {
        let Some(found) = self.section(tid) else { return false };
        section.extend(found.encode());
        true
    }

    /// The frames of a thread; `None`: it has no thread state, or no frames.
    pub fn section(&self, tid: u32) -> Option<Section> {
        let thread = self.thread(tid)?;
        let section = self.process.frames(thread.state);
        (!section.has(NO_THREAD_STATE) && !section.frames.is_empty()).then_some(section)
    }

    /// The name that the program gave to the thread with this state.
    pub fn name(&self, state: u64) -> Option<Arc<str>> {
        let mut table = self.lock();
        let began = Instant::now();
        let is_unknown = !table.names.contains_key(&state) && !table.unnamed.contains(&state);
        if table.names_due.is_none_or(|due| due <= began) || is_unknown && table.may_read_again(began) {
            table.names = self.names();
            let pause = (began.elapsed() * NAMES_PAUSE).max(NAMES);
            (table.names_read_at, table.names_due) = (Some(began), Some(began + pause));
            table.unnamed.clear();
            table.unnamed_pause = (began.elapsed() * NAMES_PAUSE).max(REFRESH);
        }
        if !table.names.contains_key(&state) && table.unnamed.len() < MAX_UNNAMED {
            table.unnamed.insert(state);
        }
        table.names.get(&state).cloned()
    }

    /// The names of all threads, by thread state.
    fn names(&self) -> HashMap<u64, Arc<str>> {
        let mut names = HashMap::new();
        let mut of_interpreter = HashMap::new();
        for thread in self.process.threads() {
            let found = of_interpreter
                .entry(thread.interpreter)
                .or_insert_with(|| self.process.thread_names(thread.interpreter));
            if let Some(name) = found.get(&thread.id) {
                names.insert(thread.state, Arc::from(name.as_str()));
            }
        }
        names
    }
}
