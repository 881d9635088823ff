//! V8 in one process behind the interface of all languages.
//!
//! Not here: unwinding (`frames`), reading objects.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    find::V8File,
    frames::{Kind, Met, V8Code},
    functions::{self, Function},
    heap::Heap,
    language::{JavaScript, LoadedV8},
    layouts::{Layout, NEWEST},
    machine_code::{self, MachineCode},
    names::BUILTIN,
    pages,
    positions::{Positions, expand},
    store::Store,
};
use crate::{
    addr::{FileOffset, RuntimeAddr},
    process::Mapping,
    runtime::{
        Category, CategoryRule, CodeRegion, FrameData, Info, Instance, Language, ProcessView, RuntimeError,
        RuntimeMemory,
    },
    symbolize::SourceFrame,
    unwind::{Code, FrameKey},
};

/// V8 in a process.
#[derive(Debug)]
pub struct V8Instance {
    loaded: Arc<LoadedV8>,
    store: Arc<Store>,
    /// Where the file's builtins are in it, as run-time addresses of its first mapping.
    builtins: Option<Range<u64>>,
    process: ProcessView,
    bias: u64,
    loads: AtomicU64,
    failures: AtomicU64,
}

impl V8Instance {
    /// V8 in `process`, which maps the file at `bias`.
    pub fn new(loaded: Arc<LoadedV8>, layout: Arc<Layout>, process: &ProcessView, bias: u64) -> V8Instance {
        let store = Arc::new(Store::new(Heap::new(Arc::clone(&process.memory), layout)));
        let V8File { builtins, .. } = &loaded.file;
        let stated = builtins.map(|(start, size)| {
            let start = start.0.wrapping_add(bias);
            start..start.wrapping_add(size)
        });
        let mappings = process.mappings().unwrap_or_default();
        let mut instance = V8Instance {
            loaded,
            store,
            builtins: stated,
            process: process.clone(),
            bias,
            loads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        if instance.builtins.is_none() {
            instance.builtins = instance.builtins_by_copy(&mappings);
        }
        instance
    }

    /// Where builtins are, if the file does not state it: V8 maps them a second time, near the code
    /// that it generates.
    fn builtins_by_copy(&self, mappings: &[Mapping]) -> Option<Range<u64>> {
        let copy = mappings.iter().find(|mapping| {
            mapping.executable
                && mapping.path == self.loaded.path
                && self.offset_of(mapping.start, mapping.file_offset).is_some_and(|offset| offset != 0)
        })?;
        let offset = self.offset_of(copy.start, copy.file_offset)?;
        Some(copy.start.0.wrapping_sub(offset)..copy.end.0.wrapping_sub(offset))
    }

    /// How far a mapping of the file is from where the file's first mapping has the same content.
    fn offset_of(&self, start: RuntimeAddr, file_offset: u64) -> Option<u64> {
        let stated = self.loaded.elf.address_of(FileOffset(file_offset))?.0.wrapping_add(self.bias);
        Some(start.0.wrapping_sub(stated))
    }

    fn frame(&self, met: Met) -> Option<Vec<SourceFrame>> {
        match met.kind {
            Kind::Machinery(machinery) => Some(vec![named(machinery.name().to_owned())]),
            Kind::Optimized => {
                let heap = &self.store.heap;
                let code = self.store.code_object(met.object)?;
                self.optimized(&code, met.offset?).filter(|_| code.is_current(heap))
            }
            Kind::Interpreted | Kind::Baseline | Kind::Function => {
                let function = self.store.function(met.object)?;
                let position = met.offset.and_then(|offset| self.position(&function, offset));
                Some(vec![source_frame(&function, position, false)])
            }
        }
    }

    /// The offset in the source of a bytecode.
    fn position(&self, function: &Function, offset: u64) -> Option<u32> {
        let heap = &self.store.heap;
        let bytecode = function.bytecode.filter(|at| heap.is(*at, heap.layout.types.bytecode))?;
        let table = heap.bytes(heap.word(bytecode, heap.layout.at.bytecode_positions)?)?;
        let length = heap.length(bytecode)?;
        Positions::decode(&table, length, heap.layout.unsigned_positions).at(offset)?.offset
    }

    fn optimized(&self, code: &MachineCode, offset: u64) -> Option<Vec<SourceFrame>> {
        let own = code.function.and_then(|function| self.store.function(function))?;
        let Some(position) = code.positions.at(offset) else {
            return Some(vec![source_frame(&own, None, false)]);
        };
        let at: Vec<_> = expand(position, &code.inlining);
        let frames = at.iter().filter_map(|(literal, offset)| match literal {
            None => Some(source_frame(&own, *offset, false)),
            Some(index) => {
                let function = self.store.function(*code.literals.get(*index)?)?;
                Some(source_frame(&function, *offset, true))
            }
        });
        Some(frames.collect())
    }
}

impl Instance for V8Instance {
    fn language(&self) -> &'static dyn Language {
        &JavaScript
    }

