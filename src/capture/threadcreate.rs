//! Which code has made the threads of a process: those made during a capture by the stacks that made
//! them, which the sampler catches; those that were there before by their start functions, which the
//! outer ends of their stacks tell.
//!
//! Where no sampler can catch the making of threads, those made meanwhile also go by their start
//! functions, if they are still there at the end. Not here: looking at threads (`dump`).

use std::collections::{BTreeMap, BTreeSet};

use super::{
    CaptureError, LabelKeys, Request,
    collector::LocationId,
    dump::{DumpRequest, look},
    naming::{Locations, Names, clamp, label_list, name_all},
    world::World,
};
use crate::{
    issue::{Issue, Issues},
    process::Identity,
    profile::{
        builder::{Builder, LabelValue},
        proto::Profile,
    },
    symbolize::SymbolizeOptions,
};

/// Key of the label that tells when a thread was made.
const CREATED: &str = "created";
const BEFORE: &str = "before the profile";
const DURING: &str = "during the profile";

/// What libraries call between the kernel and the function that a thread was made for.
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
/// The same, by how the names begin: of the standard libraries of Rust and C++, of the JVM.
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

/// Threads that were looked at, to know their start functions.
pub struct Threads {
    before: Sweep,
    /// Those that came meanwhile, where no sampler saw that.
    new: Option<Sweep>,
}

struct Sweep {
    world: World,
    looked: look::ThreadSnapshots,
}

impl Threads {
    /// Looks at the threads there are. Errors: they may not be looked at.
    pub fn there_before(request: &Request, identities: &[Identity]) -> Result<Threads, CaptureError> {
        Ok(Threads { before: Sweep::at(request, identities)?, new: None })
    }

    /// Looks again, at those that have come since.
    pub fn add_new(&mut self, request: &Request, identities: &[Identity], issues: &mut Issues) {
        match Sweep::at(request, identities) {
            Ok(mut new) => {
                let known: BTreeSet<(u32, u32)> = self.before.threads().collect();
                new.looked.threads.retain(|seen| !known.contains(&(seen.pid, seen.state.tid)));
                self.new = Some(new);
            }
            Err(error) => issues
                .add(Issue::Unwatched { what: "who came meanwhile".to_owned(), why: error.to_string() }, 1),
        }
    }
}

impl Sweep {
    fn at(request: &Request, identities: &[Identity]) -> Result<Sweep, CaptureError> {
        let how = DumpRequest { max_stack_bytes: request.max_stack_bytes, ..DumpRequest::default() };
        let mut look = Sweep {
            world: World::new(LabelKeys { pid: true, tid: true, process: true }),
            looked: look::ThreadSnapshots::default(),
        };
        for identity in identities {
            match look::at_process(&how, identity, &mut look.world, &mut look.looked) {
                // It may end at any time.
                Err(_) if !identity.is_alive() => {}
                looked => looked?,
            }
        }
        Ok(look)
    }

    fn threads(&self) -> impl Iterator<Item = (u32, u32)> {
        self.looked.threads.iter().map(|seen| (seen.pid, seen.state.tid))
    }

    /// Adds a sample for each start function, with how many threads it was called for.
    fn add_samples(
        &mut self,
        keys: LabelKeys,
        created: &str,
        options: &SymbolizeOptions,
        builder: &mut Builder,
    ) {
        let names = name_all(options, &mut self.world);
        let locations = Locations::add(&self.world, &names, builder, None);
        let stacks: BTreeMap<_, _> =
            self.world.collector.stacks().into_iter().map(|(labels, stack, _)| (labels, stack)).collect();
        let mut counts = BTreeMap::new();
        for seen in &self.looked.threads {
            let Some(stack) = stacks.get(&seen.labels) else { continue };
            let mut labels = self.world.collector.labels_of(seen.labels).clone();
            labels.pid = labels.pid.filter(|_| keys.pid);
            labels.tid = labels.tid.filter(|_| keys.tid);
            labels.process = labels.process.filter(|_| keys.process);
            *counts.entry((start(stack, &names), labels)).or_insert(0) += 1;
        }
        for ((stack, labels), count) in counts {
            let ids = locations.of(stack);
            let mut list = label_list(&labels);
            list.push((CREATED, LabelValue::Text(created)));
            builder.sample(&ids, &[count], &list);
        }
    }
}

/// Leaves of a profile of this kind the threads that were made during it.
pub fn keep_created_meanwhile(profile: &mut Profile) {
    let is_new: Vec<bool> = (profile.sample.iter())
        .map(|sample| {
            let mut labels = sample.label.iter();
            labels.any(|label| profile.string(label.key) == CREATED && profile.string(label.str) == DURING)
        })
        .collect();
    let mut is_new = is_new.into_iter();
    profile.sample.retain(|_| is_new.next().unwrap_or(false));
}

/// The outer end of a stack, from the function that the thread was made for; innermost first.
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

/// Adds what the sampler caught, then the threads that were looked at. How many were there before.
pub fn add_samples(
    request: &Request,
    world: &World,
    mut threads: Threads,
    locations: &Locations,
    builder: &mut Builder,
) -> u64 {
    for (labels, stack, weight) in world.collector.stacks() {
        let ids = locations.of(stack);
        let mut labels = label_list(world.collector.labels_of(labels));
        labels.push((CREATED, LabelValue::Text(DURING)));
        builder.sample(&ids, &[clamp(weight.count)], &labels);
    }
    // Made between the sampler's start and our look: counted already.
    threads.before.looked.threads.retain(|seen| !world.new_threads.contains(&(seen.pid, seen.state.tid)));
    threads.before.add_samples(world.label_keys, BEFORE, &request.symbolize, builder);
    if let Some(new) = &mut threads.new {
        new.add_samples(world.label_keys, DURING, &request.symbolize, builder);
    }
    threads.before.looked.threads.len() as u64
}
