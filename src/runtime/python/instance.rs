//! The interpreter of one process behind the interface of all languages.
//!
//! Not here: reading its structures.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    census,
    code::{Code, source_frame},
    language::Python,
    pools,
    process::PythonProcess,
    reader::PythonReader,
    splice::{Fit, NativeFrame, Part, combine},
    task_dump::PythonTasks,
    tasks::TaskLists,
    walker::{COMPLETE, CUT, FORM_OBJECTS, GIL_KNOWN, HOLDS_GIL, RESTARTED, Section as Frames, UNREADABLE},
};
use crate::{
    addr::RuntimeAddr,
    arch::Registers,
    budget::Budget,
    elf::cache,
    heap::LiveMemory,
    process::{
        Hints, LanguageId, Mapping, Section, SectionOrigin, SectionReader, files, read_mappings, threads,
    },
    runtime::{
        Category, CategoryRule, FrameData, FramesWithoutWalker, Info, Instance, Labels, Language, MixedFrame,
        MixedStack, RuntimeError, RuntimeMemory, RuntimeObjects, SampleView, Splice, TaskDump, TaskRequest,
        ThreadStacks, Variable,
    },
    symbolize::SourceFrame,
    unwind::FrameKey,
};

/// The most code objects that are kept; a program that creates code endlessly has more.
const MAX_CODES: usize = 1 << 16;

/// The interpreter of a process.
#[derive(Debug)]
pub struct PythonInstance {
    reader: Arc<PythonReader>,
    lists: Option<TaskLists>,
    /// The paths of the mapped files with the interpreter.
    interpreter_paths: Vec<String>,
    codes: Mutex<HashMap<u64, Arc<Code>>>,
    counts: Counts,
}

/// How readings went, for messages.
#[derive(Debug, Default)]
struct Counts {
    sections: AtomicU64,
    with_frames: AtomicU64,
    torn: AtomicU64,
    restarted: AtomicU64,
    unsynchronised: AtomicU64,
}

