//! A snapshot of all goroutines of a Go process, and its profile.
//!
//! Goroutines are read while the process runs (`runtime::go`). The stacks of running goroutines are
//! captured with perf events, as those of running threads are. Not here: text
//! (`runtime::go::Text`), files, printing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use super::{check_pids, go_builder::GoLocations, name::locations};
use crate::{
    addr::RuntimeAddr,
    issue::Issue,
    process::{Identity, ProcessError, identify, identity, threads},
    profile::{
        builder::{Builder, LabelValue},
        proto::Profile,
    },
    runtime::go::{Copied, GoError, GoProcess, GoroutineOptions, Goroutines, Text},
    sampler::look::{StackSnapshot, Target, hold, running},
};

/// How long to wait for the stack of one running goroutine.
const PATIENCE: Duration = Duration::from_millis(8);
/// How long to wait for all running goroutines together.
const BUDGET: Duration = Duration::from_millis(120);
/// How many times a running goroutine's stack is requested.
const TRIES: usize = 4;
/// The most stack copied of a running goroutine, in bytes.
const STACK_BYTES: u32 = 512 << 10;

/// Goroutines that are counted together: the index of their stack, and their labels.
type Group<'a> = (u32, &'a [(String, String)]);

/// Options of a goroutine dump.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoDumpRequest {
    /// The process.
    pub pid: u32,
    /// Also read the values of arguments, as Go's own text shows them.
    pub arguments: bool,
    /// Stop all threads while goroutines are read, so that all stacks are of the same instant.
    pub consistent: bool,
}

/// A snapshot of all goroutines of a process.
#[derive(Debug)]
pub struct GoDump {
    /// Who the process is.
    pub identity: Identity,
    /// The attached Go runtime.
    pub process: GoProcess,
    /// The goroutines and their stacks.
    pub goroutines: Goroutines,
    /// Counts and costs.
    pub stats: GoDumpStats,
    began_at: SystemTime,
}

/// Counts and costs of a goroutine dump.
#[derive(Clone, Debug, Default)]
pub struct GoDumpStats {
    /// Goroutines of the program.
    pub shown: usize,
    /// Goroutines of the Go runtime.
    pub system: usize,
    /// Goroutines that were running.
    pub running: usize,
    /// Running goroutines whose stack was captured.
    pub running_captured: usize,
    /// The time to find the runtime.
    pub attaching: Duration,
    /// The time to read the goroutines.
    pub reading: Duration,
    /// How long threads were stopped: the longest stop.
    pub stopped: Duration,
    /// How many threads were stopped.
    pub stopped_threads: usize,
}

/// Whether a process seems to be a Go program, judged by its mapped files alone.
pub fn is_go(pid: u32) -> bool {
    GoProcess::is_likely(pid)
}

/// Reads all goroutines of a process. Errors: it is not a Go program, or cannot be read.
pub fn dump(request: &GoDumpRequest) -> Result<GoDump, GoError> {
    let identity = identify(request.pid)?;
    let (began, began_at) = (Instant::now(), SystemTime::now());
    let process = GoProcess::attach(request.pid)?;
    let attaching = began.elapsed();
    let reading = Instant::now();
    let options = GoroutineOptions { arguments: request.arguments };
    let mut stats = GoDumpStats { attaching, ..GoDumpStats::default() };
    let mut goroutines = if request.consistent {
        read_stopped(&process, options, &mut stats)?
    } else {
        process.goroutines(options)?
    };
    if !request.consistent {
        capture_running(&process, &mut goroutines, &mut stats);
    }
    stats.reading = reading.elapsed();
    stats.system = goroutines.all.iter().filter(|goroutine| goroutine.is_system).count();
    stats.shown = goroutines.all.len() - stats.system;
    check_pids(std::slice::from_ref(&identity))?;
    Ok(GoDump { identity, process, goroutines, stats, began_at })
}

