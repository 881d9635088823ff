//! Goroutines as the tasks of a runtime: reads all of them, and the stacks of running ones from
//! their threads.
//!
//! Not here: how goroutines are read (`goroutines`), Go's text forms (`text`).

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use super::{
    GoError,
    goroutines::{GoroutineOptions, Goroutines},
    process::GoProcess,
    stacks::{GoStacks, mappings, synthetic},
    text::Text,
    walk::Copied,
};
use crate::{
    addr::RuntimeAddr,
    runtime::{
        CodeMapping, Labels, ProcessView, RunningThread, TaskDump, TaskForm, TaskRequest, TaskSample,
        TaskSummary, ThreadStack, ThreadStacks,
    },
};

/// How many times a running goroutine's stack is requested.
const TRIES: usize = 4;

/// All goroutines of a process.
#[derive(Debug)]
pub struct GoTasks {
    process: GoProcess,
    goroutines: Goroutines,
    summary: TaskSummary,
}

/// Goroutines that are counted together: the index of their stack, and their labels.
type Group<'a> = (u32, &'a [(String, String)]);

impl GoTasks {
    /// Reads all goroutines. `attaching`: how long it took to find the runtime. Errors: they cannot
    /// be read.
    pub fn read(
        process: GoProcess,
        request: &TaskRequest,
        threads: &mut dyn ThreadStacks,
        attaching: Duration,
    ) -> Result<GoTasks, GoError> {
        let began = Instant::now();
        let options = GoroutineOptions { arguments: request.arguments };
        let mut summary = TaskSummary { noun: "goroutine", attaching, ..TaskSummary::default() };
        let mut goroutines = if request.consistent {
            read_stopped(&process, options, threads, &mut summary)?
        } else {
            process.goroutines(options)?
        };
        if !request.consistent {
            capture_running(&process, &mut goroutines, threads, &mut summary);
        }
        summary.reading = began.elapsed();
        summary.version = process.version_text.clone();
        summary.system = goroutines.all.iter().filter(|goroutine| goroutine.is_system).count();
        summary.shown = goroutines.all.len() - summary.system;
        summary.read_again = goroutines.read_again;
        summary.unstable = goroutines.unstable;
        summary.stacks = goroutines.stacks.len();
        summary.bytes = goroutines.bytes;
        summary.limit = goroutines.limit;
        if !process.is_known_release {
            summary.newer_than = Some(process.layout.source);
        }
        Ok(GoTasks { process, goroutines, summary })
    }

    fn text(&self, system: bool) -> Text<'_> {
        let mut text = Text::new(&self.process, &self.goroutines);
        text.system = system;
        text
    }
}

/// Reads while all threads that may be stopped are stopped.
fn read_stopped(
    process: &GoProcess,
    options: GoroutineOptions,
    threads: &mut dyn ThreadStacks,
    summary: &mut TaskSummary,
) -> Result<Goroutines, GoError> {
    let mut read = None;
    let mut stopped_for = Duration::ZERO;
    let stacks = threads.stopped(&mut || {
        let began = Instant::now();
        read = Some(process.goroutines(options));
        stopped_for = began.elapsed();
    })?;
    let mut goroutines = match read {
        Some(read) => read?,
        None => process.goroutines(options)?,
    };
    let stopped: Vec<_> = stacks.iter().filter(|stack| !stack.stopped.is_zero()).collect();
    summary.stopped_threads = stopped.len();
    let longest = stopped.iter().map(|stack| stack.stopped).max();
    summary.stopped = longest.unwrap_or(stopped_for).max(stopped_for);
    let running: Vec<usize> = goroutines.running().map(|(index, _)| index).collect();
    summary.running = running.len();
    for index in running {
        let found = stacks.iter().any(|stack| set_stack(process, &mut goroutines, index, stack));
        summary.running_captured += usize::from(found);
    }
    Ok(goroutines)
}

/// Captures the stacks of running goroutines from each one's thread.
fn capture_running(
    process: &GoProcess,
    goroutines: &mut Goroutines,
    threads: &mut dyn ThreadStacks,
    summary: &mut TaskSummary,
) {
    let running: Vec<(usize, u64)> =
        goroutines.running().map(|(index, goroutine)| (index, goroutine.thread)).collect();
    summary.running = running.len();
    if running.is_empty() {
        return;
    }
    let tids = outer_tids(&process.view);
    for (index, thread) in running {
        let tid = process.thread_id(thread).and_then(|inner| tids.iter().find(|(_, tid)| *tid == inner));
        let Some((tid, _)) = tid else { continue };
        for _ in 0..TRIES {
            match threads.running(*tid) {
                RunningThread::Stack(stack) if set_stack(process, goroutines, index, &stack) => {
                    summary.running_captured += 1;
                    break;
                }
                // The thread waited for a CPU, or ran the scheduler.
                RunningThread::Stack(_) | RunningThread::NotRunning => {}
                RunningThread::GiveUp => return,
            }
        }
    }
}

/// Each thread's number in our PID namespace and in the process's.
fn outer_tids(view: &ProcessView) -> Vec<(u32, u64)> {
    view.threads().into_iter().map(|tid| (tid, u64::from(view.namespace_tid(tid)))).collect()
}

/// Sets a goroutine's stack from that of its thread. `false`: the thread ran something else.
fn set_stack(process: &GoProcess, goroutines: &mut Goroutines, index: usize, thread: &ThreadStack) -> bool {
    let stack = Copied { start: thread.start.0, bytes: &thread.bytes };
    process.function_at(RuntimeAddr(thread.pc)).is_some()
        && goroutines.set_stack(process, index, (thread.pc, thread.sp), stack)
}

impl TaskDump for GoTasks {
    fn summary(&self) -> &TaskSummary {
        &self.summary
    }

    fn samples(&self, system: bool) -> Vec<TaskSample> {
        let mut stacks = GoStacks::new(&self.process);
        let mut counts: BTreeMap<Group<'_>, (i64, Option<&Labels>)> = BTreeMap::new();
        let mut without = 0i64;
        for goroutine in self.goroutines.all.iter().filter(|goroutine| system || !goroutine.is_system) {
            let labels = goroutine.labels.as_ref();
            let texts = labels.map_or(&[][..], |labels| labels.as_slice());
            match goroutine.stack {
                Some(stack) => counts.entry((stack, texts)).or_insert((0, labels)).0 += 1,
                None => without += 1,
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by(|(a, a_count), (b, b_count)| b_count.0.cmp(&a_count.0).then(a.cmp(b)));
        let mut samples: Vec<TaskSample> = (counts.into_iter())
            .map(|((stack, _), (count, labels))| {
                let frames = stacks.stack(&self.goroutines.stacks[stack as usize].0);
                TaskSample { frames, labels: labels.cloned(), count }
            })
            .collect();
        if without > 0 {
            let frames = vec![synthetic("[stack unavailable]")];
            samples.push(TaskSample { frames, labels: None, count: without });
        }
        samples
    }

    fn mappings(&self) -> Vec<CodeMapping> {
        mappings(&self.process)
    }

    fn write(&self, form: TaskForm, system: bool, writer: &mut dyn io::Write) -> io::Result<()> {
        match form {
            TaskForm::Each => self.text(system).write_each(writer),
            TaskForm::Grouped => self.text(system).write_grouped(writer),
            TaskForm::Counted => self.text(system).write_counted(writer),
            TaskForm::Json => self.text(system).write_json(writer),
        }
    }
}
