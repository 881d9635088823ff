//! The tasks of a language runtime at one instant (goroutines), and their profile.
//!
//! The runtime reads them; the stacks of running tasks are captured with perf events, as those of
//! running threads are. Not here: text forms (`runtime`), files, printing.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use super::{
    CaptureError, LabelKeys, accounts, check_pids, dump,
    name::locations::{epoch_ns, nanos},
    runtime_stacks::RuntimeStacks,
    watch::{images::Images, space::Space, world::World},
};
use crate::{
    budget::Budget,
    core_file::CoreFile,
    issue::{Issue, Issues},
    process::{Hints, Identity, ProcessError, ProcessMemory, identify, identity::monotonic_ns, threads},
    profile::{
        builder::{Builder, LabelValue},
        proto::Profile,
    },
    runtime::{self, Language, ProcessView, RunningThread, TaskDump, TaskRequest, ThreadStack, ThreadStacks},
    sampler::look::{StackSnapshot, Target, hold, running},
    unwind::UnwindMethod,
};

/// How long to wait for the stack of one running task.
const PATIENCE: Duration = Duration::from_millis(8);
/// How long to wait for all running tasks together.
const BUDGET: Duration = Duration::from_millis(120);
/// The most stack copied of a running task, in bytes.
const STACK_BYTES: u32 = 512 << 10;

/// The tasks of a process.
#[derive(Debug)]
pub struct Tasks {
    /// The process.
    pub identity: Identity,
    /// The tasks.
    pub dump: Box<dyn TaskDump>,
    /// What is known of a process that has ended.
    pub about: Vec<String>,
    began_at: SystemTime,
}

/// Whether a dump of a process shows tasks instead of threads, judged by its mapped files alone.
pub fn are_shown(pid: u32) -> bool {
    runtime::likely(pid).iter().any(|language| language.dumps_tasks())
}

/// Reads all tasks of a process, within `budget`. Errors: it has no runtime with tasks, or cannot
/// be read.
pub fn read(pid: u32, request: &TaskRequest, budget: &Budget) -> Result<Tasks, CaptureError> {
    let identity = identify(pid)?;
    let began_at = SystemTime::now();
    let instance = accounts::instance(pid, budget, &|language| language.dumps_tasks())?;
    let mut threads = Threads { target: None, pid, spent: Duration::ZERO };
    let dump = instance.tasks(request, &mut threads)?;
    check_pids(std::slice::from_ref(&identity))?;
    Ok(Tasks { identity, dump, about: Vec::new(), began_at })
}

/// The tasks of processes whose languages show them after the threads; of those that have any.
pub fn after_threads(pids: impl Iterator<Item = u32>, budget: &Budget) -> Vec<Box<dyn TaskDump>> {
    let is_shown = |language: &dyn Language| language.dumps_tasks_after_threads();
    let mut all = Vec::new();
    for pid in pids {
        if !runtime::likely(pid).into_iter().any(is_shown) {
            continue;
        }
        let mut threads = Threads { target: None, pid, spent: Duration::ZERO };
        let instances =
            runtime::attach_within(pid, budget).map(|attached| attached.instances).unwrap_or_default();
        let shown = instances.iter().filter(|instance| is_shown(instance.language()));
        let dumps = shown.filter_map(|instance| instance.tasks(&TaskRequest::default(), &mut threads).ok());
        all.extend(dumps.filter(|dump| dump.summary().shown > 0));
    }
    all
}

/// Whether a dump of a core shows tasks instead of threads, judged by its mapped files alone.
pub fn are_in_core(core: &CoreFile) -> bool {
    let files = view_of(core, &Budget::session()).code_files().unwrap_or_default();
    runtime::likely_of(&files).iter().any(|language| language.dumps_tasks())
}

/// A core as language runtimes read it.
fn view_of(core: &CoreFile, budget: &Budget) -> ProcessView {
    let mut images = Images::within(budget);
    Space::of_core(core, &mut images, &mut Issues::default()).view(&images)
}

