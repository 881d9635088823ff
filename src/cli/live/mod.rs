//! `rprof top --pid`: a live view of running processes on a terminal.
//!
//! ```text
//! watcher (a profile per second) ► history, kept ► table (the rows) ► draw
//!                                   keys ► state ─────┘
//! ```
//!
//! `super::report` shows profiles in files.

mod draw;
mod history;
mod idle;
mod kept;
mod key;
mod state;
mod table;
mod watcher;

use std::{
    io::{IsTerminal, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
    sys::signal::{Signal, raise},
};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};

use super::{advice, args::LiveArgs, output, sampling, signals};
use crate::{
    capture::{LabelKeys, Request, Stop, kinds::Kind},
    process::{self, Identity, ProcessHandle},
};
use draw::Picture;
use history::History;
use kept::ProfileHistory;
use state::{Action, State};
use watcher::{Attached, WatchEvent, Watcher};

/// How often keys and new profiles are polled, in milliseconds.
const POLL_EVERY_MS: u8 = 100;
/// How often the threads of the processes are counted.
const COUNT_THREADS_EVERY: Duration = Duration::from_secs(1);

/// Runs the live view of these processes until the user quits. Errors: there is no terminal, or a
/// process cannot be profiled.
pub fn run(pids: Vec<u32>, arguments: &LiveArgs) -> Result<()> {
    sampling::check_debug_options(&arguments.debug)?;
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!(
            "a live view needs a terminal; `rprof attach --pid {} -d 5s` prints the hottest functions as text",
            pids[0]
        );
    }
    let sampling = sampling::request(&arguments.sampling, &arguments.debug);
    let request = Request {
        kinds: vec![arguments.kind],
        every: Some(arguments.interval),
        labels: LabelKeys { tid: true, ..sampling.labels },
        children: arguments.selectors.children,
        duration: None,
        pids,
        ..sampling
    };
    let stop = signals::stop_on_signals()?;
    // Before the screen is taken over, so that an error is printed as plain lines.
    let mut view = View::begin(request, arguments.kind)?;
    let mut terminal = ratatui::try_init()?;
    let done = view.run(&mut terminal, &stop);
    ratatui::try_restore()?;
    done
}

struct View {
    request: Request,
    /// The processes of the request: a PID may belong to another process later.
    targets: Vec<ProcessHandle>,
    watcher: Watcher,
    attached: Attached,
    state: State,
    history: History,
    kept: ProfileHistory,
    message: String,
    /// When the threads were counted last, and their number.
    threads: (Instant, Option<usize>),
    in_color: bool,
}

impl View {
    fn begin(request: Request, kind: Kind) -> Result<View> {
        let targets = request.pids.iter().map(|pid| ProcessHandle::open(*pid)).collect::<Result<_, _>>()?;
        let (watcher, attached) = Watcher::begin(request.clone())?;
        let threads = (Instant::now(), threads_of(&attached.identities));
        Ok(View {
            state: State::new(kind),
            request,
            targets,
            watcher,
            attached,
            history: History::default(),
            kept: ProfileHistory::default(),
            message: String::new(),
            threads,
            in_color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        })
    }

    fn run(&mut self, terminal: &mut DefaultTerminal, stop: &Stop) -> Result<()> {
        let mut is_stale = true;
        let mut table = table::table(&self.state, &self.history);
        while !stop.is_set() {
            is_stale |= self.update();
            self.history.hides_idle = self.state.hides_idle;
            if std::mem::take(&mut is_stale) {
                table = table::table(&self.state, &self.history);
                terminal.draw(|frame| draw::draw(frame, &self.picture(&table)))?;
            }
            match next_key()? {
                Input::Nothing => continue,
                Input::HungUp => break,
                Input::Something => is_stale = true,
            }
            let Event::Key(key) = event::read()? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            self.message.clear();
            let page = draw::page(terminal.size()?.height);
            match self.state.press(key, &table.keys(), page) {
                Some(Action::Quit) => break,
                Some(Action::Suspend) => suspend(terminal)?,
                Some(Action::Redraw) => terminal.clear()?,
                Some(Action::Watch(kind)) => self.watch(kind),
                Some(Action::Save) => self.save(),
                None => {}
            }
        }
        Ok(())
    }

