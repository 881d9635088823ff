//! JavaScript behind the interfaces of all languages: the files that have V8.
//!
//! Not here: attaching (`loaded`), a process (`instance`).

use std::sync::Arc;

use super::find::{V8File, find, is_named};
use crate::{
    elf::ElfFile,
    process::LanguageId,
    runtime::{Language, LoadedRuntime},
};

/// JavaScript, as V8 implements it.
#[derive(Debug)]
pub struct JavaScript;

impl Language for JavaScript {
    fn id(&self) -> LanguageId {
        LanguageId(3)
    }

    fn name(&self) -> &'static str {
        "JavaScript"
    }

    /// Of Node.js: the threads of its platform.
    fn idle_functions(&self) -> &'static [&'static str] {
        &["PlatformWorkerThread", "BlockingPop"]
    }

    fn detect(&self, elf: &Arc<ElfFile>, path: &str) -> Option<Arc<dyn LoadedRuntime>> {
        loaded(elf, path, false)
    }

    fn is_marked(&self, elf: &ElfFile, path: &str) -> bool {
        is_named(path) && find(elf, path, false).is_some()
    }

    fn search(&self, elf: &Arc<ElfFile>, path: &str) -> Option<Arc<dyn LoadedRuntime>> {
        loaded(elf, path, true)
    }
}

fn loaded(elf: &Arc<ElfFile>, path: &str, any_size: bool) -> Option<Arc<dyn LoadedRuntime>> {
    let file = find(elf, path, any_size)?;
    Some(Arc::new(LoadedV8 { file, elf: Arc::clone(elf), path: path.to_owned() }))
}

/// A file with V8.
#[derive(Debug)]
pub struct LoadedV8 {
    /// What it states.
    pub file: V8File,
    /// The file.
    pub elf: Arc<ElfFile>,
    /// Its path in the mount namespace of a process that maps it.
    pub path: String,
}

impl LoadedV8 {
    /// The release, as `11.3.244`.
    pub fn version(&self) -> String {
        let [major, minor, build] = self.file.version;
        format!("{major}.{minor}.{build}")
    }
}
