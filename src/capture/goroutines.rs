//! All goroutines of a Go process, now, and the profile that is made of them.
//!
//! They are read while the process runs (`runtime::go`); the stacks of those that run at this moment are
//! caught by the same perf events as those of running threads. Not here: text (`runtime::go::Text`),
//! files, printing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

pub use crate::runtime::go::{BucketError, GoError};

use super::{go_builder::GoLocations, naming};
use crate::{
    addr::RuntimeAddr,
    process::{Identity, ProcessError, identify, identity, threads},
    profile::{
        builder::{Builder, LabelValue},
        proto::Profile,
    },
    runtime::go::{Copied, GoProcess, GoroutineOptions, Goroutines, Text},
    sampler::look::{StackSnapshot, Target, hold, running},
};

/// How long one goroutine that runs is waited for, and all of them together.
const PATIENCE: Duration = Duration::from_millis(8);
const BUDGET: Duration = Duration::from_millis(120);
/// How often it is looked for.
const TRIES: usize = 4;
/// How much of a running goroutine's stack is copied.
const STACK_BYTES: u32 = 512 << 10;

/// Goroutines that are counted together: number of their stack, and labels.
type Group<'a> = (u32, &'a [(String, String)]);

/// What is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoDumpRequest {
    pub pid: u32,
    /// The values of arguments too, as Go's own text shows them.
    pub arguments: bool,
    /// One moment of all: its threads are stopped while goroutines are read.
    pub consistent: bool,
}

/// All goroutines of a process.
#[derive(Debug)]
pub struct GoDump {
    pub identity: Identity,
    pub process: GoProcess,
    pub goroutines: Goroutines,
    pub stats: GoDumpStats,
    began_at: SystemTime,
}

/// What looking has cost, and come to.
#[derive(Clone, Debug, Default)]
pub struct GoDumpStats {
    /// Of the program, and of its runtime.
    pub shown: usize,
    pub system: usize,
    /// Those that ran; those of them whose stack was caught.
    pub running: usize,
    pub running_seen: usize,
    /// Finding the runtime; reading.
    pub attaching: Duration,
    pub looking: Duration,
    /// How long threads stood still, and how many.
    pub stopped: Duration,
    pub stopped_threads: usize,
}

/// Whether a process seems to be of Go, by its files alone.
pub fn is_go(pid: u32) -> bool {
    GoProcess::is_likely(pid)
}

/// Reads all goroutines of a process. Error: it is no Go program, or may not be read.
pub fn dump(request: &GoDumpRequest) -> Result<GoDump, GoError> {
    let identity = identify(request.pid)?;
    let (began, began_at) = (Instant::now(), SystemTime::now());
    let process = GoProcess::attach(request.pid)?;
    let attaching = began.elapsed();
    let looking = Instant::now();
    let wanted = GoroutineOptions { arguments: request.arguments };
    let mut stats = GoDumpStats { attaching, ..GoDumpStats::default() };
    let mut goroutines = if request.consistent {
        together(&process, wanted, &mut stats)?
    } else {
        process.goroutines(wanted)?
    };
    if !request.consistent {
        catch_running(&process, &mut goroutines, &mut stats);
    }
    stats.looking = looking.elapsed();
    stats.system = goroutines.all.iter().filter(|goroutine| goroutine.is_system).count();
    stats.shown = goroutines.all.len() - stats.system;
    Ok(GoDump { identity, process, goroutines, stats, began_at })
}

/// Reads while all threads that may be stopped stand still.
fn together(
    process: &GoProcess,
    wanted: GoroutineOptions,
    stats: &mut GoDumpStats,
) -> Result<Goroutines, GoError> {
    let target = Target::new(process.pid, STACK_BYTES);
    let tids = threads::list(process.pid);
    let mut read = None;
    let mut stood = Duration::ZERO;
    let moments = hold::look_together_and(&target, &tids, || {
        let began = Instant::now();
        read = Some(process.goroutines(wanted));
        stood = began.elapsed();
    });
    let Some(read) = read else {
        let source = std::io::Error::other("no thread of it could be stopped");
        return Err(ProcessError::NotPermitted { pid: process.pid, what: "registers", source }.into());
    };
    let mut goroutines = read?;
    let stopped: Vec<_> = moments.iter().filter(|moment| !moment.stopped.is_zero()).collect();
    stats.stopped_threads = stopped.len();
    stats.stopped = stopped.iter().map(|moment| moment.stopped).max().unwrap_or(stood).max(stood);
    let running: Vec<usize> = goroutines.running().map(|(index, _)| index).collect();
    stats.running = running.len();
    for index in running {
        stats.running_seen +=
            usize::from(moments.iter().any(|moment| take(process, &mut goroutines, index, moment)));
    }
    Ok(goroutines)
}

