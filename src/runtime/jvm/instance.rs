//! The Java virtual machine of one process behind the interface of all languages.
//!
//! Not here: reading its structures.

use std::sync::Arc;

use super::{
    flags::Flags,
    frames::Key,
    language::Java,
    parts,
    process::Jvm,
    threads::{JavaThread, Threads},
    unwind::JavaCode,
};
use crate::{
    runtime::{
        Category, CategoryRule, CodeRegion, FrameData, Info, Instance, Labels, Language, ProcessView,
        RuntimeError, RuntimeMemory, SampleView,
    },
    unwind::{Code, FrameKey},
};

/// The virtual machine of a process.
#[derive(Debug)]
pub struct JavaInstance {
    jvm: Arc<Jvm>,
    process: ProcessView,
    /// The path of libjvm.so.
    path: String,
    flags: Flags,
    threads: Threads,
}

impl JavaInstance {
    /// The virtual machine `jvm`, whose code is in the file `path`.
    pub fn new(jvm: Jvm, process: ProcessView, path: String) -> JavaInstance {
        let flags = Flags::read(&jvm.memory, &jvm.structs);
        let threads = Threads::new(&jvm, &flags);
        JavaInstance { jvm: Arc::new(jvm), process, path, flags, threads }
    }

    fn thread(&self, tid: u32) -> Option<Arc<JavaThread>> {
        self.threads.get(&self.jvm, tid, |tid| self.process.namespace_tid(tid))
    }

    /// The collector, by the flag that selects it.
    fn collector(&self) -> Option<&'static str> {
        let all = [
            ("UseG1GC", "G1"),
            ("UseSerialGC", "Serial"),
            ("UseParallelGC", "Parallel"),
            ("UseZGC", "Z"),
            ("UseShenandoahGC", "Shenandoah"),
            ("UseEpsilonGC", "Epsilon"),
            ("UseConcMarkSweepGC", "Concurrent Mark Sweep"),
        ];
        let is_on = |flag: &str| self.flags.is_on(&self.jvm.memory, flag) == Some(true);
        all.iter().find(|(flag, _)| is_on(flag)).map(|(_, name)| *name)
    }
}

impl Instance for JavaInstance {
    fn language(&self) -> &'static dyn Language {
        &Java
    }

    fn version(&self) -> String {
        format!("Java {}", self.jvm.release)
    }

    fn claim(&mut self, region: &CodeRegion<'_>) -> Option<Arc<dyn Code>> {
        let overlaps = self
            .jvm
            .heaps
            .iter()
            .any(|heap| region.start.0 < heap.range.end && heap.range.start < region.end.0);
        overlaps.then(|| Arc::new(JavaCode(Arc::clone(&self.jvm))) as Arc<dyn Code>)
    }

    fn load(&self, key: FrameKey) -> Option<Arc<dyn FrameData>> {
        self.jvm.load(Key::decode(key)?)
    }

    /// Compiled code is freed at a collection at the earliest; methods live as long as their class
    /// loader.
    fn keeps_frames_ns(&self) -> u64 {
        2_000_000_000
    }

    fn generation(&self, key: FrameKey) -> Option<u64> {
        self.jvm.generation(Key::decode(key)?)
    }

    fn labels(&self, sample: &SampleView<'_>) -> Option<Labels> {
        let thread = self.thread(sample.tid)?;
        Some(Arc::new(vec![("java_thread".to_owned(), thread.name.clone())]))
    }

    fn thread_state(&self, sample: &SampleView<'_>) -> Option<&'static str> {
        let thread = self.thread(sample.tid)?;
        self.threads.state(&self.jvm, &thread)
    }

    fn categories(&self) -> Vec<CategoryRule> {
        let library = |prefix: &str| CategoryRule::Function(Category::Library, prefix.to_owned());
        let mut rules: Vec<CategoryRule> = ["java.", "javax.", "jdk.", "sun."].map(library).into();
        rules.push(CategoryRule::Mapping(Category::Runtime, self.path.clone()));
        rules
    }

    fn memory(&self) -> RuntimeMemory {
        parts::read(&self.jvm, &self.process.mappings().unwrap_or_default())
    }

    fn info(&self) -> Result<Info, RuntimeError> {
        let memory = &self.jvm.memory;
        let mut info = Info { runtime: self.version(), ..Info::default() };
        let mut facts = serde_json::Map::new();
        let mut add = |name: &'static str, text: String, value: serde_json::Value| {
            info.lines.push((name, text));
            facts.insert(name.replace(' ', "_"), value);
        };
        if let Some(collector) = self.collector() {
            add("collector", collector.to_owned(), collector.into());
        }
        if let Some(bytes) = self.flags.number(memory, "MaxHeapSize") {
            add("heap limit", format!("{} MiB", bytes >> 20), bytes.into());
        }
        let threads = self.threads.count(&self.jvm);
        add("java threads", threads.to_string(), threads.into());
        let set = self.flags.set_by_user(memory);
        if !set.is_empty() {
            add("options", set.join(" "), set.into());
        }
        info.json = facts.into();
        Ok(info)
    }
}