/// Reads all tasks of a core, within `budget`. Errors: it has no runtime with tasks, or cannot be
/// read.
pub fn read_core(core: &CoreFile, request: &TaskRequest, budget: &Budget) -> Result<Tasks, CaptureError> {
    let began_at = SystemTime::now();
    let attached = runtime::attach_to(&view_of(core, budget))?;
    let instance = attached.instances.into_iter().find(|instance| instance.language().dumps_tasks());
    let Some(instance) = instance else {
        return Err(match attached.refused.into_iter().next() {
            Some((_, error)) => error.into(),
            None => CaptureError::NoProcess,
        });
    };
    // A core is of one instant.
    let request = TaskRequest { consistent: false, ..*request };
    let tasks = instance.tasks(&request, &mut CoreThreads::new(core, budget))?;
    Ok(Tasks { identity: core.identity(), dump: tasks, about: dump::about_core(core), began_at })
}

/// As [`after_threads`], of a core.
pub fn after_threads_of_core(core: &CoreFile, budget: &Budget) -> Vec<Box<dyn TaskDump>> {
    let attached = runtime::attach_to(&view_of(core, budget)).unwrap_or_default();
    let is_shown = |language: &dyn Language| language.dumps_tasks_after_threads();
    let shown: Vec<_> = attached.instances.iter().filter(|one| is_shown(one.language())).collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let mut threads = CoreThreads::new(core, budget);
    let dumps =
        shown.into_iter().filter_map(|instance| instance.tasks(&TaskRequest::default(), &mut threads).ok());
    dumps.filter(|dump| dump.summary().shown > 0).collect()
}

/// The threads of a core for its runtime.
struct CoreThreads<'a> {
    core: &'a CoreFile,
    target: Target,
    world: World,
    /// How often each thread was requested.
    requests: HashMap<u32, usize>,
}

impl<'a> CoreThreads<'a> {
    fn new(core: &'a CoreFile, budget: &Budget) -> CoreThreads<'a> {
        let mut world = World::within(LabelKeys::default(), budget);
        world.add_core(core, monotonic_ns());
        let (pid, memory) = (core.process.pid, ProcessMemory::of_source(core.memory()));
        let target = Target::ended(pid, memory, &core.mappings, STACK_BYTES, Hints::default());
        CoreThreads { core, target, world, requests: HashMap::new() }
    }

    fn snapshot(&self, tid: u32) -> Option<StackSnapshot> {
        let thread = self.core.threads.iter().find(|thread| thread.tid == tid)?;
        self.target.with_registers(tid, &thread.words)
    }

    /// The stack of the code that a signal handler of the thread interrupted; `number`: of several,
    /// the innermost is 1.
    fn interrupted(&mut self, snapshot: &StackSnapshot, number: usize) -> Option<ThreadStack> {
        self.world.unwind(&snapshot.as_sample(self.core.process.pid, monotonic_ns()))?;
        let mut frames = self.world.frames.iter().filter(|frame| frame.how == UnwindMethod::SignalContext);
        let frame = frames.nth(number - 1)?;
        let (pc, sp) = (frame.addr.raw().0, frame.sp);
        let mut bytes = vec![0; STACK_BYTES as usize];
        let count = self.core.memory().read(sp, &mut bytes);
        bytes.truncate(count);
        Some(ThreadStack { tid: snapshot.tid, pc, sp: sp.0, start: sp, bytes, stopped: Duration::ZERO })
    }
}

impl ThreadStacks for CoreThreads<'_> {
    /// A thread that was in signal handlers is returned once for each of the stacks.
    fn running(&mut self, tid: u32) -> RunningThread {
        let requests = self.requests.entry(tid).or_default();
        let number = std::mem::replace(requests, *requests + 1);
        let snapshot = self.snapshot(tid);
        let stack = snapshot.and_then(|snapshot| match number {
            0 => thread_stack(snapshot),
            _ => self.interrupted(&snapshot, number),
        });
        stack.map_or(RunningThread::NotRunning, RunningThread::Stack)
    }

    fn stopped(&mut self, read: &mut (dyn FnMut() + Send)) -> Result<Vec<ThreadStack>, ProcessError> {
        read();
        let threads = self.core.threads.iter().filter_map(|thread| self.snapshot(thread.tid));
        Ok(threads.filter_map(thread_stack).collect())
    }
}

