//! A file with V8, as a runtime that attaches to processes.

use std::sync::Arc;

use super::{
    instance::V8Instance,
    language::{JavaScript, LoadedV8},
};
use crate::runtime::{Attach, Language, LoadedRuntime, ProcessView, Refusal, RuntimeError};

impl LoadedRuntime for LoadedV8 {
    fn language(&self) -> &'static dyn Language {
        &JavaScript
    }

    fn attach(self: Arc<Self>, process: &ProcessView, bias: u64) -> Attach {
        match &self.file.layout {
            Ok(layout) => {
                let layout = Arc::new(layout.clone());
                Attach::Ready(Box::new(V8Instance::new(Arc::clone(&self), layout, process, bias)))
            }
            Err(why) => Attach::No(Refusal::Error(RuntimeError::Unreadable {
                what: format!("V8 {} in {} cannot be read: {why}", self.version(), self.path),
                advice: Some("start node with --perf-basic-prof to see the functions of compiled code"),
            })),
        }
    }
}