    /// Takes new profiles from the watcher. Returns whether anything changed.
    fn update(&mut self) -> bool {
        let mut is_new = false;
        if self.threads.0.elapsed() > COUNT_THREADS_EVERY {
            let threads = threads_of(&self.attached.identities);
            is_new = threads != self.threads.1;
            self.threads = (Instant::now(), threads);
        }
        while let Some(event) = self.watcher.next_event() {
            match event {
                // The view stays as it is.
                WatchEvent::Window(_) if self.state.is_paused => continue,
                WatchEvent::Window(capture) => {
                    if self.history.is_full() {
                        self.history = History::default();
                        self.state.forget_ids();
                        self.message = "too many different names: the view starts again".into();
                    }
                    self.history.add(&capture);
                    self.kept.add(capture.elapsed, &capture.profile);
                }
                WatchEvent::Ended(None) => {
                    self.message = "the process has ended: its samples stay here; q quits".into()
                }
                WatchEvent::Ended(Some(why)) => self.message = format!("sampling failed: {why}"),
            }
            is_new = true;
        }
        is_new
    }

    fn picture<'a>(&'a self, table: &'a table::Table) -> Picture<'a> {
        Picture {
            state: &self.state,
            course: self.history.course(draw::COURSE, self.state.thread),
            sum: self.history.sum(self.state.span(), None),
            table,
            at: self.state.at(&table.keys()),
            who: self.who(),
            how: match self.state.kind.is_periodic() {
                true => format!("{} {} Hz", self.attached.sampler, self.request.frequency_hz),
                false => self.attached.sampler.into(),
            },
            threads: self.threads.1,
            message: &self.message,
            in_color: self.in_color,
        }
    }

    fn who(&self) -> String {
        let known: Vec<String> = (self.attached.identities.iter().take(2))
            .map(|identity| format!("{} ({})", identity.display_name(), identity.pid))
            .collect();
        match self.attached.identities.len() - known.len() {
            0 => known.join(", "),
            more => format!("{} and {more} more", known.join(", ")),
        }
    }

    /// Profiles another kind of the same processes. If that fails, the view stays as it is.
    fn watch(&mut self, kind: Kind) {
        let request = Request { kinds: vec![kind], ..self.request.clone() };
        match self.same_processes(|| Watcher::begin(request.clone())) {
            Ok((watcher, attached)) => {
                (self.watcher, self.attached, self.request) = (watcher, attached, request);
                (self.history, self.kept) = (History::default(), ProfileHistory::default());
                (self.state.kind, self.state.is_paused) = (kind, false);
                self.state.forget_ids();
            }
            Err(error) => self.message = advice::explain(&error),
        }
    }

    /// Runs `begin`, which finds the processes by PID. Fails if another process has one of the
    /// PIDs.
    fn same_processes<T>(&self, begin: impl FnOnce() -> Result<T>) -> Result<T> {
        let check = || self.targets.iter().try_for_each(|target| Ok(target.check()?));
        check().and_then(|()| begin()).and_then(|begun| check().map(|()| begun))
    }

    /// Writes the time shown to a file in the current folder.
    fn save(&mut self) {
        let path = output::default_name(None, &self.attached.identities);
        let written = self.kept.last(self.state.span()).and_then(|columns| {
            let write = |writer: &mut dyn Write| columns.write_gzip(writer);
            output::write_or_rescue(&path, &output::file_options(None), write, &path, write)
        });
        self.message = match written {
            Ok(()) => format!("wrote {}", path.display()),
            Err(error) => advice::explain(&error),
        };
    }
}

/// Input from the terminal.
enum Input {
    Nothing,
    Something,
    /// The terminal is gone.
    HungUp,
}

/// Waits up to [`POLL_EVERY_MS`] for a key or a change of the terminal's size.
fn next_key() -> Result<Input> {
    let stdin = std::io::stdin();
    let mut waited = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waited, POLL_EVERY_MS) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    // Checked before reading: at end of file crossterm would read forever.
    if waited[0].revents().is_some_and(|found| found.intersects(gone)) {
        return Ok(Input::HungUp);
    }
    Ok(if event::poll(Duration::ZERO)? { Input::Something } else { Input::Nothing })
}

/// Gives the terminal back to the shell until rprof is continued.
fn suspend(terminal: &mut DefaultTerminal) -> Result<()> {
    ratatui::try_restore()?;
    raise(Signal::SIGTSTP)?;
    *terminal = ratatui::try_init()?;
    Ok(())
}

/// The number of threads; `None`: all processes have ended.
fn threads_of(identities: &[Identity]) -> Option<usize> {
    let living: Vec<&Identity> = identities.iter().filter(|identity| identity.is_alive()).collect();
    let count = |identity: &&Identity| process::threads::list(identity.pid).len();
    (!living.is_empty()).then(|| living.iter().map(count).sum())
}