impl PythonInstance {
    /// The interpreter `process`, whose files are among `mappings`.
    pub fn new(process: PythonProcess, mappings: &[Mapping], proc_reader: u32) -> PythonInstance {
        let lists = (process.layout.minor >= 14).then(|| task_lists(mappings, proc_reader)).flatten();
        let holds = |mapping: &&Mapping| {
            let code = process.evaluator.iter().map(|part| RuntimeAddr(part.start));
            mapping.executable && code.into_iter().any(|at| mapping.start <= at && at < mapping.end)
        };
        let interpreter_paths = mappings.iter().filter(holds).map(|mapping| mapping.path.clone()).collect();
        PythonInstance {
            reader: Arc::new(PythonReader::new(Arc::new(process))),
            lists,
            interpreter_paths,
            codes: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// See [`PythonReader::is_settled`].
    pub fn is_settled(&self) -> bool {
        self.reader.is_settled()
    }

    /// The process's memory and mappings now.
    fn source(&self) -> (LiveMemory, Vec<Mapping>) {
        let reader = threads::reader(self.process().pid);
        (LiveMemory::new(reader), read_mappings(reader).unwrap_or_default())
    }

    fn process(&self) -> &PythonProcess {
        self.reader.process()
    }

    /// The code object at an address, read unless it is known and unchanged.
    fn code(&self, address: u64) -> Option<Arc<Code>> {
        let generation = self.process().code_generation(address)?;
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(code) = codes.get(&address).filter(|code| code.generation == generation) {
            return Some(Arc::clone(code));
        }
        let code = self.process().code(address)?;
        if codes.len() >= MAX_CODES {
            codes.clear();
        }
        codes.insert(address, Arc::clone(&code));
        Some(code)
    }

    /// Whether a native frame's code is the evaluator's.
    fn is_evaluator(&self, address: RuntimeAddr) -> bool {
        self.process().evaluator.iter().any(|part| part.contains(&address.0))
    }

    fn native_frames(&self, stack: &MixedStack<'_>) -> Vec<NativeFrame> {
        let native = |(index, frame): (usize, &MixedFrame)| match frame {
            MixedFrame::Native(frame) => NativeFrame {
                bounds: stack.bounds(index).map(|(start, end)| (start.0, end.0)),
                is_evaluator: self.is_evaluator(frame.addr.lookup()),
            },
            MixedFrame::Language(_) => NativeFrame::default(),
        };
        stack.frames.iter().enumerate().map(native).collect()
    }
}

/// Where `_asyncio` keeps its tasks: a section of its own file, or of the interpreter's.
fn task_lists(mappings: &[Mapping], proc_reader: u32) -> Option<TaskLists> {
    let is_candidate = |mapping: &&Mapping| {
        let name = mapping.path.rsplit('/').next().unwrap_or_default();
        mapping.executable && mapping.inode != 0 && (name.starts_with("_asyncio") || name.contains("python"))
    };
    mappings.iter().filter(is_candidate).find_map(|mapping| {
        let file = files::open(&files::MappedFile::of(proc_reader, mapping)).ok()?;
        let elf = cache::open(&file, &Budget::session()).ok()?;
        TaskLists::parse(&elf.section_data_up_to(".AsyncioDebug", 4096)?)
    })
}

impl Instance for PythonInstance {
    fn language(&self) -> &'static dyn Language {
        &Python
    }

    fn version(&self) -> String {
        let build = if self.process().layout.free_threaded { " free-threaded" } else { "" };
        format!("Python {}{build}", self.process().release)
    }

    fn hints(&self) -> Hints {
        let reader = Arc::new(Reader { reader: Arc::clone(&self.reader), with_variables: false });
        Hints { reader: Some(reader), walker: Some(self.reader.walker()), ..Hints::default() }
    }

    fn frames_without_walker(&self) -> FramesWithoutWalker {
        match self.process().layout.form {
            FORM_OBJECTS => FramesWithoutWalker::AtRest,
            _ => FramesWithoutWalker::Late,
        }
    }

    fn splice(&self, section: &Section<'_>, stack: &mut MixedStack<'_>) -> Splice {
        let Some(frames) = Frames::decode(section.bytes) else {
            return Splice::Partial("its Python frames cannot be decoded");
        };
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        count(&self.counts.sections);
        if frames.frames.is_empty() {
            return Splice::Nothing;
        }
        if frames.is_circular() {
            count(&self.counts.torn);
            return Splice::Partial("its Python frames were read while they changed");
        }
        let layout = &self.process().layout;
        let python = |stack: &MixedStack<'_>, index: usize| {
            let frame = frames.frames[index];
            stack.frame(FrameKey([frame.code, frame.instr]))
        };
        if frames.has(RESTARTED) {
            count(&self.counts.restarted);
        }
        if !frames.has(COMPLETE) && !frames.has(CUT) {
            count(&self.counts.torn);
        }
        let real = || {
            let indexes = 0..frames.frames.len();
            indexes.filter(|index| !layout.is_shim(frames.frames[*index].entry()))
        };
        if section.origin == SectionOrigin::Unsynchronised {
            count(&self.counts.unsynchronised);
            if layout.form == FORM_OBJECTS {
                return Splice::Partial(
                    "frames of Python 3.10 and older are read by --sampler bpf or ptrace alone",
                );
            }
            if !frames.has(COMPLETE) && !frames.has(CUT) {
                return Splice::Partial("its Python frames were read while they changed");
            }
            count(&self.counts.with_frames);
            *stack.frames = real().map(|index| python(stack, index)).collect();
            return outcome(Fit::Whole, &frames);
        }
        count(&self.counts.with_frames);
        if stack.frames.is_empty() {
            // The native stack was not requested.
            *stack.frames = real().map(|index| python(stack, index)).collect();
            return outcome(Fit::Whole, &frames);
        }
        let native = self.native_frames(stack);
        let (parts, fit) = combine(layout, &frames, &native, stack.is_whole);
        let part = |part: &Part| match *part {
            Part::Native(index) => stack.frames[index],
            Part::Python(index) => python(stack, index),
        };
        *stack.frames = parts.iter().map(part).collect();
        outcome(fit, &frames)
    }

