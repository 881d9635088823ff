//! A process, as runtimes read it.

use std::{path::PathBuf, sync::Arc};

use crate::{
    budget::Budget,
    process::{self, Mapping, ProcessError, ProcessMemory, identity, threads},
};

/// A process, as a runtime needs it.
#[derive(Clone, Debug)]
pub struct ProcessView {
    /// The process, as rprof's own PID namespace numbers it.
    pub pid: u32,
    /// The thread whose /proc folder is read: the process, or another thread if its first one has
    /// ended.
    pub reader: u32,
    /// Its memory, for a runtime's metadata. An instance keeps it.
    pub memory: Arc<ProcessMemory>,
    /// What reading the process may cost.
    pub budget: Budget,
}

impl ProcessView {
    /// The process with this number.
    pub fn new(pid: u32, budget: &Budget) -> ProcessView {
        let reader = threads::reader(pid);
        ProcessView { pid, reader, memory: Arc::new(ProcessMemory::new(reader)), budget: budget.clone() }
    }

    /// The root of its mount namespace, through /proc.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.reader))
    }

    /// All its mappings now. Errors: it has ended or cannot be read.
    pub fn mappings(&self) -> Result<Vec<Mapping>, ProcessError> {
        process::read_mappings(self.reader)
    }

    /// Its threads now.
    pub fn threads(&self) -> Vec<u32> {
        threads::list(self.pid)
    }

    /// The number that a thread has in the process's own PID namespace, which runtimes store.
    pub fn namespace_tid(&self, tid: u32) -> u32 {
        identity::namespace_pid_and_uid(tid).map_or(tid, |(inner, _)| inner)
    }
}
