//! Captures profiles: [`run`] takes a [`Request`] and returns a [`Capture`].
//!
//! A sampler is opened (`attach`). Its events update the state of the processes and the counts of
//! their stacks (`watch`, `collector`). At the end, addresses are symbolized and
//! the profile is built (`name`, `finish`). Not here: flags, files, printing.

mod attach;
mod collector;
pub mod dump;
mod finish;
mod go_builder;
pub mod go_profile;
pub mod goroutines;
mod name;
pub mod rename;
mod tally;
mod threadcreate;
pub mod trace;
mod watch;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use watch::session::Session;

pub use attach::SamplerChoice;
pub use name::names::names;
pub use tally::Tally;
pub use threadcreate::keep_created_during;

use crate::{
    issue::Issues,
    process::{Identity, ProcessError, identify, select},
    profile::proto::Profile,
    sampler::{Description, SamplerError},
    symbolize::SymbolizeOptions,
};

/// How often the buffers are emptied. The kernel wakes us earlier when one fills up.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// The same while stacks are deeper than their copies: the rest must be read before it changes.
const POLL_DEEP_EVERY: Duration = Duration::from_millis(1);

/// In a series of profiles, the next window lasts at least this many times as long as building the
/// previous profile took. This bounds rprof's own CPU time.
const OWN_PAUSE: u32 = 8;

/// What a profile measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProfileKind {
    /// CPU time.
    #[default]
    Cpu,
    /// Wall-clock time of all threads, running or not.
    Wall,
    /// Page faults: which code touches new memory.
    Faults,
    /// Threads, by the code that created them.
    ThreadCreate,
    /// Off-CPU time: where threads wait, and for how long.
    OffCpu,
}

/// Options of a capture.
#[derive(Clone, Debug)]
pub struct Request {
    /// The processes to profile.
    pub pids: Vec<u32>,
    /// Also profile their descendants, existing and future ones.
    pub children: bool,
    /// `None`: until stopped, or until the last process ends.
    pub duration: Option<Duration>,
    /// Samples per second of CPU time (or of wall-clock time, see [`ProfileKind::Wall`]).
    pub frequency_hz: u32,
    /// What to measure.
    pub kind: ProfileKind,
    /// The sampler to use.
    pub sampler: SamplerChoice,
    /// Include kernel frames, where permitted.
    pub kernel: bool,
    /// The most stack copied per sample, in bytes.
    pub max_stack_bytes: u32,
    /// Size of the ring buffers in bytes; 0: chosen by rprof.
    pub buffer_bytes: usize,
    /// Optional labels.
    pub labels: LabelKeys,
    /// Where symbols are looked up.
    pub symbolize: SymbolizeOptions,
}

impl Request {
    /// The same with a budget that also ends, after a grace period, when `stop` is set: then names
    /// that were not found yet are missing, and the profile is built with those that were.
    fn stopped_by(&self, stop: &Stop) -> Request {
        let mut request = self.clone();
        request.symbolize.budget = self.symbolize.budget.stopped_by(Arc::clone(&stop.0));
        request
    }
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

/// Which labels samples have besides the thread's name.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelKeys {
    /// The process's number.
    pub pid: bool,
    /// The thread's number.
    pub tid: bool,
    /// The process's name; always set when several processes are profiled.
    pub process: bool,
}

/// Ends a capture early and keeps its samples. It may be set by a signal handler or another thread.
#[derive(Clone, Debug, Default)]
pub struct Stop(pub Arc<AtomicBool>);

impl Stop {
    /// Whether the capture should end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Progress of a capture, reported while it runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// Sampling has begun.
    Attached {
        /// The sampler that was opened.
        sampler: &'a Description,
        /// The profiled processes.
        identities: &'a [Identity],
        /// The time to attach.
        took: Duration,
    },
    /// About once per [`POLL_EVERY`].
    Sampling {
        /// The time since sampling began.
        elapsed: Duration,
        /// The counts so far.
        tally: &'a Tally,
    },
    /// Sampling is over; addresses are being symbolized.
    Naming {
        /// How many addresses.
        addresses: usize,
    },
}