    fn load(&self, key: FrameKey) -> Option<Arc<dyn FrameData>> {
        let FrameKey([code, instr]) = key;
        Some(Arc::new(PythonFrame { code: self.code(code)?, instr }))
    }

    /// Functions live as long as their module; only the code of a module itself, and functions
    /// made by `exec`, go after they ran.
    fn keeps_frames_ns(&self) -> u64 {
        2_000_000_000
    }

    fn generation(&self, key: FrameKey) -> Option<u64> {
        self.process().code_generation(key.0[0])
    }

    fn labels(&self, sample: &SampleView<'_>) -> Option<Labels> {
        let head = sample.section.and_then(|section| Frames::decode_head(section.bytes))?;
        if head.tstate == 0 {
            return None;
        }
        let mut labels = Vec::new();
        if head.flags & GIL_KNOWN != 0 {
            let holds = if head.flags & HOLDS_GIL != 0 { "held" } else { "not held" };
            labels.push(("gil".to_owned(), holds.to_owned()));
        }
        if let Some(title) = self.reader.title() {
            labels.push(("process_title".to_owned(), title.to_string()));
        }
        if let Some(name) = self.reader.name(head.tstate, Some(sample.tid)) {
            labels.push(("python_thread".to_owned(), name.to_string()));
        }
        Some(Arc::new(labels))
    }

    fn variables(&self, section: &Section<'_>) -> Vec<(FrameKey, Vec<Variable>)> {
        let Some(frames) = Frames::decode(section.bytes) else { return Vec::new() };
        let all = decode_variables(section.bytes, &frames).unwrap_or_default();
        let of_frame = |(index, variables): (usize, Vec<Variable>)| {
            let frame = frames.frames.get(index)?;
            Some((FrameKey([frame.code, frame.instr]), variables))
        };
        all.into_iter().filter_map(of_frame).collect()
    }

    fn tasks(
        &self,
        _request: &TaskRequest,
        _threads: &mut dyn ThreadStacks,
    ) -> Result<Box<dyn TaskDump>, RuntimeError> {
        let started = std::time::Instant::now();
        let process = self.process();
        let tasks: Vec<_> = process
            .interpreters()
            .into_iter()
            .filter_map(|interpreter| process.tasks(interpreter, self.lists))
            .flatten()
            .collect();
        let dump = PythonTasks::new(&self.version(), tasks, &mut |code| self.code(code), started.elapsed());
        Ok(Box::new(dump))
    }

    fn info(&self) -> Result<Info, RuntimeError> {
        let process = self.process();
        let threads = process.threads();
        let layout = if process.is_known_release() { "" } else { ", read as the newest known release" };
        let interpreters = process.interpreters();
        let lock = match interpreters.last().and_then(|main| process.gil(*main)) {
            Some(gil) if gil.locked => self.holder(gil.holder, &threads),
            Some(_) => "free".to_owned(),
            None => "none: a free-threaded build".to_owned(),
        };
        let json = serde_json::json!({
            "release": process.release.to_string(),
            "free_threaded": process.layout.free_threaded,
            "interpreters": interpreters.len(),
            "threads": threads.len(),
            "interpreter_lock": lock,
        });
        Ok(Info {
            runtime: format!("{}{layout}", self.version()),
            lines: vec![("interpreters", interpreters.len().to_string()), ("gil", lock)],
            json,
        })
    }

    fn memory(&self) -> RuntimeMemory {
        let mut memory = RuntimeMemory::default();
        if !self.process().layout.free_threaded {
            let (source, mappings) = self.source();
            let bytes = pools::pool_bytes(self.process().layout.minor);
            let found = pools::find(&source, &mappings, bytes);
            pools::arenas(&found, bytes).into_iter().for_each(|arena| memory.add("Python arenas", arena));
        }
        memory
    }

    fn objects(&self) -> Option<RuntimeObjects> {
        let layout = &self.process().layout;
        let (source, mappings) = self.source();
        (!layout.free_threaded).then(|| census::read(&source, &mappings, layout))
    }

