//! The interpreter's threads: which thread of the kernel has which thread state, the names that the
//! program gave them, and who holds the interpreter lock.
//!
//! From 3.11 on a thread state has the thread's number in the process's own PID namespace. Before,
//! it has `pthread_self`, the address of the C library's record of the thread, in which the number
//! is: the place is found by comparing all records with the process's threads.
//!
//! A thread that is inside of a sub-interpreter has several thread states, one per interpreter.

use std::collections::{HashMap, HashSet};

use super::{
    layouts::Gil,
    objects::is_pointer,
    process::PythonProcess,
    walker::{self, WalkerSettings},
};
use crate::{addr::RuntimeAddr, process::identity};

/// The most threads that are read.
const MAX_THREADS: usize = 1 << 17;
/// Where glibc for x86-64 has the thread's number (`struct pthread`, `tid`).
const GLIBC_TID: usize = 720;
/// Bytes of the C library's record of a thread in which the number is looked for.
const RECORD_BYTES: usize = 1024;
/// Bytes below and above the thread pointer in which the pointer to the thread state is looked for:
/// static thread-local variables are below, `pthread_setspecific`'s values above (x86-64).
const SLOT_BELOW: u64 = 8192;
const SLOT_ABOVE: u64 = 2304;
/// In glibc's record of a thread: the value of the first key of `pthread_setspecific`; others
/// follow, 16 bytes each.
const FIRST_KEY: i64 = 0x318;
/// The most characters of a thread's name.
const MAX_NAME: usize = 128;

/// A thread state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PythonThread {
    /// The address of the thread state.
    pub state: u64,
    /// Its interpreter.
    pub interpreter: u64,
    /// `pthread_self`.
    pub id: u64,
    /// The thread, as the process's own PID namespace numbers it; 0: unknown.
    pub inner_tid: u32,
}

/// The interpreter lock of an interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GilState {
    /// The thread state that held it last.
    pub holder: u64,
    /// Whether it is held now.
    pub locked: bool,
}

impl PythonProcess {
    /// All thread states of all interpreters.
    pub fn threads(&self) -> Vec<PythonThread> {
        let mut threads = Vec::new();
        for interpreter in self.interpreters() {
            let first = self.objects().pointer(interpreter, self.layout.threads);
            let room = MAX_THREADS - threads.len();
            for state in self.list(first, self.layout.thread_next, room) {
                threads.extend(self.thread(state, interpreter));
            }
        }
        if self.layout.native_thread_id == 0 {
            self.find_inner_tids(&mut threads);
        }
        threads
    }

    fn thread(&self, state: u64, interpreter: u64) -> Option<PythonThread> {
        let (objects, layout) = (self.objects(), &self.layout);
        let id = objects.word(state, layout.thread_id)?;
        let native = match layout.native_thread_id {
            0 => Some(0),
            offset => objects.word(state, offset).and_then(|tid| u32::try_from(tid).ok()),
        };
        Some(PythonThread { state, interpreter, id, inner_tid: native.unwrap_or(0) })
    }

    /// Finds the numbers of threads in the C library's records of them.
    fn find_inner_tids(&self, threads: &mut [PythonThread]) {
        let inner: HashSet<u32> = self.namespace_tids().into_keys().collect();
        let read = |thread: &PythonThread| {
            let mut record = vec![0; RECORD_BYTES];
            let count =
                if is_pointer(thread.id) { self.memory.read(RuntimeAddr(thread.id), &mut record) } else { 0 };
            record[..count].as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
        };
        let records: Vec<Vec<u32>> = threads.iter().map(read).collect();
        let fits = |word: usize| {
            let tids: Vec<u32> = records.iter().filter_map(|record| record.get(word).copied()).collect();
            let known = tids.iter().filter(|tid| inner.contains(tid)).count();
            // A thread may have ended meanwhile.
            known * 10 >= tids.len() * 9 && known > 0
        };
        let places = std::iter::once(GLIBC_TID / 4).chain(0..RECORD_BYTES / 4);
        let Some(place) = places.into_iter().find(|word| fits(*word)) else { return };
        for (thread, record) in threads.iter_mut().zip(&records) {
            thread.inner_tid = record.get(place).copied().filter(|tid| inner.contains(tid)).unwrap_or(0);
        }
    }

    /// The process's threads: number in its own PID namespace, and in rprof's.
    pub fn namespace_tids(&self) -> HashMap<u32, u32> {
        if let Some(ended) = &self.ended {
            return ended.threads.iter().map(|tid| (*tid, *tid)).collect();
        }
        let inner_of = |tid: u32| identity::namespace_pid_and_uid(tid).map_or(tid, |(inner, _)| inner);
        let is_same = inner_of(self.pid) == self.pid;
        let tids = crate::process::threads::list(self.pid);
        tids.into_iter().map(|tid| (if is_same { tid } else { inner_of(tid) }, tid)).collect()
    }

