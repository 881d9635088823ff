//! The session that is open, and which processes the samples of each of its windows are from.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{Settings, select::Watched};
use crate::capture::{
    self, CaptureError, Outcome, Request, Session, Step, Stop,
    kinds::{Kind, Make},
};

/// The processes of a window.
pub type Members = HashMap<u32, Arc<Watched>>;

/// A window that has its profiles.
pub struct Window {
    /// The outcome of each kind.
    pub outcomes: Vec<Outcome>,
    /// The processes that were watched in it.
    pub members: Members,
    /// Why it ended early.
    pub mark: Option<String>,
}

/// Why [`Live::step`] returned.
pub enum Stepped {
    /// The time has come.
    Reached,
    /// A window has its profiles.
    Window(Window),
    /// Sampling is over.
    Over,
}

/// An open session.
pub struct Live {
    session: Session,
    /// The processes of the current window, those that have ended since it began among them.
    members: Members,
    /// Processes that are sampled.
    sampled: HashSet<u32>,
    /// Windows that ended and have no names yet.
    pending: VecDeque<(Members, Option<String>)>,
}

/// A process that cannot be sampled.
pub type Refused = (Arc<Watched>, CaptureError);

/// The kinds that are sampled all the time, as opposed to those that one call reads.
pub fn sampled_kinds(kinds: &[Kind]) -> Vec<Kind> {
    let is_live = |kind: &Kind| kind.makers.iter().any(|maker| matches!(maker.make, Make::Live(_)));
    kinds.iter().copied().filter(is_live).collect()
}

impl Live {
    /// Opens a session of these processes; also returns those that cannot be sampled. Errors: none
    /// of them can be sampled in any of the kinds.
    pub fn open(
        base: &Request,
        settings: &Settings,
        watched: &[Arc<Watched>],
    ) -> Result<(Live, Vec<Refused>), CaptureError> {
        let request = Request {
            kinds: sampled_kinds(&settings.kinds),
            frequency_hz: settings.frequency_hz,
            max_stack_bytes: settings.max_stack_bytes,
            duration: None,
            every: None,
            children: false,
            // Its own: dropping a session sets it.
            stop: Stop::default(),
            ..base.clone()
        };
        let all: Vec<u32> = watched.iter().map(|watched| watched.identity.pid).collect();
        let together = open_session(&request, all.clone());
        let (mut session, opened) = match together {
            Ok(session) => (session, all),
            // One of them may have ended, or may not be read: the others can be sampled.
            Err(error) => {
                let (session, pid) = open_first(&request, &all, error)?;
                (session, vec![pid])
            }
        };
        let mut refused = Vec::new();
        let mut members = Members::new();
        for process in watched {
            let pid = process.identity.pid;
            match if opened.contains(&pid) { Ok(()) } else { session.add(pid) } {
                Ok(()) => drop(members.insert(pid, Arc::clone(process))),
                Err(error) => refused.push((Arc::clone(process), error)),
            }
        }
        let sampled = members.keys().copied().collect();
        Ok((Live { session, members, sampled, pending: VecDeque::new() }, refused))
    }

    /// The kinds that could not be opened. They are returned once.
    pub fn take_refused(&mut self) -> Vec<Outcome> {
        self.session.take_refused()
    }

    /// Also samples this process. Errors: it cannot be sampled.
    pub fn add(&mut self, process: &Arc<Watched>) -> Result<(), CaptureError> {
        self.session.add(process.identity.pid)?;
        self.members.insert(process.identity.pid, Arc::clone(process));
        self.sampled.insert(process.identity.pid);
        Ok(())
    }

    /// Stops sampling a process that runs. Its samples stay in the window.
    pub fn drop_process(&mut self, pid: u32) {
        self.session.remove(pid);
        self.sampled.remove(&pid);
    }

    /// A process has ended. The session notices that itself.
    pub fn ended(&mut self, pid: u32) {
        self.sampled.remove(&pid);
    }

    /// Samples until `until`, or until a window has its profiles.
    pub fn step(&mut self, until: Instant) -> Stepped {
        match self.session.step(until, &mut |_| {}) {
            Step::Reached => Stepped::Reached,
            Step::Over => Stepped::Over,
            Step::Window(outcomes) => {
                let current = || (self.members.clone(), None);
                let (members, mark) = self.pending.pop_front().unwrap_or_else(current);
                Stepped::Window(Window { outcomes, members, mark })
            }
        }
    }

    /// Ends the window; the next one begins. Returns false if it goes on because too many windows
    /// wait for their names.
    pub fn end_window(&mut self, mark: Option<String>) -> bool {
        if !self.session.end_window() {
            return false;
        }
        let next = self.members.iter().filter(|(pid, _)| self.sampled.contains(pid));
        let next = next.map(|(pid, process)| (*pid, Arc::clone(process))).collect();
        let members = std::mem::replace(&mut self.members, next);
        self.pending.push_back((members, mark));
        true
    }

    /// Ends sampling, and returns the windows that were not returned yet.
    pub fn finish(mut self, mark: Option<String>) -> Vec<Window> {
        self.session.end_sampling(&mut |_| {});
        self.pending.push_back((std::mem::take(&mut self.members), mark));
        let mut windows = Vec::new();
        while let Stepped::Window(window) = self.step(Instant::now()) {
            windows.push(window);
        }
        windows
    }
}

/// Opens a session of these processes. Errors: no kind can be sampled.
fn open_session(request: &Request, pids: Vec<u32>) -> Result<Session, CaptureError> {
    let mut session = capture::open(&Request { pids, ..request.clone() })?;
    if session.is_sampling() {
        return Ok(session);
    }
    let refused = session.take_refused().into_iter().find_map(|outcome| outcome.result.err());
    Err(refused.unwrap_or(CaptureError::NoProcess))
}

/// Opens a session of the first process that can be sampled; also returns its PID. Errors: `error`,
/// or that of the last one tried.
fn open_first(request: &Request, pids: &[u32], error: CaptureError) -> Result<(Session, u32), CaptureError> {
    let mut last = error;
    for pid in pids {
        match open_session(request, vec![*pid]) {
            Ok(session) => return Ok((session, *pid)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
