//! asyncio's tasks: which there are, their names, the coroutines that each consists of, and what
//! the innermost one waits for.
//!
//! Up to 3.13 asyncio keeps its tasks in a `WeakSet` of the module `asyncio.tasks`; from 3.14 on in
//! lists of the threads and of the interpreter, whose places `_asyncio` states in its section
//! `.AsyncioDebug`. A suspended coroutine has what it awaits on top of its value stack: another
//! coroutine, or the iterator of a future.
//!
//! The program runs meanwhile: a task may end or move on while it is read. Tasks of other
//! implementations (uvloop uses asyncio's, Cython's coroutines do not) are listed by name alone.

use std::{collections::HashSet, sync::Arc};

use super::{
    layouts::StackTop,
    objects::{MAX_ITEMS, is_pointer},
    process::PythonProcess,
};

/// The most coroutines of one task.
const MAX_CHAIN: usize = 256;
/// The most children of a `gather` that are named.
const MAX_CHILDREN: u64 = 16;
/// The deepest value stack of a frame.
const MAX_DEPTH: u64 = 1 << 24;
/// The most characters of a name.
const MAX_NAME: usize = 256;

/// Where `_asyncio` keeps its tasks from 3.14 on (`Py_AsyncioModuleDebugOffsets`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLists {
    name: u32,
    coroutine: u32,
    node: u32,
    interpreter_head: u32,
    running: u32,
    thread_head: u32,
}

impl TaskLists {
    /// Decodes the section `.AsyncioDebug`: 13 words. `None`: it is not what is known.
    pub fn parse(bytes: &[u8]) -> Option<TaskLists> {
        let words = bytes.get(..13 * 8)?.as_chunks::<8>().0;
        let word = |index: usize| {
            u32::from_le_bytes([words[index][0], words[index][1], words[index][2], words[index][3]])
        };
        let size = |index: usize| u64::from_le_bytes(words[index]);
        let inside = |field: usize, size_at: usize| {
            let offset = u64::from_le_bytes(words[field]);
            offset.is_multiple_of(8) && offset < size(size_at).min(1 << 24)
        };
        let is_valid = [(1, 0), (5, 0), (6, 0), (8, 7), (11, 9), (12, 9)];
        is_valid.iter().all(|(field, size_at)| inside(*field, *size_at)).then(|| TaskLists {
            name: word(1),
            coroutine: word(5),
            node: word(6),
            interpreter_head: word(8),
            running: word(11),
            thread_head: word(12),
        })
    }
}

/// What a suspended task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// For nothing: its next step is due, or it has not begun.
    Nothing,
    /// It runs now.
    Running,
    /// For another task: its name.
    Task(String),
    /// For all of several tasks (`gather`): the names of those that are not done.
    All(Vec<String>),
    /// For a future, or an object of this type.
    Object(String),
}

/// A coroutine or generator of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coroutine {
    /// Its code object.
    pub code: u64,
    /// Its current instruction.
    pub instr: u64,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonTask {
    /// The address of the task.
    pub address: u64,
    /// Its name.
    pub name: String,
    /// Its coroutines, the innermost first.
    pub coroutines: Vec<Coroutine>,
    /// What it waits for.
    pub waits: Waits,
}

impl PythonProcess {
    /// The tasks of an interpreter that are not done. `lists`: from 3.14 on. `None`: the program
    /// does not use asyncio.
    pub fn tasks(&self, interpreter: u64, lists: Option<TaskLists>) -> Option<Vec<PythonTask>> {
        // The objects of one task lie side by side, and so do tasks.
        let by_pages = PythonProcess { memory: Arc::new(self.memory.by_pages()), ..self.clone() };
        by_pages.all_tasks(interpreter, lists)
    }

    fn all_tasks(&self, interpreter: u64, lists: Option<TaskLists>) -> Option<Vec<PythonTask>> {
        let module = self.module_dictionary(interpreter, "asyncio.tasks")?;
        let mut seen = HashSet::new();
        let mut addresses = self.tasks_in_sets(module);
        let mut running = self.running_tasks(module);
        if let Some(lists) = lists {
            addresses.extend(self.tasks_in_lists(interpreter, &lists));
            running.extend(self.running_in_threads(interpreter, &lists));
        }
        addresses.retain(|address| seen.insert(*address));
        addresses.truncate(MAX_ITEMS as usize);
        addresses.sort_unstable();
        let read = |address: &u64| self.task(*address, lists, running.contains(address));
        Some(addresses.iter().filter_map(read).collect())
    }