    fn categories(&self) -> Vec<CategoryRule> {
        let rule = |path: &String| CategoryRule::Mapping(Category::Interpreter, path.clone());
        self.interpreter_paths.iter().map(rule).collect()
    }

    fn quality(&self) -> Option<String> {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sections = count(&self.counts.sections);
        if sections == 0 {
            return None;
        }
        let share = count(&self.counts.with_frames) as f64 / sections as f64 * 100.0;
        let unsynchronised = count(&self.counts.unsynchronised);
        let how =
            if unsynchronised > 0 { format!(", {unsynchronised} unsynchronised") } else { String::new() };
        Some(format!(
            "python: {}, pid {}: {share:.2}% of {sections} samples of its threads have Python frames, \
             {} readings were torn, {} restarted{how}",
            self.version(),
            self.process().pid,
            count(&self.counts.torn),
            count(&self.counts.restarted),
        ))
    }
}

impl PythonInstance {
    /// Who holds the interpreter lock, as text.
    fn holder(&self, state: u64, threads: &[super::PythonThread]) -> String {
        let tid = threads.iter().find(|thread| thread.state == state).map(|thread| thread.inner_tid);
        match (self.reader.name(state, None), tid) {
            (Some(name), Some(tid)) => format!("held by thread {tid} ({name})"),
            (None, Some(tid)) => format!("held by thread {tid}"),
            _ => "held".to_owned(),
        }
    }
}

/// What the flags of a section and its place mean for the sample.
fn outcome(fit: Fit, frames: &Frames) -> Splice {
    if frames.has(UNREADABLE) {
        return Splice::Partial("some of its Python frames could not be read");
    }
    if frames.has(CUT) {
        return Splice::Partial("its Python stack is deeper than rprof reads");
    }
    match fit {
        Fit::Whole if !frames.has(COMPLETE) => {
            Splice::Partial("some of its Python frames were being changed")
        }
        Fit::Whole => Splice::Whole,
        Fit::Cut => Splice::Partial("its native stack ends before its Python frames"),
        Fit::Misfit => Splice::Partial("its Python frames do not fit its native stack"),
    }
}

/// Reads sections of threads, on request with the values of local variables behind the frames.
#[derive(Debug)]
struct Reader {
    reader: Arc<PythonReader>,
    with_variables: bool,
}

impl SectionReader for Reader {
    fn language(&self) -> LanguageId {
        Python.id()
    }

    fn read(&self, tid: u32, _registers: &Registers, section: &mut Vec<u8>) -> bool {
        let Some(found) = self.reader.section(tid) else { return false };
        section.extend(found.encode());
        if self.with_variables {
            let variables = self.reader.process().variables(&found);
            let variables: Vec<_> = variables.into_iter().map(|(index, all)| (index, pairs(all))).collect();
            section.extend(serde_json::to_vec(&variables).unwrap_or_default());
        }
        true
    }

    fn with_variables(&self) -> Option<Arc<dyn SectionReader>> {
        Some(Arc::new(Reader { reader: Arc::clone(&self.reader), with_variables: true }))
    }
}

fn pairs(variables: Vec<Variable>) -> Vec<(String, String)> {
    variables.into_iter().map(|variable| (variable.name, variable.value)).collect()
}

/// The variables behind the frames of a section, with the index of each frame.
fn decode_variables(bytes: &[u8], frames: &Frames) -> Option<Vec<(usize, Vec<Variable>)>> {
    let rest = bytes.get(frames.bytes()..).filter(|rest| !rest.is_empty())?;
    let all: Vec<(usize, Vec<(String, String)>)> = serde_json::from_slice(rest).ok()?;
    let variable = |(name, value)| Variable { name, value };
    Some(all.into_iter().map(|(index, some)| (index, some.into_iter().map(variable).collect())).collect())
}

/// A function and an instruction in it.
#[derive(Debug)]
struct PythonFrame {
    code: Arc<Code>,
    instr: u64,
}

impl FrameData for PythonFrame {
    fn lines(&self) -> Vec<SourceFrame> {
        vec![source_frame(&self.code, self.instr)]
    }
}