    /// The interpreter lock of an interpreter; `None`: it has none, or it cannot be read.
    pub fn gil(&self, interpreter: u64) -> Option<GilState> {
        let record = match self.layout.gil {
            Gil::Runtime(holder) => self.runtime + u64::from(holder),
            Gil::Interpreter(gil, holder) => self.objects().pointer(interpreter, gil)? + u64::from(holder),
        };
        if self.layout.free_threaded {
            return None;
        }
        let holder = self.memory.read_word(RuntimeAddr(record))?;
        let locked = self.memory.read_u32(RuntimeAddr(record + 8))?.cast_signed();
        // -1: the lock was not created yet.
        Some(GilState { holder, locked: locked == 1 })
    }

    /// The names of the threads of an interpreter as `threading` has them, by `pthread_self`.
    pub fn thread_names(&self, interpreter: u64) -> HashMap<u64, String> {
        self.read_thread_names(interpreter).unwrap_or_default()
    }

    fn read_thread_names(&self, interpreter: u64) -> Option<HashMap<u64, String>> {
        let objects = self.objects();
        let active = objects.item(self.module_dictionary(interpreter, "threading")?, "_active")?;
        let mut names = HashMap::new();
        for (id, thread) in objects.items(active)?.into_iter().take(MAX_THREADS) {
            let name = objects.attribute(thread, "_name").and_then(|name| objects.text(name));
            if let Some((id, name)) = objects.unsigned(id).zip(name) {
                names.insert(id, printable(&name));
            }
        }
        Some(names)
    }

    /// The variables of an imported module.
    pub fn module_dictionary(&self, interpreter: u64, name: &str) -> Option<u64> {
        let objects = self.objects();
        let modules = objects.pointer(interpreter, self.layout.modules)?;
        objects.pointer(objects.item(modules, name)?, self.layout.module_dict)
    }

    /// Where, relative to the thread pointer, every thread keeps its thread state; 0: no place is
    /// the same in all threads.
    ///
    /// `pthread_setspecific`'s value stays while a thread has let go of the interpreter lock; the
    /// thread-local variable `_Py_tss_tstate` does not, except for one in 3.15.
    pub fn slot(&self, threads: &[PythonThread]) -> i64 {
        let mut common: Option<HashSet<i64>> = None;
        let mut states_of: HashMap<u64, Vec<u64>> = HashMap::new();
        for thread in threads.iter().take(64).filter(|thread| is_pointer(thread.id)) {
            states_of.entry(thread.id).or_default().push(thread.state);
        }
        for (id, states) in states_of {
            let places = self.places_of(id, &states);
            common = Some(match common {
                Some(common) => common.intersection(&places).copied().collect(),
                None => places,
            });
        }
        let common = common.unwrap_or_default();
        let keys =
            common.iter().copied().filter(|place| *place >= FIRST_KEY && (place - FIRST_KEY) % 16 == 0);
        let key = keys.min();
        let variable = common.iter().copied().filter(|place| *place < 0).min();
        if self.layout.minor < 15 { key.or(variable) } else { variable.or(key) }.unwrap_or(0)
    }

    /// Where, relative to `id`, one of `states` is.
    fn places_of(&self, id: u64, states: &[u64]) -> HashSet<i64> {
        const PAGE: u64 = 4096;
        let mut places = HashSet::new();
        let mut from = id.saturating_sub(SLOT_BELOW) & !7;
        while from < id + SLOT_ABOVE {
            let to = ((from | (PAGE - 1)) + 1).min(id + SLOT_ABOVE);
            let mut page = vec![0; (to - from) as usize];
            let count = self.memory.read(RuntimeAddr(from), &mut page);
            let words = page[..count].as_chunks::<8>().0.iter().enumerate();
            let found = words.filter(|(_, word)| states.contains(&u64::from_le_bytes(**word)));
            places.extend(found.map(|(index, _)| (from + index as u64 * 8).wrapping_sub(id).cast_signed()));
            from = to;
        }
        places
    }

    /// What the BPF walker must know.
    pub fn walker_settings(&self, slot: i64) -> WalkerSettings {
        let layout = &self.layout;
        let at = |offset: u32| if offset == 0 { 0 } else { self.runtime + u64::from(offset) };
        let (gil, tstate_interp, gil_holder) = match layout.gil {
            _ if layout.free_threaded => (0, 0, 0),
            Gil::Runtime(holder) => (at(holder), 0, 0),
            Gil::Interpreter(gil, holder) => (u64::from(gil), layout.thread_interpreter, holder),
        };
        WalkerSettings {
            form: layout.form,
            tstate_frame: layout.thread_frame,
            cframe_frame: layout.cframe_frame,
            cframe_previous: layout.cframe_previous,
            code: layout.frame_code,
            previous: layout.frame_previous,
            instr: layout.frame_instr,
            entry: if layout.form == walker::FORM_OBJECTS { 0 } else { layout.frame_entry },
            header_bytes: layout.frame_bytes(),
            entry_min: layout.entry_min,
            thread_id: layout.thread_id,
            tstate_interp,
            gil_holder,
            reserved: 0,
            code_mask: layout.code_mask,
            instr_mask: layout.instr_mask(),
            slot,
            current: at(layout.current),
            gil,
        }
    }
}

/// A name of bounded length without control characters.
fn printable(name: &str) -> String {
    name.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect()
}