    fn tasks_in_sets(&self, module: u64) -> Vec<u64> {
        let objects = self.objects();
        let weak = |name: &str| {
            let set = objects.attribute(objects.item(module, name)?, "data")?;
            let references = objects.set(set)?.into_iter();
            Some(
                references
                    .filter_map(|one| objects.pointer(one, self.layout.weak_object))
                    .collect::<Vec<_>>(),
            )
        };
        let mut all = weak("_all_tasks").unwrap_or_default();
        all.extend(weak("_scheduled_tasks").unwrap_or_default());
        let eager = objects.item(module, "_eager_tasks").and_then(|set| objects.set(set));
        all.extend(eager.unwrap_or_default());
        all
    }

    fn running_tasks(&self, module: u64) -> HashSet<u64> {
        let objects = self.objects();
        let current = objects.item(module, "_current_tasks").and_then(|loops| objects.items(loops));
        current.unwrap_or_default().into_iter().map(|(_, task)| task).collect()
    }

    fn tasks_in_lists(&self, interpreter: u64, lists: &TaskLists) -> Vec<u64> {
        let threads = self.thread_states(interpreter).into_iter();
        let heads = threads.map(|state| state + u64::from(lists.thread_head));
        let heads = heads.chain([interpreter + u64::from(lists.interpreter_head)]);
        let mut all = Vec::new();
        for head in heads {
            let first = self.objects().pointer(head, 0);
            let nodes = self.list(first, 0, MAX_ITEMS as usize - all.len().min(MAX_ITEMS as usize));
            let nodes = nodes.into_iter().filter(|node| *node != head);
            all.extend(nodes.map(|node| node.wrapping_sub(u64::from(lists.node))));
        }
        all
    }

    fn running_in_threads(&self, interpreter: u64, lists: &TaskLists) -> Vec<u64> {
        let states = self.thread_states(interpreter).into_iter();
        states.filter_map(|state| self.objects().pointer(state, lists.running)).collect()
    }

    fn thread_states(&self, interpreter: u64) -> Vec<u64> {
        let first = self.objects().pointer(interpreter, self.layout.threads);
        self.list(first, self.layout.thread_next, 1 << 16)
    }

    fn task(&self, address: u64, lists: Option<TaskLists>, is_running: bool) -> Option<PythonTask> {
        let (objects, layout) = (self.objects(), &self.layout.task);
        let kind = objects.type_name(address)?;
        if kind == "_asyncio.Task" && objects.word(address, layout.state)? & 3 != 0 {
            return None;
        }
        let coroutine = lists.map_or(layout.coroutine, |lists| lists.coroutine);
        let coroutine = objects.pointer(address, coroutine).filter(|one| self.is_coroutine(*one));
        let coroutine = coroutine.or_else(|| objects.attribute(address, "_coro"))?;
        let name = self.task_name(address, lists).unwrap_or_else(|| "?".to_owned());
        let (mut coroutines, last) = self.chain(coroutine);
        coroutines.reverse();
        let waits = if is_running { Waits::Running } else { self.waits(last) };
        Some(PythonTask { address, name, coroutines, waits })
    }

    /// A task's name is a number until the program asks for it (3.12 and newer).
    fn task_name(&self, task: u64, lists: Option<TaskLists>) -> Option<String> {
        let objects = self.objects();
        let object = objects.pointer(task, lists.map_or(self.layout.task.name, |lists| lists.name))?;
        let text =
            objects.text(object).filter(|_| objects.type_name(object).is_some_and(|kind| kind == "str"));
        let name = text.or_else(|| objects.unsigned(object).map(|number| format!("Task-{number}")));
        name.map(|name| name.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect())
    }

    fn is_coroutine(&self, object: u64) -> bool {
        matches!(
            self.objects().type_name(object).as_deref(),
            Some("coroutine" | "generator" | "async_generator")
        )
    }

    /// The coroutines from `first` on inwards, and the object that the last one awaits; 0: none.
    fn chain(&self, first: u64) -> (Vec<Coroutine>, u64) {
        let objects = self.objects();
        let mut chain = Vec::new();
        let mut seen = HashSet::new();
        let mut now = first;
        while chain.len() < MAX_CHAIN && seen.insert(now) {
            match objects.type_name(now).as_deref() {
                Some("coroutine" | "generator" | "async_generator") => {
                    let Some((coroutine, awaited)) = self.coroutine(now) else { return (chain, 0) };
                    chain.push(coroutine);
                    now = awaited;
                }
                // Each begins with the coroutine or generator that it stands for.
                Some("coroutine_wrapper" | "async_generator_asend" | "async_generator_athrow") => {
                    let inner = objects.pointer(now, self.layout.future_iterator);
                    let Some(inner) = inner else { return (chain, 0) };
                    now = inner;
                }
                _ => break,
            }
        }
        (chain, now)
    }