/// Reads the threads of a process for its runtime.
struct Threads {
    target: Option<Target>,
    pid: u32,
    /// The time spent on running threads.
    spent: Duration,
}

impl Threads {
    fn target(&mut self) -> &Target {
        self.target.get_or_insert_with(|| Target::new(self.pid, STACK_BYTES))
    }
}

impl ThreadStacks for Threads {
    fn running(&mut self, tid: u32) -> RunningThread {
        if self.spent > BUDGET {
            return RunningThread::GiveUp;
        }
        let began = Instant::now();
        let found = running::look(self.target(), tid, PATIENCE);
        self.spent += began.elapsed();
        match found {
            Ok(Some(snapshot)) => {
                thread_stack(snapshot).map_or(RunningThread::NotRunning, RunningThread::Stack)
            }
            Ok(None) => RunningThread::NotRunning,
            // Not permitted: the next one would fail too.
            Err(_) => RunningThread::GiveUp,
        }
    }

    fn stopped(&mut self, read: &mut (dyn FnMut() + Send)) -> Result<Vec<ThreadStack>, ProcessError> {
        let tids = threads::list(self.pid);
        let mut was_read = false;
        let snapshots = hold::look_together_and(self.target(), &tids, || {
            read();
            was_read = true;
        });
        if !was_read {
            let source = std::io::Error::other("none of its threads could be stopped");
            return Err(ProcessError::NotPermitted { pid: self.pid, what: "registers", source });
        }
        Ok(snapshots.into_iter().filter_map(thread_stack).collect())
    }
}

fn thread_stack(snapshot: StackSnapshot) -> Option<ThreadStack> {
    let (pc, sp) = snapshot.pc_and_sp()?;
    let StackSnapshot { tid, stack_start, stack, stopped, .. } = snapshot;
    Some(ThreadStack { tid, pc, sp, start: stack_start, bytes: stack, stopped })
}

impl Tasks {
    /// The profile that Go serves as `goroutine?debug=0`: one sample per distinct stack and label
    /// set. `sample_type`: the type and unit of the values. `system`: include the runtime's own
    /// tasks.
    pub fn profile(&self, sample_type: (&str, &str), system: bool) -> Profile {
        let mut builder = Builder::new(&[sample_type]);
        let mut stacks = RuntimeStacks::new(self.dump.mappings());
        for sample in self.dump.samples(system) {
            let ids = stacks.locations(&sample.frames, &mut builder);
            let labels = sample.labels.iter().flat_map(|labels| labels.iter());
            let labels: Vec<_> = labels.map(|(key, value)| (key.as_str(), LabelValue::Text(value))).collect();
            builder.sample(&ids, &[sample.count], &labels);
        }
        builder.set_period(sample_type.0, sample_type.1, 1);
        builder.set_time(epoch_ns(self.began_at), nanos(self.dump.summary().reading));
        self.comments().iter().for_each(|comment| builder.comment(comment));
        builder.finish()
    }

    /// How the dump was made and how complete it is, as `key: value` lines.
    fn comments(&self) -> Vec<String> {
        let summary = self.dump.summary();
        let noun = summary.noun;
        let mut comments = vec![
            format!("kind: {noun}"),
            format!("target: {} (pid {})", self.identity.display_name(), self.identity.pid),
            format!("runtime: {}", summary.version),
            format!("{noun}s: {} ({} of the runtime)", summary.shown + summary.system, summary.system),
            format!("running: {}, stacks captured {}", summary.running, summary.running_captured),
            format!(
                "changed while read: {} read again, {} never read consistently",
                summary.read_again, summary.unstable
            ),
            match summary.stopped_threads {
                0 => "stopped: no thread".to_owned(),
                count => format!("stopped: {count} threads, {} us", summary.stopped.as_micros()),
            },
        ];
        if let Some(why) = summary.limit {
            let what = format!("the table of {noun}s");
            comments.push(format!("limit: {}", Issue::LimitReached { what, why: why.to_string() }));
        }
        if let Some(layout) = summary.newer_than {
            comments.push(format!(
                "layout: {} is newer than the known releases; read with the layout of {layout}",
                summary.version
            ));
        }
        comments.push(format!("rprof: {}", env!("CARGO_PKG_VERSION")));
        comments
    }
}
