//! A file with Go code, as a runtime that attaches to processes.

use std::sync::Arc;

use super::{
    GoError,
    instance::GoInstance,
    language::{Go, GoFile},
};
use crate::{
    addr::ElfAddr,
    runtime::{Attach, Language, LoadedRuntime, ProcessView, Refusal},
    symbolize::SourceFrame,
    unwind::Code,
};

impl LoadedRuntime for GoFile {
    fn language(&self) -> &'static dyn Language {
        &Go
    }

    fn code(self: Arc<Self>) -> Option<Arc<dyn Code>> {
        Some(self)
    }

    fn name(&self, address: ElfAddr) -> Option<Vec<SourceFrame>> {
        self.tables.as_ref()?.name(address)
    }

    fn attach(self: Arc<Self>, process: &ProcessView, bias: u64) -> Attach {
        if self.tables.is_none() {
            return Attach::No(Refusal::Error(GoError::Tables(self.path.clone()).into()));
        }
        match GoInstance::attach(&self, process, bias) {
            Some(instance) => Attach::Ready(Box::new(instance)),
            None => Attach::No(Refusal::OnlyCode),
        }
    }
}