/// Catches the stacks of goroutines that run, by a perf event on the thread of each.
fn catch_running(process: &GoProcess, goroutines: &mut Goroutines, stats: &mut GoDumpStats) {
    let running: Vec<(usize, u64)> =
        goroutines.running().map(|(index, goroutine)| (index, goroutine.thread)).collect();
    stats.running = running.len();
    if running.is_empty() {
        return;
    }
    let target = Target::new(process.pid, STACK_BYTES);
    let began = Instant::now();
    let tids = outer_tids(process.pid);
    for (index, thread) in running {
        let tid = process.thread_id(thread).and_then(|inner| tids.iter().find(|(_, tid)| *tid == inner));
        let Some((tid, _)) = tid else { continue };
        for _ in 0..TRIES {
            if began.elapsed() > BUDGET {
                return;
            }
            match running::look(&target, *tid, PATIENCE) {
                Ok(Some(moment)) if take(process, goroutines, index, &moment) => {
                    stats.running_seen += 1;
                    break;
                }
                // It waited for a CPU, or was just in the runtime's own hands.
                Ok(_) => {}
                // Not allowed to: it will not be for the next one either.
                Err(_) => return,
            }
        }
    }
}

/// Each thread's number here, and in the process's own PID namespace.
fn outer_tids(pid: u32) -> Vec<(u32, u64)> {
    let inner = |tid: u32| identity::namespace_pid_and_uid(tid).map_or(tid, |(inner, _)| inner);
    threads::list(pid).into_iter().map(|tid| (tid, u64::from(inner(tid)))).collect()
}

/// Gives a goroutine the stack of a moment of its thread, if that is where it ran.
fn take(process: &GoProcess, goroutines: &mut Goroutines, index: usize, moment: &StackSnapshot) -> bool {
    let Some((pc, sp)) = moment.pc_and_sp() else { return false };
    let stack = Copied { start: moment.stack_start.0, bytes: &moment.stack };
    process.function_at(RuntimeAddr(pc)).is_some() && goroutines.set_stack(process, index, (pc, sp), stack)
}

impl GoDump {
    /// As Go's own `goroutine?debug=0`: sample type `goroutine/count`, equal stacks with equal labels
    /// counted, the program's labels on them. `system`: the runtime's own goroutines too.
    pub fn profile(&self, system: bool) -> Profile {
        let mut builder = Builder::new(&[("goroutine", "count")]);
        let mut locations = GoLocations::new(&self.process);
        let mut counts: BTreeMap<Group<'_>, i64> = BTreeMap::new();
        let mut without = 0i64;
        for goroutine in self.goroutines.all.iter().filter(|goroutine| system || !goroutine.is_system) {
            let labels = goroutine.labels.as_ref().map_or(&[][..], |labels| labels.as_slice());
            match goroutine.stack {
                Some(stack) => *counts.entry((stack, labels)).or_default() += 1,
                None => without += 1,
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
        for ((stack, labels), count) in counts {
            let ids = locations.stack(&self.goroutines.stacks[stack as usize].0, &mut builder);
            let labels: Vec<_> =
                labels.iter().map(|(key, value)| (key.as_str(), LabelValue::Text(value))).collect();
            builder.sample(&ids, &[count], &labels);
        }
        if without > 0 {
            let id = locations.synthetic("[stack unavailable]", &mut builder);
            builder.sample(&[id], &[without], &[]);
        }
        builder.set_period("goroutine", "count", 1);
        builder.set_time(naming::epoch_ns(self.began_at), naming::nanos(self.stats.looking));
        self.comments().iter().for_each(|comment| builder.comment(comment));
        builder.finish()
    }

    /// What a reader must know to judge the dump, as `key: value` lines.
    pub fn comments(&self) -> Vec<String> {
        let stats = &self.stats;
        let mut comments = vec![
            "kind: goroutine".to_owned(),
            format!("target: {} (pid {})", self.identity.display_name(), self.identity.pid),
            format!("runtime: {}", self.process.version_text),
            format!("goroutines: {} ({} of the runtime)", stats.shown + stats.system, stats.system),
            format!("running: {}, stacks caught {}", stats.running, stats.running_seen),
            format!(
                "changed while read: {} read again, {} never in one piece",
                self.goroutines.read_again, self.goroutines.unstable
            ),
            match stats.stopped_threads {
                0 => "stopped: no thread".to_owned(),
                count => format!("stopped: {count} threads, {} us", stats.stopped.as_micros()),
            },
        ];
        if !self.process.is_known_release {
            comments.push(format!(
                "layout: {} is newer than all known releases; read as {}",
                self.process.version_text, self.process.layout.source
            ));
        }
        comments.push(format!("rprof: {}", env!("CARGO_PKG_VERSION")));
        comments
    }

    /// Go's own text: each goroutine by itself, or equal ones counted.
    pub fn write_text(&self, each: bool, writer: &mut dyn std::io::Write) -> std::io::Result<()> {
        let mut text = self.text(false);
        if each { text.write_each(writer) } else { text.write_counted(writer) }
    }

    /// Go's own text forms.
    pub fn text(&self, system: bool) -> Text<'_> {
        let mut text = Text::new(&self.process, &self.goroutines);
        text.system = system;
        text
    }
}
