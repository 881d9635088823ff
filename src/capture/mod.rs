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
    time::{Duration, Instant, SystemTime},
};

pub use attach::SamplerChoice;
pub use naming::names;
pub use tally::Tally;
pub use threadcreate::keep_created_meanwhile;

use crate::{
    issue::{Issue, Issues},
    process::{Identity, ProcessError, identify, identity, select},
    profile::proto::Profile,
    sampler::{Description, SamplerError, idle},
    symbolize::SymbolizeOptions,
};

/// How often the buffers are emptied. The kernel wakes us earlier when one fills up.
const POLL_EVERY: Duration = Duration::from_millis(50);
/// The same while stacks are deeper than their copies: their rest must be read before it changes.
const POLL_DEEP_EVERY: Duration = Duration::from_millis(1);

/// What a profile is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
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
    pub kind: Kind,
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
            kind: Kind::Cpu,
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
    pub kind: Kind,
    pub identities: Vec<Identity>,
    pub ended: Ended,
    /// Share of all frames, weighted by samples, that have no name: 0 to 1.
    pub unnamed_share: f64,
    /// How long was sampled.
    pub elapsed: Duration,
    /// CPU time that the kernel charged to the processes meanwhile; `None` where it is not known any
    /// more (a process has ended).
    pub kernel_cpu_ns: Option<u64>,
    /// For [`Kind::ThreadCreate`]: how many threads were there when sampling began.
    pub threads_before: Option<u64>,
    /// How long attaching took, and from the end of sampling to the finished profile.
    pub attach_took: Duration,
    pub finish_took: Duration,
}

impl Capture {
    /// Of [`Kind::ThreadCreate`]: how many threads were made meanwhile, and how many were there before.
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
    let began = Instant::now();
    let identities = identify_all(&request.pids, request.children)?;
    let pids: Vec<u32> = identities.iter().map(|identity| identity.pid).collect();
    let several = pids.len() > 1 || request.children;
    let labels = LabelKeys { process: request.labels.process || several, ..request.labels };
    let mut world = world::World::new(labels);
    let mut sampler = attach::open(request, &pids, &identities, &mut world.issues)?;
    let started_at = SystemTime::now();
    let started = Instant::now();
    // At once: from here on the two clocks run side by side.
    let cpu_before: Vec<_> = pids.iter().map(|pid| identity::cpu_time_ns(*pid)).collect();
    let now_ns = identity::monotonic_ns();
    pids.iter().for_each(|pid| world.watch(*pid, now_ns));
    world.programs = identities.iter().map(|identity| (identity.pid, identity.clone())).collect();
    let attach_took = began.elapsed();
    let mut threads = match request.kind {
        Kind::ThreadCreate => Some(threadcreate::Threads::there_before(request, &identities)?),
        Kind::Cpu | Kind::Wall | Kind::Faults | Kind::OffCpu => None,
    };
    progress(Progress::Attached {
        sampler: sampler.description(),
        identities: &identities,
        took: attach_took,
    });
    release().map_err(CaptureError::NotStarted)?;
    let died = sample(request, stop, &identities, &mut world, &mut *sampler, started, progress);
    let cpu_after: Vec<_> = pids.iter().map(|pid| identity::cpu_time_ns(*pid)).collect();
    let ended = match died {
        Ok(ended) => ended,
        Err(error) if world.tally.samples == 0 => return Err(CaptureError::SamplerDied(error)),
        // What was collected until then is worth keeping.
        Err(error) => {
            world.issues.add(Issue::SamplerFailed { why: error.to_string() }, 1);
            Ended::Failed
        }
    };
    if let Some(threads) = threads.as_mut().filter(|_| sampler.description().name == idle::NAME) {
        threads.add_new(request, &identities, &mut world.issues);
    }
    let elapsed = started.elapsed();
    let finishing = Instant::now();
    let description = sampler.description().clone();
    let kernel_addresses = world.kernel_addresses();
    if !kernel_addresses.is_empty() {
        world.kernel_names = sampler.kernel_names(&kernel_addresses);
    }
    // Closing the events now spares the target while other names are looked up.
    drop(sampler);
    let identities = (identities.into_iter())
        .map(|identity| world.programs.remove(&identity.pid).unwrap_or(identity))
        .collect();
    let kernel_cpu_ns = (cpu_before.iter().zip(&cpu_after))
        .map(|(before, after)| Some(after.as_ref()?.saturating_sub((*before)?)))
        .sum::<Option<u64>>()
        .filter(|_| !request.children);
    let mut capture = Capture {
        profile: Profile::default(),
        issues: Issues::default(),
        tally: world.tally.clone(),
        sampler: description,
        kind: request.kind,
        identities,
        ended,
        unnamed_share: 0.0,
        elapsed,
        kernel_cpu_ns,
        threads_before: None,
        attach_took,
        finish_took: Duration::ZERO,
    };
    finish::finish(request, world, threads, started_at, &mut capture, progress);
    capture.finish_took = finishing.elapsed();
    Ok(capture)
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

/// The loop: empties the buffers until time is up, somebody says stop, or nobody is left to watch.
fn sample(
    request: &Request,
    stop: &Stop,
    identities: &[Identity],
    world: &mut world::World,
    sampler: &mut dyn crate::sampler::Sampler,
    started: Instant,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Ended, SamplerError> {
    // Often at first: whether stacks are deeper than their copies is not known yet.
    let mut poll_every = POLL_DEEP_EVERY;
    let ended = loop {
        let elapsed = started.elapsed();
        let left = request.duration.map_or(POLL_EVERY, |duration| duration.saturating_sub(elapsed));
        if left.is_zero() {
            break Ended::Duration;
        }
        if stop.is_set() {
            break Ended::Stopped;
        }
        for (tid, start, end) in world.hints.drain(..) {
            sampler.hint_stack(tid, start, end);
        }
        for (pid, layout) in world.task_hints.drain(..) {
            sampler.hint_tasks(pid, layout.as_ref());
        }
        let late_before = world.late_reads;
        let polled = sampler.poll(left.min(poll_every), &mut |event| world.handle(event));
        // Polling often is forgotten slowly: at 99 Hz there is a sample in every fifth round only.
        poll_every = if world.late_reads > late_before {
            POLL_DEEP_EVERY
        } else {
            (poll_every + poll_every / 8).min(POLL_EVERY)
        };
        match polled {
            // Not a failure: the profile ends here.
            Err(SamplerError::NoTarget) => break Ended::TargetsGone,
            other => other?,
        }
        progress(Progress::Sampling { elapsed: started.elapsed(), tally: &world.tally });
        if nobody_left(request, identities, world) {
            break Ended::TargetsGone;
        }
    };
    sampler.stop()?;
    match sampler.poll(Duration::ZERO, &mut |event| world.handle(event)) {
        Ok(()) | Err(SamplerError::NoTarget) => Ok(ended),
        Err(error) => Err(error),
    }
}

fn nobody_left(request: &Request, identities: &[Identity], world: &world::World) -> bool {
    if identities.iter().any(Identity::is_alive) {
        return false;
    }
    // Children live on in `spaces` until their exit is seen; one we missed is checked by its number.
    !request.children || !world.spaces.keys().any(|pid| identify(*pid).is_ok())
}
