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
use crate::{
    addr::RuntimeAddr,
    process::{FrameWalker, identity},
    runtime::Language as _,
};

/// How often a thread that is not known makes the list of threads be read again: threads of other
/// languages are never known.
const REFRESH: Duration = Duration::from_millis(20);
/// How long the names of threads are kept at least, and how many times as long as reading them
/// took.
const NAMES: Duration = Duration::from_secs(5);
const NAMES_PAUSE: u32 = 100;

/// How often the title of the process is read.
const TITLE: Duration = Duration::from_secs(1);
/// The most characters of a title.
const MAX_TITLE: usize = 128;

/// The most thread states that are remembered.
const MAX_STATES: usize = 1 << 16;

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
    names: Names,
    title: Option<Arc<str>>,
    title_read_at: Option<Instant>,
}

/// The names of threads, by thread state, and when they are to be read again.
#[derive(Debug, Default)]
struct Names {
    of_state: HashMap<u64, Arc<str>>,
    /// The thread that used each state last: a new thread may get the state of one that ended.
    owners: HashMap<u64, u32>,
    /// Thread states without a name at the last reading.
    unnamed: HashSet<u64>,
    read_at: Option<Instant>,
    due: Option<Instant>,
    /// How long after a reading a thread without a name causes the next.
    pause: Duration,
}

impl Names {
    /// Notes that a thread uses a state; returns whether the names must be read for it.
    ///
    /// A thread is in `threading._active` only some time after it began: a state without a name is
    /// looked for again, after a pause that doubles.
    fn must_read(&mut self, state: u64, tid: Option<u32>, now: Instant) -> bool {
        if let Some(tid) = tid
            && self.owners.insert(state, tid).is_some_and(|before| before != tid)
        {
            self.of_state.remove(&state);
            self.unnamed.remove(&state);
        }
        if self.due.is_none_or(|due| due <= now) {
            return true;
        }
        if self.of_state.contains_key(&state) {
            return false;
        }
        if !self.unnamed.contains(&state) {
            self.pause = REFRESH;
        }
        self.read_at.is_none_or(|at| now.duration_since(at) >= self.pause)
    }

    /// Takes the names that were read from `began` to `ended` because of `state`.
    fn replace(&mut self, names: HashMap<u64, Arc<str>>, state: u64, began: Instant, ended: Instant) {
        let rest = ended.duration_since(began) * NAMES_PAUSE;
        self.of_state = names;
        (self.read_at, self.due) = (Some(ended), Some(ended + rest.max(NAMES)));
        self.pause = (self.pause * 2).clamp(REFRESH, NAMES).max(rest);
        self.unnamed.clear();
        if self.owners.len() > MAX_STATES {
            self.owners.clear();
        }
        self.note_unnamed(state);
    }

    fn note_unnamed(&mut self, state: u64) {
        if !self.of_state.contains_key(&state) && self.unnamed.len() < MAX_STATES {
            self.unnamed.insert(state);
        }
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

    /// The frames of a thread; `None`: it has no thread state, or no frames.
    pub fn section(&self, tid: u32) -> Option<Section> {
        let thread = self.thread(tid)?;
        let section = self.process.frames(thread.state);
        (!section.has(NO_THREAD_STATE) && !section.frames.is_empty()).then_some(section)
    }

    /// The name that the program gave to the thread with this state. `tid`: the thread that was
    /// seen with it.
    pub fn name(&self, state: u64, tid: Option<u32>) -> Option<Arc<str>> {
        let mut table = self.lock();
        let began = Instant::now();
        if table.names.must_read(state, tid, began) {
            let names = self.names();
            table.names.replace(names, state, began, Instant::now());
        } else {
            table.names.note_unnamed(state);
        }
        table.names.of_state.get(&state).cloned()
    }

    /// The title that the process gave itself (`gunicorn: worker [app]`); `None`: it has its
    /// command line.
    pub fn title(&self) -> Option<Arc<str>> {
        let mut table = self.lock();
        if table.title_read_at.is_none_or(|at| at.elapsed() >= TITLE) {
            table.title = title_in(&identity::command_line(self.process.pid));
            table.title_read_at = Some(Instant::now());
        }
        table.title.clone()
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

/// The title in a command line: programs that set one replace all arguments by a single text.
fn title_in(command_line: &[String]) -> Option<Arc<str>> {
    let mut arguments = command_line.iter().filter(|argument| !argument.trim().is_empty());
    let (first, second) = (arguments.next()?.trim(), arguments.next());
    let shown = first.chars().take(MAX_TITLE).map(|c| if c.is_control() { '?' } else { c });
    (second.is_none() && first.contains(' ')).then(|| shown.collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_text_in_place_of_the_arguments_is_a_title() {
        let title =
            |arguments: &[&str]| title_in(&arguments.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>());
        assert_eq!(title(&["gunicorn: worker [app]", "", ""]).as_deref(), Some("gunicorn: worker [app]"));
        assert_eq!(title(&["uWSGI worker\x1b 1   "]).as_deref(), Some("uWSGI worker? 1"));
        assert_eq!(title(&["/usr/bin/python3", "a b.py"]), None);
        assert_eq!((title(&["python3"]), title(&[])), (None, None));
    }

    /// Looks for the name of state 1 at `now`; returns whether that read the names, which were
    /// `found`.
    fn look(names: &mut Names, tid: u32, now: Instant, found: Option<&str>) -> bool {
        let must_read = names.must_read(1, Some(tid), now);
        if must_read {
            names.replace(found.map(|name| (1, Arc::from(name))).into_iter().collect(), 1, now, now);
        } else {
            names.note_unnamed(1);
        }
        must_read
    }

    #[test]
    fn a_thread_that_gets_its_name_late_is_named_soon_and_one_without_a_name_costs_little() {
        let (mut names, began) = (Names::default(), Instant::now());
        let mut readings = Vec::new();
        for ms in 0..4000 {
            if look(&mut names, 7, began + Duration::from_millis(ms), None) {
                readings.push(ms);
            }
        }
        assert_eq!(readings, [0, 20, 60, 140, 300, 620, 1260, 2540]);
        assert!(look(&mut names, 7, began + NAMES * 3, Some("late")));
        assert_eq!(names.of_state[&1].as_ref(), "late");
    }

    #[test]
    fn a_new_thread_does_not_get_the_name_of_the_thread_whose_state_it_uses() {
        let (mut names, began) = (Names::default(), Instant::now());
        assert!(look(&mut names, 7, began, Some("first")));
        assert!(!look(&mut names, 7, began + REFRESH * 2, Some("first")));
        assert!(look(&mut names, 8, began + REFRESH * 3, Some("second")));
        assert_eq!(names.of_state[&1].as_ref(), "second");
    }
}
