//! Watches processes beside the view: a thread that makes a profile each second, and hands them over.
//!
//! Not here: what is shown of them.

use std::{
    sync::{
        atomic::Ordering,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow};

use crate::{
    capture::{self, Capture, CaptureError, Progress, Request, Stop},
    process::Identity,
};

/// Profiles that wait to be shown; the watcher waits for the view when there are more.
const WAITING: usize = 8;

/// Who is watched, and how.
#[derive(Clone, Debug)]
pub struct Attached {
    pub sampler: &'static str,
    pub identities: Vec<Identity>,
}

/// What the watcher tells.
#[derive(Debug)]
pub enum Told {
    Attached(Attached),
    Window(Box<Capture>),
    /// There is no more; why, where that is an error.
    Ended(Option<CaptureError>),
}

/// See the module. It ends when this is dropped.
pub struct Watcher {
    stop: Stop,
    told: Option<Receiver<Told>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to watch, and says who and how once it does. Errors: it may not, or nobody is there.
    pub fn begin(request: Request, every: Duration) -> Result<(Watcher, Attached)> {
        let (teller, told) = mpsc::sync_channel(WAITING);
        let stop = Stop::default();
        let own = stop.clone();
        let thread = thread::spawn(move || watch(&request, every, &own, &teller));
        let first = told.recv();
        let watcher = Watcher { stop, told: Some(told), thread: Some(thread) };
        match first {
            Ok(Told::Attached(attached)) => Ok((watcher, attached)),
            Ok(Told::Ended(Some(error))) => Err(error.into()),
            _ => Err(anyhow!("watching ended before it began: a mistake in rprof")),
        }
    }

    /// What was told since; `None`: nothing yet.
    pub fn told(&self) -> Option<Told> {
        self.told.as_ref()?.try_recv().ok()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        // It may be waiting for somebody to take what it has.
        self.told = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(request: &Request, every: Duration, stop: &Stop, teller: &SyncSender<Told>) {
    // Nobody listens any more: then it was also told to stop.
    let tell = |told| drop(teller.send(told));
    let mut progress = |progress: Progress<'_>| {
        if let Progress::Attached { sampler, identities, .. } = progress {
            tell(Told::Attached(Attached { sampler: sampler.name, identities: identities.to_vec() }));
        }
    };
    let mut each = |capture| tell(Told::Window(Box::new(capture)));
    let ended = capture::windows(request, every, stop, &mut progress, &mut each);
    tell(Told::Ended(ended.err()));
}