/// Reads while all threads that may be stopped are stopped.
fn read_stopped(
    process: &GoProcess,
    options: GoroutineOptions,
    stats: &mut GoDumpStats,
) -> Result<Goroutines, GoError> {
    let target = Target::new(process.pid, STACK_BYTES);
    let tids = threads::list(process.pid);
    let mut read = None;
    let mut stopped_for = Duration::ZERO;
    let snapshots = hold::look_together_and(&target, &tids, || {
        let began = Instant::now();
        read = Some(process.goroutines(options));
        stopped_for = began.elapsed();
    });
    let Some(read) = read else {
        let source = std::io::Error::other("none of its threads could be stopped");
        return Err(ProcessError::NotPermitted { pid: process.pid, what: "registers", source }.into());
    };
    let mut goroutines = read?;
    let stopped: Vec<_> = snapshots.iter().filter(|snapshot| !snapshot.stopped.is_zero()).collect();
    stats.stopped_threads = stopped.len();
    stats.stopped =
        stopped.iter().map(|snapshot| snapshot.stopped).max().unwrap_or(stopped_for).max(stopped_for);
    let running: Vec<usize> = goroutines.running().map(|(index, _)| index).collect();
    stats.running = running.len();
    for index in running {
        stats.running_captured += usize::from(
            snapshots.iter().any(|snapshot| set_stack(process, &mut goroutines, index, snapshot)),
        );
    }
    Ok(goroutines)
}

/// Captures the stacks of running goroutines with a perf event on each one's thread.
fn capture_running(process: &GoProcess, goroutines: &mut Goroutines, stats: &mut GoDumpStats) {
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
                Ok(Some(snapshot)) if set_stack(process, goroutines, index, &snapshot) => {
                    stats.running_captured += 1;
                    break;
                }
                // The thread waited for a CPU, or ran the scheduler.
                Ok(_) => {}
                // Not permitted: the next one would fail too.
                Err(_) => return,
            }
        }
    }
}

/// Each thread's number in our PID namespace and in the process's.
fn outer_tids(pid: u32) -> Vec<(u32, u64)> {
    let inner = |tid: u32| identity::namespace_pid_and_uid(tid).map_or(tid, |(inner, _)| inner);
    threads::list(pid).into_iter().map(|tid| (tid, u64::from(inner(tid)))).collect()
}

/// Sets a goroutine's stack from a snapshot of its thread. `false`: the thread ran something else.
fn set_stack(
    process: &GoProcess,
    goroutines: &mut Goroutines,
    index: usize,
    snapshot: &StackSnapshot,
) -> bool {
    let Some((pc, sp)) = snapshot.pc_and_sp() else { return false };
    let stack = Copied { start: snapshot.stack_start.0, bytes: &snapshot.stack };
    process.function_at(RuntimeAddr(pc)).is_some() && goroutines.set_stack(process, index, (pc, sp), stack)
}

impl GoDump {
    /// The profile that Go serves as `goroutine?debug=0`: sample type `goroutine/count`, one sample
    /// per distinct stack and label set. `system`: include the runtime's own goroutines.
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
        builder.set_time(locations::epoch_ns(self.began_at), locations::nanos(self.stats.reading));
        self.comments().iter().for_each(|comment| builder.comment(comment));
        builder.finish()
    }

    /// How the dump was made and how complete it is, as `key: value` lines.
    pub fn comments(&self) -> Vec<String> {
        let stats = &self.stats;
        let mut comments = vec![
            "kind: goroutine".to_owned(),
            format!("target: {} (pid {})", self.identity.display_name(), self.identity.pid),
            format!("runtime: {}", self.process.version_text),
            format!("goroutines: {} ({} of the runtime)", stats.shown + stats.system, stats.system),
            format!("running: {}, stacks captured {}", stats.running, stats.running_captured),
            format!(
                "changed while read: {} read again, {} never read consistently",
                self.goroutines.read_again, self.goroutines.unstable
            ),
            match stats.stopped_threads {
                0 => "stopped: no thread".to_owned(),
                count => format!("stopped: {count} threads, {} us", stats.stopped.as_micros()),
            },
        ];
        if let Some(why) = self.goroutines.limit {
            let what = "the table of goroutines".to_owned();
            comments.push(format!("limit: {}", Issue::LimitReached { what, why: why.to_string() }));
        }
        if !self.process.is_known_release {
            comments.push(format!(
                "layout: {} is newer than the known releases; read with the layout of {}",
                self.process.version_text, self.process.layout.source
            ));
        }
        comments.push(format!("rprof: {}", env!("CARGO_PKG_VERSION")));
        comments
    }

    /// Go's own text forms. `system`: include the runtime's own goroutines.
    pub fn text(&self, system: bool) -> Text<'_> {
        let mut text = Text::new(&self.process, &self.goroutines);
        text.system = system;
        text
    }
}