    /// A coroutine's frame, and what it awaits; 0: nothing, or it runs.
    fn coroutine(&self, object: u64) -> Option<(Coroutine, u64)> {
        let (objects, layout) = (self.objects(), &self.layout);
        let frame = match layout.generator_points {
            true => objects.pointer(object, layout.generator_frame)?,
            false => object + u64::from(layout.generator_frame),
        };
        let code = objects.word(frame, layout.frame_code)? & layout.code_mask;
        if !is_pointer(code) {
            return None;
        }
        let instr = objects.word(frame, layout.frame_instr)? & layout.instr_mask();
        Some((Coroutine { code, instr }, self.awaited(frame).unwrap_or(0)))
    }

    /// The object on top of a suspended frame's value stack; from 3.15 on an empty place is above
    /// it.
    fn awaited(&self, frame: u64) -> Option<u64> {
        let end = self.stack_end(frame)?;
        (1..=2).find_map(|above| {
            let word = self.objects().word(end.checked_sub(above * 8)?, 0)? & self.layout.code_mask;
            is_pointer(word).then_some(word)
        })
    }

    /// The end of a suspended frame's value stack; `None`: it is empty, or the frame runs.
    fn stack_end(&self, frame: u64) -> Option<u64> {
        let (objects, layout) = (self.objects(), &self.layout);
        let count = |offset| {
            let depth = u64::from(objects.number(frame, offset)?);
            (1..=MAX_DEPTH).contains(&depth).then_some(depth)
        };
        match layout.stack_top {
            StackTop::Pointer(offset) => objects.pointer(frame, offset),
            StackTop::Depth(offset, base) => Some(objects.pointer(frame, base)? + count(offset)? * 8),
            StackTop::Index(offset) => Some(frame + u64::from(layout.frame_locals) + count(offset)? * 8),
        }
    }

    fn waits(&self, last: u64) -> Waits {
        let objects = self.objects();
        let Some(kind) = objects.type_name(last) else { return Waits::Nothing };
        let future = match kind.as_str() {
            "_asyncio.FutureIter" => objects.pointer(last, self.layout.future_iterator),
            _ => Some(last),
        };
        let Some(future) = future else { return Waits::Nothing };
        match objects.type_name(future).as_deref() {
            Some("_asyncio.Task") => {
                Waits::Task(self.task_name(future, None).unwrap_or_else(|| "?".to_owned()))
            }
            Some("_GatheringFuture") => Waits::All(self.children(future).unwrap_or_default()),
            Some("coroutine" | "generator") | None => Waits::Nothing,
            Some(kind) => Waits::Object(kind.to_owned()),
        }
    }

    /// The names of a `gather`'s tasks that are not done.
    fn children(&self, gathering: u64) -> Option<Vec<String>> {
        let objects = self.objects();
        let children = objects.list(objects.attribute(gathering, "_children")?, MAX_CHILDREN)?;
        let is_pending = |child: &u64| {
            objects.word(*child, self.layout.task.state).is_some_and(|state| state & 3 == 0)
                && objects.type_name(*child).as_deref() == Some("_asyncio.Task")
        };
        Some(
            children.into_iter().filter(is_pending).filter_map(|child| self.task_name(child, None)).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_places_of_lists_are_decoded_and_checked() {
        // Task, interpreter and thread, as 3.14 states them; the last has its state's size first.
        let words: [u64; 13] = [168, 136, 112, 108, 109, 128, 152, 7000, 6800, 900, 700, 708, 720];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(TaskLists::parse(&bytes), None, "a pointer at 708 is not aligned");
        let words: [u64; 13] = [168, 136, 112, 108, 109, 128, 152, 7000, 6800, 900, 696, 704, 720];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let lists = TaskLists {
            name: 136,
            coroutine: 128,
            node: 152,
            interpreter_head: 6800,
            running: 704,
            thread_head: 720,
        };
        assert_eq!(TaskLists::parse(&bytes), Some(lists));
        assert_eq!(TaskLists::parse(&bytes[..96]), None);
    }
}