    fn version(&self) -> String {
        format!("V8 {}", self.loaded.version())
    }

    fn claim(&mut self, region: &CodeRegion<'_>) -> Option<Arc<dyn Code>> {
        let mapping = region.start.0..region.end.0;
        let is_anonymous =
            region.path.is_empty() || region.path == "//anon" || region.path.starts_with("[anon:");
        let (range, is_generated) = if is_anonymous {
            (mapping, true)
        } else if region.path == self.loaded.path {
            let offset = self.offset_of(region.start, region.file_offset)?;
            let builtins = self.builtins.as_ref()?;
            let start = builtins.start.wrapping_add(offset).max(mapping.start);
            let end = builtins.end.wrapping_add(offset).min(mapping.end);
            (start..end, false)
        } else {
            return None;
        };
        if range.is_empty() {
            return None;
        }
        self.store.add_region(range.clone(), is_generated);
        Some(Arc::new(V8Code { store: Arc::clone(&self.store), range, is_generated }))
    }

    fn load(&self, key: FrameKey) -> Option<Arc<dyn FrameData>> {
        let met = Met::of(key)?;
        self.loads.fetch_add(1, Ordering::Relaxed);
        let lines = self.frame(met).unwrap_or_else(|| {
            self.failures.fetch_add(1, Ordering::Relaxed);
            vec![named(met.kind.unknown().to_owned())]
        });
        Some(Arc::new(V8Frame(lines)))
    }

    fn keeps_frames_ns(&self) -> u64 {
        // Functions live long, and each is checked by what identifies it.
        1_000_000_000
    }

    fn generation(&self, key: FrameKey) -> Option<u64> {
        let (met, heap) = (Met::of(key)?, &self.store.heap);
        match met.kind {
            Kind::Machinery(_) => Some(0),
            Kind::Optimized => machine_code::generation(heap, met.object),
            Kind::Interpreted | Kind::Baseline | Kind::Function => functions::generation(heap, met.object),
        }
    }

    fn memory(&self) -> RuntimeMemory {
        pages::memory(&self.process.memory, &self.process.mappings().unwrap_or_default())
    }

    fn info(&self) -> Result<Info, RuntimeError> {
        let [major, minor, _] = self.loaded.file.version;
        let newer = if (major, minor) > NEWEST { ", newer than the releases that were tried" } else { "" };
        let runtime = format!("{}{newer}", self.version());
        let lines = if self.store.heap.layout.bytecode_sizes.is_empty() { "function" } else { "statement" };
        Ok(Info {
            runtime: runtime.clone(),
            lines: vec![("lines of baseline code", format!("of the {lines}"))],
            json: serde_json::json!({ "v8": self.loaded.version() }),
        })
    }

    fn categories(&self) -> Vec<CategoryRule> {
        vec![
            CategoryRule::Function(Category::Interpreter, "Builtins_".to_owned()),
            CategoryRule::Function(Category::Runtime, "v8::".to_owned()),
            CategoryRule::Function(Category::Runtime, "node::".to_owned()),
            CategoryRule::Source(Category::Library, "node:".to_owned()),
            CategoryRule::Source(Category::Library, BUILTIN.to_owned()),
        ]
    }

    fn quality(&self) -> Option<String> {
        let (loads, failures) = (self.loads.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed));
        let version = self.version();
        (loads > 0).then(|| format!("javascript: {version}, {loads} frames read, {failures} unreadable"))
    }
}

fn named(function: String) -> SourceFrame {
    let system_name = function.clone();
    SourceFrame { function, system_name, file: None, line: 0, column: 0, start_line: 0, inlined: false }
}

/// A function at an offset in its source.
fn source_frame(function: &Function, offset: Option<u32>, inlined: bool) -> SourceFrame {
    let place = function.script.as_ref().zip(offset).map(|(script, offset)| script.line(offset));
    let (line, column) = place.unwrap_or((function.line, 0));
    let file = match &function.script {
        Some(script) => Some(script.name.clone()).filter(|name| !name.is_empty()),
        None => Some(BUILTIN.to_owned()),
    };
    SourceFrame { file, line, column, start_line: function.line, inlined, ..named(function.name.clone()) }
}

/// A frame, with its inlined functions.
#[derive(Debug)]
struct V8Frame(Vec<SourceFrame>);

impl FrameData for V8Frame {
    fn lines(&self) -> Vec<SourceFrame> {
        self.0.clone()
    }
}
