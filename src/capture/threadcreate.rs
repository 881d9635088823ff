//! Which code created the threads of a process. Threads created during a capture have the stack
//! that created them, from the sampler. Threads that existed before have their start function, from
//! the root of their own stack.
//!
//! Where no sampler can record thread creation, threads created during the capture also have their
//! start function, if they still exist at the end. Not here: reading the stacks of threads
//! (`dump`).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CaptureError, Request,
    collector::{LocationId, SourceId},
    dump::{DumpRequest, collect},
    name::{
        locations::{Locations, clamp, label_list},
        names::Names,
    },
    watch::{window::Window, world::World},
};
use crate::{
    issue::Issue,
    process::Identity,
    profile::{
        builder::{Builder, LabelValue},
        proto::Profile,
    },
};

/// Key of the label that says when a thread was created.
const CREATED: &str = "created";
const BEFORE: &str = "before the profile";
const DURING: &str = "during the profile";

/// Functions of libraries between the kernel and a thread's start function.
const STARTERS: [&str; 17] = [
    "_start",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_main_stage2",
    "__libc_start_call_main",
    "generic_start_main",
    "libc_start_main_stage2",
    "start_thread",
    "thread_start",
    "clone",
    "__clone",
    "clone3",
    "__clone3",
    "__clone_internal",
    "execute_native_thread_routine",
    "thread_native_entry",
    "pythread_wrapper",
];
/// The same as name prefixes, for the standard libraries of Rust and C++ and for the JVM.
const STARTERS_OF: [&str; 10] = [
    "std::",
    "<std::",
    "core::",
    "<core::",
    "alloc::",
    "<alloc::",
    "__rust",
    "void std::__invoke",
    "decltype(std::",
    "JavaThread::",
];

/// Threads whose stacks were read, to learn their start functions.
pub struct Threads {
    before: Sweep,
    /// Threads created during the capture, where no sampler recorded that.
    new: Option<Sweep>,
}

/// The threads of one reading; their stacks are counted as those of a source of their own.
struct Sweep {
    source: SourceId,
    snapshots: collect::ThreadSnapshots,
}

impl Threads {
    /// Reads the existing threads. Errors: they cannot be read.
    pub fn read_existing(
        request: &Request,
        identities: &[Identity],
        world: &mut World,
    ) -> Result<Threads, CaptureError> {
        Ok(Threads { before: Sweep::at(request, identities, world)?, new: None })
    }

    /// Reads the threads created since then.
    pub fn add_new(&mut self, request: &Request, identities: &[Identity], world: &mut World) {
        match Sweep::at(request, identities, world) {
            Ok(mut new) => {
                let known: BTreeSet<(u32, u32)> = self.before.threads().collect();
                new.snapshots.threads.retain(|thread| !known.contains(&(thread.pid, thread.state.tid)));
                self.new = Some(new);
            }
            Err(error) => {
                let what = "new threads".to_owned();
                world.issues.add(Issue::Unwatched { what, why: error.to_string() }, 1)
            }
        }
    }
}

impl Sweep {
    fn at(request: &Request, identities: &[Identity], world: &mut World) -> Result<Sweep, CaptureError> {
        let how = DumpRequest { max_stack_bytes: request.max_stack_bytes, ..DumpRequest::default() };
        let source = world.new_source();
        let mut snapshots = collect::ThreadSnapshots::default();
        for identity in identities {
            match collect::collect_process(&how, identity, (world, source), &mut snapshots) {
                // It may end at any time.
                Err(_) if !identity.is_alive() => {}
                collected => collected?,
            }
        }
        Ok(Sweep { source, snapshots })
    }

    fn threads(&self) -> impl Iterator<Item = (u32, u32)> {
        self.snapshots.threads.iter().map(|thread| (thread.pid, thread.state.tid))
    }

    /// Adds a sample for each start function, with the number of its threads.
    fn add_samples(&self, window: &Window, names: &Names, created: &str, builder: &mut Builder) {
        let keys = window.label_keys;
        let locations = Locations::add(window, self.source, names, builder, None);
        let stacks = window.collector.counts(self.source).stacks();
        let stacks: BTreeMap<_, _> = stacks.into_iter().map(|(labels, stack, _)| (labels, stack)).collect();
        let mut counts = BTreeMap::new();
        for thread in &self.snapshots.threads {
            let Some(stack) = stacks.get(&thread.labels) else { continue };
            let mut labels = window.collector.labels_of(thread.labels).clone();
            labels.pid = labels.pid.filter(|_| keys.pid);
            labels.tid = labels.tid.filter(|_| keys.tid);
            labels.process = labels.process.filter(|_| keys.process);
            *counts.entry((start(stack, names), labels)).or_insert(0) += 1;
        }
        for ((stack, labels), count) in counts {
            let ids = locations.of(stack);
            let mut list = label_list(&labels);
            list.push((CREATED, LabelValue::Text(created)));
            builder.sample(&ids, &[count], &list);
        }
    }
}

/// Removes from a profile of this kind the threads that existed before it began.
pub fn keep_created_during(profile: &mut Profile) {
    let is_new: Vec<bool> = (profile.sample.iter())
        .map(|sample| {
            let mut labels = sample.label.iter();
            labels.any(|label| profile.string(label.key) == CREATED && profile.string(label.str) == DURING)
        })
        .collect();
    let mut is_new = is_new.into_iter();
    profile.sample.retain(|_| is_new.next().unwrap_or(false));
}

/// The root of a stack, from the thread's start function on; leaf first.
fn start<'s>(stack: &'s [LocationId], names: &Names) -> &'s [LocationId] {
    let is_starter = |location: &&LocationId| {
        let frames = &names.frames[**location as usize];
        frames.iter().all(|frame| {
            let name = frame.function.as_str();
            STARTERS.contains(&name) || STARTERS_OF.iter().any(|start| name.starts_with(start))
        })
    };
    let starters = stack.iter().rev().take_while(is_starter).count();
    &stack[stack.len().saturating_sub(starters + 1)..]
}

/// Adds the samples of the sampler, then the threads whose stacks were read. Returns how many
/// threads existed before.
pub fn add_samples(
    (window, source): (&Window, SourceId),
    names: &Names,
    mut threads: Threads,
    locations: &Locations,
    builder: &mut Builder,
) -> u64 {
    for (labels, stack, weight) in window.collector.counts(source).stacks() {
        let ids = locations.of(stack);
        let mut labels = label_list(window.collector.labels_of(labels));
        labels.push((CREATED, LabelValue::Text(DURING)));
        builder.sample(&ids, &[clamp(weight.count)], &labels);
    }
    // Created between the sampler's start and our read: counted already.
    let before = &mut threads.before.snapshots.threads;
    before.retain(|thread| !window.new_threads.contains(&(thread.pid, thread.state.tid)));
    threads.before.add_samples(window, names, BEFORE, builder);
    if let Some(new) = &threads.new {
        new.add_samples(window, names, DURING, builder);
    }
    threads.before.snapshots.threads.len() as u64
}
