//! Watches processes beside the view: a thread that makes a profile each second, and hands them over.
//!
//! Not here: what is shown of them.

use std::{
    sync::{
        atomic::Ordering,
        mpsc::{self, Receiver, Sender, SyncSender, TryRecvError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Result, anyhow};

use crate::{
    capture::{self, Capture, CaptureError, Progress, Request, Stop},
    issue::Issue,
    process::Identity,
};

/// Profiles that wait to be shown; the watcher waits for the view when there are more.
const WAITING: usize = 8;

/// The thread is gone and has said nothing.
const MISTAKE: &str = "watching broke off: a mistake in rprof";

/// Who is watched, and how.
#[derive(Clone, Debug)]
pub struct Attached {
    pub sampler: &'static str,
    pub identities: Vec<Identity>,
}

/// What the watcher tells.
#[derive(Debug)]
pub enum WatchEvent {
    Window(Box<Capture>),
    /// There is no more; why, where that is a failure.
    Ended(Option<String>),
}

/// See the module. It ends when this is dropped.
pub struct Watcher {
    stop: Stop,
    told: Option<Receiver<WatchEvent>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to watch, and says who and how once it does. Errors: it may not, or nobody is there.
    pub fn begin(request: Request, every: Duration) -> Result<(Watcher, Attached)> {
        let (begun, attached) = mpsc::channel();
        let (teller, told) = mpsc::sync_channel(WAITING);
        let stop = Stop::default();
        let own = stop.clone();
        let thread = thread::spawn(move || watch(&request, every, &own, begun, &teller));
        let watcher = Watcher { stop, told: Some(told), thread: Some(thread) };
        match attached.recv() {
            Ok(attached) => Ok((watcher, attached?)),
            Err(_) => Err(anyhow!(MISTAKE)),
        }
    }

    /// What was told since; `None`: nothing yet.
    pub fn told(&mut self) -> Option<WatchEvent> {
        let told = match self.told.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => return None,
            told => told.unwrap_or_else(|_| WatchEvent::Ended(Some(MISTAKE.into()))),
        };
        if let WatchEvent::Ended(_) = told {
            self.told = None;
        }
        Some(told)
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

fn watch(
    request: &Request,
    every: Duration,
    stop: &Stop,
    begun: Sender<Result<Attached, CaptureError>>,
    teller: &SyncSender<WatchEvent>,
) {
    // Nobody listens any more: then it was also told to stop.
    let tell = |told| drop(teller.send(told));
    let mut begun = Some(begun);
    let mut progress = |progress: Progress<'_>| {
        if let Progress::Attached { sampler, identities, .. } = progress
            && let Some(begun) = begun.take()
        {
            let _ = begun.send(Ok(Attached { sampler: sampler.name, identities: identities.to_vec() }));
        }
    };
    let mut why = None;
    let mut each = |capture: Capture| {
        why = capture.issues.iter().find_map(|(issue, _)| match issue {
            Issue::SamplerFailed { why } => Some(why.clone()),
            _ => None,
        });
        tell(WatchEvent::Window(Box::new(capture)));
    };
    match (capture::windows(request, every, stop, &mut progress, &mut each), begun) {
        (Ok(_), _) => tell(WatchEvent::Ended(why)),
        (Err(error), Some(begun)) => drop(begun.send(Err(error))),
        (Err(error), None) => tell(WatchEvent::Ended(Some(error.to_string()))),
    }
}