/// A profile and its quality.
#[derive(Debug)]
pub struct Capture {
    /// The profile.
    pub profile: Profile,
    /// What is missing or uncertain.
    pub issues: Issues,
    /// Counts of samples and frames.
    pub tally: Tally,
    /// The sampler that was used.
    pub sampler: Description,
    /// What was measured.
    pub kind: ProfileKind,
    /// The profiled processes; the program is the current one if a process has called exec.
    pub identities: Vec<Identity>,
    /// Why sampling ended.
    pub ended: Ended,
    /// The share of frames without a name, weighted by samples: 0 to 1.
    pub unnamed_share: f64,
    /// When sampling began.
    pub started_at: SystemTime,
    /// How long sampling lasted.
    pub elapsed: Duration,
    /// CPU time in nanoseconds that the kernel accounted to the processes during sampling; `None`
    /// where it is unknown (a process has ended, or children are profiled too).
    pub kernel_cpu_ns: Option<u64>,
    /// For [`ProfileKind::ThreadCreate`]: how many threads existed when sampling began.
    pub threads_before: Option<u64>,
    /// How long attaching took.
    pub attach_took: Duration,
    /// The time from the end of sampling to the finished profile.
    pub finish_took: Duration,
}

impl Capture {
    /// For [`ProfileKind::ThreadCreate`]: how many threads were created during the profile, and how
    /// many existed before.
    pub fn created_threads(&self) -> (i64, u64) {
        let all: i64 = self.profile.sample.iter().flat_map(|sample| sample.value.first()).sum();
        let before = self.threads_before.unwrap_or_default();
        (all.saturating_sub_unsigned(before), before)
    }
}

/// Why sampling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The requested time was over.
    Duration,
    /// [`Stop`] was set.
    Stopped,
    /// The last profiled process has ended.
    TargetsGone,
    /// The sampler failed; the profile has the samples taken before that.
    Failed,
}

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A process does not exist or cannot be read.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The process with this number is a kernel thread.
    #[error("process {0} is a kernel thread: it has no user-space stack")]
    KernelThread(u32),
    /// The request has no process, or all have ended.
    #[error("there is no process to profile")]
    NoProcess,
    /// No sampler could be opened.
    #[error("cannot profile: {source}")]
    Sampler {
        /// The error of the most suitable sampler.
        #[source]
        source: SamplerError,
        /// The other samplers that were tried, and their errors.
        tried: Vec<(&'static str, SamplerError)>,
        /// The processes to be profiled.
        identities: Vec<Identity>,
    },
    /// The command to be profiled could not be started.
    #[error("cannot run the command")]
    NotStarted(#[source] std::io::Error),
    /// The sampler failed before it delivered a sample.
    #[error("the sampler failed: {0}")]
    SamplerDied(SamplerError),
}

/// Captures one profile.
///
/// `release` is called when sampling has begun (a command that is being recorded starts then); if
/// it fails, there is no profile.
pub fn run(
    request: &Request,
    stop: &Stop,
    release: impl FnOnce() -> std::io::Result<()>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Capture, CaptureError> {
    let request = &request.stopped_by(stop);
    let mut session = Session::begin(request)?;
    let mut threads = match request.kind {
        ProfileKind::ThreadCreate => {
            Some(threadcreate::Threads::read_existing(request, session.identities())?)
        }
        ProfileKind::Cpu | ProfileKind::Wall | ProfileKind::Faults | ProfileKind::OffCpu => None,
    };
    session.report_attached(progress);
    release().map_err(CaptureError::NotStarted)?;
    let ended = session.sample(request.duration, stop, progress);
    let ended = session.end(ended)?;
    if let Some(threads) = threads.as_mut().filter(|_| session.is_idle()) {
        session.add_new_threads(threads);
    }
    Ok(session.finish(ended, threads, progress))
}

/// Captures profiles of consecutive windows of length `every` without gaps. `each` gets each
/// profile as soon as it is built; the last may be shorter. `progress` is called as by [`run`].
///
/// Files are opened and addresses symbolized once for all profiles. If building a profile takes
/// long, the next window is longer. Not for [`ProfileKind::ThreadCreate`], whose profiles include
/// threads that existed before. Errors: as [`run`]; if the sampler fails later, the current profile
/// is the last one.
pub fn windows(
    request: &Request,
    every: Duration,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress<'_>),
    each: &mut dyn FnMut(Capture),
) -> Result<Ended, CaptureError> {
    let request = &request.stopped_by(stop);
    let mut session = Session::begin(request)?;
    session.report_attached(progress);
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

/// Checks that no other process has got one of these PIDs meanwhile.
fn check_pids(identities: &[Identity]) -> Result<(), ProcessError> {
    match identities.iter().find(|identity| identity.is_replaced()) {
        Some(identity) => Err(ProcessError::Replaced(identity.pid)),
        None => Ok(()),
    }
}

/// Identifies the processes, and with `children` also their descendants.
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
    // A child may end meanwhile: that is not an error.
    let all: Vec<Identity> = pids.iter().filter_map(|pid| identify(*pid).ok()).collect();
    if all.is_empty() { Err(CaptureError::NoProcess) } else { Ok(all) }
}
