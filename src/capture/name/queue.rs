//! Names windows and builds their profiles on a thread of its own, behind a bounded queue: the
//! thread that samples never waits for names, for files or for a debuginfod server.
//!
//! When the queue is full, the session does not close its window: the samples stay in it, and their
//! names come later. Not here: naming itself (`names`), the content of a profile (`finish`).

use std::{
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::names::NameCache;
use crate::{
    capture::{
        Capture, collector::SourceId, finish::finish, request::Plan, threadcreate::Threads,
        watch::window::Window,
    },
    process::{give_memory_back_early, release_free_memory},
    symbolize::SymbolizeOptions,
};

/// The most windows that are being named or wait for it.
const MAX_PENDING: usize = 2;

/// A closed window, to be named.
pub struct Job {
    /// What was counted.
    pub window: Window,
    /// The captures of the window's sources, without their profiles.
    pub captures: Vec<Unnamed>,
    /// When the window was closed.
    pub closed_at: Instant,
}

/// The capture of a source, without its profile.
pub struct Unnamed {
    /// The source.
    pub source: SourceId,
    /// How it took its samples.
    pub plan: Plan,
    /// The capture.
    pub capture: Capture,
    /// The threads whose stacks were read, for the kind of profile that has them.
    pub threads: Option<Threads>,
}

/// A window with its profiles.
pub struct Named {
    /// The captures of its sources, in their order.
    pub captures: Vec<Capture>,
    /// How long naming and building took.
    pub took: Duration,
}

/// The thread that names windows, one after the other. It ends when this is dropped.
pub struct Namer {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Named>,
    thread: Option<JoinHandle<()>>,
    pending: usize,
    cache_bytes: Arc<AtomicUsize>,
}

impl Namer {
    /// Starts the thread.
    pub fn start(options: &SymbolizeOptions) -> Namer {
        give_memory_back_early();
        let (jobs, to_do) = sync_channel::<Job>(MAX_PENDING);
        let (sender, done) = sync_channel(MAX_PENDING);
        let (options, cache_bytes) = (options.clone(), Arc::new(AtomicUsize::new(0)));
        let bytes = Arc::clone(&cache_bytes);
        let thread = thread::spawn(move || {
            let mut cache = NameCache::default();
            for job in to_do {
                let named = name(&options, job, &mut cache);
                bytes.store(cache.memory_bytes(), Ordering::Relaxed);
                if sender.send(named).is_err() {
                    return;
                }
                release_free_memory();
            }
        });
        Namer { jobs: Some(jobs), done, thread: Some(thread), pending: 0, cache_bytes }
    }

    /// Whether another window can be handed over without waiting.
    pub fn has_room(&self) -> bool {
        self.pending < MAX_PENDING
    }

    /// Hands over a window. Waits if there is no room.
    pub fn submit(&mut self, job: Job) {
        self.pending += 1;
        if self.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            self.fail();
        }
    }

    /// A window that is ready, if one is.
    pub fn try_next(&mut self) -> Option<Named> {
        match self.done.try_recv() {
            Ok(named) => {
                self.pending -= 1;
                Some(named)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => self.fail(),
        }
    }

    /// Waits for the next window; `None`: none was handed over.
    pub fn next(&mut self) -> Option<Named> {
        if self.pending == 0 {
            return None;
        }
        match self.done.recv() {
            Ok(named) => {
                self.pending -= 1;
                Some(named)
            }
            Err(_) => self.fail(),
        }
    }

    /// About how many bytes the names take that are kept between windows.
    pub fn memory_bytes(&self) -> usize {
        self.cache_bytes.load(Ordering::Relaxed)
    }

    /// Continues the panic that has ended the thread.
    fn fail(&mut self) -> ! {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => unreachable!("the thread ends before its owner only by a panic"),
        }
    }
}

impl Drop for Namer {
    fn drop(&mut self) {
        self.jobs = None;
        // The thread may be sending: what it has is dropped.
        while self.done.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn name(options: &SymbolizeOptions, job: Job, cache: &mut NameCache) -> Named {
    let began = Instant::now();
    let Job { mut window, captures, closed_at } = job;
    let names = cache.name(options, &mut window);
    let captures = captures.into_iter().map(|Unnamed { source, plan, mut capture, threads }| {
        capture.tally = window.take_tally(source);
        finish(&plan, (&window, source), &names, threads, &mut capture);
        capture.finish_took = closed_at.elapsed();
        capture
    });
    Named { captures: captures.collect(), took: began.elapsed() }
}
