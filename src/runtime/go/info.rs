//! What a Go process says of itself: release, modules, processors, threads, garbage collection.
//!
//! Not here: how that is shown.

use super::{process::GoProcess, version::BuildInfo};
use crate::addr::RuntimeAddr;

/// Figures of a process, as they stood when asked for. `None`: not found in this program.
#[derive(Clone, Debug, Default)]
pub struct GoInfo {
    pub version: String,
    /// The release whose layout is used, and whether it is that very release.
    pub layout: &'static str,
    pub is_known_release: bool,
    pub build: Option<BuildInfo>,
    pub gomaxprocs: Option<u32>,
    /// Entries of the table of goroutines, those that have ended and wait to be used again too.
    pub goroutine_slots: Option<u64>,
    /// Threads of the runtime; of them idle; looking for work.
    pub threads: Option<usize>,
    pub idle_threads: Option<u32>,
    pub spinning_threads: Option<u32>,
    pub idle_processors: Option<u32>,
    /// Garbage collections; those of them that the program asked for.
    pub collections: Option<u32>,
    pub forced_collections: Option<u32>,
    /// All pauses together, in nanoseconds.
    pub pause_total_ns: Option<u64>,
    /// When the last one ended, in nanoseconds since 1970; 0: never.
    pub last_collection_unix_ns: Option<u64>,
    /// `GOGC`; negative: off.
    pub gc_percent: Option<i32>,
    /// `GOMEMLIMIT` in bytes.
    pub memory_limit: Option<i64>,
    pub heap_live_bytes: Option<u64>,
    pub heap_marked_bytes: Option<u64>,
    /// One allocation in so many bytes is sampled; 0: none.
    pub mem_profile_rate: Option<u64>,
    pub block_profile_rate: Option<u64>,
    pub mutex_profile_fraction: Option<u64>,
}

impl GoProcess {
    /// Reads the figures.
    pub fn info(&self) -> GoInfo {
        let globals = &self.globals;
        let layout = &self.layout;
        let u32_at =
            |base: Option<RuntimeAddr>, offset: usize| self.memory.read_u32(base?.offset(offset as i64));
        let word_at =
            |base: Option<RuntimeAddr>, offset: usize| self.memory.read_word(base?.offset(offset as i64));
        let has_limit = layout.gc_memory_limit != 0;
        GoInfo {
            version: self.version_text.clone(),
            layout: layout.source,
            is_known_release: self.is_known_release,
            build: self.build_info.clone(),
            gomaxprocs: u32_at(globals.gomaxprocs, 0),
            goroutine_slots: self.memory.read_word(globals.all_g_count),
            threads: self.threads().ok().map(|threads| threads.len()),
            idle_threads: u32_at(globals.sched, layout.sched_nmidle),
            spinning_threads: u32_at(globals.sched, layout.sched_nmspinning),
            idle_processors: u32_at(globals.sched, layout.sched_npidle),
            collections: u32_at(globals.memstats, layout.mstats_numgc),
            forced_collections: u32_at(globals.memstats, layout.mstats_numforcedgc),
            pause_total_ns: word_at(globals.memstats, layout.mstats_pause_total),
            last_collection_unix_ns: word_at(globals.memstats, layout.mstats_last_gc_unix),
            gc_percent: u32_at(globals.gc_controller, 0).map(u32::cast_signed),
            memory_limit: word_at(globals.gc_controller.filter(|_| has_limit), layout.gc_memory_limit)
                .map(u64::cast_signed),
            heap_live_bytes: word_at(globals.gc_controller, layout.gc_heap_live),
            heap_marked_bytes: word_at(globals.gc_controller, layout.gc_heap_marked),
            mem_profile_rate: word_at(globals.mem_profile_rate, 0),
            block_profile_rate: word_at(globals.block_profile_rate, 0),
            mutex_profile_fraction: word_at(globals.mutex_profile_rate, 0),
        }
    }
}
