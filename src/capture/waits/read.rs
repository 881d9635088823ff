//! Reads a wait graph: all of its parts in turn.

use std::time::Instant;

use super::{
    build::Builder,
    frames,
    model::WaitGraph,
    peers::{self, Pending},
    verdict,
};
use crate::{budget::Budget, process::thread_state::ThreadState, profile::proto::Profile};

/// How often vertices are added for the processes at the other ends of pipes and sockets.
const MAX_ROUNDS: usize = 8;

/// Reads the wait graph of threads that a dump has read. `profile`: the dump, with the names of
/// their functions.
pub fn read(profile: &Profile, threads: &[(u32, &ThreadState)], budget: &Budget) -> WaitGraph {
    let began = Instant::now();
    let frames = frames::by_thread(profile);
    let mut builder = Builder::new(&frames, budget);
    for (pid, state) in threads {
        builder.add_thread(*pid, state);
    }
    for _ in 0..MAX_ROUNDS {
        let calls = builder.classify();
        let pending: Vec<Pending> =
            calls.iter().filter_map(|(id, pid, call)| peers::pending(*id, *pid, call)).collect();
        if pending.is_empty() {
            break;
        }
        peers::resolve(&mut builder, pending);
    }
    builder.find_candidates();
    builder.add_interpreter_lock_holders(&frames::interpreter_lock_holders(profile));
    builder.name_objects();
    let (verdicts, paused) = verdict::find(&builder);
    let took = began.elapsed().saturating_sub(paused);
    WaitGraph { vertices: builder.vertices, verdicts, took }
}
