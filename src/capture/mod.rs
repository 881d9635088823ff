//! The one way to a profile: [`run`] takes a [`Request`] and gives a [`Capture`].
//!
//! A sampler is opened (`attach`), its events keep a picture of the processes and a count of their
//! stacks (`world`, `space`, `images`, `collector`), and at the end addresses get names and become a
//! profile (`finish`). Not here: flags, files, printing.

mod attach;
mod collector;
pub mod dump;
mod finish;
mod go_builder;
pub mod go_profile;
pub mod goroutines;
mod images;
mod late;
mod naming;
mod naming_go;
pub mod rename;
mod session;
mod space;
mod tally;
mod threadcreate;
pub mod trace;
mod world;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use session::Session;

pub use attach::SamplerChoice;
pub use naming::names;
pub use tally::Tally;
pub use threadcreate::keep_created_meanwhile;

use crate::{
    issue::Issues,
    process::{Identity, ProcessError, identify, select},
    profile::proto::Profile,
    sampler::{Description, SamplerError},
    symbolize::SymbolizeOptions,
};

/// How often the buffers are emptied. The kernel wakes us earlier when one fills up.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// The same while stacks are deeper than their copies: their rest must be read before it changes.
const POLL_DEEP_EVERY: Duration = Duration::from_millis(1);

/// Of a series of profiles, how much longer the next takes at least than it took to make the last: that is
/// rprof's own time.
const OWN_PAUSE: u32 = 8;

/// What a profile is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProfileKind {
    /// Where CPU time goes.
    #[default]
    Cpu,
    /// Where all of the threads' time goes.
    Wall,
    /// Where memory grows: which code touches pages that are not there.
    Faults,
    /// Which code has made the threads.
    ThreadCreate,
    /// Where threads wait, and for how long.
    OffCpu,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    pub pids: Vec<u32>,
    /// Also the processes that these have started, and will start.
    pub children: bool,
    /// `None`: until told to stop, or until the last process has ended.
    pub duration: Option<Duration>,
    pub frequency_hz: u32,
    pub kind: ProfileKind,
    pub sampler: SamplerChoice,
    /// Kernel frames, where rights allow.
    pub kernel: bool,
    /// The most stack copied with a sample, in bytes.
    pub max_stack_bytes: u32,
    /// Ring memory in bytes; 0: as much as is sensible.
    pub buffer_bytes: usize,
    pub labels: LabelKeys,
    pub symbolize: SymbolizeOptions,
}

impl Default for Request {
    fn default() -> Self {
        Request {
            pids: Vec::new(),
            children: false,
            duration: Some(Duration::from_secs(30)),
            frequency_hz: 99,
            kind: ProfileKind::Cpu,
            sampler: SamplerChoice::Auto,
            kernel: true,
            max_stack_bytes: 512 << 10,
            buffer_bytes: 0,
            labels: LabelKeys::default(),
            symbolize: SymbolizeOptions::default(),
        }
    }
}

/// Which labels samples carry beside the thread's name.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelKeys {
    pub pid: bool,
    pub tid: bool,
    /// The process's name; set where several are watched.
    pub process: bool,
}

/// Ends a capture early, keeping what was collected: set from a signal handler or another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(pub Arc<AtomicBool>);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is told while a capture runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The sampler counts from now on.
    Attached { sampler: &'a Description, identities: &'a [Identity], took: Duration },
    /// About once in [`POLL_EVERY`].
    Sampling { elapsed: Duration, tally: &'a Tally },
    /// Sampling is over; addresses get their names.
    Naming { addresses: usize },
}

/// A profile and what must be known to judge it.
#[derive(Debug)]
pub struct Capture {
    pub profile: Profile,
    pub issues: Issues,
    pub tally: Tally,
    pub sampler: Description,
    pub kind: ProfileKind,
    pub identities: Vec<Identity>,
    pub ended: Ended,
    /// Share of all frames, weighted by samples, that have no name: 0 to 1.
    pub unnamed_share: f64,
    pub started_at: SystemTime,
    /// How long was sampled.
    pub elapsed: Duration,
    /// CPU time that the kernel charged to the processes meanwhile; `None` where it is not known any
    /// more (a process has ended).
    pub kernel_cpu_ns: Option<u64>,
    /// For [`ProfileKind::ThreadCreate`]: how many threads were there when sampling began.
    pub threads_before: Option<u64>,
    /// How long attaching took, and from the end of sampling to the finished profile.
    pub attach_took: Duration,
    pub finish_took: Duration,
}

