//! What follows from the wait graph, after a second look at the threads concerned.
//!
//! ```text
//! deadlock           a cycle of recorded owners, without timeouts, and no thread of it has run
//! probable deadlock  a cycle with candidates, each the only one, unchanged for a second
//! ended              the owner of a lock has ended
//! own end            a process waits for a pipe whose other end only it has open
//! lost wake-up       the word of a futex has changed, and the sleeper was not woken for a second
//! waiters            many threads wait, directly or not, for one that does something else
//! ```

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use super::{
    build::{Builder, FutexVertex, classify},
    frames::Frames,
    futex::Owner,
    graph::{self, Links, VertexId},
    look::Look,
    model::{Finding, Verdict, VertexKind, links},
};
use crate::{addr::RuntimeAddr, process::threads};

/// The time between two looks at threads that wait for recorded owners.
const SHORT: Duration = Duration::from_millis(50);
/// The time that guesses must be unchanged.
const LONG: Duration = Duration::from_secs(1);
/// How many vertices are shown that others wait for.
const MAX_SINKS: usize = 6;
/// How many waiters make a vertex worth mentioning.
const MIN_WAITERS: usize = 2;
/// How many lost wake-ups are examined.
const MAX_LOST: usize = 256;

/// Findings before the second look.
#[derive(Default)]
struct Suspects {
    cycles: Vec<Vec<VertexId>>,
    likely: Vec<Vec<VertexId>>,
    ended: Vec<VertexId>,
    lost: Vec<usize>,
}

/// Looks at suspects a second time, and returns what holds, and how long it paused.
pub fn find(builder: &Builder<'_>) -> (Vec<Verdict>, Duration) {
    let links = links(&builder.vertices);
    let mut pause = Pause { began: Instant::now(), slept: Duration::ZERO };
    let suspects = suspects(builder, &links);
    let is_thread = |id: VertexId| matches!(builder.vertices[id].kind, VertexKind::Thread { .. });
    let counts = graph::waiters(&links, is_thread);
    let mut found = Vec::new();
    let mut add = |finding, members: Vec<VertexId>, unchanged_for| {
        let inside = members.iter().filter(|id| is_thread(**id)).count().saturating_sub(1);
        let most = members
            .iter()
            .filter(|id| members.len() == 1 || is_thread(**id))
            .map(|id| counts[*id])
            .max()
            .unwrap_or(0);
        let waiters = if finding == Finding::Waiters { most } else { most.saturating_sub(inside) };
        found.push(Verdict { finding, members, waiters, unchanged_for });
    };
    if !suspects.cycles.is_empty() || !suspects.ended.is_empty() {
        let gap = pause.until(SHORT);
        for cycle in suspects.cycles.iter().filter(|cycle| are_unchanged(builder, cycle)) {
            add(Finding::Deadlock, cycle.clone(), gap);
        }
        let ended: Vec<VertexId> =
            suspects.ended.iter().copied().filter(|id| are_unchanged(builder, &[*id])).collect();
        if !ended.is_empty() {
            add(Finding::OwnerEnded, ended, gap);
        }
    }
    let (likely, lost, gap) = guesses(builder, &suspects, &mut pause);
    for cycle in likely {
        add(Finding::ProbableDeadlock, cycle.clone(), gap);
    }
    if !lost.is_empty() {
        add(Finding::LostWakeUp, lost, gap);
    }
    let own_end = |id: &VertexId| {
        let wait = builder.vertices[*id].wait.as_ref();
        wait.is_some_and(|wait| wait.note.ends_with("only this process has the other end open"))
    };
    for id in (0..builder.vertices.len()).filter(own_end) {
        add(Finding::OwnEnd, vec![id], Duration::ZERO);
    }
    let members: BTreeSet<VertexId> =
        suspects.cycles.iter().chain(&suspects.likely).flatten().copied().collect();
    for sink in sinks(&links, &counts).into_iter().filter(|id| !members.contains(id)).take(MAX_SINKS) {
        add(Finding::Waiters, vec![sink], Duration::ZERO);
    }
    (found, pause.slept)
}

/// The guesses that hold: cycles, and futexes whose wake-up was lost. Most of them change soon, so
/// only those that are the same after a short pause need a long one.
fn guesses<'s>(
    builder: &Builder<'_>,
    suspects: &'s Suspects,
    pause: &mut Pause,
) -> (Vec<&'s Vec<VertexId>>, Vec<VertexId>, Duration) {
    let mut likely: Vec<&Vec<VertexId>> = suspects.likely.iter().collect();
    let mut lost: Vec<usize> = suspects.lost.clone();
    let mut gap = Duration::ZERO;
    for length in [SHORT, LONG] {
        // Threads that have slept for a second are unchanged for that long already.
        let slept = lost.is_empty() && likely.iter().all(|cycle| have_slept(builder, cycle));
        if likely.is_empty() && lost.is_empty() || length == LONG && slept {
            break;
        }
        gap = pause.until(length);
        likely.retain(|cycle| are_unchanged(builder, cycle));
        lost.retain(|at| is_lost(builder, *at));
    }
    (likely, lost.into_iter().map(|at| builder.futexes[at].id).collect(), gap)
}

