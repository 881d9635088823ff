//! The Go runtime of one process behind the interface of all languages.
//!
//! Attaching while a process is sampled must be cheap, so the runtime's variables are found only
//! when tasks, accounts or facts are requested. Not here: reading them.

use std::{sync::Arc, time::Instant};

use super::{
    GoError, account, arenas,
    info_text::facts,
    language::{Go, GoFile},
    process::GoProcess,
    samples::GoSamples,
    task_dump::GoTasks,
};
use crate::{
    process::Hints,
    runtime::{
        Account, Category, CategoryRule, Info, Instance, Labels, Language, ProcessView, RuntimeError,
        RuntimeMemory, SampleView, TaskDump, TaskRequest, ThreadStacks,
    },
};

/// The runtime of a process.
#[derive(Debug)]
pub struct GoInstance {
    process: ProcessView,
    samples: Option<GoSamples>,
    version: String,
}

impl GoInstance {
    /// `None`: the file does not have the runtime itself.
    pub fn attach(file: &Arc<GoFile>, process: &ProcessView, bias: u64) -> Option<GoInstance> {
        let tables = file.tables.as_ref()?;
        tables.function("runtime.schedinit")?;
        let version = super::samples::version_text(tables, bias, &process.memory).unwrap_or_default();
        let samples = GoSamples::of(tables, &version);
        Some(GoInstance { process: process.clone(), samples, version })
    }

    /// The runtime with its variables, which are found only now.
    fn whole(&self) -> Result<GoProcess, GoError> {
        GoProcess::attach_within(&self.process)
    }
}

impl Instance for GoInstance {
    fn language(&self) -> &'static dyn Language {
        &Go
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn hints(&self) -> Hints {
        Hints { tasks: self.samples.as_ref().map(GoSamples::tasks), ..Hints::default() }
    }

    fn labels(&self, sample: &SampleView<'_>) -> Option<Labels> {
        let samples = self.samples.as_ref()?;
        match sample.task_labels {
            Some(word) => samples.labels_at(word, &self.process.memory),
            None => samples.labels(sample.registers?, &self.process.memory),
        }
    }

    fn tasks(
        &self,
        request: &TaskRequest,
        threads: &mut dyn ThreadStacks,
    ) -> Result<Box<dyn TaskDump>, RuntimeError> {
        let began = Instant::now();
        let process = self.whole()?;
        Ok(Box::new(GoTasks::read(process, request, threads, began.elapsed())?))
    }

    fn account(&self, name: &str) -> Result<Account, RuntimeError> {
        let what = || RuntimeError::Unreadable { what: format!("Go keeps no profile {name}"), advice: None };
        account::read(&self.whole()?, name)?.ok_or_else(what)
    }

    fn account_text(&self, name: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
        Ok(account::text(&self.whole()?, name)?)
    }

    fn memory(&self) -> RuntimeMemory {
        let mappings = self.process.mappings().unwrap_or_default();
        self.whole().map(|process| arenas::memory(&process, &mappings)).unwrap_or_default()
    }

    fn info(&self) -> Result<Info, RuntimeError> {
        Ok(facts(&self.whole()?.info()))
    }

    fn categories(&self) -> Vec<CategoryRule> {
        let rule = |category, name: &str| CategoryRule::Function(category, name.to_owned());
        vec![rule(Category::Runtime, "runtime."), rule(Category::Runtime, "internal/runtime/")]
    }
}
