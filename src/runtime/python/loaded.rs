//! A file with an interpreter, as a runtime that attaches to processes.

use std::sync::Arc;

use super::{
    find::release_of_paths,
    instance::PythonInstance,
    language::{LoadedPython, Python},
    process::{Found, PythonError, PythonProcess},
};
use crate::runtime::{Attach, Language, LoadedRuntime, ProcessView, Refusal, RuntimeError};

impl LoadedRuntime for LoadedPython {
    fn language(&self) -> &'static dyn Language {
        &Python
    }

    fn attach(self: Arc<Self>, process: &ProcessView, bias: u64) -> Attach {
        let mappings = process.mappings().unwrap_or_default();
        let paths = mappings.iter().map(|mapping| mapping.path.as_str());
        let found =
            Found { file: &self.file, path: &self.path, bias, release_of_paths: release_of_paths(paths) };
        match PythonProcess::attach(process.pid, Arc::clone(&process.memory), found) {
            Ok(python) => {
                let python = PythonProcess { ended: process.ended.clone(), ..python };
                match PythonInstance::new(python, &mappings, process.reader) {
                    instance if instance.is_settled() => Attach::Ready(Box::new(instance)),
                    _ => Attach::NotYet,
                }
            }
            Err(PythonError::NotInitialized) => Attach::NotYet,
            Err(error) => Attach::No(Refusal::Error(unreadable(&error))),
        }
    }
}

fn unreadable(error: &PythonError) -> RuntimeError {
    let advice = match error {
        PythonError::TooOld(..) => Some("profile it without Python frames, or run it with a newer Python"),
        PythonError::Memory(_) => Some("run rprof as root or as the same user as the process"),
        _ => None,
    };
    RuntimeError::Unreadable { what: error.to_string(), advice }
}
