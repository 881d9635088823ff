//! The Java virtual machine of one process behind the interface of all languages.
//!
//! Not here: reading its structures.

use std::sync::Arc;

use super::{frames::Key, language::Java, process::Jvm, unwind::JavaCode};
use crate::{
    runtime::{
        Category, CategoryRule, CodeRegion, FrameData, Info, Instance, Language, ProcessView, RuntimeError,
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
}

impl JavaInstance {
    /// The virtual machine `jvm`, whose code is in the file `path`.
    pub fn new(jvm: Jvm, process: ProcessView, path: String) -> JavaInstance {
        JavaInstance { jvm: Arc::new(jvm), process, path }
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

    fn categories(&self) -> Vec<CategoryRule> {
        let library = |prefix: &str| CategoryRule::Function(Category::Library, prefix.to_owned());
        let mut rules: Vec<CategoryRule> = ["java.", "javax.", "jdk.", "sun."].map(library).into();
        rules.push(CategoryRule::Mapping(Category::Runtime, self.path.clone()));
        rules
    }

    fn info(&self) -> Result<Info, RuntimeError> {
        Ok(Info { runtime: self.version(), ..Info::default() })
    }
}
