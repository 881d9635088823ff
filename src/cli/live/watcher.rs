//! A thread that profiles the watched processes and sends the view a profile per interval.

use std::{
    sync::mpsc::{self, Receiver, Sender, SyncSender, TryRecvError},
    thread::{self, JoinHandle},
};

use anyhow::{Result, anyhow};

use crate::{
    capture::{self, Capture, CaptureError, Progress, Request, Response, Stop},
    issue::Issue,
    process::Identity,
};

/// Profiles that wait to be shown; the watcher blocks when there are more.
const WAITING: usize = 8;

/// The thread ended without an event.
const BROKEN: &str = "sampling ended unexpectedly: this is a bug in rprof";

/// What is watched, and with which sampler.
#[derive(Clone, Debug)]
pub struct Attached {
    /// The sampler's name.
    pub sampler: &'static str,
    /// The processes.
    pub identities: Vec<Identity>,
}

/// An event of the watcher.
#[derive(Debug)]
pub enum WatchEvent {
    /// The profile of an interval.
    Window(Box<Capture>),
    /// There are no more profiles; the reason, if it is a failure.
    Ended(Option<String>),
}

/// The watching thread, which ends when this is dropped.
pub struct Watcher {
    stop: Stop,
    events: Option<Receiver<WatchEvent>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts to watch; returns once sampling has started. Errors: no permission, or no such
    /// process.
    pub fn begin(request: Request) -> Result<(Watcher, Attached)> {
        let (started, attached) = mpsc::channel();
        let (sender, events) = mpsc::sync_channel(WAITING);
        let stop = Stop::default();
        let request = Request { stop: stop.clone(), ..request };
        let thread = thread::spawn(move || watch(&request, started, &sender));
        let watcher = Watcher { stop, events: Some(events), thread: Some(thread) };
        match attached.recv() {
            Ok(attached) => Ok((watcher, attached?)),
            Err(_) => Err(anyhow!(BROKEN)),
        }
    }

    /// The next event; `None`: none yet, or none after the last.
    pub fn next_event(&mut self) -> Option<WatchEvent> {
        let event = match self.events.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => return None,
            event => event.unwrap_or_else(|_| WatchEvent::Ended(Some(BROKEN.into()))),
        };
        if let WatchEvent::Ended(_) = event {
            self.events = None;
        }
        Some(event)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.set();
        // The thread may be blocked because the channel is full.
        self.events = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(
    request: &Request,
    started: Sender<Result<Attached, CaptureError>>,
    sender: &SyncSender<WatchEvent>,
) {
    // Sending fails only after the view has dropped the watcher, which also sets `stop`.
    let send = |event| drop(sender.send(event));
    let mut session = match capture::open(request) {
        Ok(session) => session,
        Err(error) => return drop(started.send(Err(error))),
    };
    let mut progress = |progress: Progress<'_>| {
        if let Progress::Attached { sampler, identities, .. } = progress {
            let _ = started.send(Ok(Attached { sampler: sampler.name, identities: identities.to_vec() }));
        }
    };
    let mut why = None;
    while let Some(window) = session.next_window(&mut progress) {
        for outcome in window {
            match outcome.result {
                Ok(Response::Sampled(capture)) => {
                    why = capture.issues.iter().find_map(|(issue, _)| match issue {
                        Issue::SamplerFailed { why } => Some(why.clone()),
                        _ => None,
                    });
                    send(WatchEvent::Window(capture));
                }
                Ok(_) => {}
                Err(error) => why = Some(error.to_string()),
            }
        }
    }
    send(WatchEvent::Ended(why));
}