impl Capture {
    /// Of [`ProfileKind::ThreadCreate`]: how many threads were made meanwhile, and how many were there before.
    pub fn threads_made(&self) -> (i64, u64) {
        let all: i64 = self.profile.sample.iter().flat_map(|sample| sample.value.first()).sum();
        let before = self.threads_before.unwrap_or_default();
        (all.saturating_sub_unsigned(before), before)
    }
}

/// Why sampling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Duration,
    Stopped,
    /// The last process watched has ended.
    TargetsGone,
    /// The sampler failed; what it gave before is in the profile.
    Failed,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("process {0} is a thread of the kernel: it has no user-space stack")]
    KernelThread(u32),
    #[error("no process was named")]
    NoProcess,
    #[error("cannot watch: {source}")]
    Sampler {
        #[source]
        source: SamplerError,
        /// What was tried before, and why it did not work.
        tried: Vec<(&'static str, SamplerError)>,
        identities: Vec<Identity>,
    },
    /// The command that was to be profiled could not be started.
    #[error("cannot run the command")]
    NotStarted(#[source] std::io::Error),
    #[error("the sampler failed: {0}")]
    SamplerDied(SamplerError),
}

/// Watches processes and makes a profile of them.
///
/// `release` is called once sampling has begun (a command started for this waits for it); if it fails,
/// there is no profile.
pub fn run(
    request: &Request,
    stop: &Stop,
    release: impl FnOnce() -> std::io::Result<()>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Capture, CaptureError> {
    let mut session = Session::begin(request)?;
    let mut threads = match request.kind {
        ProfileKind::ThreadCreate => {
            Some(threadcreate::Threads::there_before(request, session.identities())?)
        }
        ProfileKind::Cpu | ProfileKind::Wall | ProfileKind::Faults | ProfileKind::OffCpu => None,
    };
    session.tell(progress);
    release().map_err(CaptureError::NotStarted)?;
    let ended = session.sample(request.duration, stop, progress);
    let ended = session.end(ended)?;
    if let Some(threads) = threads.as_mut().filter(|_| session.is_idle()) {
        session.add_new_threads(threads);
    }
    Ok(session.finish(ended, threads, progress))
}

/// Watches processes without a pause and makes a profile of each `every`, which `each` gets as soon as it
/// is there; the last may be shorter. `progress` is told as by [`run`].
///
/// Files are opened and addresses named once for all profiles; where making one takes long, the
/// next is of a longer time. Not for [`ProfileKind::ThreadCreate`], whose profiles are also of what was there before.
/// Errors: as of [`run`]; a sampler that fails later ends the last profile.
pub fn windows(
    request: &Request,
    every: Duration,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress<'_>),
    each: &mut dyn FnMut(Capture),
) -> Result<Ended, CaptureError> {
    let mut session = Session::begin(request)?;
    session.tell(progress);
    let mut until = every;
    loop {
        let end = request.duration.map_or(until, |whole| whole.min(until));
        let sampled = session.sample(Some(end), stop, progress);
        if !matches!(sampled, Ok(Ended::Duration)) || request.duration == Some(end) {
            let ended = session.end(sampled)?;
            each(session.finish(ended, None, progress));
            return Ok(ended);
        }
        let window_ended = session.elapsed();
        let capture = session.window(progress);
        let took = session.elapsed() - window_ended;
        until = (until + every).max(session.elapsed() + took * OWN_PAUSE);
        each(capture);
    }
}

/// Who these processes are, and with `children` those that they have started.
fn identify_all(pids: &[u32], children: bool) -> Result<Vec<Identity>, CaptureError> {
    let mut pids: BTreeSet<u32> = pids.iter().copied().collect();
    let named: Vec<Identity> = pids.iter().map(|pid| identify(*pid)).collect::<Result<_, _>>()?;
    if let Some(kernel) = named.iter().find(|identity| identity.is_kernel_thread) {
        return Err(CaptureError::KernelThread(kernel.pid));
    }
    if !children {
        return if named.is_empty() { Err(CaptureError::NoProcess) } else { Ok(named) };
    }
    for identity in &named {
        pids.extend(select::descendants(identity.pid));
    }
    // A child may end while we look: that is not an error.
    let all: Vec<Identity> = pids.iter().filter_map(|pid| identify(*pid).ok()).collect();
    if all.is_empty() { Err(CaptureError::NoProcess) } else { Ok(all) }
}
