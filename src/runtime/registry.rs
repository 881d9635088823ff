//! The list of languages.

use std::sync::Arc;

#[cfg(test)]
use super::fixture;
use super::{Language, LoadedRuntime, go, jvm, python, v8};
use crate::{elf::ElfFile, unwind::Code};

/// All languages: the only place that lists them. If several recognize one file (a program in one
/// with the runtime of another), the first one that has code of its own names and unwinds it.
pub static ALL: &[&dyn Language] = &[
    &go::Go,
    &python::Python,
    &jvm::Java,
    &v8::JavaScript,
    #[cfg(test)]
    &fixture::Invented,
];

/// The runtimes of a file.
pub fn detect(elf: &Arc<ElfFile>, path: &str) -> Vec<Arc<dyn LoadedRuntime>> {
    ALL.iter().filter_map(|language| language.detect(elf, path)).collect()
}

/// How the code of a file with these runtimes is unwound; `None`: as any native code.
pub fn code_of(runtimes: &[Arc<dyn LoadedRuntime>]) -> Option<Arc<dyn Code>> {
    runtimes.iter().find_map(|runtime| Arc::clone(runtime).code())
}