/// Whether all threads among the members have slept for a second.
fn have_slept(builder: &Builder<'_>, members: &[VertexId]) -> bool {
    members.iter().all(|id| match builder.vertices[*id].kind {
        VertexKind::Thread { .. } => {
            builder.vertices[*id].waited_ns.is_some_and(|ns| u128::from(ns) >= LONG.as_nanos())
        }
        _ => true,
    })
}

fn suspects(builder: &Builder<'_>, links: &[Links]) -> Suspects {
    let cycles =
        |with_likely| graph::cycles(links, &graph::blocked_for_ever(links, with_likely), with_likely);
    let exact = cycles(false);
    let members: BTreeSet<VertexId> = exact.iter().flatten().copied().collect();
    let likely = cycles(true).into_iter().filter(|cycle| !cycle.iter().any(|id| members.contains(id)));
    let has_ended = |id: &VertexId| {
        let holders = builder.vertices[*id].wait.iter().flat_map(|wait| &wait.holders);
        holders
            .into_iter()
            .any(|holder| matches!(builder.vertices[holder.vertex].kind, VertexKind::Ended { .. }))
    };
    let compares = |one: &FutexVertex| one.futex.compares() && !one.wait.kind.starts_with("condition");
    let lost = builder.futexes.iter().enumerate().filter(|(_, one)| compares(one) && differs(builder, one));
    Suspects {
        likely: likely.collect(),
        ended: (0..builder.vertices.len()).filter(has_ended).collect(),
        lost: lost.map(|(at, _)| at).take(MAX_LOST).collect(),
        cycles: exact,
    }
}

/// The pause between two looks.
struct Pause {
    began: Instant,
    slept: Duration,
}

impl Pause {
    /// Sleeps until `gap` after the first look; returns the time since then.
    fn until(&mut self, gap: Duration) -> Duration {
        let left = gap.saturating_sub(self.began.elapsed());
        thread::sleep(left);
        self.slept += left;
        self.began.elapsed()
    }
}

/// Whether nothing about these vertices has changed since the first look: no thread has run, locks
/// have the same owners, processes have the same threads.
fn are_unchanged(builder: &Builder<'_>, members: &[VertexId]) -> bool {
    members.iter().all(|id| match builder.vertices[*id].kind {
        VertexKind::Thread { pid, .. } => {
            builder.looks[*id].is_some_and(|look| look.is_unchanged()) && has_same_owner(builder, pid, *id)
        }
        VertexKind::Process { pid } => {
            let known = |tid: u32| builder.ids.contains_key(&VertexKind::Thread { pid, tid });
            threads::list(pid).into_iter().all(known)
        }
        VertexKind::Ended { .. } => true,
    })
}

fn has_same_owner(builder: &Builder<'_>, pid: u32, id: VertexId) -> bool {
    let Some(one) = builder.futexes.iter().find(|one| one.id == id) else { return true };
    if !matches!(one.wait.owner, Owner::Thread(_)) {
        return true;
    }
    let Some(space) = builder.known_space(pid) else { return false };
    let leaves = builder.frames(id).map(Frames::leaves).unwrap_or_default();
    classify(space, one.futex, &leaves).owner == one.wait.owner
}

/// Whether the word of a futex is not the one that its waiter expects.
fn differs(builder: &Builder<'_>, one: &FutexVertex) -> bool {
    let VertexKind::Thread { pid, .. } = builder.vertices[one.id].kind else { return false };
    let word = builder.known_space(pid).and_then(|space| space.memory.read_u32(RuntimeAddr(one.futex.word)));
    word.is_some_and(|word| word != one.futex.value)
}

/// Whether a waiter still was not woken, and no thread of its process runs: a woken thread has the
/// wake-up, and has not run yet.
fn is_lost(builder: &Builder<'_>, at: usize) -> bool {
    let one = &builder.futexes[at];
    let VertexKind::Thread { pid, .. } = builder.vertices[one.id].kind else { return false };
    let runs = |tid: &u32| Look::at(pid, *tid).is_some_and(|look| look.runs());
    builder.looks[one.id].is_some_and(|look| look.is_unchanged())
        && differs(builder, one)
        && !threads::list(pid).iter().any(runs)
}

/// The vertices at the ends of chains of waits, with the most waiters first.
fn sinks(links: &[Links], counts: &[usize]) -> Vec<VertexId> {
    let is_end = |id: &VertexId| graph::certain(&links[*id]).is_empty() && counts[*id] >= MIN_WAITERS;
    let mut found: Vec<VertexId> = (0..links.len()).filter(is_end).collect();
    found.sort_by_key(|id| std::cmp::Reverse(counts[*id]));
    found
}
