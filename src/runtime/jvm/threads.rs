//! The threads of a virtual machine: names as the program has set them, and states.
//!
//! Native threads of the virtual machine (collectors, compilers) have no Java thread; their names
//! are those of the system. Not here: stacks.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    flags::Flags,
    memory::Memory,
    objects::{Heap, Objects},
    process::Jvm,
};
use crate::process::identity;

/// The most threads that are read.
const MAX_THREADS: u64 = 1 << 16;
/// How long the list is used, and how soon it is read again for a thread that is not in it, in
/// nanoseconds.
const READ_EVERY_NS: u64 = 2_000_000_000;
const READ_AGAIN_NS: u64 = 200_000_000;

/// A Java thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JavaThread {
    /// Its number in the process's PID namespace.
    pub tid: u32,
    /// The name that the program has set.
    pub name: String,
    /// The address of its `Thread` object's state; it moves with the object.
    object_handle: u64,
}

/// The threads of a process, read again from time to time.
#[derive(Debug, Default)]
pub struct Threads {
    objects: Option<Objects>,
    /// The fields of `java.lang.Thread` and of the object that has its state.
    fields: ThreadFields,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_tid: HashMap<u32, Arc<JavaThread>>,
    /// From rprof's number of a thread to the process's own: reading it takes a system call.
    inner: HashMap<u32, u32>,
    read_at_ns: u64,
}

/// Offsets of fields of `java.lang.Thread`.
#[derive(Debug, Default)]
struct ThreadFields(Mutex<Option<Offsets>>);

#[derive(Clone, Copy, Debug)]
struct Offsets {
    name: u64,
    /// The object that has the state (from Java 19 on).
    holder: Option<u64>,
    status: u64,
}

impl Threads {
    /// The threads of a process.
    pub fn new(jvm: &Jvm, flags: &Flags) -> Threads {
        let objects = Objects::of(&jvm.memory, &jvm.structs, flags, &jvm.release);
        Threads { objects, fields: ThreadFields::default(), known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Java thread that a thread is. `inner` returns its number in the process's PID namespace.
    pub fn get(&self, jvm: &Jvm, tid: u32, inner: impl FnOnce(u32) -> u32) -> Option<Arc<JavaThread>> {
        let now_ns = identity::monotonic_ns();
        let mut known = self.known();
        let age_ns = now_ns.saturating_sub(known.read_at_ns);
        if age_ns > READ_EVERY_NS {
            known.inner.clear();
        }
        let number = *known.inner.entry(tid).or_insert_with(|| inner(tid));
        let is_known = known.by_tid.contains_key(&number);
        if age_ns > READ_EVERY_NS || (!is_known && age_ns > READ_AGAIN_NS) {
            known.by_tid = self.read(jvm).into_iter().map(|thread| (thread.tid, Arc::new(thread))).collect();
            known.read_at_ns = now_ns;
        }
        known.by_tid.get(&number).cloned()
    }

    /// How many Java threads there are.
    pub fn count(&self, jvm: &Jvm) -> usize {
        self.read(jvm).len()
    }

    fn read(&self, jvm: &Jvm) -> Vec<JavaThread> {
        let Some(objects) = &self.objects else { return Vec::new() };
        let heap = Heap { memory: &jvm.memory, layout: &jvm.layout, objects };
        let threads = addresses(jvm).unwrap_or_default();
        threads.into_iter().filter_map(|thread| self.thread(jvm, heap, thread)).collect()
    }

    fn thread(&self, jvm: &Jvm, heap: Heap<'_>, thread: u64) -> Option<JavaThread> {
        let os_thread = jvm.structs.offset(&["JavaThread._osthread", "Thread._osthread"])?;
        let number = jvm.structs.offset(&["OSThread._thread_id"])?;
        let tid = jvm.memory.u32(jvm.memory.pointer(thread + os_thread)? + number)?;
        let object_handle = thread + jvm.structs.offset(&["JavaThread._threadObj"])?;
        let object = object(jvm, heap, object_handle)?;
        let fields = self.offsets(heap, object)?;
        let name = heap.string(heap.reference(object + fields.name)?)?;
        Some(JavaThread { tid, name, object_handle })
    }

    fn offsets(&self, heap: Heap<'_>, object: u64) -> Option<Offsets> {
        let mut known = self.fields.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = *known {
            return Some(known);
        }
        let fields = heap.fields(heap.class_named(object, "java/lang/Thread")?)?;
        let holder = fields.get("holder").copied();
        let status = match holder {
            Some(holder) => {
                let holder = heap.reference(object + holder)?;
                *heap.fields(heap.class(holder)?)?.get("threadStatus")?
            }
            None => *fields.get("threadStatus")?,
        };
        let offsets = Offsets { name: *fields.get("name")?, holder, status };
        *known = Some(offsets);
        Some(offsets)
    }

    /// What a Java thread waits for, by its state; `None`: it runs, or that is not known.
    pub fn state(&self, jvm: &Jvm, thread: &JavaThread) -> Option<&'static str> {
        let heap = Heap { memory: &jvm.memory, layout: &jvm.layout, objects: self.objects.as_ref()? };
        let object = object(jvm, heap, thread.object_handle)?;
        heap.class_named(object, "java/lang/Thread")?;
        let offsets = self.offsets(heap, object)?;
        let at = match offsets.holder {
            Some(holder) => heap.reference(object + holder)?,
            None => object,
        };
        state_of(jvm.memory.u32(at + offsets.status)?)
    }
}

/// The state that `threadStatus` encodes (JVMTI's bits).
fn state_of(status: u32) -> Option<&'static str> {
    match status {
        0xe1 => Some("sleeps"),
        0x191 | 0x1a1 => Some("waits for notify"),
        0x291 | 0x2a1 => Some("parked"),
        0x401 => Some("waits for a monitor"),
        _ => None,
    }
}

/// The `Thread` object of a thread: through a handle from Java 17 on.
fn object(jvm: &Jvm, heap: Heap<'_>, at: u64) -> Option<u64> {
    match jvm.structs.kind("JavaThread._threadObj") {
        Some("OopHandle") => heap.handle(jvm.memory.pointer(at)?),
        _ => heap.handle(at),
    }
}

/// The addresses of all `JavaThread`s.
fn addresses(jvm: &Jvm) -> Option<Vec<u64>> {
    let (memory, structs): (&Memory, _) = (&jvm.memory, &jvm.structs);
    if let Some(list) = structs.address(&["ThreadsSMRSupport._java_thread_list"]) {
        let list = memory.pointer(list)?;
        let count = u64::from(memory.u32(list + structs.offset(&["ThreadsList._length"])?)?).min(MAX_THREADS);
        let threads = memory.pointer(list + structs.offset(&["ThreadsList._threads"])?)?;
        let bytes = memory.some_bytes(threads, count as usize * 8);
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        return Some(words.filter(|thread| *thread != 0).collect());
    }
    let (mut all, mut thread) = (Vec::new(), memory.u64(structs.address(&["Threads._thread_list"])?)?);
    let next = structs.offset(&["JavaThread._next"])?;
    while thread != 0 && (all.len() as u64) < MAX_THREADS {
        all.push(thread);
        thread = memory.u64(thread + next).unwrap_or(0);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_names_unless_the_thread_runs() {
        assert_eq!(
            [0x191, 0x401, 0x2a1, 5, 0].map(state_of),
            [Some("waits for notify"), Some("waits for a monitor"), Some("parked"), None, None]
        );
    }
}
