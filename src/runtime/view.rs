//! A process, as runtimes read it.

use std::{path::PathBuf, sync::Arc};

use super::mapped_files::{MappedCode, mapped_files};
use crate::{
    budget::Budget,
    process::{self, Mapping, ProcessError, ProcessMemory, identity, threads},
};

/// What is known of a process that has ended, from its core file.
#[derive(Debug, Default)]
pub struct EndedProcess {
    /// Its mappings, in ascending order.
    pub mappings: Vec<Mapping>,
    /// The files whose code it had mapped, each with its first such mapping.
    pub files: Vec<MappedCode>,
    /// Its threads.
    pub threads: Vec<u32>,
}

/// A process, as a runtime needs it.
#[derive(Clone, Debug)]
pub struct ProcessView {
    /// The process, as rprof's own PID namespace numbers it; 0: it has ended.
    pub pid: u32,
    /// The thread whose /proc folder is read: the process, or another thread if its first one has
    /// ended.
    pub reader: u32,
    /// Its memory, for a runtime's metadata. An instance keeps it.
    pub memory: Arc<ProcessMemory>,
    /// What reading the process may cost.
    pub budget: Budget,
    /// What is read instead of /proc, if the process has ended.
    pub ended: Option<Arc<EndedProcess>>,
}

impl ProcessView {
    /// The process with this number.
    pub fn new(pid: u32, budget: &Budget) -> ProcessView {
        let reader = threads::reader(pid);
        let memory = Arc::new(ProcessMemory::new(reader));
        ProcessView { pid, reader, memory, budget: budget.clone(), ended: None }
    }

    /// The files whose code it has mapped, each once. Errors: it has ended or cannot be read.
    pub fn code_files(&self) -> Result<Vec<MappedCode>, ProcessError> {
        match &self.ended {
            Some(ended) => Ok(ended.files.clone()),
            None => mapped_files(self.reader),
        }
    }

    /// The root of its mount namespace, through /proc.
    pub fn root(&self) -> PathBuf {
        match self.ended {
            Some(_) => PathBuf::from("/"),
            None => PathBuf::from(format!("/proc/{}/root", self.reader)),
        }
    }

    /// All its mappings now. Errors: it has ended or cannot be read.
    pub fn mappings(&self) -> Result<Vec<Mapping>, ProcessError> {
        match &self.ended {
            Some(ended) => Ok(ended.mappings.clone()),
            None => process::read_mappings(self.reader),
        }
    }

    /// Its threads now.
    pub fn threads(&self) -> Vec<u32> {
        match &self.ended {
            Some(ended) => ended.threads.clone(),
            None => threads::list(self.pid),
        }
    }

    /// The number that a thread has in the process's own PID namespace, which runtimes store.
    pub fn namespace_tid(&self, tid: u32) -> u32 {
        match self.ended {
            // A core file has the numbers of that namespace.
            Some(_) => tid,
            None => identity::namespace_pid_and_uid(tid).map_or(tid, |(inner, _)| inner),
        }
    }
}
