//! The labels of samples: the thread and its process, the program's own labels, the lock.
//!
//! Not here: the rest of the state that events change (`world`).

use super::world::{Thread, World};
use crate::{
    capture::collector::{Labels, LabelsId, Lock},
    process::{comm, threads},
    sampler::{LockUse, RawSample},
};

/// How many locks of a window are distinguished.
const MAX_LOCKS: usize = 4096;

impl World {
    /// The labels of a sample: those of its thread.
    pub(super) fn labels_of(&mut self, sample: &RawSample<'_>) -> LabelsId {
        let key = (sample.pid, sample.tid);
        let known =
            self.threads.get(&key).filter(|thread| sample.comm.is_none_or(|comm| comm == thread.comm));
        if let Some(labels) = known.and_then(|thread| thread.labels) {
            return labels;
        }
        let comm = match (sample.comm, known) {
            (Some(comm), _) => comm.to_vec(),
            (None, Some(thread)) => thread.comm.clone(),
            (None, None) => self.comm_now(sample.pid, sample.tid).into_bytes(),
        };
        self.name_thread(sample.pid, sample.tid, &comm)
    }

    /// Adds the labels that the program has set.
    pub(super) fn with_program_labels(&mut self, labels: LabelsId, sample: &RawSample<'_>) -> LabelsId {
        let own = self.spaces.get(&sample.pid).and_then(|space| space.languages.labels(sample));
        let Some(own) = own else { return labels };
        // Poll often: the sooner labels are read, the more likely they are the sample's.
        self.late_reads += 1;
        let labels = Labels { own: Some(own), ..self.collector.labels_of(labels).clone() };
        self.collector.labels(labels)
    }

    /// Adds the lock that the thread waited for or released. Locks beyond [`MAX_LOCKS`] are not
    /// stated.
    pub(super) fn with_lock(&mut self, labels: LabelsId, sample: &RawSample<'_>) -> LabelsId {
        let Some(LockUse { address, as_mutex }) = sample.lock else { return labels };
        let lock = Lock { pid: sample.pid, address, as_mutex };
        if !self.locks.contains(&lock) {
            if self.locks.len() >= MAX_LOCKS {
                return labels;
            }
            self.locks.insert(lock);
        }
        let labels = Labels { lock: Some(lock), ..self.collector.labels_of(labels).clone() };
        self.collector.labels(labels)
    }

    /// The current name of a thread. A thread that has ended without a rename event had the name of
    /// its creator, which is usually that of the process.
    pub(super) fn comm_now(&self, pid: u32, tid: u32) -> String {
        let of_process = || self.spaces.get(&pid).map(|space| space.name.clone());
        threads::name(pid, tid).or_else(of_process).unwrap_or_default()
    }

    /// Sets the name of a thread; returns its labels.
    pub(super) fn name_thread(&mut self, pid: u32, tid: u32, comm: &[u8]) -> LabelsId {
        let keys = self.label_keys;
        let process = keys.process.then(|| self.spaces.get(&pid).map(|space| space.name.clone())).flatten();
        let labels = self.collector.labels(Labels {
            thread: comm::printable(comm),
            pid: keys.pid.then_some(pid),
            tid: keys.tid.then_some(tid),
            process,
            own: None,
            lock: None,
        });
        let stack_hinted = self.threads.get(&(pid, tid)).is_some_and(|thread| thread.stack_hinted);
        self.threads.insert((pid, tid), Thread { labels: Some(labels), comm: comm.to_vec(), stack_hinted });
        if let Some(space) = self.spaces.get_mut(&pid) {
            space.tids.insert(tid);
        }
        labels
    }
}
